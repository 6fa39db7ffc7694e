//! `logs SANDBOX`

use std::{
    io::{self, Write},
    process::ExitCode,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use msb::sandbox::{Failure, Key, Line, Logs as Found, Since, Stream};
use msb_runtime::verbs::clock::rfc3339;

use crate::{Scope, format::Format, moment::moment};

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
    /// Those alone that were written since: a time like 2026-01-31T12:00:00Z, seconds since 1970, or how long ago, like 10m.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<SystemTime>,
    /// With the time of each.
    #[arg(short, long)]
    timestamps: bool,
    /// How; JSON is one object for each line.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Which sandbox.
    sandbox: String,
}

impl Logs {
    /// Prints each line to where it was written.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let key = scope.key(&self.sandbox)?;
        let mut since = self.tail.map_or(Since::Beginning, Since::Last);
        let mut seen = false;
        loop {
            let (ended, logs) = match self.look(scope, &key, since) {
                // It was to go when it ended, or somebody removed it: that is its end, too.
                Err(Failure::NoSandbox(_) | Failure::NoNamespace(_)) if seen => return Ok(ExitCode::SUCCESS),
                looked => looked?,
            };
            seen = true;
            for line in logs.lines.iter().filter(|line| self.since.is_none_or(|since| line.at >= since)) {
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

    /// Whether nothing more is to come, and what there is.
    fn look(&self, scope: &Scope, key: &Key, since: Since) -> Result<(bool, Found), Failure> {
        let ended = !self.follow || !scope.sandboxes.info(key)?.running();
        Ok((ended, scope.sandboxes.logs(key, since)?))
    }

    fn print(&self, line: &Line) -> io::Result<()> {
        let time = rfc3339(line.at.duration_since(UNIX_EPOCH).unwrap_or_default());
        if self.format == Format::Json {
            let stream = if line.stream == Stream::Stdout { "stdout" } else { "stderr" };
            let told = serde_json::json!({ "time": time, "stream": stream, "log": line.text });
            return writeln!(io::stdout(), "{told}");
        }
        let mut text = if self.timestamps { format!("{time} ") } else { String::new() };
        text.push_str(&line.text);
        text.push('\n');
        match line.stream {
            Stream::Stdout => io::stdout().write_all(text.as_bytes()),
            Stream::Stderr => io::stderr().write_all(text.as_bytes()),
        }
    }
}
