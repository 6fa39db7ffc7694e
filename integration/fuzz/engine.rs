//! The fuzzer, for whichever target `MSB_FUZZ_TARGET` names.
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

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET.with(|run| run.get_or_init(target)(bytes)));
