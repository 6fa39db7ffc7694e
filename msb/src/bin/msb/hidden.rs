//! The hidden verbs: the processes that a sandbox consists of are this program again.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, process::ExitCode};

use msb::sandbox::keep::detached;
use msb_runtime::{
    sandbox::{Log, hidden},
    verbs::words,
};

/// Does what `words` say if they are such a verb.
pub fn run(words: &[String]) -> Option<ExitCode> {
    if let [verb, rest @ ..] = words
        && verb == detached::VERB
    {
        return Some(match detached::run(rest) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Into the sandbox's file of warnings.
                eprintln!("{}", error.chain());
                ExitCode::FAILURE
            }
        });
    }
    let code = hidden::run(words, &warn)?.unwrap_or_else(|error| {
        eprintln!("{}", words::chain(&error));
        255
    });
    Some(ExitCode::from(code))
}

fn warn(log: &Log, text: &str) {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&log.path);
    // There is nowhere else to tell it.
    let _ = file.and_then(|mut file| file.write_all(format!("{text}\n").as_bytes()));
}
