//! From a checked spec to what the machine, the host and the guest are given.
//!
//! Enters: a [`crate::bundle`] spec that was checked. Leaves: a [`MachineConfig`] for the VMM, plain data for
//! `host` and a [`msb_agent::protocol::Container`] for the agent, whose data types are used as they are: a second
//! set of the same would only be copied back and forth. Pure: no file, no clock, no environment is read here.
//!
//! What is valid but can't be had in a machine with a kernel of its own is refused here ([`ConfigError`]).
//! AppArmor profiles and SELinux labels are not applied: those that callers use by themselves are replaced by the
//! machine (see `labels`), others are refused.

mod annotations;
mod assets;
mod bytes;
mod container;
mod device_rules;
mod error;
mod guest_limits;
mod host;
mod isolation;
mod labels;
mod limits;
mod machine;
mod mounts;
mod namespaces;
mod nodes;
mod pod;
mod process;
mod reach;
mod rights;
mod root;
mod schedule;
mod seccomp;
mod settings;
mod size;
mod throttle;

pub use annotations::Wishes;
pub use assets::Assets;
pub use bytes::Bytes;
pub use container::{Config, PlacedBind, PlacedImage, Plan};
pub use error::ConfigError;
pub use guest_limits::{cpu_weight, guest_limits};
pub use host::{CgroupConfig, Hook, Hooks, HostConfig, NetworkNamespace};
pub use limits::{Device, Limits, Rate, RateKind, Room};
pub use machine::{DiskConfig, FsConfig, MachineConfig};
pub use mounts::{BindMount, ImageMount, MountPlan};
pub use namespaces::Elsewhere;
pub use nodes::NodeRule;
pub use pod::{Role, SPARE_DISKS};
pub use process::process;
pub use reach::Reach;
pub use rights::{Powers, Rights};
pub use root::{FileSystem, RootDisks, guest_disk};
pub use seccomp::SeccompError;
pub use settings::{Confinement, Settings, SettingsError};
pub use size::Size;
pub use throttle::{Flow, NoThrottle, Throttle, Throttles};

#[cfg(test)]
mod tests;
