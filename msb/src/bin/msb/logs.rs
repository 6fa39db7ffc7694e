//! `logs SANDBOX`

use std::{
    io::{self, Write},
    process::ExitCode,
    thread,
    time::{Duration, UNIX_EPOCH},
};

use clap::Args;
use msb::sandbox::{Line, Since, Stream};
use msb_runtime::verbs::clock;

use crate::Scope;

/// How often who follows looks.
const LOOK: Duration = Duration::from_millis(200);

/// Print what a sandbox's first process wrote.
#[derive(Debug, Args)]
pub struct Logs {
    /// Go on until it ends.
    #[arg(short, long)]
    follow: bool,
    /// So many of the last lines.
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<usize>,
    /// With the time of each.
    #[arg(short, long)]
    timestamps: bool,
    /// Which sandbox.
    sandbox: String,
}

impl Logs {
    /// Prints each line to where it was written.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let key = scope.key(&self.sandbox)?;
        let mut since = self.tail.map_or(Since::Beginning, Since::Last);
        loop {
            let ended = !self.follow || !scope.sandboxes.info(&key)?.running();
            let logs = scope.sandboxes.logs(&key, since)?;
            for line in &logs.lines {
                self.print(line)?;
            }
            since = Since::After(logs.next);
            if logs.lines.is_empty() {
                if ended {
                    return Ok(ExitCode::SUCCESS);
                }
                thread::sleep(LOOK);
            }
        }
    }

    fn print(&self, line: &Line) -> io::Result<()> {
        let mut text = String::new();
        if self.timestamps {
            let since = line.at.duration_since(UNIX_EPOCH).unwrap_or_default();
            text = format!("{} ", clock::rfc3339(since));
        }
        text.push_str(&line.text);
        text.push('\n');
        match line.stream {
            Stream::Stdout => io::stdout().write_all(text.as_bytes()),
            Stream::Stderr => io::stderr().write_all(text.as_bytes()),
        }
    }
}
