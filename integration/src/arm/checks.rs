//! What must hold on an Arm host: containers as runc's command line has them, the machine around each, and the walls around
//! that; containerd's shim, and sandboxes with their server.
//!
//! Enters: a running host with the programs in it. Leaves: a verdict for each check, all of them run whatever came before.
//! The scripts write down what they find, so that a check is one comparison.

mod product;
mod table;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::machine::ArmHost;
use crate::check::Snapshot;
use crate::host::HostError;
use crate::host::command::Output;

/// Longest time of one check: under emulation a container takes seconds.
const LIMIT: Duration = Duration::from_secs(180);
/// How long what is left may take to go away.
const CLEANING: Duration = Duration::from_secs(15);

/// One script, and what it must leave.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    what: &'static str,
    script: &'static str,
    code: i32,
    out: &'static str,
}

/// What came of a check.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What the check is to show.
    pub what: String,
    /// How it was otherwise, if it was.
    pub wrong: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// Runs all; `say` hears each verdict as it comes. Leaves how many were not as they should be.
pub fn run(host: &ArmHost, say: &mut dyn FnMut(&Verdict)) -> usize {
    let before = look(host);
    let mut wrong = 0;
    let mut judge = |what: &str, began: Instant, found: Option<String>| {
        wrong += usize::from(found.is_some());
        say(&Verdict { what: what.to_owned(), wrong: found, took: began.elapsed() });
    };
    for check in all() {
        let began = Instant::now();
        judge(check.what, began, check.failure(&sh(host, check.script)));
    }
    judge("nothing is left behind", Instant::now(), left(host, before));
    wrong
}

/// In their order.
fn all() -> impl Iterator<Item = &'static Check> {
    table::CHECKS.iter().chain(product::CHECKS)
}

fn sh(host: &ArmHost, script: &str) -> Result<Output, HostError> {
    host.sh(&format!("{}\n{script}", table::PRELUDE)).timeout(LIMIT).run()
}

impl Check {
    /// How the outcome is not as it should be.
    fn failure(&self, outcome: &Result<Output, HostError>) -> Option<String> {
        let output = match outcome {
            Ok(output) => output,
            Err(error) => return Some(chain(error)),
        };
        if output.code == self.code && output.stdout == self.out.as_bytes() {
            return None;
        }
        let mut text = format!(
            "$ {}\nexpected exit code {}, standard output {:?}\n",
            self.script.trim(),
            self.code,
            self.out
        );
        text.push_str(&described(output));
        Some(text)
    }
}

fn described(output: &Output) -> String {
    format!(
        "exit code {}\nstandard output {:?}\nstandard error {:?}",
        output.code,
        output.out(),
        output.err()
    )
}

fn chain(error: &HostError) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{error}");
        cause = error.source();
    }
    text
}

/// All that a container could leave, as it is now; or why nobody knows.
fn look(host: &ArmHost) -> Result<Snapshot, String> {
    match host.sh(Snapshot::SCRIPT).timeout(LIMIT).run() {
        Ok(output) if !output.stdout.is_empty() => Ok(Snapshot::parse(&output.out())),
        Ok(output) => Err(described(&output)),
        Err(error) => Err(chain(&error)),
    }
}

fn left(host: &ArmHost, before: Result<Snapshot, String>) -> Option<String> {
    let before = match before {
        Ok(before) => before,
        Err(why) => return Some(why),
    };
    let began = Instant::now();
    loop {
        let left = match look(host) {
            Ok(now) => now.beyond(&before),
            Err(why) => return Some(why),
        };
        if left.is_empty() {
            return None;
        }
        if began.elapsed() > CLEANING {
            return Some(left.join("\n"));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: Check = Check { what: "it says hello", script: "echo hello", code: 0, out: "hello\n" };

    fn outcome(code: i32, out: &str) -> Result<Output, HostError> {
        Ok(Output { code, stdout: out.into(), stderr: b"why".to_vec() })
    }

    #[test]
    fn only_what_was_said_will_do() {
        assert_eq!(CHECK.failure(&outcome(0, "hello\n")), None);
        for other in [outcome(1, "hello\n"), outcome(0, "hello"), outcome(0, "")] {
            let said = CHECK.failure(&other).expect("a failure");
            assert!(said.contains("$ echo hello") && said.contains("\"why\""), "{said}");
        }
    }

    #[test]
    fn a_check_that_did_not_run_has_failed() {
        let gone = HostError::Channel(crate::host::channel::ChannelError::Gone);
        assert!(CHECK.failure(&Err(gone)).expect("a failure").contains("went away"));
    }

    #[test]
    fn each_check_says_another_thing() {
        let mut said: Vec<_> = all().map(|check| check.what).collect();
        said.sort_unstable();
        said.dedup();
        assert_eq!(said.len(), all().count());
        assert!(!said.is_empty());
    }
}
