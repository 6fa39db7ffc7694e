//! `spec`

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;

/// A shell on a terminal, in the root directory `rootfs`.
const CONFIG: &str = include_str!("spec.json");

/// Write a config.json to begin with.
#[derive(Debug, Args)]
pub struct Spec {
    /// Where to; the current directory otherwise.
    #[arg(short, long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Not supported: the runtime needs root.
    #[arg(long)]
    rootless: bool,
}

impl Spec {
    /// Writes it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if self.rootless {
            bail!("--rootless is not supported: this runtime needs root");
        }
        let path = self.bundle.unwrap_or_default().join("config.json");
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let mut file = match file {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("File {} exists. Remove it first", path.display())
            }
            opened => opened.with_context(|| format!("Can't write {}", path.display()))?,
        };
        file.write_all(CONFIG.as_bytes()).with_context(|| format!("Can't write {}", path.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use msb_runtime::{
        bundle,
        config::{Config, Settings},
    };

    use super::*;

    #[test]
    fn what_is_written_can_be_run() {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::create_dir(bundle.path().join("rootfs")).unwrap();
        let write = || Spec { bundle: Some(bundle.path().into()), rootless: false }.run();
        write().unwrap();
        let spec = bundle::Spec::load(bundle.path()).unwrap();
        assert!(spec.process().terminal());
        Config::new(&spec, &Settings::default(), true, |_| None).unwrap();
        assert!(write().unwrap_err().to_string().contains("exists"));
    }
}
