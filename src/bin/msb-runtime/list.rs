//! `list`

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use msb_runtime::{
    plain,
    state::{Record, StateError},
    verbs::Context,
};
use serde_json::Value;

use crate::show;

/// List the containers.
#[derive(Debug, Args)]
pub struct List {
    /// table or json.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Only the ids.
    #[arg(short, long)]
    quiet: bool,
}

/// How a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl List {
    /// Prints it.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let mut records = Vec::new();
        for id in context.store.ids()? {
            match context.store.look(&id).and_then(|entry| entry.record()) {
                Ok(record) => records.push(record),
                // Being made, or removed meanwhile.
                Err(StateError::DoesNotExist | StateError::Incomplete { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.quiet {
            records.iter().for_each(|record| println!("{}", record.id));
        } else if self.format == Format::Json {
            println!("{}", plain::json(&Value::from_iter(records.iter().map(show::state)).to_string()));
        } else {
            print!("{}", table(&records));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Columns as wide as their widest entry, three blanks apart.
fn table(records: &[Record]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    for record in records {
        let state = show::state(record);
        let owner = state["owner"].as_str().unwrap_or_default().to_owned();
        rows.push([
            record.id.to_string(),
            state["pid"].to_string(),
            record.status().to_string(),
            plain::line(&show::text(&record.bundle)),
            record.created.clone(),
            owner,
        ]);
    }
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        text.push('\n');
    }
    text
}
