//! A tap: an interface whose frames are read and written through a descriptor. It is gone when that is closed.

use std::{
    ffi::{CStr, CString},
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
};

use nix::{errno::Errno, libc, net::if_::if_nametoindex};

/// Where taps come from.
const DEVICE: &str = "/dev/net/tun";
/// The kernel puts the first free number there.
const NAME: &CStr = c"msb%d";
/// What every name begins with.
const PREFIX: &str = "msb";

/// Why there is no tap.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// No taps on this host.
    #[error("{DEVICE} can't be opened ({errno}): load the kernel's module `tun`")]
    Device {
        /// The kernel's reason, by its name: its words would mean something else to Docker.
        errno: &'static str,
    },
    /// The kernel does not make one.
    #[error("A tap can't be made")]
    Make(#[source] Errno),
}

/// An interface of this namespace that nobody has yet.
#[derive(Debug)]
pub struct Tap {
    /// One frame is read or written per call, behind a `virtio_net_hdr` of the length asked for. Non-blocking.
    pub fd: OwnedFd,
    /// The kernel's number.
    pub index: u32,
}

impl Tap {
    /// A new one, down, with headers of so many bytes.
    ///
    /// # Errors
    /// [`TapError`].
    pub fn new(header: usize) -> Result<Self, TapError> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE);
        let file = file.map_err(|error| TapError::Device { errno: name_of(&error) })?;
        let name = request(&file, header).map_err(TapError::Make)?;
        let index = if_nametoindex(name.as_c_str()).map_err(TapError::Make)?;
        Ok(Self { fd: file.into(), index })
    }

    /// Whether a link of that name and kind is one of these, of whatever process.
    #[must_use]
    pub fn is_one(name: &str, kind: &str) -> bool {
        kind == "tun" && name.starts_with(PREFIX)
    }
}

fn name_of(error: &io::Error) -> &'static str {
    match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::ENOENT => "ENOENT",
        Errno::ENODEV | Errno::ENXIO => "ENODEV",
        Errno::EACCES | Errno::EPERM => "EACCES",
        _ => "another error",
    }
}

/// Makes the descriptor an interface; returns its name.
fn request(file: &File, header: usize) -> Result<CString, Errno> {
    let mut request = ioctl::request();
    for (to, from) in request.ifr_name.iter_mut().zip(NAME.to_bytes()) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).map_err(|_| Errno::EINVAL)?;
    ioctl::make(file.as_raw_fd(), &mut request)?;
    let header = libc::c_int::try_from(header).map_err(|_| Errno::EINVAL)?;
    ioctl::set_header(file.as_raw_fd(), header)?;
    let name: Vec<u8> = request.ifr_name.iter().map(|byte| byte.to_ne_bytes()[0]).collect();
    CStr::from_bytes_until_nul(&name).map(CStr::to_owned).map_err(|_| Errno::EINVAL)
}

#[allow(unsafe_code, reason = "nix has no ioctls of taps")]
mod ioctl {
    use std::os::fd::RawFd;

    use nix::{errno::Errno, libc};

    /// An empty request.
    pub fn request() -> libc::ifreq {
        // SAFETY: all zeroes is a valid ifreq.
        unsafe { std::mem::zeroed() }
    }

    /// TUNSETIFF
    pub fn make(fd: RawFd, request: &mut libc::ifreq) -> Result<(), Errno> {
        // SAFETY: TUNSETIFF reads and writes one ifreq.
        Errno::result(unsafe { libc::ioctl(fd, libc::TUNSETIFF, std::ptr::from_mut(request)) }).map(drop)
    }

    /// TUNSETVNETHDRSZ
    pub fn set_header(fd: RawFd, bytes: libc::c_int) -> Result<(), Errno> {
        // SAFETY: TUNSETVNETHDRSZ reads one int.
        Errno::result(unsafe { libc::ioctl(fd, libc::TUNSETVNETHDRSZ, &raw const bytes) }).map(drop)
    }
}
