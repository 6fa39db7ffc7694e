//! The links of the VMM's network namespace, and how each is joined with a tap.
//!
//! ```text
//!  peer of the veth ◀──▶ eth0 ══ redirected, both ways ══ msb0 (tap) ◀──▶ the machine's interface
//! ```
//!
//! Enters: a namespace in which this process lives, whose links somebody else (Docker, podman, CNI) has put there.
//! Leaves: what those links have, and taps that get every packet that comes in by them. The links keep their addresses,
//! so that everybody still finds them where they were put. Must never know that there is a machine.

mod link;
mod netlink;
mod redirect;
mod tap;
mod watch;

pub use link::{Address, Addressing, Link, Neighbour, Route, links};
pub use netlink::{Netlink, NetlinkError};
pub use redirect::{join, part};
pub use tap::{Tap, TapError};
pub use watch::Watch;
