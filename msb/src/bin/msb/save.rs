//! `save IMAGE…`

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;
use msb::image::Images;

use crate::Scope;

/// Write images to an archive that `docker load` takes.
#[derive(Debug, Args)]
pub struct Save {
    /// The archive; otherwise stdout.
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Which ones.
    #[arg(required = true)]
    images: Vec<String>,
}

impl Save {
    /// Writes them.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let images = Images::open(scope.sandboxes.home())?;
        let names: Vec<&str> = self.images.iter().map(String::as_str).collect();
        match &self.output {
            Some(path) => {
                let file = File::create(path).with_context(|| format!("{} can't be made", path.display()))?;
                let mut file = BufWriter::new(file);
                images.save(&names, &mut file)?;
                file.flush().with_context(|| format!("{} can't be written", path.display()))?;
            }
            None if io::stdout().is_terminal() => {
                anyhow::bail!("An archive is nothing for a terminal: give a file with --output")
            }
            None => {
                let mut out = BufWriter::new(io::stdout().lock());
                images.save(&names, &mut out)?;
                out.flush()?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
