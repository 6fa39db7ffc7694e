//! `images`

use std::process::ExitCode;

use clap::Args;
use msb::image::Images as All;

use crate::{
    Scope,
    format::{self, Format},
};

/// List images.
#[derive(Debug, Args)]
pub struct Images {
    /// Names alone.
    #[arg(short, long)]
    quiet: bool,
    /// How.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Images {
    /// Prints them by name.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let all = All::open(scope.sandboxes.home())?.list()?;
        if self.quiet {
            all.iter().for_each(|image| println!("{}", msb_runtime::plain::line(&image.reference)));
        } else if self.format == Format::Json {
            format::json(&all)?;
        } else {
            let rows: Vec<Vec<String>> = all
                .iter()
                .map(|image| {
                    let created = image.created.clone().unwrap_or_default();
                    let day = created.chars().take(10).collect();
                    vec![image.reference.clone(), image.id.short(), day, format::size(image.size)]
                })
                .collect();
            format::table(&["IMAGE", "ID", "CREATED", "SIZE"], &rows)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
