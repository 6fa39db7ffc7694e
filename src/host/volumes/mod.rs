//! Volumes: directories and files of the host that a container sees live, served to its machine by virtiofsd.
//!
//! ```text
//!  VMM ── opens each source once (O_PATH), looks what it is ──────────────▶ source.rs
//!   └─ helper (hidden verb `volumes`): clones each source's mounts from its descriptor, then in a mount namespace of
//!      its own makes an empty read-only directory with the clones at /0, /1, /2, … ──▶ tree.rs
//!       └─ becomes virtiofsd, which takes that directory as its root and leaves all else behind ──▶ daemon.rs
//! ```
//!
//! **What is trusted.** Nothing of the guest: it may send virtiofsd any request, as any user, on any number. The walls
//! are on the host. (1) The tree: there is nothing but the sources in it. A source is found once, when the container is
//! created, and bound by its descriptor, so a link put in its place later leads nowhere. (2) The mounts: read-only is a
//! property of the clone on the host (of all mounts beneath with `rro`), whatever the guest mounts over; `nosuid`,
//! `nodev` and `noexec` hold on every clone, since virtiofsd itself has no use for what they forbid. (3) virtiofsd: its
//! root is the tree (pivot_root, the old one detached), with a pid and a network namespace of its own, a seccomp filter
//! that kills, limits, and eight capabilities, of which two are taken too when the container lacks them (`mknod`, `setfcap`).
//! It stays root in the host's user namespace: it must be able to give files to any user, which is what a container's
//! root can do to a volume with every runtime. It is not given CAP_DAC_READ_SEARCH (`--inode-file-handles=never`):
//! with it, a handle that is guessed opens any file of the volume's whole file system.
//! A root that is shared (`dev.msb.root=shared`) is an entry as all others. One that is not to be written becomes read-only
//! on the host when the agent has made its mount points in it, before the container's first instruction (`seal.rs`).
//! (4) The container's cgroup, in which it sits: what it takes is the container's.
//!
//! **Its life.** It is the VMM's child, gets SIGKILL when the VMM ends (and ends by itself when the connection does),
//! and is never started again: what the guest knew of its files is lost with it.
//!
//! **In a pod** there is one tree and one daemon for all its containers. What one of them mounts is put among the rest when
//! it comes, at a number that no other had, and taken out when it is gone (`later.rs`); its guest could reach the others'
//! all the same, as containers of a pod share a kernel.
//!
//! Enters: [`BindMount`](crate::config::BindMount)s. Leaves: a tree and a process that serves it. It never knows the
//! machine, nor what the guest does with the names.

pub mod copy;
pub mod daemon;
pub mod later;
pub mod seal;
pub mod source;
pub mod tree;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::BindMount;

/// What the helper is told: everything that it needs to become the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Served at `/0`, `/1`, … of the tree, in this order.
    pub entries: Vec<Entry>,
    /// So many more may come while it is served.
    pub room: usize,
    /// A directory over which the tree is mounted, where only the helper sees it.
    pub place: PathBuf,
    /// Number of the inherited descriptor on which the daemon listens.
    pub listener: i32,
    /// virtiofsd.
    pub program: PathBuf,
    /// Capabilities that the container lacks and the daemon must do without, as `mknod`.
    pub denied: Vec<String>,
    /// Who started the helper: with it, the daemon ends.
    pub parent: i32,
}

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Number of the inherited descriptor (`O_PATH`) of the source.
    pub source: i32,
    /// Whether it is a directory; otherwise a regular file.
    pub directory: bool,
    /// Whether what is mounted beneath it is served too.
    pub recursive: bool,
    /// What may not be written.
    pub read_only: ReadOnly,
    /// Reading leaves no trace.
    pub no_access_time: bool,
    /// Whether mounts made on the host later appear beneath it.
    pub follows_host: bool,
}

/// How far `ro` goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadOnly {
    /// Nothing is.
    No,
    /// The source's own mount (`ro`).
    Top,
    /// And all mounts beneath it (`rro`).
    All,
}

impl Entry {
    /// A container's root, open as `source`: it can be written until [`seal::read_only`].
    #[must_use]
    pub fn root(source: i32) -> Self {
        Self {
            source,
            directory: true,
            recursive: true,
            read_only: ReadOnly::No,
            no_access_time: false,
            follows_host: false,
        }
    }

    /// The volume of `bind`, whose source is open as `source`.
    #[must_use]
    pub fn new(bind: &BindMount, source: i32, directory: bool) -> Self {
        let mut entry = Self {
            source,
            directory,
            recursive: bind.recursive,
            read_only: ReadOnly::No,
            no_access_time: false,
            follows_host: false,
        };
        // Of two words that contradict each other the later wins, as with mount(8).
        for option in &bind.options {
            match option.as_str() {
                "ro" if entry.read_only == ReadOnly::No => entry.read_only = ReadOnly::Top,
                "rro" => entry.read_only = ReadOnly::All,
                "rw" | "rrw" => entry.read_only = ReadOnly::No,
                "noatime" | "rnoatime" => entry.no_access_time = true,
                "atime" | "ratime" | "relatime" | "strictatime" => entry.no_access_time = false,
                // What the guest mounts never comes back to the host: shared is no more than slave.
                "slave" | "rslave" | "shared" | "rshared" => entry.follows_host = true,
                "private" | "rprivate" | "unbindable" | "runbindable" => entry.follows_host = false,
                _ => {}
            }
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(options: &[&str]) -> Entry {
        let bind = BindMount {
            destination: "/d".into(),
            source: "/s".into(),
            options: options.iter().map(|word| (*word).to_owned()).collect(),
            recursive: true,
        };
        Entry::new(&bind, 5, true)
    }

    #[test]
    fn the_later_word_wins() {
        assert_eq!(entry(&["ro"]).read_only, ReadOnly::Top);
        assert_eq!(entry(&["rro", "ro"]).read_only, ReadOnly::All);
        assert_eq!(entry(&["ro", "rw"]).read_only, ReadOnly::No);
        assert!(!entry(&["noatime", "relatime"]).no_access_time);
        assert!(!entry(&["rprivate"]).follows_host);
        assert!(entry(&["rshared"]).follows_host);
    }
}
