//! What a VMM that was broken into tells its sandbox process: its wires are all that leads there.

use std::{
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixDatagram, UnixStream},
    },
    sync::Arc,
    thread,
    time::Duration,
};

use super::super::{
    Cell, Farewell, Handle, HandleError, News,
    lender::Lender,
    wire::{MESSAGE, Wire, WireError},
    words::{Answer, Event, Order, Wanted},
};

/// Longer than it takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A sandbox process's side, and a VMM's ends of the wires for orders and events.
fn cell() -> (Cell, Wire, Wire) {
    let wires = || Wire::pair().expect("two sockets");
    let ((orders, ordered), (events, telling)) = (wires(), wires());
    let handle = Handle::new(orders, Arc::default(), None);
    (Cell { pid: None, handle, events, farewell: None, log: None }, ordered, telling)
}

/// Of each the other end sees that nobody has it any more.
#[test]
fn what_is_no_stream_is_closed() {
    let (mut cell, _ordered, telling) = cell();
    let mut told = |descriptors: &[BorrowedFd]| {
        telling.send(&Event::Stream { port: 7 }, descriptors, true).unwrap();
        cell.news(PATIENCE)
    };
    assert!(told(&[]).is_none());

    let (messages, others) = Wire::pair().unwrap();
    assert!(told(&[messages.as_fd()]).is_none());
    drop(messages);
    others.be_patient().unwrap();
    assert!(matches!(others.receive::<u8>(), Err(WireError::Closed)));

    let (datagrams, others) = UnixDatagram::pair().unwrap();
    assert!(told(&[datagrams.as_fd()]).is_none());
    drop(datagrams);
    others.send(b"anybody").unwrap_err();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert!(told(&[listener.as_fd()]).is_none());
    drop(listener);
    TcpStream::connect(address).unwrap_err();

    // Of several the first counts.
    let (stream, other) = UnixStream::pair().unwrap();
    assert!(told(&[tempfile::tempfile().unwrap().as_fd(), stream.as_fd()]).is_none());
    assert!(matches!(told(&[stream.as_fd(), stream.as_fd()]), Some(News::Stream(7, _))));
    drop(stream);
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(std::io::Read::read(&mut &other, &mut [0]).unwrap(), 0);
}

#[test]
fn a_message_that_is_too_long_ends_its_wire() {
    let text = || "x".repeat(MESSAGE);
    let (mut cell, ordered, telling) = cell();
    telling.send(&Event::Failed { reason: text(), file_system: false }, &[], true).unwrap();
    assert!(matches!(cell.news(PATIENCE), Some(News::Ended(Farewell::Lost(_)))));
    // What comes behind it is not heard.
    telling.send(&Event::Stream { port: 7 }, &[], true).unwrap();
    assert!(matches!(cell.news(PATIENCE), Some(News::Ended(Farewell::Lost(_)))));
    assert!(cell.readable().is_none());

    let machine = cell.handle().clone();
    let vmm = thread::spawn(move || {
        assert_eq!(ordered.receive::<Order>().unwrap().0, Order::Pause);
        ordered.send(&Answer::Text(text()), &[], true).unwrap();
        ordered
    });
    assert!(matches!(machine.pause(), Err(HandleError::Gone(WireError::Nonsense(_)))));
    let _ordered = vmm.join().unwrap();
    // Nobody waits for what may be the answer to something else.
    assert!(matches!(machine.pause(), Err(HandleError::Gone(WireError::Closed))));
    assert!(!machine.is_paused());
}

#[test]
fn of_a_disk_that_was_not_lent_there_are_no_files() {
    let (files, asking) = Wire::pair().unwrap();
    let lender = Lender::default();
    let file = tempfile::tempfile().unwrap();
    for wanted in [Wanted { disk: 0, file: 0 }, Wanted { disk: u32::MAX, file: u32::MAX }] {
        asking.send(&wanted, &[file.as_fd()], true).unwrap();
        assert!(lender.answer(&files));
        let (answer, descriptors) = asking.receive::<Result<(), String>>().unwrap();
        assert!(answer.is_err() && descriptors.is_empty());
    }
    // What is no question has no answer.
    asking.send(&u8::MAX, &[], true).unwrap();
    assert!(lender.answer(&files));
    drop(asking);
    assert!(!lender.answer(&files));
}
