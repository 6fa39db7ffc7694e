//! What strangers send, made up by a fuzzer: a target for each place where it comes in.
//!
//! ```text
//!  guest ─▶ rng, block, block-read-only, net, vsock, balloon, fs   registers and queues of each device
//!           agent-to-host                                          what the agent says to a session
//!           writeback                                              the disk that a container has written
//!  host  ─▶ host-to-agent                                          what the agent is told
//!  users ─▶ config                                                 config.json, to the machine
//!           root                                                   trees of layers, to one image
//!           layer, archive                                         images of others
//!           server, server-agent                                   HTTP, and the stream to an agent
//! ```
//!
//! In: bytes. Out: nothing, or a panic. The devices' targets are in `msb_runtime::machine::virtio::hostile`, beside the
//! driver that they are made of, and only there when the whole is built for a fuzzer (the feature `engine`). `cargo dev fuzz` builds
//! and runs them; a corpus is one file for each target (see [`corpus`]), and as a test each is run through once.

mod agent;
mod config;
pub mod corpus;
mod image;
mod place;
mod root;
mod server;
mod writeback;

/// Names the target that this process is to run.
pub const VARIABLE: &str = "MSB_FUZZ_TARGET";

/// A target: its name, and what is done with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// What is done with bytes.
pub type Run = Box<dyn Fn(&[u8])>;

/// All but those of devices.
pub const TARGETS: [Target; 9] = [
    ("agent-to-host", agent::to_host),
    ("host-to-agent", agent::to_agent),
    ("config", config::run),
    ("root", root::run),
    ("writeback", writeback::run),
    ("layer", image::layer),
    ("archive", image::archive),
    ("server", server::requests),
    ("server-agent", server::stream),
];

/// Those of devices.
pub const DEVICES: [&str; 7] = ["rng", "block", "block-read-only", "net", "vsock", "balloon", "fs"];

/// The target called `name`, of devices only when it is built for a fuzzer.
#[must_use]
pub fn target(name: &str) -> Option<Run> {
    #[cfg(feature = "engine")]
    if let Some(device) = DEVICES.into_iter().find(|device| *device == name) {
        return Some(Box::new(move |bytes| msb_runtime::machine::virtio::hostile::fuzz(device, bytes)));
    }
    let (_, run) = TARGETS.into_iter().find(|(other, _)| *other == name)?;
    Some(Box::new(run))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn what_was_found_before_does_no_harm() {
        for (name, run) in TARGETS {
            let path = corpus::path(Path::new(env!("CARGO_MANIFEST_DIR")), name);
            let packed = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let inputs = corpus::unpack(&packed).unwrap();
            assert!(!inputs.is_empty(), "{name}");
            inputs.iter().for_each(|input| run(input));
        }
    }
}
