//! The few orders to rtnetlink(7) that an interface needs, as bytes: a library for all of them would be larger than the
//! rest of the agent.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use libc::{
    AF_INET, AF_INET6, AF_UNSPEC, IFA_ADDRESS, IFA_BROADCAST, IFA_F_NODAD, IFA_F_NOPREFIXROUTE, IFA_FLAGS,
    IFA_LOCAL, IFLA_IFNAME, IFLA_MTU, NDA_DST, NDA_LLADDR, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE,
    NLM_F_REQUEST, NUD_PERMANENT, RT_TABLE_MAIN, RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_PREFSRC, RTA_PRIORITY,
    RTM_DELADDR, RTM_DELNEIGH, RTM_DELROUTE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWROUTE,
    RTN_UNICAST, RTPROT_STATIC,
};
use msb_agent::protocol::{Address, Neighbour, Route};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// Bytes of `struct nlmsghdr`; the answer's `error` comes behind it.
const HEADER: usize = 16;
/// Adds, or changes what is there.
const PUT: i32 = NLM_F_CREATE | NLM_F_REPLACE;
/// `IFF_NOARP` of linux/if.h.
const NOARP: u32 = 0x80;
const UP: u32 = 1;
/// `RTNH_F_ONLINK` of linux/rtnetlink.h.
const ONLINK: u32 = 4;

/// A socket to rtnetlink.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

impl Netlink {
    pub fn open() -> Result<Self, Errno> {
        let protocol = SockProtocol::NetlinkRoute;
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).map(Self)
    }

    /// Names an interface that is down.
    pub fn name(&self, index: u32, name: &str, mtu: u32) -> Result<(), Errno> {
        let mut message = Message::new(RTM_NEWLINK, 0, &link(index, 0, 0));
        message.put(IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
        message.put(IFLA_MTU, &mtu.to_ne_bytes());
        self.order(message)
    }

    /// Brings an interface up.
    pub fn up(&self, index: u32, arp: bool) -> Result<(), Errno> {
        let flags = if arp { UP } else { UP | NOARP };
        self.order(Message::new(RTM_NEWLINK, 0, &link(index, flags, UP | NOARP)))
    }

    pub fn add_address(&self, index: u32, address: &Address) -> Result<(), Errno> {
        self.order(of_address(RTM_NEWADDR, PUT, index, address))
    }

    pub fn remove_address(&self, index: u32, address: &Address) -> Result<(), Errno> {
        self.order(of_address(RTM_DELADDR, 0, index, address))
    }

    pub fn add_route(&self, index: u32, route: &Route) -> Result<(), Errno> {
        self.order(of_route(RTM_NEWROUTE, PUT, index, route))
    }

    pub fn remove_route(&self, index: u32, route: &Route) -> Result<(), Errno> {
        self.order(of_route(RTM_DELROUTE, 0, index, route))
    }

    pub fn add_neighbour(&self, index: u32, neighbour: &Neighbour) -> Result<(), Errno> {
        self.order(of_neighbour(RTM_NEWNEIGH, PUT, index, neighbour))
    }

    pub fn remove_neighbour(&self, index: u32, neighbour: &Neighbour) -> Result<(), Errno> {
        self.order(of_neighbour(RTM_DELNEIGH, 0, index, neighbour))
    }

    fn order(&self, message: Message) -> Result<(), Errno> {
        send(self.0.as_raw_fd(), &message.finish(), MsgFlags::empty())?;
        let mut answer = [0; 4096];
        let count = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let code = answer.get(HEADER..HEADER + 4).filter(|_| count >= HEADER + 4).ok_or(Errno::EPROTO)?;
        match i32::from_ne_bytes([code[0], code[1], code[2], code[3]]) {
            0 => Ok(()),
            code => Err(Errno::from_raw(code.saturating_neg())),
        }
    }
}

/// `struct ifinfomsg`
fn link(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[0] = byte(AF_UNSPEC);
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&change.to_ne_bytes());
    header
}

fn of_address(kind: u16, flags: i32, index: u32, address: &Address) -> Message {
    let Address { local, peer, prefix, broadcast, scope, no_route } = address;
    // struct ifaddrmsg
    let mut header = [family(local), *prefix, 0, *scope, 0, 0, 0, 0];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    let mut message = Message::new(kind, flags, &header);
    message.put_ip(IFA_LOCAL, local);
    message.put_ip(IFA_ADDRESS, peer.as_ref().unwrap_or(local));
    if let Some(broadcast) = broadcast {
        message.put_ip(IFA_BROADCAST, broadcast);
    }
    let flags = IFA_F_NODAD | if *no_route { IFA_F_NOPREFIXROUTE } else { 0 };
    message.put(IFA_FLAGS, &flags.to_ne_bytes());
    message
}

fn of_route(kind: u16, flags: i32, index: u32, route: &Route) -> Message {
    let Route { destination, prefix, gateway, source, metric, scope, onlink } = route;
    // struct rtmsg
    let mut header = [0; 12];
    (header[0], header[1]) = (family(destination), *prefix);
    (header[4], header[5]) = (RT_TABLE_MAIN, RTPROT_STATIC);
    (header[6], header[7]) = (*scope, RTN_UNICAST);
    header[8..].copy_from_slice(&(if *onlink { ONLINK } else { 0 }).to_ne_bytes());
    let mut message = Message::new(kind, flags, &header);
    if *prefix > 0 {
        message.put_ip(RTA_DST, destination);
    }
    for (kind, address) in [(RTA_GATEWAY, gateway), (RTA_PREFSRC, source)] {
        if let Some(address) = address {
            message.put_ip(kind, address);
        }
    }
    if let Some(metric) = metric {
        message.put(RTA_PRIORITY, &metric.to_ne_bytes());
    }
    message.put(RTA_OIF, &index.to_ne_bytes());
    message
}

fn of_neighbour(kind: u16, flags: i32, index: u32, neighbour: &Neighbour) -> Message {
    // struct ndmsg
    let mut header = [0; 12];
    header[0] = family(&neighbour.address);
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    let mut message = Message::new(kind, flags, &header);
    message.put_ip(NDA_DST, &neighbour.address);
    message.put(NDA_LLADDR, &neighbour.mac);
    message
}

fn family(address: &IpAddr) -> u8 {
    byte(if address.is_ipv4() { AF_INET } else { AF_INET6 })
}

fn byte(family: i32) -> u8 {
    family.to_le_bytes()[0]
}

/// One order.
#[derive(Debug)]
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: i32, header: &[u8]) -> Self {
        let flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&u16::try_from(flags).unwrap_or(0).to_ne_bytes());
        bytes.extend_from_slice(header);
        Self(bytes)
    }

    /// An attribute: its length, its kind, its value, all at multiples of 4.
    fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn put_ip(&mut self, kind: u16, address: &IpAddr) {
        match address {
            IpAddr::V4(address) => self.put(kind, &address.octets()),
            IpAddr::V6(address) => self.put(kind, &address.octets()),
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}
