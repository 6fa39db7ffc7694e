//! From a checked spec to what the machine and the guest are given.
//!
//! Enters: a [`crate::bundle`] spec that was checked. Leaves: a [`MachineConfig`] for the VMM and a
//! [`msb_agent::protocol::Container`] for the agent. Pure: no file, no clock, no environment is read here.

mod machine;

pub use machine::{DiskConfig, MachineConfig};
