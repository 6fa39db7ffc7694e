//! `-v` and `-info`: what containerd may know of this shim without a task.

use std::io::{self, Write};

use containerd_shim_protos::{
    protobuf::Message,
    types::introspection::{RuntimeInfo, RuntimeVersion},
};

/// As in `--runtime`.
const NAME: &str = "io.containerd.msb.v2";

/// Prints the version, for people.
pub fn version() -> anyhow::Result<()> {
    println!("containerd-shim-msb-v2:\n  Version: {}", env!("CARGO_PKG_VERSION"));
    Ok(())
}

/// Prints containerd's `RuntimeInfo`. The options on stdin change nothing of it.
pub fn info() -> anyhow::Result<()> {
    let version = RuntimeVersion { version: env!("CARGO_PKG_VERSION").into(), ..RuntimeVersion::default() };
    let info = RuntimeInfo { name: NAME.into(), version: Some(version).into(), ..RuntimeInfo::default() };
    Ok(io::stdout().write_all(&info.write_to_bytes()?)?)
}
