//! What the links of this namespace are and have.

use std::{fs, net::IpAddr};

use netlink_packet_route::{
    RouteNetlinkMessage as Message,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
    link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteType},
};

use super::{Netlink, NetlinkError};

/// A link of Ethernet's kind that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number.
    pub index: u32,
    /// `eth0`.
    pub name: String,
    /// `veth`, `macvlan`, …; empty for hardware.
    pub kind: String,
    /// Hardware address.
    pub mac: [u8; 6],
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether it asks for hardware addresses.
    pub arp: bool,
    /// Whether it has IPv6.
    pub ipv6: bool,
    /// What was given to it.
    pub addressing: Addressing,
}

/// Addresses, routes and neighbours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addressing {
    /// Its own; those that the kernel makes up (link-local ones of IPv6) are not among them.
    pub addresses: Vec<Address>,
    /// Of the main table; those that follow from the addresses are not among them. Gateways come last.
    pub routes: Vec<Route>,
    /// Permanent ones.
    pub neighbours: Vec<Neighbour>,
}

/// One address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub local: IpAddr,
    /// The other end, where it has only one.
    pub peer: Option<IpAddr>,
    /// Bits of its network.
    pub prefix: u8,
    /// IPv4's broadcast address.
    pub broadcast: Option<IpAddr>,
    /// `RT_SCOPE_*`
    pub scope: u8,
    /// `IFA_F_NOPREFIXROUTE`
    pub no_route: bool,
}

/// One route through a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where to; unspecified for the default route.
    pub destination: IpAddr,
    /// Bits of the destination.
    pub prefix: u8,
    /// Through whom.
    pub gateway: Option<IpAddr>,
    /// From which own address.
    pub source: Option<IpAddr>,
    /// The smaller is taken first.
    pub metric: Option<u32>,
    /// `RT_SCOPE_*`
    pub scope: u8,
    /// `RTNH_F_ONLINK`
    pub onlink: bool,
}

/// A neighbour that is never asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its hardware address.
    pub mac: [u8; 6],
}

/// All links of the namespace that carry Ethernet and are up, by their numbers; and which numbers there are at all.
///
/// # Errors
/// [`NetlinkError`].
pub fn links(netlink: &mut Netlink) -> Result<(Vec<Link>, Vec<u32>), NetlinkError> {
    let (mut links, mut all) = (Vec::new(), Vec::new());
    for message in netlink.dump("list links", &Message::GetLink(LinkMessage::default()))? {
        if let Message::NewLink(message) = message {
            all.push(message.header.index);
            links.extend(link(&message));
        }
    }
    if links.is_empty() {
        return Ok((links, all));
    }
    for message in netlink.dump("list addresses", &Message::GetAddress(AddressMessage::default()))? {
        if let Message::NewAddress(message) = message
            && let Some(link) = links.iter_mut().find(|link| link.index == message.header.index)
        {
            link.addressing.addresses.extend(address(&message));
        }
    }
    for message in netlink.dump("list routes", &Message::GetRoute(RouteMessage::default()))? {
        if let Message::NewRoute(message) = message
            && let Some((index, route)) = route(&message)
            && let Some(link) = links.iter_mut().find(|link| link.index == index)
        {
            link.addressing.routes.push(route);
        }
    }
    for message in netlink.dump("list neighbours", &Message::GetNeighbour(NeighbourMessage::default()))? {
        if let Message::NewNeighbour(message) = message
            && let Some(link) = links.iter_mut().find(|link| link.index == message.header.ifindex)
        {
            link.addressing.neighbours.extend(neighbour(&message));
        }
    }
    for link in &mut links {
        // The gateway must be in a network that is known by then.
        link.addressing.routes.sort_by_key(|route| route.gateway.is_some());
    }
    links.sort_by_key(|link| link.index);
    Ok((links, all))
}

fn link(message: &LinkMessage) -> Option<Link> {
    let flags = message.header.flags;
    if message.header.link_layer_type != LinkLayerType::Ether || !flags.contains(LinkFlags::Up) {
        return None;
    }
    let (mut name, mut kind, mut mac, mut mtu) = (None, String::new(), None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(value) => name = Some(value.clone()),
            LinkAttribute::Address(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            LinkAttribute::Mtu(value) => mtu = Some(*value),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(value) = info {
                        kind = value.to_string();
                    }
                }
            }
            _ => {}
        }
    }
    let name = name?;
    Some(Link {
        index: message.header.index,
        kind,
        mac: mac?,
        mtu: mtu?,
        arp: !flags.contains(LinkFlags::Noarp),
        ipv6: has_ipv6(&name),
        name,
        addressing: Addressing::default(),
    })
}

/// `/proc/sys/net` shows the namespace of who reads it.
fn has_ipv6(name: &str) -> bool {
    let disabled = fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"));
    disabled.is_ok_and(|text| text.trim() == "0")
}

fn address(message: &AddressMessage) -> Option<Address> {
    let header = &message.header;
    let (mut local, mut address, mut broadcast, mut no_route) = (None, None, None, false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(value) => local = Some(*value),
            AddressAttribute::Address(value) => address = Some(*value),
            AddressAttribute::Broadcast(value) => broadcast = Some(IpAddr::V4(*value)),
            AddressAttribute::Flags(flags) => no_route = flags.contains(AddressFlags::Noprefixroute),
            _ => {}
        }
    }
    // IPv6 has no local address unless there is a peer.
    let local = local.or(address)?;
    if local.is_ipv6() && header.scope == AddressScope::Link {
        return None;
    }
    Some(Address {
        local,
        peer: address.filter(|address| *address != local),
        prefix: header.prefix_len,
        broadcast,
        scope: header.scope.into(),
        no_route,
    })
}

fn route(message: &RouteMessage) -> Option<(u32, Route)> {
    let header = &message.header;
    let made =
        [RouteProtocol::Kernel, RouteProtocol::Ra, RouteProtocol::IcmpRedirect].contains(&header.protocol);
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast || made {
        return None;
    }
    let unspecified: IpAddr = match header.address_family {
        netlink_packet_route::AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        netlink_packet_route::AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let mut index = None;
    let mut route = Route {
        destination: unspecified,
        prefix: header.destination_prefix_length,
        gateway: None,
        source: None,
        metric: None,
        scope: header.scope.into(),
        onlink: header.flags.contains(RouteFlags::Onlink),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(value) => index = Some(*value),
            RouteAttribute::Destination(value) => route.destination = ip(value)?,
            RouteAttribute::Gateway(value) => route.gateway = Some(ip(value)?),
            RouteAttribute::PrefSource(value) => route.source = Some(ip(value)?),
            RouteAttribute::Priority(value) => route.metric = Some(*value),
            _ => {}
        }
    }
    Some((index?, route))
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(value)) => {
                address = Some(IpAddr::V4(*value));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(value)) => {
                address = Some(IpAddr::V6(*value));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            _ => {}
        }
    }
    Some(Neighbour { address: address?, mac: mac? })
}
