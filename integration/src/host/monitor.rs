//! QEMU's machine protocol (QMP, docs/interop/qmp-spec): one command, one answer.
//!
//! Enters: the monitor's socket. Leaves: answers as JSON. Must never know what the machine is for.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Why a command to QEMU failed.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The socket failed.
    #[error("QEMU's monitor does not answer")]
    Io(#[from] io::Error),
    /// Not JSON, or the end.
    #[error("QEMU's monitor sent something else than QMP: {line:?}")]
    Garbled {
        /// What it sent.
        line: String,
    },
    /// QEMU refused.
    #[error("QEMU refused `{command}`: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's words.
        reason: String,
    },
    /// A state that was to come did not.
    #[error("QEMU's migration is `{status}` after {seconds} s")]
    Migration {
        /// What QEMU says of it.
        status: String,
        /// How long was waited.
        seconds: u64,
    },
}

/// A connection to the monitor, past its greeting.
#[derive(Debug)]
pub struct Monitor {
    reader: BufReader<UnixStream>,
}

impl Monitor {
    /// Takes the greeting and leaves the negotiation mode.
    pub fn open(socket: UnixStream) -> Result<Self, MonitorError> {
        let mut monitor = Self { reader: BufReader::new(socket) };
        monitor.line()?;
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Runs one command and gives what it returned. Events in between are dropped.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, MonitorError> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.reader.get_mut().write_all(format!("{request}\n").as_bytes())?;
        loop {
            let mut answer = self.line()?;
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
            if let Some(reason) = answer.pointer("/error/desc") {
                let reason = reason.as_str().unwrap_or_default().to_owned();
                return Err(MonitorError::Refused { command: command.to_owned(), reason });
            }
        }
    }

    /// Waits until the migration under way is complete.
    pub fn migrated(&mut self, timeout: Duration) -> Result<(), MonitorError> {
        let started = Instant::now();
        loop {
            let answer = self.execute("query-migrate", &json!({}))?;
            let status = answer.get("status").and_then(Value::as_str).unwrap_or("none").to_owned();
            if status == "completed" {
                return Ok(());
            }
            if status == "failed" || started.elapsed() > timeout {
                return Err(MonitorError::Migration { status, seconds: started.elapsed().as_secs() });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn line(&mut self) -> Result<Value, MonitorError> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|_| MonitorError::Garbled { line })
    }
}
