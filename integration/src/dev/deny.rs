//! `cargo deny`: licences, bans and sources of everything we depend on.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Project;
use super::cache::Inputs;
use super::products::forget_cargo;

/// The version that is installed where none is.
const VERSION: &str = "0.20.2";

/// True if all is well. The advisory database comes from outside the registries, so that `advisories` is not part of it.
pub fn check(project: &Project) -> Result<bool> {
    let program = program(project)?;
    let mut command = Command::new(program);
    command.args(["--workspace", "--config", ".config/deny.toml", "check", "--hide-inclusion-graph"]);
    command.args(["licenses", "bans", "sources"]);
    forget_cargo(&mut command);
    let status = command.current_dir(&project.root).stdin(Stdio::null()).status();
    Ok(status.context("Cannot run cargo-deny")?.success())
}

/// The installed one, or one that is built once and kept with the other products.
fn program(project: &Project) -> Result<PathBuf> {
    let there = Command::new("cargo-deny").arg("--version").output();
    if there.is_ok_and(|output| output.status.success()) {
        return Ok("cargo-deny".into());
    }
    let folder = project.cache.product("cargo-deny", Inputs::default().text(VERSION), |folder, step| {
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
    Ok(folder.join("bin/cargo-deny"))
}
