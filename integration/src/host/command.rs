//! A command in the virtual host, as a test says it: `host.sh("…").stdin(bytes).timeout(limit).run()`.

use std::io::{Cursor, Read, Write};
use std::time::Duration;

use super::HostError;
use super::channel::{Channel, Sinks};
use super::protocol::Start;

/// How long a command may take if nothing else is said. Emulation is slow, and a machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(180);

/// A command to run, built step by step.
#[expect(missing_debug_implementations, reason = "any reader will do")]
pub struct HostCommand<'a> {
    channel: &'a Channel,
    start: Start,
    stdin: Option<Box<dyn Read + Send>>,
    timeout: Option<Duration>,
}

/// What a command left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit code, 128 + N after signal N.
    pub code: i32,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

impl<'a> HostCommand<'a> {
    pub(crate) fn new(channel: &'a Channel, script: &str) -> Self {
        let start = Start { script: script.to_owned(), terminal: None, env: Vec::new() };
        Self { channel, start, stdin: None, timeout: Some(TIMEOUT) }
    }

    /// Its standard input; without one it is at its end.
    pub fn stdin(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin_from(Cursor::new(bytes.into()))
    }

    /// Its standard input, read as it is needed, from a thread of its own.
    pub fn stdin_from(mut self, reader: impl Read + Send + 'static) -> Self {
        self.stdin = Some(Box::new(reader));
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.start.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A terminal of its own; all its output is then standard output.
    pub fn terminal(mut self, rows: u16, columns: u16) -> Self {
        self.start.terminal = Some((rows, columns));
        self
    }

    /// How long it may take before it is killed and an error returned (180 s by default); `None`: for ever.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Runs it to its end.
    pub fn run(self) -> Result<Output, HostError> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let code = self.stream(&mut stdout, &mut stderr)?;
        Ok(Output { code, stdout, stderr })
    }

    /// Runs it, its output written as it comes, and gives its exit code.
    pub fn stream(self, stdout: &mut dyn Write, stderr: &mut dyn Write) -> Result<i32, HostError> {
        Ok(self.channel.run(&self.start, self.stdin, &mut Sinks { stdout, stderr }, self.timeout)?)
    }
}
