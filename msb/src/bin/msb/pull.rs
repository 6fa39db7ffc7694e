//! `pull IMAGE…`

use std::process::ExitCode;

use clap::Args;
use msb::image::{Images, Registries, ordinary};

use crate::{
    Scope,
    format::{self, Format},
    progress::Bars,
};

/// Ask registries for images.
#[derive(Debug, Args)]
pub struct Pull {
    /// How.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Which ones.
    #[arg(required = true)]
    images: Vec<String>,
    /// Bring them here, and unpack them when they are used first.
    #[arg(long)]
    no_unpack: bool,
}

impl Pull {
    /// Prints the name of each.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let images = Images::open(scope.sandboxes.home())?;
        let registries = Registries::of_environment();
        if self.format == Format::Json {
            let told = |image: &String| {
                let (image, bars) = (&*ordinary(image), Bars::new());
                if self.no_unpack {
                    images.bring(image, &registries, &bars)?;
                } else {
                    images.pull(image, &registries, &bars)?;
                }
                anyhow::Ok(images.inspect(image)?.summary)
            };
            format::json(&self.images.iter().map(told).collect::<Result<Vec<_>, _>>()?)?;
            return Ok(ExitCode::SUCCESS);
        }
        format::each(&self.images, |image| {
            let (image, registries) = (&*ordinary(image), Registries::of_environment());
            if self.no_unpack {
                images.bring(image, &registries, &Bars::new())?;
            } else {
                images.pull(image, &registries, &Bars::new())?;
            }
            Ok(())
        })
    }
}
