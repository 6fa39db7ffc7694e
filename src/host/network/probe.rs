//! Whether this host can do what a container's network needs, by doing it: two taps of an empty namespace are joined,
//! and answers are shared between them.

use std::io;

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
};

use super::{Addressing, Link, Netlink, NetlinkError, Tap, TapError, join, share_answers};
use crate::host::apart::apart;

/// `struct virtio_net_hdr`, of which the kernel wants at least 10 bytes.
const HEADER: usize = 12;
/// Of any link.
const MTU: u32 = 1500;

/// What a container's network lacks here.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The thread.
    #[error("A thread to try it can't be run")]
    Thread(#[source] io::Error),
    /// The namespace.
    #[error("A network namespace can't be made: run it as root")]
    Namespace(#[source] Errno),
    /// Taps.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// No answer.
    #[error(transparent)]
    Netlink(NetlinkError),
    /// Redirection.
    #[error(
        "Links can't be joined: load the kernel's modules `sch_ingress`, `cls_matchall`, `cls_u32` and `act_mirred` \
         (on some distributions in a package of their own, such as kernel-modules-extra)"
    )]
    Join(#[source] NetlinkError),
}

/// Tries it on a thread of its own, and leaves nothing.
///
/// # Errors
/// [`ProbeError`]
pub fn probe() -> Result<(), ProbeError> {
    apart("probe", try_it).map_err(ProbeError::Thread)?
}

fn try_it() -> Result<(), ProbeError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(ProbeError::Namespace)?;
    let mut netlink = Netlink::open().map_err(ProbeError::Netlink)?;
    let (one, other) = (Tap::new(HEADER)?, Tap::new(HEADER)?);
    let link = Link {
        index: one.index,
        name: "msb0".into(),
        kind: "tun".into(),
        mac: [0; 6],
        mtu: MTU,
        arp: true,
        ipv6: false,
        addressing: Addressing::default(),
    };
    join(&mut netlink, &link, other.index).map_err(ProbeError::Join)?;
    // Of a filter's kinds this one needs a module of its own.
    share_answers(&mut netlink, link.index, other.index).map_err(ProbeError::Join)
}
