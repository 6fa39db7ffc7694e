//! `load`

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use msb::image::Images;

use crate::{
    Scope,
    format::{self, Format},
    progress::Bars,
};

/// Load images from an archive of `docker save`, an OCI archive or an OCI layout's directory.
#[derive(Debug, Args)]
pub struct Load {
    /// Which one; otherwise stdin.
    #[arg(short, long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// How.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Load {
    /// Prints the name of each.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let images = Images::open(scope.sandboxes.home())?;
        let names = match self.input {
            Some(path) => images.load(&path, &Bars::new())?,
            None if io::stdin().is_terminal() => anyhow::bail!("Give the archive with --input, or by stdin"),
            None => images.load_archive(io::stdin().lock(), &Bars::new())?,
        };
        if self.format == Format::Json {
            format::json(&names)?;
            return Ok(ExitCode::SUCCESS);
        }
        names.iter().for_each(|name| println!("Loaded {}", msb_runtime::plain::line(name)));
        Ok(ExitCode::SUCCESS)
    }
}
