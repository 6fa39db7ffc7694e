//! Two links that give each other every packet that comes in: tc-mirred(8), without `tc`.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage as Message,
    link::{LinkAttribute, LinkFlags, LinkMessage},
    tc::{
        TcAction, TcActionAttribute, TcActionGeneric, TcActionMirror, TcActionMirrorOption, TcActionOption,
        TcActionType, TcAttribute, TcFilterMatchAll, TcFilterMatchAllOption, TcHandle, TcMessage, TcMirror,
        TcMirrorActionType, TcOption,
    },
};
use nix::errno::Errno;

use super::{Link, Netlink, NetlinkError};

/// `ETH_P_ALL` of linux/if_ether.h.
pub(super) const EVERY_PROTOCOL: u16 = 3;
/// Behind those of `share.rs`.
const PRIORITY: u32 = 10;

/// Joins a link with the tap of that number: what comes in by one goes out by the other. The tap gets the link's MTU and is up.
///
/// # Errors
/// [`NetlinkError`]
pub fn join(netlink: &mut Netlink, link: &Link, tap: u32) -> Result<(), NetlinkError> {
    let mut message = LinkMessage::default();
    message.header.index = tap;
    (message.header.flags, message.header.change_mask) = (LinkFlags::Up, LinkFlags::Up);
    message.attributes.push(LinkAttribute::Mtu(link.mtu));
    netlink.order("bring a tap up", 0, Message::SetLink(message))?;
    redirect(netlink, tap, link.index)?;
    redirect(netlink, link.index, tap)
}

/// Undoes [`join`] for the link of that number; the tap goes with its descriptor. No error if either is gone.
///
/// # Errors
/// [`NetlinkError`]
pub fn part(netlink: &mut Netlink, link: u32) -> Result<(), NetlinkError> {
    let done = netlink.order("take a redirection away", 0, Message::DelQueueDiscipline(ingress(link)));
    match done {
        Err(error) if matches!(error.errno(), Some(Errno::ENODEV | Errno::ENOENT | Errno::EINVAL)) => Ok(()),
        done => done,
    }
}

fn redirect(netlink: &mut Netlink, from: u32, to: u32) -> Result<(), NetlinkError> {
    // What an earlier machine in the same namespace left leads nowhere.
    part(netlink, from)?;
    let make = NLM_F_CREATE | NLM_F_EXCL;
    netlink.order("hook into a link", make, Message::NewQueueDiscipline(ingress(from)))?;
    netlink.order("redirect a link", make, Message::NewTrafficFilter(everything(from, to)))
}

/// The place where packets come in.
fn ingress(link: u32) -> TcMessage {
    let mut message = TcMessage::with_index(link.cast_signed());
    message.header.parent = TcHandle::INGRESS;
    message.header.handle = TcHandle { major: u16::MAX, minor: 0 };
    message.attributes.push(TcAttribute::Kind("ingress".into()));
    message
}

/// Every packet that comes in by `from` goes out by `to`.
fn everything(from: u32, to: u32) -> TcMessage {
    let redirect = action(TcMirrorActionType::EgressRedir, TcActionType::Stolen, to);
    let attributes = vec![
        TcAttribute::Kind(TcFilterMatchAll::KIND.into()),
        TcAttribute::Options(vec![TcOption::MatchAll(TcFilterMatchAllOption::Action(vec![redirect]))]),
    ];
    filter(from, PRIORITY, EVERY_PROTOCOL, attributes)
}

/// A filter for what comes in by `from`; the smaller its priority the earlier it is asked.
pub(super) fn filter(from: u32, priority: u32, protocol: u16, attributes: Vec<TcAttribute>) -> TcMessage {
    let mut message = TcMessage::with_index(from.cast_signed());
    message.header.parent = TcHandle { major: u16::MAX, minor: 0 };
    // The protocol as the wire has it.
    message.header.info = priority << 16 | u32::from(protocol.to_be());
    message.attributes = attributes;
    message
}

/// The packet, or a copy of it, goes out by `to`; `then` is what becomes of it here.
pub(super) fn action(kind: TcMirrorActionType, then: TcActionType, to: u32) -> TcAction {
    let mut mirror = TcMirror::default();
    mirror.generic = TcActionGeneric::default();
    mirror.generic.action = then;
    mirror.eaction = kind;
    mirror.ifindex = to;
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.into()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror))]),
    ];
    action
}
