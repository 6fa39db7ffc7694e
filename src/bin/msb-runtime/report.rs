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
    verbs::{Tell, clock},
};
use nix::errno::Errno;
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
                Err(failure) => format!("{message}\n(not logged in {}: {})", log.display(), plain(&failure)),
            },
        };
        // stderr may be closed; there is nowhere else to tell it.
        let _ = writeln!(io::stderr(), "{printed}");
    }
}

impl Tell for Report {
    /// Callers take what is on stderr for an error, so that it is only there if there is no log.
    fn warn(&self, problem: &(dyn Error + 'static)) {
        let line = self.line("warning", &causes(problem));
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

/// An error and its causes on one line. The texts of the system's own errors are replaced ([`plain`]); a cause that
/// says nothing new is left out.
pub fn chain(error: &anyhow::Error) -> String {
    causes(error.as_ref())
}

fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for cause in std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source()) {
        let words = plain(cause);
        if text.ends_with(&words) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&words);
    }
    text
}

/// A cause in words that Docker does not take for the container's command: "no such file or directory",
/// "permission denied" and "is a directory" in an error make it exit with 126 or 127.
fn plain(cause: &(dyn Error + 'static)) -> String {
    let errno = if let Some(errno) = cause.downcast_ref::<Errno>() {
        *errno
    } else if let Some(code) = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
        Errno::from_raw(code)
    } else {
        return neutral(cause.to_string());
    };
    match errno {
        Errno::ENOENT => "it is not there (ENOENT)".into(),
        Errno::EACCES => "access is not allowed (EACCES)".into(),
        Errno::EISDIR => "a directory is in the way (EISDIR)".into(),
        errno => format!("{} ({errno:?})", errno.desc()),
    }
}

/// The same, where another process (the VMM, the agent) has put the system's own texts into its own. What is said of
/// the container's command is worded differently there, and stays.
fn neutral(mut text: String) -> String {
    const WORDS: [(&str, &str); 6] = [
        ("No such file or directory (os error 2)", "it is not there (ENOENT)"),
        ("ENOENT: No such file or directory", "it is not there (ENOENT)"),
        ("Permission denied (os error 13)", "access is not allowed (EACCES)"),
        ("EACCES: Permission denied", "access is not allowed (EACCES)"),
        ("Is a directory (os error 21)", "a directory is in the way (EISDIR)"),
        ("EISDIR: Is a directory", "a directory is in the way (EISDIR)"),
    ];
    for (theirs, ours) in WORDS {
        if text.contains(theirs) {
            text = text.replace(theirs, ours);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_systems_words_mean_no_exit_code() {
        for errno in [Errno::ENOENT, Errno::EACCES, Errno::EISDIR] {
            let wrapped = Err::<(), _>(io::Error::from(errno)).context("Can't open /dev/kvm").unwrap_err();
            let direct = Err::<(), _>(errno).context("Can't open /dev/kvm").unwrap_err();
            for text in [chain(&wrapped), chain(&direct)] {
                let text = text.to_lowercase();
                for words in ["no such file", "permission denied", "is a directory"] {
                    assert!(!text.contains(words), "{text}");
                }
                assert!(text.starts_with("can't open /dev/kvm: "), "{text}");
            }
        }
    }

    #[test]
    fn another_processes_words_are_made_plain_too() {
        let io = io::Error::from(Errno::ENOENT);
        assert_eq!(neutral(format!("The kernel: {io}")), "The kernel: it is not there (ENOENT)");
        assert_eq!(neutral(format!("open: {}", Errno::EACCES)), "open: access is not allowed (EACCES)");
        let command = "exec: \"/etc\": is a directory";
        assert_eq!(neutral(command.into()), command);
    }

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
