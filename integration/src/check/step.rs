//! One script that has run, and what must be true of it.

use crate::host::HostError;
use crate::host::command::Output;

/// Most of an output that a failure shows, in bytes.
const SHOWN: usize = 4000;

/// What a script left. Each method checks one thing and notes it when it is otherwise.
#[derive(Debug)]
pub struct Step<'a> {
    failures: &'a mut Vec<String>,
    what: String,
    script: String,
    /// `None` when it did not come to its end; that is noted already.
    output: Option<Output>,
}

impl<'a> Step<'a> {
    pub(super) fn new(
        failures: &'a mut Vec<String>,
        what: &str,
        script: &str,
        output: Result<Output, HostError>,
    ) -> Self {
        let (what, script) = (what.to_owned(), script.to_owned());
        let output = match output {
            Ok(output) => Some(output),
            Err(error) => {
                let mut cause: Option<&dyn std::error::Error> = Some(&error);
                let mut text = String::new();
                while let Some(error) = cause {
                    text.push_str(&format!("  {error}\n"));
                    cause = error.source();
                }
                failures.push(format!("{what}\n  $ {script}\n{text}"));
                None
            }
        };
        Self { failures, what, script, output }
    }

    /// Its exit code is `code`.
    pub fn code(self, code: i32) -> Self {
        let found = self.output.as_ref().map(|output| output.code);
        self.check(found.is_none_or(|found| found == code), &format!("exit code {code}"))
    }

    /// Its standard output is `text`, to the byte.
    pub fn out(self, text: &str) -> Self {
        let holds = self.output.as_ref().is_none_or(|output| output.stdout == text.as_bytes());
        self.check(holds, &format!("standard output {text:?}"))
    }

    /// Its standard error is `text`, to the byte.
    pub fn err(self, text: &str) -> Self {
        let holds = self.output.as_ref().is_none_or(|output| output.stderr == text.as_bytes());
        self.check(holds, &format!("standard error {text:?}"))
    }

    /// Its standard output holds `text`.
    pub fn out_has(self, text: &str) -> Self {
        let holds = self.output.as_ref().is_none_or(|output| output.out().contains(text));
        self.check(holds, &format!("{text:?} in standard output"))
    }

    /// Its standard error holds `text`.
    pub fn err_has(self, text: &str) -> Self {
        let holds = self.output.as_ref().is_none_or(|output| output.err().contains(text));
        self.check(holds, &format!("{text:?} in standard error"))
    }

    /// Its standard output and `holds` agree; `must` says on what.
    pub fn out_is(self, must: &str, holds: impl FnOnce(&str) -> bool) -> Self {
        let holds = self.output.as_ref().is_none_or(|output| holds(&output.out()));
        self.check(holds, must)
    }

    /// Its standard error and `holds` agree; `must` says on what.
    pub fn err_is(self, must: &str, holds: impl FnOnce(&str) -> bool) -> Self {
        let holds = self.output.as_ref().is_none_or(|output| holds(&output.err()));
        self.check(holds, must)
    }

    /// Its standard output as text; empty when there is none.
    pub fn stdout(&self) -> String {
        self.output.as_ref().map(Output::out).unwrap_or_default()
    }

    /// Its standard error as text; empty when there is none.
    pub fn stderr(&self) -> String {
        self.output.as_ref().map(Output::err).unwrap_or_default()
    }

    pub(super) fn failures(&self) -> &[String] {
        self.failures
    }

    fn check(self, holds: bool, must: &str) -> Self {
        if let (false, Some(output)) = (holds, &self.output) {
            self.failures.push(format!(
                "{}: expected {must}\n  $ {}\n  exit code {}\n  standard output {}\n  standard error {}\n",
                self.what,
                self.script,
                output.code,
                shown(&output.stdout),
                shown(&output.stderr)
            ));
        }
        self
    }
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).into_owned();
    match bytes.len() {
        length if length > SHOWN => format!("({length} bytes) {text:?}…"),
        _ => format!("{text:?}"),
    }
}
