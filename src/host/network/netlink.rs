//! A socket to rtnetlink(7): orders that are acknowledged, and dumps.

use std::{fmt, io};

use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;

/// How often a dump that the kernel calls inconsistent is made again.
const DUMPS: usize = 5;

/// Why the kernel could not be asked, or said no.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket, or it failed.
    #[error("The kernel's network configuration can't be reached (rtnetlink)")]
    Socket(#[source] io::Error),
    /// An answer that is none.
    #[error("The kernel's answer about the network can't be understood")]
    Answer(#[source] DecodeError),
    /// It said no.
    #[error("The kernel does not {what}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Its reason.
        #[source]
        errno: Errno,
    },
    /// The namespace changes faster than it can be read.
    #[error("The network namespace does not come to rest")]
    Restless,
}

impl NetlinkError {
    /// The kernel's reason.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Socket(_) | Self::Answer(_) | Self::Restless => None,
        }
    }
}

/// A socket in the namespace of the thread that opened it.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl fmt::Debug for Netlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netlink").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Netlink {
    /// A fresh socket.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn open() -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(NetlinkError::Socket)?;
        socket.bind_auto().map_err(NetlinkError::Socket)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Gives an order with more `flags` (`NLM_F_*`); `what` names it.
    pub(super) fn order(
        &mut self,
        what: &'static str,
        flags: u16,
        message: RouteNetlinkMessage,
    ) -> Result<(), NetlinkError> {
        self.send(NLM_F_ACK | flags, message)?;
        loop {
            for message in self.receive()? {
                match message.payload {
                    NetlinkPayload::Error(answer) => return done(what, answer.raw_code()),
                    NetlinkPayload::Overrun(_) => return Err(NetlinkError::Restless),
                    _ => {}
                }
            }
        }
    }

    /// Everything that the kernel has of a kind, all of one moment.
    pub(super) fn dump(
        &mut self,
        what: &'static str,
        question: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        for _ in 0..DUMPS {
            if let Some(all) = self.dump_once(what, question.clone())? {
                return Ok(all);
            }
        }
        Err(NetlinkError::Restless)
    }

    /// `None` when something changed meanwhile (`NLM_F_DUMP_INTR`).
    fn dump_once(
        &mut self,
        what: &'static str,
        question: RouteNetlinkMessage,
    ) -> Result<Option<Vec<RouteNetlinkMessage>>, NetlinkError> {
        self.send(NLM_F_DUMP, question)?;
        let (mut all, mut whole) = (Vec::new(), true);
        loop {
            for message in self.receive()? {
                whole &= message.header.flags & netlink_packet_core::NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => all.push(message),
                    NetlinkPayload::Done(_) => return Ok(whole.then_some(all)),
                    NetlinkPayload::Error(answer) => {
                        return done(what, answer.raw_code()).map(|()| whole.then_some(all));
                    }
                    NetlinkPayload::Overrun(_) => whole = false,
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, flags: u16, message: RouteNetlinkMessage) -> Result<(), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        (header.flags, header.sequence_number) = (NLM_F_REQUEST | flags, self.sequence);
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let kernel = SocketAddr::new(0, 0);
        self.socket.send_to(&bytes, &kernel, 0).map(drop).map_err(NetlinkError::Socket)
    }

    /// The messages of one datagram that answer the last question.
    fn receive(&mut self) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, NetlinkError> {
        let (bytes, _) = self.socket.recv_from_full().map_err(NetlinkError::Socket)?;
        let mut rest = bytes.as_slice();
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let message = NetlinkMessage::deserialize(rest).map_err(NetlinkError::Answer)?;
            let length = usize::try_from(message.header.length).unwrap_or(rest.len());
            rest = rest.get(length.next_multiple_of(4).max(4)..).unwrap_or_default();
            if message.header.sequence_number == self.sequence {
                messages.push(message);
            }
        }
        Ok(messages)
    }
}

fn done(what: &'static str, code: i32) -> Result<(), NetlinkError> {
    match code {
        0 => Ok(()),
        code => Err(NetlinkError::Refused { what, errno: Errno::from_raw(code.saturating_neg()) }),
    }
}
