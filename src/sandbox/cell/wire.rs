//! Messages between the two processes, each whole and with the descriptors that it needs.
#![allow(unsafe_code, reason = "descriptors that came with a message get an owner")]

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, getsockopt,
            recvmsg, sendmsg, setsockopt, socketpair, sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
};
use serde::{Serialize, de::DeserializeOwned};

/// The longest message: the end of a console, and its frame.
pub(super) const MESSAGE: usize = 32 << 10;
/// The most descriptors that the kernel lets come with one (`SCM_MAX_FD`). With room for all, none is cut off, which would
/// leave those before it open and unknown; a process whose table is full loses some so, and then the wire.
const DESCRIPTORS: usize = 253;
/// How long the other side may take to answer an order: it stops processors for some.
const PATIENCE: i64 = 30;

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The other process has ended.
    #[error("The other process has ended")]
    Closed,
    /// The kernel.
    #[error("The other process can't be spoken to")]
    Socket(#[from] Errno),
    /// It is none.
    #[error("The other process makes no sense")]
    Nonsense(#[from] postcard::Error),
}

/// One end. Both ends speak in turns, or one speaks alone.
#[derive(Debug)]
pub(super) struct Wire(OwnedFd);

impl Wire {
    /// Both ends.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self(one), Self(other)))
    }

    /// The same end once more.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Does not wait for ever from now on.
    pub(super) fn be_patient(&self) -> io::Result<()> {
        let patience = TimeVal::seconds(PATIENCE);
        setsockopt(&self.0, sockopt::SendTimeout, &patience)?;
        Ok(setsockopt(&self.0, sockopt::ReceiveTimeout, &patience)?)
    }

    /// Sends a message; without `wait`, not if the other side has too many unread.
    pub(super) fn send<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd],
        wait: bool,
    ) -> Result<(), WireError> {
        let bytes = postcard::to_stdvec(message)?;
        let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let control = if numbers.is_empty() { &rights[..0] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL | if wait { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        loop {
            match sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(&bytes)], control, flags, None) {
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(WireError::Closed),
                other => return Ok(other.map(drop)?),
            }
        }
    }

    /// The next message.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> Result<(T, Vec<OwnedFd>), WireError> {
        let mut bytes = vec![0; MESSAGE];
        let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS]);
        let (length, descriptors) = loop {
            let mut vectors = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(self.0.as_raw_fd(), &mut vectors, Some(&mut space), flags) {
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => return Err(WireError::Closed),
                Err(errno) => return Err(errno.into()),
                Ok(message) => {
                    let mut descriptors = Vec::new();
                    for control in message.cmsgs().map_err(|_| Errno::EBADMSG)? {
                        if let ControlMessageOwned::ScmRights(numbers) = control {
                            // SAFETY: the kernel has just made them and nobody else knows them.
                            descriptors.extend(
                                numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }),
                            );
                        }
                    }
                    break (message.bytes, descriptors);
                }
            }
        };
        if length == 0 {
            return Err(WireError::Closed);
        }
        Ok((postcard::from_bytes(&bytes[..length])?, descriptors))
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A descriptor as a stream of the local kind; none if it is something else.
pub(super) fn stream(descriptor: OwnedFd) -> Option<UnixStream> {
    let is_stream = getsockopt(&descriptor, sockopt::SockType) == Ok(SockType::Stream);
    let stream = is_stream.then(|| UnixStream::from(descriptor))?;
    // Of another family it has no such address.
    stream.local_addr().ok()?;
    Some(stream)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
    };

    use super::*;

    #[test]
    fn a_message_arrives_with_its_descriptors_and_the_end_is_seen() {
        let (one, other) = Wire::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello").unwrap();
        one.send(&(7_u32, "text"), &[file.as_fd(), other.as_fd()], true).unwrap();
        one.send(&8_u32, &[], true).unwrap();
        let ((number, text), descriptors) = other.receive::<(u32, String)>().unwrap();
        assert_eq!((number, text.as_str(), descriptors.len()), (7, "text", 2));
        let mut same = File::from(descriptors.into_iter().next().unwrap());
        std::io::Seek::rewind(&mut same).unwrap();
        let mut content = String::new();
        same.read_to_string(&mut content).unwrap();
        assert_eq!(content, "hello");
        assert_eq!(other.receive::<u32>().unwrap().0, 8);
        drop(one);
        assert!(matches!(other.receive::<u32>(), Err(WireError::Closed)));
        assert!(matches!(other.send(&1_u32, &[], true), Err(WireError::Closed)));
    }

    #[test]
    fn nonsense_and_too_much_are_told() {
        let (one, other) = Wire::pair().unwrap();
        one.send(&u8::MAX, &[], true).unwrap();
        assert!(matches!(other.receive::<(u64, String)>(), Err(WireError::Nonsense(_))));
        // More descriptors than anybody asked for: none of them stays open.
        let file = tempfile::tempfile().unwrap();
        let many = vec![file.as_fd(); DESCRIPTORS];
        one.send(&1_u8, &many, true).unwrap();
        let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
        assert_eq!(other.receive::<u8>().unwrap().1.len(), DESCRIPTORS);
        assert_eq!(std::fs::read_dir("/proc/self/fd").unwrap().count(), before);
        // Who does not wait is told when nobody reads.
        while one.send(&[0_u8; 1024].as_slice(), &[], false).is_ok() {}
        assert!(matches!(one.send(&1_u8, &[], false), Err(WireError::Socket(Errno::EAGAIN))));
    }

    #[test]
    fn only_streams_are_streams() {
        assert!(stream(tempfile::tempfile().unwrap().into()).is_none());
        assert!(stream(Wire::pair().unwrap().0.0).is_none());
        let internet = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(stream(internet.into()).is_none());
        assert!(stream(UnixStream::pair().unwrap().0.into()).is_some());
    }
}
