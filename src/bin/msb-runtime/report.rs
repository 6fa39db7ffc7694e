//! Where errors are told: once, in the form that callers read.
//!
//! containerd's shim takes the last JSON line of `--log` for create, start and exec, and what `kill` and the others
//! print; podman takes stderr. So an error goes to both.

use std::{
    error::Error,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use msb_runtime::{
    sandbox::{Log, child::Moments},
    verbs::{Tell, clock, words},
};
use serde_json::json;

use crate::args::{Cli, LogFormat};

/// `--log` and `--log-format`.
#[derive(Debug)]
pub struct Report {
    log: Option<PathBuf>,
    format: LogFormat,
    debug: bool,
}

impl Report {
    /// Nothing is opened before there is something to tell.
    pub fn new(log: Option<&Path>, format: LogFormat) -> Self {
        let log = log.filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned);
        Self { log, format, debug: false }
    }

    /// As the global flags say.
    pub fn of(cli: &Cli) -> Self {
        Self { debug: cli.debug, ..Self::new(cli.log.as_deref(), cli.log_format) }
    }

    /// Adds a warning. Where the log's directory is not there any more, its owner has gone.
    pub fn warn(log: &Log, text: &str) {
        let format = if log.json { LogFormat::Json } else { LogFormat::Text };
        let line = Self { log: None, format, debug: false }.line("warning", text);
        let file = OpenOptions::new().append(true).create(true).mode(0o644).open(&log.path);
        // There is nowhere else to tell it.
        let _ = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    }

    /// Tells why a verb failed, with all causes.
    pub fn error(&self, verb: &str, error: &anyhow::Error) {
        // As runc: where a process was to be started, the text says which verb failed. Elsewhere callers match on
        // the beginning.
        let text = chain(error);
        match verb {
            "create" | "start" | "run" | "exec" => self.text(&format!("{verb} failed: {text}")),
            _ => self.text(&text),
        }
    }

    fn line(&self, level: &str, message: &str) -> String {
        match self.format {
            LogFormat::Text => {
                format!("time={} level={level} msg={}", json!(clock::now()), json!(message))
            }
            LogFormat::Json => json!({ "level": level, "msg": message, "time": clock::now() }).to_string(),
        }
    }

    /// Tells a text as an error.
    pub fn text(&self, message: &str) {
        let line = self.line("error", message);
        // As runc: without a log the line itself is printed, with one the bare text.
        let printed = match &self.log {
            None => line,
            Some(log) => match append(log, &line) {
                Ok(()) => message.to_owned(),
                Err(failure) => {
                    format!("{message}\n(not logged in {}: {})", log.display(), words::chain(&failure))
                }
            },
        };
        // stderr may be closed; there is nowhere else to tell it.
        let _ = writeln!(io::stderr(), "{printed}");
    }
}

impl Tell for Report {
    /// Callers take what is on stderr for an error, so that it is only there if there is no log.
    fn warn(&self, problem: &(dyn Error + 'static)) {
        let line = self.line("warning", &words::chain(problem));
        let logged = self.log.as_ref().map(|log| append(log, &line));
        if !matches!(logged, Some(Ok(()))) {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    fn log(&self) -> Option<Log> {
        let path = std::path::absolute(self.log.as_ref()?).ok()?;
        Some(Log { path, json: self.format == LogFormat::Json })
    }

    /// With `--debug` alone.
    fn moments(&self, moments: &Moments) {
        let Some(log) = self.log.as_ref().filter(|_| self.debug) else { return };
        for (moment, at) in [
            ("vmm-spawned", moments.spawned_ns),
            ("guest-entered", moments.guest_entered_ns),
            ("agent-hello", moments.agent_hello_ns),
            ("container-created", moments.container_created_ns),
        ] {
            let line = match self.format {
                LogFormat::Text => {
                    format!("time={} level=debug msg={moment} monotonic_ns={at}", json!(clock::now()))
                }
                LogFormat::Json => json!({
                    "level": "debug", "msg": moment, "moment": moment, "monotonic_ns": at, "time": clock::now()
                })
                .to_string(),
            };
            // A log that can't be written must not end a container that runs.
            let _ = append(log, &line);
        }
    }
}

/// An error and its causes on one line.
pub fn chain(error: &anyhow::Error) -> String {
    words::chain(error.as_ref())
}

/// One line more; the directory is made if it is missing.
fn append(log: &Path, line: &str) -> io::Result<()> {
    let open = || OpenOptions::new().append(true).create(true).mode(0o644).open(log);
    let mut file: File = match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(parent) = log.parent() {
                fs::create_dir_all(parent)?;
            }
            open()?
        }
        opened => opened?,
    };
    // One write: two processes may append at the same time.
    file.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_the_log_is_json_with_the_message() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("missing/log.json");
        let report = Report::new(Some(&log), LogFormat::Json);
        report.text("first");
        report.error("create", &anyhow::anyhow!("exec: \"x\": executable file not found in $PATH"));
        let text = fs::read_to_string(log).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["level"], "error");
        assert_eq!(last["msg"], "create failed: exec: \"x\": executable file not found in $PATH");
        assert_eq!(text.lines().count(), 2);
    }
}
