//! `image …` and `tag`: the verbs that are about images, under one name.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use msb::image::Images as All;

use crate::{Scope, format, images, import, load, pull, rmi, save};

/// Images, by the words of `docker image`.
#[derive(Debug, Subcommand)]
pub enum Image {
    #[command(visible_alias = "list")]
    Ls(images::Images),
    Inspect(Inspect),
    Pull(pull::Pull),
    Load(load::Load),
    Save(save::Save),
    Import(import::Import),
    Tag(Tag),
    #[command(visible_alias = "remove")]
    Rm(rmi::Rmi),
    Prune(rmi::Prune),
}

/// Print all that is known of images, as JSON.
#[derive(Debug, Args)]
pub struct Inspect {
    /// As without it: JSON.
    #[arg(long, value_parser = ["json"])]
    format: Option<String>,
    /// Which ones.
    #[arg(required = true)]
    images: Vec<String>,
}

/// Give an image one more name.
#[derive(Debug, Args)]
pub struct Tag {
    /// Which one.
    image: String,
    /// The name.
    name: String,
}

impl Image {
    /// Does it.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        match self {
            Self::Ls(images) => images.run(scope),
            Self::Inspect(inspect) => inspect.run(scope),
            Self::Pull(pull) => pull.run(scope),
            Self::Load(load) => load.run(scope),
            Self::Save(save) => save.run(scope),
            Self::Import(import) => import.run(scope),
            Self::Tag(tag) => tag.run(scope),
            Self::Rm(rm) => rm.run(scope),
            Self::Prune(prune) => prune.run(scope),
        }
    }
}

impl Inspect {
    /// Prints an array.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let images = All::open(scope.sandboxes.home())?;
        let all = self.images.iter().map(|image| images.inspect(image)).collect::<Result<Vec<_>, _>>()?;
        format::json(&all)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Tag {
    /// Does it.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        All::open(scope.sandboxes.home())?.tag(&self.image, &self.name)?;
        Ok(ExitCode::SUCCESS)
    }
}
