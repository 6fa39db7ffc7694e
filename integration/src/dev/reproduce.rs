//! `cargo dev reproduce`: builds what runs in the guest twice, in directories of different names, and compares; the kernel
//! with those of other machines too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Project;
use super::products::{forget_cargo, static_flags};
use crate::kernel::{
    self,
    known::{self, Key, Known, Verdict},
};

/// What `reproduce` is told.
#[derive(Debug, clap::Args)]
pub struct Reproduce {
    /// What to build twice; without any, both
    #[arg(value_enum)]
    what: Vec<What>,
}

/// What can be built twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// The agent and its initramfs: a minute or two
    Agent,
    /// The guest's kernel: two times what it takes once
    Kernel,
}

/// Builds and compares; 0 if the same inputs gave the same bytes.
pub fn run(project: &Project, arguments: &Reproduce) -> Result<i32> {
    let mut same = true;
    for what in [What::Agent, What::Kernel] {
        if !arguments.what.is_empty() && !arguments.what.contains(&what) {
            continue;
        }
        let parent = project.target.join("reproduce");
        fs::create_dir_all(&parent).with_context(|| format!("Cannot make {}", parent.display()))?;
        let mut hashes = Vec::new();
        for name in ["one", "another-place-with-a-longer-name"] {
            // Removed before the next: no build finds anything of the other.
            let place =
                tempfile::Builder::new().prefix(name).tempdir_in(&parent).context("Cannot make a folder")?;
            let made = match what {
                What::Agent => agent(project, place.path())?,
                What::Kernel => {
                    vec![kernel::build(kernel::Arch::host(), place.path(), &|phase| eprintln!("{phase}"))?]
                }
            };
            for file in made {
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                hashes.push((name, known::hash(&file)?));
            }
        }
        let (first, second) = hashes.split_at(hashes.len() / 2);
        for ((name, one), (_, other)) in first.iter().zip(second) {
            if one == other {
                println!("{name}: {one}, both times");
            } else {
                println!("{name}: {one}, and then {other}");
                same = false;
            }
        }
        if let (What::Kernel, true, [(_, hash)]) = (what, same, first) {
            keep(project, hash)?;
        }
    }
    Ok(i32::from(!same))
}

/// Writes down what both kernels were, for those who build one.
fn keep(project: &Project, hash: &str) -> Result<()> {
    let key = Key::here(kernel::Arch::host())?;
    let mut known = Known::read(&project.root)?;
    match known.compare(&key, hash) {
        Verdict::Same => println!("as {} has it", known::FILE),
        Verdict::Unknown => {
            known.write(&project.root, &key, hash)?;
            println!("new in {}, which belongs into the repository", known::FILE);
        }
        Verdict::Other { expected, .. } => {
            known.write(&project.root, &key, hash)?;
            println!("{} had {expected}, and has the new one now: see that this is meant", known::FILE);
        }
    }
    Ok(())
}

/// The agent of a copy of the sources in `place`, and the initramfs with it.
fn agent(project: &Project, place: &Path) -> Result<Vec<PathBuf>> {
    let sources = place.join("sources");
    copy(project, &project.root, &sources)?;
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args([
        "build",
        "--quiet",
        "--locked",
        "--profile=guest",
        "--package",
        "msb-agent",
        "--target",
        &triple,
    ]);
    command.arg("--target-dir").arg(place.join("target")).current_dir(&sources).stdin(Stdio::null());
    command.env("RUSTFLAGS", static_flags(&sources, &place.join("target")));
    forget_cargo(&mut command);
    ensure!(command.status().context("Cannot run cargo")?.success(), "The agent can't be built");
    let agent = place.join("target").join(triple).join("guest/msb-agent");
    let initramfs = place.join("initramfs");
    rootfs_builder::initramfs::write(&agent, &initramfs)?;
    Ok(vec![agent, initramfs])
}

/// All but what was built and what git keeps.
fn copy(project: &Project, from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("Cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("Cannot read {}", from.display()))? {
        let path = entry.context("Cannot read a folder")?.path();
        let name = path.file_name().unwrap_or_default();
        if path == project.target || name == "target" || name == ".git" {
            continue;
        }
        let target = to.join(name);
        if path.is_dir() {
            copy(project, &path, &target)?;
        } else {
            fs::copy(&path, &target).with_context(|| format!("Cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}
