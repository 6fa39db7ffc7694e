//! `cargo dev run`: a container in a microVM, from nothing.

use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::products::Build;
use super::{Project, kvm, packages};
use crate::host::{Fixture, VirtualHost};

/// What `run` is told.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// What the container runs; a greeting if nothing is given
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

const GREETING: &str = "echo \"Hello from a container in a microVM of its own: $(uname -a)\"";

/// Makes a bundle of busybox and `$DEV_CONFIG`, and runs it.
const BUNDLE: &str = r#"
set -eu
bundle=$(mktemp -d /var/tmp/msb-dev-XXXXXX)
trap 'rm -rf "$bundle"' EXIT
cd "$bundle"
mkdir -p rootfs/bin rootfs/etc rootfs/root rootfs/tmp rootfs/proc rootfs/sys rootfs/dev
chmod 755 . rootfs
cp "$(command -v busybox)" rootfs/bin/busybox
for name in $(busybox --list); do [ "$name" = busybox ] || ln -s busybox "rootfs/bin/$name"; done
echo 'root:x:0:0:root:/root:/bin/sh' > rootfs/etc/passwd
printf '%s' "$DEV_CONFIG" > config.json
"$DEV_RUNTIME" run --bundle "$bundle" "dev-$$"
"#;

/// Runs the command, here or in the virtual host, and gives its exit code.
pub fn run(project: &Project, arguments: &Run) -> Result<i32> {
    let build = project.build()?;
    let greeting = ["sh", "-c", GREETING].map(str::to_owned);
    let command = if arguments.command.is_empty() { greeting.as_slice() } else { &arguments.command };
    let config = config(&build, command)?;
    match kvm::is_real(&build)? {
        Ok(()) => {
            eprintln!("Running directly: KVM is real here.");
            packages::require(&[("busybox-static", "busybox")])?;
            let mut shell = Command::new("sh");
            shell.args(["-c", BUNDLE]).envs(build.variables());
            let status = shell.env("DEV_RUNTIME", &build.runtime).env("DEV_CONFIG", config).status();
            let status = status.context("Cannot run sh")?;
            Ok(status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1))
        }
        Err(reason) => {
            eprintln!("Running in the virtual KVM host, not directly: {reason}.");
            let host = VirtualHost::start(Fixture::Plain, &project.host(Fixture::Plain)?, &build.payload())?;
            let command =
                host.sh(BUNDLE).env("DEV_RUNTIME", "/usr/local/bin/msb-runtime").env("DEV_CONFIG", &config);
            // The container has no terminal; what is typed here would go nowhere but into its input.
            let command = if io::stdin().is_terminal() { command } else { command.stdin_from(io::stdin()) };
            let code = command.timeout(None).stream(&mut io::stdout(), &mut io::stderr())?;
            if code != 0 {
                eprintln!("The host's logs are kept in {}", host.named("run").keep()?.display());
            }
            Ok(code)
        }
    }
}

/// What `msb-runtime spec` writes, without a terminal and with this command.
fn config(build: &Build, command: &[String]) -> Result<String> {
    let folder = tempfile::tempdir().context("Cannot make a temporary folder")?;
    let spec = Command::new(&build.runtime).args(["spec", "--bundle"]).arg(folder.path()).output();
    let spec = spec.with_context(|| format!("Cannot run {}", build.runtime.display()))?;
    ensure!(spec.status.success(), "msb-runtime spec failed: {}", String::from_utf8_lossy(&spec.stderr));
    let text =
        fs::read_to_string(folder.path().join("config.json")).context("Cannot read what spec wrote")?;
    let mut config: Value = serde_json::from_str(&text).context("What spec wrote is not JSON")?;
    for (field, value) in [("/process/terminal", json!(false)), ("/process/args", json!(command))] {
        *config.pointer_mut(field).with_context(|| format!("What spec wrote has no {field}"))? = value;
    }
    if let Some(readonly) = config.pointer_mut("/root/readonly") {
        *readonly = json!(false);
    }
    Ok(config.to_string())
}
