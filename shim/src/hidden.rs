//! The hidden verbs: the processes that a sandbox consists of, which are this program again ([`hidden`]).

use std::process::ExitCode;

use msb_runtime::{
    sandbox::{Log, hidden},
    verbs::words,
};

/// Does what `words` say if they are such a verb and its descriptor.
pub fn run(words: &[String]) -> Option<ExitCode> {
    let code = hidden::run(words, &warn)?.unwrap_or_else(|error| {
        eprintln!("{}", words::chain(&error));
        255
    });
    Some(ExitCode::from(code))
}

fn warn(log: &Log, text: &str) {
    crate::log::Log::at(&log.path, false).line("warning", text);
}
