//! The machine's interfaces: for each link of the VMM's namespace one of the guest, with the same name and addresses.
//!
//! Enters: a namespace that others fill, before the container starts (Docker's hook, CNI, podman) and while it runs
//! (`docker network connect`). Leaves: taps plugged into the machine, and orders to the agent. Nothing is remembered of
//! how a change came about: the namespace is read anew, compared with what the guest was given, and the difference is
//! carried out.

use std::{
    collections::BTreeMap,
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    sync::mpsc::Receiver,
    thread,
    time::Duration,
};

use msb_agent::protocol::{self, CHANNEL_PORT, Interface, Request};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    cell::{Handle, HandleError},
    chain, names,
};
use crate::{
    config::Reach,
    host::network::{self as host, Link, Netlink, NetlinkError, Tap, TapError, Watch},
    machine::{NIC_HEADER, Nic, open_vhost},
    process::agent::{Agent, AgentError, PATIENCE},
};

/// How long a namespace must have been still before it is read: a link comes, then its name, addresses and routes.
const SETTLED: Duration = Duration::from_millis(30);
/// How often a paused machine is looked at.
const PAUSED: Duration = Duration::from_millis(200);
/// A namespace that never rests is read all the same.
const RESTLESS: u32 = 30;

/// Why the guest's interfaces are not as the namespace's links.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The namespace.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// No tap.
    #[error("The interface {name} can't be given to the machine")]
    Tap {
        /// The link's.
        name: String,
        /// The cause.
        #[source]
        source: TapError,
    },
    /// Another machine has the same namespace.
    #[error(
        "Another microVM has this network namespace already, and each needs one of its own: leave --network container:… away"
    )]
    Occupied,
    /// More links than slots.
    #[error(
        "There is no place for the interface {name}: a container can be in {slots} networks at the same time"
    )]
    Full {
        /// The link's.
        name: String,
        /// How many there can be.
        slots: usize,
    },
    /// Not a packet size that a machine can have.
    #[error("The interface {name} has an MTU of {mtu} bytes: a machine can have 68 to 65521")]
    Mtu {
        /// The link's.
        name: String,
        /// Its.
        mtu: u32,
    },
    /// The machine does not take it.
    #[error(transparent)]
    Machine(#[from] HandleError),
    /// The guest does not take it.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// No thread.
    #[error("Names can't be served to the guest")]
    Names(#[source] io::Error),
    /// No channel to the agent.
    #[error("The guest's agent can't be called")]
    Call(#[source] io::Error),
}

/// The interfaces of one machine.
#[derive(Debug)]
pub(super) struct Network {
    machine: Handle,
    reach: Reach,
    netlink: Netlink,
    watch: Watch,
    /// By slot.
    attached: BTreeMap<usize, Attached>,
    /// The guest's questions about names, until they are answered for the first time.
    questions: Option<Receiver<UnixStream>>,
}

/// A link and its interface.
#[derive(Debug)]
struct Attached {
    /// As the guest knows it.
    link: Link,
    /// The tap's number.
    tap: u32,
    /// What the guest calls the device.
    device: String,
}

impl Network {
    /// Of the namespace of the calling thread; the guest has none yet.
    pub(super) fn new(
        machine: Handle,
        reach: Reach,
        questions: Option<Receiver<UnixStream>>,
    ) -> Result<Self, NetworkError> {
        let (netlink, watch) = (Netlink::open()?, Watch::new()?);
        Ok(Self { machine, reach, netlink, watch, attached: BTreeMap::new(), questions })
    }

    /// Makes the guest's interfaces those of the namespace.
    ///
    /// # Errors
    /// [`NetworkError`]; what was done by then stays, and the next call goes on from there.
    pub(super) fn update(&mut self, agent: &mut Agent) -> Result<(), NetworkError> {
        self.watch.forget();
        let (links, all) = host::links(&mut self.netlink)?;
        let ours = |index| self.attached.values().any(|attached| attached.tap == index);
        let (taps, links): (Vec<Link>, Vec<Link>) =
            links.into_iter().partition(|link| Tap::is_one(&link.name, &link.kind));
        if taps.iter().any(|tap| !ours(tap.index)) {
            return Err(NetworkError::Occupied);
        }
        let gone: Vec<usize> = self
            .attached
            .iter()
            .filter(|(_, attached)| attached.is_gone(&links, &all))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in gone {
            self.detach(slot, agent)?;
        }
        for link in links {
            match self.attached.values_mut().find(|attached| attached.link.index == link.index) {
                Some(attached) => attached.readdress(link, agent)?,
                None => self.attach(link, agent)?,
            }
        }
        self.names(agent)
    }

    /// Serves names from the moment that the namespace does.
    fn names(&mut self, agent: &mut Agent) -> Result<(), NetworkError> {
        if self.attached.is_empty() || self.questions.is_none() || !names::are_served() {
            return Ok(());
        }
        if let Some(questions) = self.questions.take() {
            host::confine_ports().map_err(NetworkError::Names)?;
            for attached in self.attached.values() {
                host::share_answers(&mut self.netlink, attached.link.index, attached.tap)?;
            }
            names::serve(questions).map_err(NetworkError::Names)?;
            agent.order(Request::Names)?;
        }
        Ok(())
    }

    fn attach(&mut self, link: Link, agent: &mut Agent) -> Result<(), NetworkError> {
        let slots = self.machine.slots();
        let slot = (0..slots)
            .find(|slot| !self.attached.contains_key(slot))
            .ok_or_else(|| NetworkError::Full { name: link.name.clone(), slots })?;
        let mtu = u16::try_from(link.mtu)
            .ok()
            .filter(|mtu| (68..=65_521).contains(mtu))
            .ok_or_else(|| NetworkError::Mtu { name: link.name.clone(), mtu: link.mtu })?;
        let tap =
            Tap::new(NIC_HEADER).map_err(|source| NetworkError::Tap { name: link.name.clone(), source })?;
        let index = tap.index;
        host::join(&mut self.netlink, &link, index)?;
        // Before the guest has the interface.
        if let Reach::Public { resolver } = self.reach {
            host::public_only(&mut self.netlink, index, resolver)?;
        }
        if self.questions.is_none() {
            host::share_answers(&mut self.netlink, link.index, index)?;
        }
        let nic = Nic { tap: tap.fd, mac: link.mac, mtu, vhost: open_vhost() };
        let device = self.machine.plug(slot, &nic)?;
        let interface = Interface {
            device: device.clone(),
            name: link.name.clone(),
            mtu: link.mtu,
            arp: link.arp,
            ipv6: link.ipv6,
            addressing: told(&link.addressing),
        };
        // From here on it is to be detached, also if the guest fails.
        self.attached.insert(slot, Attached { link, tap: index, device });
        let plugged = agent.order(Request::Plug(Box::new(interface)));
        if plugged.is_err() {
            self.detach(slot, agent)?;
        }
        Ok(plugged?)
    }

    fn detach(&mut self, slot: usize, agent: &mut Agent) -> Result<(), NetworkError> {
        let Some(Attached { link, device, .. }) = self.attached.remove(&slot) else { return Ok(()) };
        // The guest first: its driver talks to the device while it lets it go.
        let told = agent.order(Request::Unplug { device });
        self.machine.unplug(slot);
        host::part(&mut self.netlink, link.index)?;
        Ok(told?)
    }
}

impl Attached {
    /// The link or the tap is not there any more, or the link is not the same to the guest.
    fn is_gone(&self, links: &[Link], all: &[u32]) -> bool {
        let same = |link: &&Link| {
            let Link { index, name, mac, mtu, arp, ipv6, kind: _, addressing: _ } = link;
            (*index, name, *mac, *mtu, *arp, *ipv6)
                == (
                    self.link.index,
                    &self.link.name,
                    self.link.mac,
                    self.link.mtu,
                    self.link.arp,
                    self.link.ipv6,
                )
        };
        !links.iter().any(|link| same(&link)) || !all.contains(&self.tap)
    }

    fn readdress(&mut self, link: Link, agent: &mut Agent) -> Result<(), NetworkError> {
        let (before, now) = (&self.link.addressing, &link.addressing);
        if before == now {
            return Ok(());
        }
        let (remove, add) = (told(&without(before, now)), told(&without(now, before)));
        agent.order(Request::Readdress { device: self.device.clone(), remove, add })?;
        self.link = link;
        Ok(())
    }
}

/// What `one` has and `other` has not.
fn without(one: &host::Addressing, other: &host::Addressing) -> host::Addressing {
    fn rest<T: Copy + PartialEq>(one: &[T], other: &[T]) -> Vec<T> {
        one.iter().filter(|item| !other.contains(item)).copied().collect()
    }
    host::Addressing {
        addresses: rest(&one.addresses, &other.addresses),
        routes: rest(&one.routes, &other.routes),
        neighbours: rest(&one.neighbours, &other.neighbours),
    }
}

/// In the agent's words.
fn told(addressing: &host::Addressing) -> protocol::Addressing {
    let address = |address: &host::Address| {
        let host::Address { local, peer, prefix, broadcast, scope, no_route } = *address;
        protocol::Address { local, peer, prefix, broadcast, scope, no_route }
    };
    let route = |route: &host::Route| {
        let host::Route { destination, prefix, gateway, source, metric, scope, onlink } = *route;
        protocol::Route { destination, prefix, gateway, source, metric, scope, onlink }
    };
    let neighbour = |neighbour: &host::Neighbour| {
        let host::Neighbour { address, mac } = *neighbour;
        protocol::Neighbour { address, mac }
    };
    protocol::Addressing {
        addresses: addressing.addresses.iter().map(address).collect(),
        routes: addressing.routes.iter().map(route).collect(),
        neighbours: addressing.neighbours.iter().map(neighbour).collect(),
    }
}

/// Keeps the guest's interfaces those of the namespace from now on, in a thread and on a channel of its own.
pub(super) fn follow(mut network: Network) {
    let machine = network.machine.clone();
    let follow = move || {
        let mut agent = None;
        loop {
            let mut fds = [PollFd::new(network.watch.as_fd(), PollFlags::POLLIN)];
            // Interrupted or not: what counts is whether something changed.
            let _ = poll(&mut fds, PollTimeout::NONE);
            if !network.watch.forget() {
                continue;
            }
            // A machine that is paused can't be asked anything.
            while network.machine.is_paused() {
                thread::sleep(PAUSED);
            }
            for _ in 0..RESTLESS {
                thread::sleep(SETTLED);
                if !network.watch.forget() {
                    break;
                }
            }
            if let Err(error) = follow_once(&mut network, &mut agent) {
                agent = None;
                network.machine.note(&format!("network: {}", chain(&error)));
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("network".into()).spawn(follow) {
        machine.note(&format!("network: changes are not followed: {error}"));
    }
}

fn follow_once(network: &mut Network, agent: &mut Option<Agent>) -> Result<(), NetworkError> {
    let agent = match agent {
        Some(agent) => agent,
        None => {
            let (ours, theirs) = UnixStream::pair().map_err(NetworkError::Call)?;
            network.machine.connect(CHANNEL_PORT, theirs)?;
            agent.insert(Agent::greet(ours, PATIENCE)?)
        }
    };
    network.update(agent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        let address = |last| host::Address {
            local: [10, 0, 0, last].into(),
            peer: None,
            prefix: 24,
            broadcast: None,
            scope: 0,
            no_route: false,
        };
        Link {
            index: 7,
            name: "eth0".into(),
            kind: "veth".into(),
            mac: [2; 6],
            mtu: 1500,
            arp: true,
            ipv6: false,
            addressing: host::Addressing {
                addresses: vec![address(1), address(2)],
                ..host::Addressing::default()
            },
        }
    }

    #[test]
    fn what_the_guest_sees_as_another_interface_is_another() {
        let attached = Attached { link: link(), tap: 9, device: "virtio-mmio.5".into() };
        let gone = |link: Link, all: &[u32]| attached.is_gone(&[link], all);
        assert!(!gone(link(), &[1, 7, 9]));
        assert!(gone(link(), &[1, 7]), "its tap was deleted");
        assert!(gone(Link { name: "eth1".into(), ..link() }, &[1, 7, 9]));
        assert!(gone(Link { mac: [4; 6], ..link() }, &[1, 7, 9]));
        assert!(gone(Link { index: 8, ..link() }, &[1, 8, 9]));
        assert!(!gone(Link { addressing: host::Addressing::default(), ..link() }, &[1, 7, 9]));
    }

    #[test]
    fn only_what_differs_is_told() {
        let (mut now, before) = (link().addressing, link().addressing);
        assert_eq!(without(&now, &before), host::Addressing::default());
        now.addresses.remove(0);
        let removed = told(&without(&before, &now));
        assert_eq!(removed.addresses.len(), 1);
        assert_eq!(removed.addresses[0].local, std::net::IpAddr::from([10, 0, 0, 1]));
        assert_eq!(told(&without(&now, &before)), protocol::Addressing::default());
    }
}
