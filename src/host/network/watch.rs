//! A descriptor that is readable when links, addresses or routes of the namespace change.

use std::{
    fmt,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::NetlinkError;

/// `RTNLGRP_*` of linux/rtnetlink.h: links, addresses and routes of IPv4 and IPv6.
const GROUPS: [u32; 5] = [1, 5, 7, 9, 11];

/// A subscription to changes, from the moment that it was made.
pub struct Watch(Socket);

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

impl Watch {
    /// A new one, in the namespace of the calling thread.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn new() -> Result<Self, NetlinkError> {
        let subscribe = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.set_non_blocking(true)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            GROUPS.into_iter().try_for_each(|group| socket.add_membership(group))?;
            Ok(socket)
        };
        subscribe().map(Self).map_err(NetlinkError::Socket)
    }

    /// Forgets what has changed so far: whoever looks at the namespace afterwards sees it all. Whether there was any.
    pub fn forget(&self) -> bool {
        let mut any = false;
        // A queue that ran over is an error once, and news as well.
        let mut place = [0_u8; 64];
        loop {
            match self.0.recv(&mut place.as_mut_slice(), 0) {
                Ok(_) => any = true,
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => any = true,
                Err(_) => return any,
            }
        }
    }
}

impl AsFd for Watch {
    #[allow(unsafe_code, reason = "netlink-sys has no AsFd")]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the socket lives, from which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}
