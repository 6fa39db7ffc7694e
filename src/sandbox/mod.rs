//! A sandbox: the process that is the machine and stands for the container towards every caller.
//!
//! ```text
//!  create ── spawn ──▶ vmm process: enters its network namespace ── Ready ──▶ create runs hooks
//!         ── Boot ───▶ machine runs, agent says hello, container is made ── Created ──▶ create ends
//!  start, kill, ps, exec ──▶ control.sock
//!                      the container ends ──▶ the process ends with its exit code
//! ```
//!
//! The process that callers know is not the one that runs the guest: that one is its child, between walls ([`cell`]).
//!
//! A pod's further containers have a process each as well, which is in the same place towards their callers but has no
//! machine ([`member`]): it asks the pod's VMM for disks and volumes, and the agent for the container.
//!
//! Enters: a [`SandboxConfig`], whole. Leaves: a pid whose exit status is the container's. It never knows the
//! OCI spec, the bundle, or how the disks came to be.

pub mod cell;
pub mod child;
pub mod control;
pub mod forward;
pub mod hidden;
mod images;
pub mod member;
mod members;
mod names;
mod network;
pub mod oom;
pub mod serve;
#[cfg(test)]
mod shapes;
mod usual;
pub mod vmm;
pub mod volumes;

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use msb_agent::protocol::{Container, ExitStatus};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Confinement, MachineConfig, NetworkNamespace, PlacedBind, PlacedImage, Reach},
    host::cgroup::Place,
    state::Exit,
};

/// All that the VMM process is told, once, by the process that starts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// The sandbox's own directory: control socket, console log.
    pub dir: PathBuf,
    /// The machine.
    pub machine: MachineConfig,
    /// The container's cgroup on the host, if it has one.
    pub cgroup: Option<Place>,
    /// Where what concerns the container's caller is told while it runs.
    pub log: Option<Log>,
    /// The network namespace that the VMM lives in.
    pub network: NetworkNamespace,
    /// Whom the machine can reach there.
    pub reach: Reach,
    /// What the agent makes of it, but for its root if that is shared, and its bind mounts.
    pub container: Container,
    /// The root on the host, if it is shared live.
    pub shared_root: Option<PathBuf>,
    /// The bind mounts, in order.
    pub binds: Vec<PlacedBind>,
    /// The mounts of images that it lacks likewise, in order.
    pub images: Vec<PlacedImage>,
    /// virtiofsd, should they need it.
    pub virtiofsd: PathBuf,
    /// How long output may still flow after the container's end; none: as long as anybody is there to read it.
    pub drain: Option<Duration>,
    /// Whether further containers may come into the machine: it is a pod's.
    pub pod: bool,
    /// What holds the machine's process back.
    pub confinement: Confinement,
}

/// `--log` and `--log-format`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The file, absolute.
    pub path: PathBuf,
    /// Whether its lines are JSON.
    pub json: bool,
}

/// The exit code of a process whose machine was lost.
const LOST: u8 = 255;

/// The exit code of a container that has ended, kept in its directory for who is not the parent of this process.
fn keep_exit<E>(dir: &Path, ended: Result<ExitStatus, E>) -> Result<u8, E> {
    let ended = ended.map(ExitStatus::exit_code);
    // Its directory may be gone: then nobody asks any more.
    let _ = Exit { code: *ended.as_ref().unwrap_or(&LOST), at: SystemTime::now() }.save(dir);
    ended
}

/// An error with all its causes, in one line as far as they are; some of the words are the guest's.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    crate::plain::lines(&text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_guest_says_in_an_error_steers_no_terminal() {
        let error = std::io::Error::other("exec: \"\u{1b}[2J\": not found");
        assert_eq!(super::chain(&error), "exec: \"?[2J\": not found");
    }
}
