//! The fuzzer, for whichever target `MSB_FUZZ_TARGET` names; built without one (the feature `engine`), it runs files through once.
#![cfg_attr(feature = "engine", no_main)]

#[cfg(feature = "engine")]
mod engine {
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
}

#[cfg(not(feature = "engine"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::var(fuzz::VARIABLE)?;
    let run = fuzz::target(&name).ok_or("there is no such target in this build")?;
    for path in std::env::args_os().skip(1) {
        run(&std::fs::read(path)?);
    }
    Ok(())
}
