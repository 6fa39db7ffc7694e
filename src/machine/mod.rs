//! One virtual machine: memory, virtual processors and devices on top of KVM.
//!
//! Enters: a [`crate::config::MachineConfig`], complete. Leaves: a running guest, byte streams to it, and how it ended.
//! Must never know: OCI, bundles, images, the agent or what the streams carry.

pub mod events;
pub mod virtio;
