//! Devices that come and go while the guest runs: places in the machine for which the kernel has no driver at work until
//! the host has put a device there.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use msb_agent::protocol::Failure;

use crate::container::{at, setup};

/// The driver of the machine's devices.
const DRIVER: &str = "/sys/bus/platform/drivers/virtio-mmio";
const DEVICES: &str = "/sys/bus/platform/devices";
/// What is in the name of each such device, and of no block device: it is named by its number, or by its registers' address.
const NAME: &str = if cfg!(target_arch = "x86_64") { "virtio-mmio." } else { ".virtio_mmio" };

/// Gives the device `name` its driver.
///
/// # Errors
/// [`Failure::Setup`].
pub fn bind(name: &str) -> Result<(), Failure> {
    write("bind", name).map_err(at(|| format!("bind {name}")))
}

/// Takes it from its driver; no error where it has none.
///
/// # Errors
/// [`Failure::Setup`].
pub fn unbind(name: &str) -> Result<(), Failure> {
    match write("unbind", name) {
        Err(error) if error.raw_os_error() != Some(libc::ENODEV) => {
            Err(setup(format!("let {name} go"), &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What the driver has made of a bound device, in that class: `…/virtio-mmio.3/virtio4/net/eth0`.
///
/// # Errors
/// [`Failure::Setup`] for what is no name.
pub fn found(name: &str, class: &str) -> Result<Option<PathBuf>, Failure> {
    let within = |path: PathBuf, prefix: &str| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).find(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
        })
    };
    if name.contains('/') {
        return Err(setup("find a device", &"its name has a slash"));
    }
    let device = within(format!("{DEVICES}/{name}").into(), "virtio");
    Ok(device.and_then(|device| within(device.join(class), "")))
}

/// Whether a disk is named so: it is none of those that the machine began with.
pub fn is_slot(name: &str) -> bool {
    name.contains(NAME)
}

/// Binds the disk `name`; the block device that it is.
///
/// # Errors
/// [`Failure::Setup`]; it is let go then.
pub fn disk(name: &str) -> Result<String, Failure> {
    bind(name)?;
    let device = found(name, "block").and_then(|path| {
        let name = path.as_deref().and_then(|path| path.file_name()?.to_str());
        let name = name.ok_or_else(|| setup("find a disk", &"the driver has not taken it"))?;
        Ok(format!("/dev/{name}"))
    });
    if device.is_err() {
        // The first error is the one to tell.
        let _ = unbind(name);
    }
    device
}

fn write(file: &str, device: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(format!("{DRIVER}/{file}"))
        .and_then(|mut file| file.write_all(device.as_bytes()))
}
