//! `top SANDBOX`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::{
    Scope,
    format::{self, Format},
};

/// List the processes of a sandbox, as its machine has them.
#[derive(Debug, Args)]
pub struct Top {
    /// How.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Which sandbox.
    sandbox: String,
}

impl Top {
    /// Prints them, the first one first.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let all = scope.sandboxes.processes(&scope.key(&self.sandbox)?)?;
        if self.format == Format::Json {
            let told = |one: &msb_agent::protocol::ProcessInfo| {
                json!({ "pid": one.pid, "ppid": one.parent, "uid": one.uid, "name": one.name, "args": one.args,
                        "cpu_ms": one.cpu, "memory_bytes": one.resident, "started": one.started })
            };
            format::json(&all.iter().map(told).collect::<Vec<_>>())?;
        } else {
            let row = |one: &msb_agent::protocol::ProcessInfo| {
                let seconds = one.cpu / 1000;
                let command =
                    if one.args.is_empty() { format!("[{}]", one.name) } else { one.args.join(" ") };
                vec![
                    one.uid.to_string(),
                    one.pid.to_string(),
                    one.parent.to_string(),
                    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
                    format::size(one.resident),
                    command,
                ]
            };
            let rows: Vec<_> = all.iter().map(row).collect();
            format::table(&["UID", "PID", "PPID", "TIME", "MEMORY", "COMMAND"], &rows)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
