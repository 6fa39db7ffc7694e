//! What the host lends a sandbox: a cgroup, a network namespace and its links, volumes, hooks at their moments.
//!
//! Enters: plain data of [`crate::config`]. Leaves: guards that take back what was lent. It never knows the OCI
//! spec's JSON, nor that there is a machine.

pub mod apart;
pub mod cgroup;
pub mod fds;
pub mod guest_time;
pub mod hooks;
pub mod inherited;
pub mod loopback;
pub mod netns;
pub mod network;
pub mod pidfd;
pub mod shm;
pub mod volumes;
pub mod wait;
pub mod walls;
