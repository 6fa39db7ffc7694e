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
mod probe;
mod reach;
mod redirect;
mod share;
mod tap;
mod watch;

pub use link::{Address, Addressing, Link, Neighbour, Route, links};
pub use netlink::{Netlink, NetlinkError};
pub use probe::{ProbeError, probe};
pub use reach::public_only;
pub use redirect::{join, part};
pub use share::{confine_ports, share_answers};
pub use tap::{Tap, TapError};
pub use watch::Watch;

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read, io::Write, thread};

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// `struct virtio_net_hdr`, of which the kernel wants at least 10 bytes.
    const HEADER: usize = 12;

    /// Two taps: what a program writes into the one is what another reads from the other.
    #[test]
    fn what_comes_in_by_a_link_goes_out_by_its_tap_and_back() {
        let prepared = || {
            unshare(CloneFlags::CLONE_NEWNET).ok()?;
            Some((Netlink::open().ok()?, Tap::new(HEADER).ok()?, Tap::new(HEADER).ok()?))
        };
        // In a thread of its own, which has another name: the reason not to run goes to the test's.
        let test = move || -> Result<(), &'static str> {
            let Some((mut netlink, outer, inner)) = prepared() else {
                return Err("it needs root and /dev/net/tun");
            };
            let watch = Watch::new().unwrap();
            assert!(!watch.forget());
            assert_eq!(links(&mut netlink).unwrap().0, []);
            // Up, and not joined yet.
            let mut link = Link {
                index: outer.index,
                name: "msb0".into(),
                kind: "tun".into(),
                mac: [0; 6],
                mtu: 1400,
                arp: true,
                ipv6: false,
                addressing: Addressing::default(),
            };
            match join(&mut netlink, &link, inner.index) {
                Err(error) if error.errno() == Some(nix::errno::Errno::ENOENT) => {
                    return Err("this kernel has no cls_matchall or act_mirred");
                }
                joined => joined.unwrap(),
            }
            join(&mut netlink, &Link { index: inner.index, ..link.clone() }, outer.index).unwrap();
            assert!(watch.forget());
            let (found, all) = links(&mut netlink).unwrap();
            assert_eq!(all.len(), 3, "both and the loopback: {all:?}");
            link.mac = found[0].mac;
            link.ipv6 = found[0].ipv6;
            assert_eq!(found[0], link);
            assert!(Tap::is_one(&found[1].name, &found[1].kind));
            let (outer, inner) = (File::from(outer.fd), File::from(inner.fd));
            for (mut from, mut to) in [(&outer, &inner), (&inner, &outer)] {
                let frame = [&[0; HEADER][..], &[0xff; 6], &[2; 6], &[0x12, 0x34], &[7; 50]].concat();
                from.write_all(&frame).unwrap();
                let mut place = [0; 200];
                let count = to.read(&mut place).unwrap();
                assert_eq!(&place[HEADER..count], &frame[HEADER..]);
            }
            part(&mut netlink, found[0].index).unwrap();
            part(&mut netlink, found[0].index).unwrap();
            Ok(())
        };
        if let Err(reason) = thread::spawn(test).join().unwrap() {
            test_skips::skip(reason);
        }
    }
}
