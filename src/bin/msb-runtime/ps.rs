//! `ps ID`
//!
//! Docker filters the host's `ps` by these pids. The container's processes have none there: what stands for all of
//! them is the VMM.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use clap::Args;
use msb_runtime::state::{Id, Status};

use crate::{context::Context, list::Format};

/// List a container's processes on the host.
#[derive(Debug, Args)]
pub struct Ps {
    /// table or json.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Which container.
    id: String,
    /// Given to ps(1) for the table.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    ps_args: Vec<String>,
}

impl Ps {
    /// Prints them.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let id: Id = self.id.parse()?;
        let record = context.store.look(&id)?.record()?;
        let pids = if record.status() == Status::Stopped { vec![] } else { vec![record.vmm.pid] };
        match self.format {
            Format::Json => println!("{}", serde_json::to_string(&pids)?),
            Format::Table => print!("{}", table(&pids, &self.ps_args)?),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The lines of ps(1) that are about `pids`, under its heading.
fn table(pids: &[i32], args: &[String]) -> anyhow::Result<String> {
    let usual = ["-ef".to_owned()];
    let args = if args.is_empty() { &usual } else { args };
    let output = Command::new("ps").args(args).output().context("ps can't be run: install procps")?;
    if !output.status.success() {
        bail!("ps failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let heading = text.lines().next().unwrap_or_default();
    let column =
        heading.split_whitespace().position(|name| name == "PID").context("ps prints no PID column")?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    let lines = std::iter::once(heading).chain(text.lines().skip(1).filter(ours));
    Ok(lines.flat_map(|line| [line, "\n"]).collect())
}
