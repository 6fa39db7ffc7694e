//! A network interface of the container, as the host's namespace has it.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// Where Docker's own name server is, in the namespace of every container that is in a network with names.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// How a question about a name came, which decides how long its answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum NameQuestion {
    /// Over UDP.
    Datagram = 0,
    /// Over TCP.
    Stream = 1,
}

/// An interface that has just been plugged into the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Platform device of the guest to which `virtio-mmio` has to be bound: `virtio-mmio.3`.
    pub device: String,
    /// Its name in the container: `eth0`.
    pub name: String,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether it asks for hardware addresses (`IFF_NOARP` is not set).
    pub arp: bool,
    /// Whether it has IPv6 at all.
    pub ipv6: bool,
    /// What it begins with.
    pub addressing: Addressing,
}

/// What an interface has, or what is added to it or taken from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addressing {
    /// Its own addresses.
    pub addresses: Vec<Address>,
    /// In an order in which each can be added: gateways behind the networks that they are in.
    pub routes: Vec<Route>,
    /// Neighbours that are never asked for.
    pub neighbours: Vec<Neighbour>,
}

/// One address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// `IFA_F_NOPREFIXROUTE`: its network gets no route by itself.
    pub no_route: bool,
}

/// One route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to; the unspecified address with `prefix` 0 is the default route, and says which family it is.
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
    /// `RTNH_F_ONLINK`: the gateway is there although no network says so.
    pub onlink: bool,
}

/// One neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its hardware address.
    pub mac: [u8; 6],
}
