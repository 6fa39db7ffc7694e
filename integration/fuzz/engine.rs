//! The fuzzer, for whichever target `MSB_FUZZ_TARGET` names; with `MSB_FUZZ_SEEDS` it only writes what it begins with there.
#![no_main]
#![allow(unsafe_code, missing_docs, reason = "the engine's own entry points")]

use std::sync::OnceLock;

use fuzz::Run;

thread_local! {
    /// The engine has one thread.
    static TARGET: OnceLock<Run> = const { OnceLock::new() };
}

fn target() -> Run {
    let name = std::env::var(fuzz::VARIABLE).unwrap_or_default();
    fuzz::target(&name).unwrap_or_else(|| panic!("{} names no target: {name:?}", fuzz::VARIABLE))
}

/// As every program of Rust's that has its own `main`: who writes to nobody has an error, and goes on.
fn ignore_broken_pipes() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no handler of ours is called.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }.expect("a signal can be ignored");
}

/// Writes each seed to a file, and ends.
fn write_seeds() {
    ignore_broken_pipes();
    let Ok(folder) = std::env::var(fuzz::SEEDS) else { return };
    let name = std::env::var(fuzz::VARIABLE).unwrap_or_default();
    let seeds = fuzz::seeds(&name).unwrap_or_else(|| panic!("{} names no target: {name:?}", fuzz::VARIABLE));
    for (number, seed) in seeds.iter().enumerate() {
        let path = std::path::Path::new(&folder).join(format!("seed-{number}"));
        std::fs::write(path, seed).expect("a seed can be written");
    }
    std::process::exit(0);
}

libfuzzer_sys::fuzz_target!(init: write_seeds(), |bytes: &[u8]| TARGET.with(|run| run.get_or_init(target)(bytes)));
