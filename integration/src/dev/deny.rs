//! cargo-deny: licences, bans and sources of everything we depend on. Its advisories are `cargo dev advisories`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Project;
use super::cache::Inputs;
use super::products::forget_cargo;

const PROGRAM: &str = "cargo-deny";
/// Where it is configured, below the workspace.
pub(super) const CONFIGURATION: &str = ".config/deny.toml";
/// The version that is installed where none is.
const VERSION: &str = "0.20.2";

/// True if all is well.
pub fn check(project: &Project) -> Result<bool> {
    let mut command = command(&program(project)?, &project.root, Path::new(CONFIGURATION));
    command.args(["licenses", "bans", "sources"]);
    Ok(command.status().context("Cannot run cargo-deny")?.success())
}

/// `cargo deny check` of the workspace in `root`, without what is to be checked.
pub(super) fn command(program: &Path, root: &Path, configuration: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--workspace", "--config"]).arg(configuration).args(["check", "--hide-inclusion-graph"]);
    forget_cargo(&mut command);
    command.current_dir(root).stdin(Stdio::null());
    command
}

/// The installed one.
pub(super) fn installed() -> Option<PathBuf> {
    let there = Command::new(PROGRAM).arg("--version").output();
    there.is_ok_and(|output| output.status.success()).then(|| PROGRAM.into())
}

/// The installed one, or one that is built once and kept with the other products.
pub(super) fn program(project: &Project) -> Result<PathBuf> {
    if let Some(program) = installed() {
        return Ok(program);
    }
    let folder = project.cache.product("cargo-deny", inputs(), |folder, step| {
        step.phase("cargo install, some minutes, once");
        let built = folder.join("build");
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args([
            "install",
            "--quiet",
            "--locked",
            "--no-default-features",
            "--version",
            VERSION,
            "cargo-deny",
        ]);
        command.arg("--root").arg(folder).arg("--target-dir").arg(&built);
        // It runs for a second: what its own optimisation would cost is never won back.
        command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").env("CARGO_PROFILE_RELEASE_LTO", "off");
        command.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16").env("CARGO_PROFILE_RELEASE_DEBUG", "0");
        forget_cargo(&mut command);
        let installed = command.stdin(Stdio::null()).output().context("Cannot run cargo")?;
        ensure!(
            installed.status.success(),
            "cargo install cargo-deny failed:\n{}",
            String::from_utf8_lossy(&installed.stderr)
        );
        fs::remove_dir_all(&built).context("Cannot remove what the build left")
    })?;
    Ok(folder.join("bin").join(PROGRAM))
}

fn inputs() -> Inputs {
    Inputs::default().text(VERSION)
}

/// For tests, which do not wait until one is built: the installed one, or the one that is kept.
#[cfg(test)]
pub(super) fn at_hand(project: &Project) -> Option<PathBuf> {
    installed().or_else(|| {
        let none = |_: &Path, _: &super::progress::Step| Err(anyhow::anyhow!("tests build none"));
        Some(project.cache.product("cargo-deny", inputs(), none).ok()?.join("bin").join(PROGRAM))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether our configuration has a package in it that depends on this one.
    fn taken(deny: &Path, name: &str, version: &str) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let package = |name: &str, version: &str| {
            format!(
                "[package]\nname = \"{name}\"\nversion = \"{version}\"\nlicense = \"MIT\"\npublish = false\n"
            )
        };
        let dependency = format!("[dependencies]\n{name} = {{ path = \"of-others\" }}\n[workspace]\n");
        file("Cargo.toml", &(package("ours", "1.0.0") + &dependency));
        file("src/lib.rs", "");
        file("of-others/Cargo.toml", &package(name, version));
        file("of-others/src/lib.rs", "");
        let configuration = Project::here().root.join(CONFIGURATION);
        let output = command(deny, folder.path(), &configuration).arg("bans").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || said.contains("explicitly banned"), "{said}");
        output.status.success()
    }

    #[test]
    fn versions_that_are_known_to_be_bad_are_refused() {
        let Some(deny) = at_hand(&Project::here()) else {
            return test_skips::skip("there is no cargo-deny here; `cargo dev test` builds it");
        };
        for (name, bad, good) in [("vmm-sys-util", "0.11.2", "0.12.1"), ("vm-memory", "0.12.1", "0.12.2")] {
            assert!(!taken(&deny, name, bad), "{name} {bad}");
            assert!(taken(&deny, name, good), "{name} {good}");
        }
    }
}
