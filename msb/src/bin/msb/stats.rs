//! `stats [SANDBOX…]`

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Args;
use msb::sandbox::{Failure, Key, Usage};
use serde_json::json;

use crate::{
    Scope,
    format::{self, Format},
};

/// Between two tables.
const PAUSE: Duration = Duration::from_secs(1);

/// From the first reading to the one that is shown: processor time is of what lies between.
const SAMPLE: Duration = Duration::from_millis(500);

/// Show what sandboxes use of this machine.
#[derive(Debug, Args)]
pub struct Stats {
    /// Once; otherwise each second, on a terminal.
    #[arg(long)]
    no_stream: bool,
    /// How.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Which ones; otherwise all that run.
    sandboxes: Vec<String>,
}

impl Stats {
    /// Prints tables until it is interrupted, or one.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let once = self.no_stream || self.format == Format::Json || !io::stdout().is_terminal();
        // Of the first one nothing is shown.
        if !self.usages(scope, true)?.is_empty() {
            thread::sleep(SAMPLE);
        }
        loop {
            let all = self.usages(scope, false)?;
            if self.format == Format::Json {
                let told = |(key, usage): &(Key, Usage)| {
                    json!({ "name": key.name, "namespace": key.namespace, "cpu_percent": usage.cpu,
                            "memory_bytes": usage.memory, "disk_bytes": usage.disk })
                };
                format::json(&all.iter().map(told).collect::<Vec<_>>())?;
            } else {
                if !once {
                    // ECMA-48: clear the screen, and go to its beginning.
                    print!("\x1b[2J\x1b[H");
                }
                let size = |bytes: Option<u64>| bytes.map_or_else(|| "--".into(), format::size);
                let row = |(key, usage): &(Key, Usage)| {
                    let cpu = usage.cpu.map_or_else(|| "--".into(), |cpu| format!("{cpu:.1}%"));
                    vec![key.name.to_string(), cpu, size(usage.memory), size(usage.disk)]
                };
                let rows: Vec<_> = all.iter().map(row).collect();
                format::table(&["NAME", "CPU", "MEMORY", "DISK"], &rows)?;
            }
            if once {
                return Ok(ExitCode::SUCCESS);
            }
            thread::sleep(PAUSE);
        }
    }

    /// One that goes away meanwhile has none; one that was never there is told, the first time.
    fn usages(&self, scope: &Scope, first: bool) -> anyhow::Result<Vec<(Key, Usage)>> {
        let keys = if self.sandboxes.is_empty() {
            let all = scope.sandboxes.list(None)?;
            let ours = |key: &Key| key.namespace == scope.namespace;
            all.into_iter().filter(|info| info.running()).map(|info| info.key).filter(ours).collect()
        } else {
            self.sandboxes.iter().map(|name| scope.key(name)).collect::<Result<Vec<_>, _>>()?
        };
        let mut found = Vec::new();
        for key in keys {
            match scope.sandboxes.usage(&key) {
                Err(Failure::NoSandbox(_) | Failure::NoNamespace(_))
                    if !first || self.sandboxes.is_empty() => {}
                usage => found.push((key, usage?)),
            }
        }
        Ok(found)
    }
}
