//! From a checked spec to what the machine, the host and the guest are given.
//!
//! Enters: a `bundle` spec that was checked. Leaves: a [`MachineConfig`] for the VMM, plain data for
//! `host` and a [`msb_agent::protocol::Container`] for the agent. Pure: no file, no clock, no
//! environment is read here.

mod host;
mod machine;

pub use host::{Hook, NetworkNamespace};
pub use machine::{DiskConfig, MachineConfig};
