//! The agent as an ordinary process in namespaces of its own, with unix sockets for vsock and loop devices for disks:
//! everything but the machine. Each test is a sandbox.
//!
//! Needs root, loop devices, EROFS, ext4, overlayfs, cgroup v2, and busybox (static), mkfs.erofs, mkfs.ext4, unshare.

#[cfg(test)]
mod container;
#[cfg(test)]
mod exec;
#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod filter;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod streams;
