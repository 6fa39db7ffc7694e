//! What strangers send, made up by a fuzzer: a target for each place where it comes in.
//!
//! ```text
//!  guest ─▶ rng, block, net, vsock, balloon, fs                    registers and queues of each device
//!           block-read-only, block-throttled, net-throttled        and of those that are not as usual
//!           agent-to-host                                          what the agent says to a session
//!           cell                                                   what its VMM, broken into, says to the sandbox's process
//!           writeback                                              the disk that a container has written
//!  host  ─▶ host-to-agent                                          what the agent is told
//!  users ─▶ config                                                 config.json, to the machine
//!           root, composition                                      trees of layers, to one image, and how that is kept
//!           layer, archive                                         images of others
//!           server, server-agent, terminal                         HTTP, the stream to an agent, a page's terminal
//! ```
//!
//! What a fuzzer begins with is made by `seeds`; a corpus is what it has found beyond.
//!
//! In: bytes. Out: nothing, or a panic. The devices' targets are in `msb_runtime::machine::virtio::hostile`, beside the
//! driver that they are made of, and only there when the whole is built for a fuzzer (the feature `engine`); so is the
//! cell's. `cargo dev fuzz` builds
//! and runs them; a corpus is one file for each target (see [`corpus`]), and as a test each is run through once.

mod agent;
mod composition;
mod config;
pub mod corpus;
mod image;
mod place;
mod root;
mod seeds;
mod server;
mod writeback;

/// Names the target that this process is to run.
pub const VARIABLE: &str = "MSB_FUZZ_TARGET";
/// Names the folder that its seeds are to be written to, instead of running it.
pub const SEEDS: &str = "MSB_FUZZ_SEEDS";

/// A target: its name, what is done with bytes, and what a fuzzer begins with.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// What is done with bytes.
pub type Run = Box<dyn Fn(&[u8])>;

/// All but those of devices.
pub const TARGETS: [Target; 11] = [
    ("agent-to-host", agent::to_host, seeds::to_host),
    ("host-to-agent", agent::to_agent, seeds::to_agent),
    ("config", config::run, seeds::configurations),
    ("root", root::run, seeds::trees),
    ("composition", composition::run, composition::changes),
    ("writeback", writeback::run, seeds::disks),
    ("layer", image::layer, seeds::layers),
    ("archive", image::archive, seeds::archives),
    ("server", server::requests, seeds::requests),
    ("server-agent", server::stream, seeds::frames),
    ("terminal", server::terminal, seeds::terminal),
];

/// Those of devices.
pub const DEVICES: [&str; 9] =
    ["rng", "block", "block-read-only", "block-throttled", "net", "net-throttled", "vsock", "balloon", "fs"];

/// That of the messages between the two processes of a sandbox.
pub const CELL: &str = "cell";

/// The target called `name`, of devices and the cell only when it is built for a fuzzer.
#[must_use]
pub fn target(name: &str) -> Option<Run> {
    #[cfg(feature = "engine")]
    if let Some(device) = DEVICES.into_iter().find(|device| *device == name) {
        return Some(Box::new(move |bytes| msb_runtime::machine::virtio::hostile::fuzz(device, bytes)));
    }
    #[cfg(feature = "engine")]
    if name == CELL {
        return Some(Box::new(composition::cell));
    }
    let (_, run, _) = TARGETS.into_iter().find(|(other, ..)| *other == name)?;
    Some(Box::new(run))
}

/// What a fuzzer begins with, of the target called `name`.
#[must_use]
pub fn seeds(name: &str) -> Option<Vec<Vec<u8>>> {
    #[cfg(feature = "engine")]
    if DEVICES.contains(&name) {
        return Some(msb_runtime::machine::virtio::hostile::seeds(name));
    }
    #[cfg(feature = "engine")]
    if name == CELL {
        return Some(msb_runtime::sandbox::cell::fuzz::seeds());
    }
    let (_, _, seeds) = TARGETS.into_iter().find(|(other, ..)| *other == name)?;
    Some(seeds())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// What a fuzzer begins with, and what it found before.
    #[test]
    fn what_is_known_does_no_harm() {
        for (name, run, seeds) in TARGETS {
            let path = corpus::path(Path::new(env!("CARGO_MANIFEST_DIR")), name);
            let packed = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let found = corpus::unpack(&packed).unwrap();
            let seeds = seeds();
            assert!(!found.is_empty() && !seeds.is_empty(), "{name}");
            // Of many, a few of each kind: they are whole runs of what is tested elsewhere.
            let few = seeds.len().div_ceil(SEEDS);
            seeds.iter().step_by(few).chain(&found).for_each(|input| run(input));
        }
    }

    const SEEDS: usize = 60;
}
