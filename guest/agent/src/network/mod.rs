//! The container's network interfaces: devices of the machine, named and addressed as the host's namespace has them.
//!
//! In: [`protocol::Interface`](msb_agent::protocol::Interface). Out: an interface that is up, or gone. A device stays
//! unbound, and so unseen, until the host has plugged something into it.

mod netlink;

use std::fs;

use msb_agent::protocol::{Addressing, Failure, Interface};
use nix::errno::Errno;

use crate::container::{plain, setup};
use crate::slots;
use netlink::Netlink;

/// Binds the device and brings its interface up.
///
/// # Errors
/// [`Failure::Setup`] with the interface concerned. The device is let go then.
pub fn plug(interface: &Interface) -> Result<(), Failure> {
    let device = &interface.device;
    slots::bind(device)?;
    let made = bring_up(interface);
    if made.is_err() {
        // The first error is the one to tell.
        let _ = unplug(device);
    }
    made
}

fn bring_up(interface: &Interface) -> Result<(), Failure> {
    let Interface { device, name, mtu, arp, ipv6, addressing } = interface;
    let index =
        index_of(device)?.ok_or_else(|| setup(format!("find {name}"), &"the driver has not taken it"))?;
    let failed = |step: &'static str| {
        move |errno| setup(format!("{step} the network interface {name}"), &plain::<Errno>(errno))
    };
    let netlink = Netlink::open().map_err(failed("configure"))?;
    netlink.name(index, name, *mtu).map_err(failed("name"))?;
    // Before it is up: no address is to be made up, and none to be asked about (the host's namespace has done that).
    let (key, value) = if *ipv6 { ("accept_dad", "0") } else { ("disable_ipv6", "1") };
    match fs::write(format!("/proc/sys/net/ipv6/conf/{name}/{key}"), value) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(setup(format!("set {key} of {name}"), &error));
        }
        Ok(()) | Err(_) => {}
    }
    netlink.up(index, *arp).map_err(failed("bring up"))?;
    add(&netlink, index, addressing).map_err(failed("address"))
}

/// Changes what a plugged interface has.
///
/// # Errors
/// [`Failure::Setup`] with the device concerned.
pub fn readdress(device: &str, remove: &Addressing, added: &Addressing) -> Result<(), Failure> {
    let failed = |errno| setup(format!("change the addresses of {device}"), &plain::<Errno>(errno));
    let index = index_of(device)?.ok_or_else(|| failed(Errno::ENODEV))?;
    let netlink = Netlink::open().map_err(failed)?;
    take(&netlink, index, remove).and_then(|()| add(&netlink, index, added)).map_err(failed)
}

/// Lets the device go.
///
/// # Errors
/// [`Failure::Setup`] with the device concerned.
pub fn unplug(device: &str) -> Result<(), Failure> {
    slots::unbind(device)
}

fn add(netlink: &Netlink, index: u32, addressing: &Addressing) -> Result<(), Errno> {
    addressing.addresses.iter().try_for_each(|address| netlink.add_address(index, address))?;
    addressing.neighbours.iter().try_for_each(|neighbour| netlink.add_neighbour(index, neighbour))?;
    addressing.routes.iter().try_for_each(|route| netlink.add_route(index, route))
}

/// What is not there was taken away by the container itself, or by the kernel with the address that it hung on.
fn take(netlink: &Netlink, index: u32, addressing: &Addressing) -> Result<(), Errno> {
    let gone = |result| match result {
        Err(Errno::ESRCH | Errno::ENOENT | Errno::EADDRNOTAVAIL | Errno::ENODEV) => Ok(()),
        other => other,
    };
    addressing.routes.iter().try_for_each(|route| gone(netlink.remove_route(index, route)))?;
    addressing
        .neighbours
        .iter()
        .try_for_each(|neighbour| gone(netlink.remove_neighbour(index, neighbour)))?;
    addressing.addresses.iter().try_for_each(|address| gone(netlink.remove_address(index, address)))
}

/// The interface of a bound device.
fn index_of(device: &str) -> Result<Option<u32>, Failure> {
    let interface = slots::found(device, "net")?;
    let text = interface.and_then(|interface| fs::read_to_string(interface.join("ifindex")).ok());
    Ok(text.and_then(|text| text.trim().parse().ok()))
}
