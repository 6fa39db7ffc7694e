//! Answers for a program of the host that asks from within the namespace: Docker's name server asks the servers that
//! `--dns` names from there, and would otherwise never hear what they say.
//!
//! What comes from port 53 to a port of [`PORTS`], and what says who has which hardware address, goes to the machine
//! *and* to the host's own stack. The namespace's programs get only those ports for their questions.

use std::{fs, io};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage as Message,
    tc::{
        TcActionType, TcAttribute, TcFilterMatchAll, TcFilterMatchAllOption, TcFilterU32, TcFilterU32Option,
        TcMirrorActionType, TcOption, TcU32Key, TcU32Selector, TcU32SelectorFlags,
    },
};

use super::{
    Netlink, NetlinkError,
    redirect::{action, filter},
};

/// First and last: the highest 1024, of which a guest's own programs get none unless they ask.
const PORTS: (u16, u16) = (0xfc00, 0xffff);
/// The bits that all of them have in common.
const PORTS_MASK: u16 = 0xfc00;
/// The port of name servers.
const DOMAIN: u16 = 53;
/// Priorities, before that of the redirection.
const ARP: u32 = 2;
const ANSWERS: u32 = 3;
/// `ETH_P_ARP` and `ETH_P_IP` of linux/if_ether.h.
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IP: u16 = 0x0800;
/// `IPPROTO_UDP`
const UDP: u8 = 17;

/// Lets the namespace's programs hear answers, too, that come in by the link of that number, which is joined with `tap`.
///
/// # Errors
/// [`NetlinkError`]
pub fn share_answers(netlink: &mut Netlink, link: u32, tap: u32) -> Result<(), NetlinkError> {
    let both = || action(TcMirrorActionType::EgressMirror, TcActionType::Ok, tap);
    let arp = [
        TcAttribute::Kind(TcFilterMatchAll::KIND.into()),
        TcAttribute::Options(vec![TcOption::MatchAll(TcFilterMatchAllOption::Action(vec![both()]))]),
    ];
    let answers = [
        TcAttribute::Kind(TcFilterU32::KIND.into()),
        TcAttribute::Options(vec![
            TcOption::U32(TcFilterU32Option::Selector(selector())),
            TcOption::U32(TcFilterU32Option::Action(vec![both()])),
        ]),
    ];
    let make = NLM_F_CREATE | NLM_F_EXCL;
    let arp = filter(link, ARP, ETH_P_ARP, arp.into());
    netlink.order("share a link's addresses", make, Message::NewTrafficFilter(arp))?;
    let answers = filter(link, ANSWERS, ETH_P_IP, answers.into());
    netlink.order("share a link's answers", make, Message::NewTrafficFilter(answers))
}

/// Of the ports that the namespace's programs get, those only that answers are shared for.
///
/// # Errors
/// Of `/proc/sys`, which shows the namespace of who writes.
pub fn confine_ports() -> io::Result<()> {
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", format!("{} {}", PORTS.0, PORTS.1))
}

/// UDP from port 53 to one of the ports, in an IPv4 header without options.
fn selector() -> TcU32Selector {
    let key = |off, mask, val| {
        let mut key = TcU32Key::default();
        (key.off, key.mask, key.val) = (off, mask, val);
        key
    };
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.keys = vec![
        // Version and header length (RFC 791, section 3.1).
        key(0, 0xff00_0000, 0x4500_0000),
        // Protocol.
        key(8, 0x00ff_0000, u32::from(UDP) << 16),
        // Source and destination port (RFC 768).
        key(
            20,
            0xffff_0000 | u32::from(PORTS_MASK),
            u32::from(DOMAIN) << 16 | u32::from(PORTS.0 & PORTS_MASK),
        ),
    ];
    selector.nkeys = 3;
    selector
}
