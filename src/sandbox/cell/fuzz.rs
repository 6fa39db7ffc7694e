//! What a VMM that was broken into may tell its sandbox process: any bytes in its messages, with descriptors of any kind.
//!
//! Enters: bytes, which are messages on its three wires. Leaves: nothing, or a panic. What reads them is what reads them always.

use std::{
    fs::File,
    io::IoSlice,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    time::Duration,
};

use nix::sys::socket::{ControlMessage, MsgFlags, Shutdown, sendmsg, shutdown};
use serde::Serialize;

use super::{
    Cell,
    handle::Handle,
    lender::Lender,
    wire::Wire,
    words::{Answer, Event, Wanted},
};
use crate::{config::DiskConfig, machine::Ended};

/// Messages of a run: what a socket takes without a reader.
const MOST: usize = 48;
/// On which wire.
const EVENT: u8 = 0;
const ANSWER: u8 = 1;
const QUESTION: u8 = 2;

/// Its process, its machine's disk.
///
/// # Panics
/// When something is done that must not be.
pub fn run(disk: &DiskConfig, bytes: &[u8]) {
    let Some((builds, mut rest)) = bytes.split_first() else { return };
    let lender = Arc::new(Lender::default());
    lender.lend(disk).expect("the disk can be lent");
    let wires = || Wire::pair().expect("two sockets");
    let ((orders, ordered), (events, telling), (files, asking)) = (wires(), wires(), wires());
    let others = [telling, ordered, asking];
    let mut sent = 0;
    while let [kind, low, high, behind @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(behind.len());
        let (message, behind) = behind.split_at(length);
        send(&others[usize::from(kind & 3) % 3], message, kind >> 2 & 7);
        rest = behind;
        sent += 1;
        if sent == MOST {
            break;
        }
    }
    for wire in &others {
        shutdown(wire.as_fd().as_raw_fd(), Shutdown::Write).expect("a socket");
    }
    let handle = Handle::new(orders, Arc::clone(&lender), None);
    let mut cell = Cell { pid: None, handle, events, farewell: None, log: None };
    if builds & 1 == 0 {
        if let Ok(slots) = cell.built() {
            cell.handle().has_slots(slots);
        }
    }
    // As often as something was told, and once more for the end.
    for _ in 0..=sent {
        drop(cell.news(Duration::ZERO));
    }
    assert!(cell.farewell.is_some(), "the end is told");
    let handle = cell.handle();
    let _ = handle.pause();
    let _ = handle.attach(disk);
    handle.resume();
    handle.unplug(0);
    while lender.answer(&files) {}
    drop(files);
    while let Ok((answer, descriptors)) = others[2].receive::<Result<(), String>>() {
        assert_eq!(descriptors.len(), usize::from(answer.is_ok()), "a file, or none");
    }
}

/// Whatever it is, with descriptors of each kind whose bit is set.
fn send(wire: &Wire, message: &[u8], kinds: u8) {
    let descriptors: Vec<OwnedFd> = [
        || UnixStream::pair().map(|(stream, _)| stream.into()),
        || File::open("/dev/null").map(Into::into),
        || Wire::pair().and_then(|(wire, _)| wire.as_fd().try_clone_to_owned()),
    ]
    .iter()
    .enumerate()
    .filter(|(bit, _)| kinds >> bit & 1 != 0)
    .map(|(_, made): (usize, &fn() -> std::io::Result<OwnedFd>)| made().expect("a descriptor"))
    .collect();
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &rights[..0] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    // What there is no room for is not sent.
    let _ = sendmsg::<()>(wire.as_fd().as_raw_fd(), &[IoSlice::new(message)], control, flags, None);
}

/// What a fuzzer begins with: each message, alone and after each other.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    fn message<T: Serialize>(wire: u8, descriptors: u8, message: &T) -> Vec<u8> {
        let bytes = postcard::to_stdvec(message).expect("our own messages are small");
        let length = u16::try_from(bytes.len()).expect("short");
        [&[wire | descriptors << 2][..], &length.to_le_bytes(), &bytes].concat()
    }
    let text = || "\u{1b}[2J the last of it\n".to_owned();
    let failed = |file_system| Event::Failed { reason: text(), file_system };
    let messages = [
        message(EVENT, 0, &Event::Built { slots: 3 }),
        message(EVENT, 1, &Event::Stream { port: 1024 }),
        message(EVENT, 2, &Event::Stream { port: 1024 }),
        message(EVENT, 7, &Event::Stream { port: u32::MAX }),
        message(EVENT, 0, &Event::Stream { port: 1 }),
        message(ANSWER, 0, &Answer::Done),
        message(ANSWER, 0, &Answer::Text(text())),
        message(ANSWER, 1, &Answer::Number(u64::MAX)),
        message(ANSWER, 0, &Answer::Refused(text())),
        message(QUESTION, 0, &Wanted { disk: 0, file: 0 }),
        message(QUESTION, 0, &Wanted { disk: 0, file: 1 }),
        message(QUESTION, 7, &Wanted { disk: 0, file: u32::MAX }),
        message(QUESTION, 0, &Wanted { disk: 9, file: 0 }),
        message(EVENT, 0, &failed(true)),
        message(EVENT, 0, &failed(false)),
        message(EVENT, 0, &Event::Ended { how: Ended::ShutDown, tail: text() }),
    ];
    let mut all: Vec<Vec<u8>> = Vec::new();
    for first in [0, 1] {
        all.extend(messages.iter().map(|message| [&[first], &message[..]].concat()));
        all.push([&[first], &messages.concat()[..]].concat());
    }
    all
}
