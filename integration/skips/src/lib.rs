//! How a test says that it cannot run, or that it has run twice; and how it races.
//!
//! In: a reason. Out: a line in the file that `cargo dev test` names, which its summary shows; what could not run it counts as
//! skipped, not as passed. It knows nothing of what a test needs, and depends on nothing: every package's tests use it.

mod race;

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;

pub use race::{race, rounds};

/// Names the file to which a test that cannot run adds a line that says why.
pub const VARIABLE: &str = "MSB_SKIPPED";

/// What a line of a test that has run begins with.
pub const AGAIN: &str = "again: ";

/// For a test, or a part of one, that cannot run here: notes why, for the summary. The test then returns.
pub fn skipped(test: &str, reason: &str) {
    eprintln!("skipped: {test}: {reason}");
    note(&format!("{test}: {reason}"));
}

/// For the test that calls it, which has failed by no fault of what it tests, and now runs again: notes why, for the summary.
pub fn again(reason: &str) {
    let line = format!("{AGAIN}{}: {reason}", running());
    eprintln!("{line}");
    note(&line);
}

fn note(line: &str) {
    let Some(path) = std::env::var_os(VARIABLE) else { return };
    // One write each: several tests may add theirs at once.
    let line = line.replace('\n', " ") + "\n";
    let added =
        OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = added {
        eprintln!("It could not be noted: {error}");
    }
}

/// As [`skipped`], of the test that calls it.
pub fn skip(reason: impl Display) {
    skipped(&running(), &reason.to_string());
}

/// The test that runs: a thread is called as its test is; nextest, which has a process for each, names it there.
fn running() -> String {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--exact").skip(1);
    let alone = || arguments.find(|argument| !argument.starts_with('-'));
    let thread = std::thread::current().name().filter(|name| *name != "main").map(str::to_owned);
    thread.or_else(alone).unwrap_or_else(|| "a test".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_knows_its_name() {
        assert_eq!(running(), "tests::a_test_knows_its_name");
    }
}
