//! `import ARCHIVE NAME`

use std::{fs::File, io, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use msb::image::Images;

use crate::Scope;

/// Make an image of a root file system in a tar archive.
#[derive(Debug, Args)]
pub struct Import {
    /// The archive; `-` for stdin.
    archive: PathBuf,
    /// What the image is called.
    name: String,
}

impl Import {
    /// Prints its whole name.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let images = Images::open(scope.sandboxes.home())?;
        let name = if self.archive.as_os_str() == "-" {
            images.import(io::stdin().lock(), &self.name)?
        } else {
            let file = File::open(&self.archive)
                .with_context(|| format!("{} can't be opened", self.archive.display()))?;
            images.import(file, &self.name)?
        };
        println!("{}", msb_runtime::plain::line(&name));
        Ok(ExitCode::SUCCESS)
    }
}
