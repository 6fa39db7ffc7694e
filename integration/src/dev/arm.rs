//! `cargo dev arm`: from nothing, an emulated Arm computer with KVM in which this checkout's programs run a container, and a
//! line for each thing that holds there.
//!
//! The first time makes a tree of compilers, the guest kernel and our programs; the next one after a change takes what cargo
//! needs, and a minute or two for the checks. Nothing of it needs an Arm machine, nor a Rust toolchain that knows one.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

use super::Project;
use super::cache::Inputs;
use super::packages;
use super::products::{Build, Link, STATIC};
use crate::arm::checks::{self, Verdict};
use crate::arm::image;
use crate::arm::machine::ArmHost;
use crate::arm::toolchain::{self, TARGET, Workshop};
use crate::host::Item;
use crate::kernel::Arch;

/// What `arm` is told.
#[derive(Debug, clap::Args)]
pub struct Arm {
    /// Run this in the Arm host instead of the checks
    #[arg(value_name = "SHELL COMMAND")]
    command: Option<String>,
}

/// Builds all that is missing, boots the host and looks; 1 if anything is not as it should be.
pub fn run(project: &Project, arguments: &Arm) -> Result<i32> {
    if Arch::host() == Arch::Aarch64 {
        bail!("This machine is an Arm computer itself: `cargo dev run` shows what runs here");
    }
    packages::require(&packages::ARM)?;
    let image = project.arm_image()?;
    let agent = project.arm_host_agent()?;
    let payload = project.arm_payload()?;
    let host = ArmHost::start(&image, &agent, &payload)?;
    if let Some(command) = &arguments.command {
        let command = host.sh(command).stdin_from(std::io::stdin()).timeout(None);
        return Ok(command.stream(&mut std::io::stdout(), &mut std::io::stderr())?);
    }
    let mut total = 0;
    let mut say = |verdict: &Verdict| {
        total += 1;
        show(verdict);
    };
    let wrong = checks::run(&host, &mut say);
    if wrong > 0 {
        println!("The Arm host's console ends with:\n{}", host.console());
    }
    println!("{} passed, {wrong} failed", total - wrong);
    Ok(i32::from(wrong > 0))
}

fn show(verdict: &Verdict) {
    let seconds = verdict.took.as_secs_f64();
    match &verdict.wrong {
        None => println!("ok      {seconds:5.1} s  {}", verdict.what),
        Some(wrong) => {
            println!("FAILED  {seconds:5.1} s  {}", verdict.what);
            wrong.lines().for_each(|line| println!("        {line}"));
        }
    }
}

impl Project {
    fn arm_image(&self) -> Result<PathBuf> {
        let inputs = image::inputs().into_iter().fold(Inputs::default(), Inputs::text);
        self.cache.product("arm-image", inputs, |folder, step| {
            step.phase("Debian's packages for arm64, a minute or two");
            Ok(image::build(folder)?)
        })
    }

    /// What is installed on the host, where it goes: all that `cargo dev install` has.
    fn arm_payload(&self) -> Result<Vec<Item>> {
        let arguments = ["--release", "--package", "msb-runtime"];
        let runtime =
            self.arm_program("msb-runtime", self.sources(&["src"])?, "release", &arguments, Link::Static)?;
        let shim = "containerd-shim-msb-v2";
        let inputs = self.sources(&["src", "shim"])?;
        let shim_file =
            self.arm_program(shim, inputs, "release", &["--release", "--package", shim], Link::Static)?;
        let inputs = self.sources(&["src", "msb/Cargo.toml", "msb/src"])?;
        let arguments = ["--profile=product", "--package", "msb"];
        let msb = self.arm_program("msb", inputs, "product", &arguments, Link::Dynamic)?;
        let arguments = ["--profile=guest", "--package", "msb-agent"];
        let agent = self.arm_program("msb-agent", self.sources(&[])?, "guest", &arguments, Link::Static)?;
        let initramfs = self.initramfs("initramfs-aarch64", &agent)?;
        // Last: somebody else may be making it.
        let kernel = self.kernel_for(Arch::Aarch64)?;
        let mut payload = Build { runtime, kernel, initramfs }.payload();
        for (source, name) in [(shim_file, shim), (msb, "msb")] {
            payload.push(Item { source, target: format!("/usr/local/bin/{name}"), mode: 0o755 });
        }
        Ok(payload)
    }

    /// The agent of the Arm host, as that of the virtual one, but without the rest of its package.
    fn arm_host_agent(&self) -> Result<PathBuf> {
        let inputs =
            self.host_agent_sources().iter().try_fold(self.tools()?, |inputs, path| inputs.tree(path))?;
        let arguments = ["--package", "integration", "--no-default-features", "--bin", "host-agent"];
        self.arm_program("host-agent", inputs, "debug", &arguments, Link::Static)
    }

    /// A program for an Arm machine, from cargo's output folder `profile`.
    fn arm_program(
        &self,
        name: &str,
        inputs: Inputs,
        profile: &str,
        arguments: &[&str],
        link: Link,
    ) -> Result<PathBuf> {
        let toolchain = self.arm_toolchain()?;
        let (flags, linked) = match link {
            Link::Static => (STATIC, "static"),
            // The host's libraries are of the release that the toolchain is of.
            Link::Dynamic => ("", "dynamic"),
        };
        let inputs = inputs.text(toolchain.file_name().unwrap_or_default().as_encoded_bytes()).text(linked);
        let folder = self.cache.product(&format!("{name}-aarch64"), inputs, |folder, step| {
            let crates = self.crates()?;
            step.phase("cargo build");
            let target = self.target.join("arm").join(linked);
            fs::create_dir_all(&target).with_context(|| format!("Cannot make {}", target.display()))?;
            let workshop = Workshop {
                toolchain: &toolchain,
                sources: &self.root,
                crates: &crates,
                target: &target,
                flags,
            };
            let mut command = workshop.cargo("build", arguments);
            let status = command.stdin(Stdio::null()).status().context("Cannot run unshare")?;
            ensure!(status.success(), "cargo build of {name} for {TARGET} failed");
            let built = target.join(TARGET).join(profile).join(name);
            fs::copy(&built, folder.join(name))
                .with_context(|| format!("Cannot copy {}", built.display()))?;
            Ok(())
        })?;
        Ok(folder.join(name))
    }

    fn arm_toolchain(&self) -> Result<PathBuf> {
        let inputs = toolchain::inputs().into_iter().fold(Inputs::default(), Inputs::text);
        self.cache.product("arm-toolchain", inputs, |folder, step| {
            step.phase("Debian's compilers, two minutes or so");
            Ok(toolchain::build(folder)?)
        })
    }

    /// All crates that the lock file names, from where this machine's cargo has them.
    fn crates(&self) -> Result<PathBuf> {
        let inputs = Inputs::default().tree(&self.root.join("Cargo.lock"))?;
        let folder = self.cache.product("crates", inputs, |folder, step| {
            step.phase("cargo vendor");
            let mut command =
                super::test::cargo(self, &["vendor", "--quiet", "--locked", "--versioned-dirs"]);
            let output = command.arg(folder.join("vendor")).output().context("Cannot run cargo")?;
            ensure!(output.status.success(), "cargo vendor: {}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        })?;
        Ok(folder.join("vendor"))
    }
}
