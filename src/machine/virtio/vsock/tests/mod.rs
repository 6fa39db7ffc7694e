//! The device against a guest that speaks the protocol, and against one that does not.

mod guest;
mod hostile;
mod volume;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use self::guest::{Guest, Peer, guest_opens, host_opens};
use super::connection::{BUF_ALLOC, BUF_ALLOC_SMALL};
use super::header::{Credit, Header, Op, Ports};
use super::{ConnectError, mux::MAX_CONNECTIONS};
use guest::LISTEN_BACKLOG;

const RCV: u32 = 1;
const SEND: u32 = 2;

/// All that can be read until the end; the guest's side runs in between.
fn read_to_end(guest: &mut Guest, stream: &mut UnixStream) -> Vec<u8> {
    stream.set_nonblocking(true).unwrap();
    let mut bytes = Vec::new();
    let mut idle = 0;
    while idle < 1000 {
        let mut chunk = [0; 8192];
        match stream.read(&mut chunk) {
            Ok(0) => return bytes,
            Ok(count) => {
                bytes.extend_from_slice(&chunk[..count]);
                idle = 0;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                guest.settle();
                idle += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no end of the stream after {} bytes", bytes.len());
}

fn expect_open(stream: &UnixStream) {
    stream.set_nonblocking(true).unwrap();
    let error = (&mut &*stream).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at ^ (at >> 8) ^ (at >> 16)) & 0xff).unwrap()).collect()
}

#[test]
fn header_has_the_layout_of_section_5_10_6() {
    let header = Header {
        src_cid: 0x0102_0304_0506_0708,
        dst_cid: 2,
        src_port: 0x1112_1314,
        dst_port: 1024,
        len: 7,
        kind: 1,
        op: 5,
        flags: 3,
        credit: Credit { buf_alloc: 0x1_0000, fwd_cnt: 0xfffe_fdfc },
    };
    let bytes: [u8; 44] = [
        8, 7, 6, 5, 4, 3, 2, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0x14, 0x13, 0x12, 0x11, 0, 4, 0, 0, 7, 0, 0, 0, 1, 0,
        5, 0, 3, 0, 0, 0, 0, 0, 1, 0, 0xfc, 0xfd, 0xfe, 0xff,
    ];
    assert_eq!(header.encode(), bytes);
    assert_eq!(Header::decode(&bytes), header);
}

#[test]
fn guest_opens_a_stream_and_bytes_go_both_ways() {
    let mut guest = Guest::active(&[1024]);
    let (mut peer, mut stream) = guest_opens(&mut guest, 1024, 5000);
    peer.send(&mut guest, b"hello host");
    stream.write_all(b"hello guest").unwrap();
    peer.take_all(&mut guest);
    assert_eq!(peer.received, b"hello guest");
    let mut bytes = [0; 10];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello host");
}

#[test]
fn guest_is_refused_where_nobody_listens() {
    let mut guest = Guest::active(&[1024]);
    let peer = Peer::new(Ports { host: 1025, guest: 9 });
    peer.say(&mut guest, Op::Request);
    let (reset, _) = guest.expect(Op::Rst);
    assert_eq!((reset.src_port, reset.dst_port), (1025, 9));
    drop(guest.listeners.remove(&1024));
    let peer = Peer::new(Ports { host: 1024, guest: 9 });
    peer.say(&mut guest, Op::Request);
    guest.expect(Op::Rst);
    guest.expect_silence();
}

#[test]
fn guest_is_refused_when_nobody_takes_its_streams() {
    let mut guest = Guest::active(&[1024]);
    for port in 0..LISTEN_BACKLOG {
        let ports = Ports { host: 1024, guest: u32::try_from(port).unwrap() };
        Peer::new(ports).say(&mut guest, Op::Request);
        guest.expect(Op::Response);
    }
    Peer::new(Ports { host: 1024, guest: 9999 }).say(&mut guest, Op::Request);
    guest.expect(Op::Rst);
}

#[test]
fn host_connects_before_the_driver_is_up() {
    let mut guest = Guest::new(&[]);
    let (mut stream, far) = UnixStream::pair().unwrap();
    stream.write_all(b"early").unwrap();
    guest.handle.connect(1025, far).unwrap();
    expect_open(&stream);
    guest.activate();
    guest.settle();
    expect_open(&stream);
    guest.offer_buffers();
    let (request, _) = guest.expect(Op::Request);
    let mut peer = Peer::new(Ports { host: request.src_port, guest: 1025 });
    guest.expect_silence();
    peer.say(&mut guest, Op::Response);
    peer.take_all(&mut guest);
    assert_eq!(peer.received, b"early");
}

#[test]
fn refused_stream_ends_although_bytes_were_written_into_it() {
    let mut guest = Guest::active(&[]);
    let (mut stream, far) = UnixStream::pair().unwrap();
    stream.write_all(&pattern(100_000)).unwrap();
    guest.handle.connect(7, far).unwrap();
    let (request, _) = guest.expect(Op::Request);
    Peer::new(Ports { host: request.src_port, guest: 7 }).say(&mut guest, Op::Rst);
    assert_eq!(read_to_end(&mut guest, &mut stream), b"");
    guest.expect_silence();
}

#[test]
fn connect_says_when_the_machine_has_ended() {
    let guest = Guest::new(&[]);
    let handle = guest.handle.clone();
    let (mut stream, far) = UnixStream::pair().unwrap();
    handle.connect(1, far).unwrap();
    drop(guest);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let (_near, far) = UnixStream::pair().unwrap();
    assert!(matches!(handle.connect(1, far), Err(ConnectError::Stopped)));
}

#[test]
fn connections_are_bounded() {
    let mut guest = Guest::active(&[]);
    let mut streams = Vec::new();
    for _ in 0..=MAX_CONNECTIONS {
        let (near, far) = UnixStream::pair().unwrap();
        guest.handle.connect(1, far).unwrap();
        while let Some((request, _)) = guest.next() {
            let expected = if streams.len() < 256 { BUF_ALLOC } else { BUF_ALLOC_SMALL };
            assert_eq!(request.credit.buf_alloc, expected);
        }
        streams.push(near);
    }
    let mut last = streams.pop().unwrap();
    assert_eq!(last.read(&mut [0]).unwrap(), 0);
    streams.iter().for_each(expect_open);
}

#[test]
fn guest_ends_its_direction_and_the_other_stays_open() {
    let mut guest = Guest::active(&[1024]);
    let (mut peer, mut stream) = guest_opens(&mut guest, 1024, 5000);
    peer.send(&mut guest, b"last words");
    peer.shutdown(&mut guest, SEND);
    assert_eq!(read_to_end(&mut guest, &mut stream), b"last words");
    stream.write_all(b"answer").unwrap();
    peer.take_all(&mut guest);
    assert_eq!((peer.received.as_slice(), peer.shut, peer.reset), (&b"answer"[..], 0, false));
    stream.shutdown(Shutdown::Write).unwrap();
    peer.take_all(&mut guest);
    assert_eq!(peer.shut & SEND, SEND);
    peer.shutdown(&mut guest, SEND | RCV);
    guest.expect(Op::Rst);
}

#[test]
fn host_ends_its_direction_and_the_other_stays_open() {
    let mut guest = Guest::active(&[]);
    let (mut peer, mut stream) = host_opens(&mut guest, 1025);
    stream.write_all(b"stdin").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    peer.take_all(&mut guest);
    assert_eq!((peer.received.as_slice(), peer.shut), (&b"stdin"[..], SEND));
    peer.send(&mut guest, b"stdout");
    peer.shutdown(&mut guest, SEND | RCV);
    assert_eq!(read_to_end(&mut guest, &mut stream), b"stdout");
    guest.expect(Op::Rst);
}

#[test]
fn guest_that_receives_no_more_breaks_the_hosts_pipe() {
    let mut guest = Guest::active(&[]);
    let (mut peer, mut stream) = host_opens(&mut guest, 1025);
    peer.shutdown(&mut guest, RCV);
    guest.settle();
    assert_eq!(stream.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    peer.send(&mut guest, b"still sending");
    peer.shutdown(&mut guest, SEND);
    assert_eq!(read_to_end(&mut guest, &mut stream), b"still sending");
    guest.expect(Op::Rst);
}

#[test]
fn host_that_closes_is_told_after_its_last_byte() {
    let mut guest = Guest::active(&[]);
    let (mut peer, mut stream) = host_opens(&mut guest, 1025);
    let bytes = pattern(100_000);
    stream.write_all(&bytes).unwrap();
    drop(stream);
    peer.take_all(&mut guest);
    assert_eq!(peer.received, bytes);
    assert_eq!(peer.shut, SEND | RCV);
    // What comes all the same is swallowed, and credited.
    peer.send(&mut guest, &pattern(60_000));
    peer.send(&mut guest, &pattern(10_000));
    peer.take_all(&mut guest);
    assert_eq!(peer.device.fwd_cnt, 70_000);
    peer.say(&mut guest, Op::Rst);
    guest.expect_silence();
}

#[test]
fn nothing_is_lost_when_the_guest_closes_before_the_host_reads() {
    let mut guest = Guest::active(&[1024]);
    let (mut peer, mut stream) = guest_opens(&mut guest, 1024, 5000);
    let bytes = pattern(4 * 1024 * 1024);
    let mut sent = 0;
    loop {
        peer.take_all(&mut guest);
        let count = (peer.credit() as usize).min(50_000);
        if count == 0 {
            break;
        }
        peer.send(&mut guest, &bytes[sent..sent + count]);
        sent += count;
    }
    assert!(sent > BUF_ALLOC as usize, "the socket takes some too");
    peer.shutdown(&mut guest, SEND | RCV);
    guest.expect_silence();
    // Linux waits 8 seconds for the answer; then it forgets the stream, and may use its ports again.
    peer.say(&mut guest, Op::Rst);
    guest.settle();
    let (mut again, mut other) = guest_opens(&mut guest, 1024, 5000);
    again.send(&mut guest, b"another");
    assert!(read_to_end(&mut guest, &mut stream) == bytes[..sent]);
    again.shutdown(&mut guest, SEND | RCV);
    assert_eq!(read_to_end(&mut guest, &mut other), b"another");
}

#[test]
fn guest_without_credit_gets_nothing_until_it_has_some() {
    let mut guest = Guest::active(&[]);
    let (stream, far) = UnixStream::pair().unwrap();
    guest.handle.connect(1, far).unwrap();
    let (request, _) = guest.expect(Op::Request);
    let mut peer = Peer::new(Ports { host: request.src_port, guest: 1 });
    peer.buffer = 10_000;
    peer.say(&mut guest, Op::Response);
    (&stream).write_all(&pattern(25_000)).unwrap();
    let mut got = Vec::new();
    for expected in [10_000, 10_000, 5_000] {
        let before = got.len();
        while let Some((header, payload)) = guest.next() {
            assert!(header.op == Op::Rw as u16 || header.op == Op::CreditRequest as u16);
            got.extend(payload);
        }
        assert_eq!(got.len() - before, expected);
        peer.received = got.clone();
        peer.say(&mut guest, Op::CreditUpdate);
    }
    assert_eq!(got, pattern(25_000));
}

#[test]
fn device_asks_once_for_credit_and_answers_when_asked() {
    let mut guest = Guest::active(&[]);
    let (mut peer, mut stream) = host_opens(&mut guest, 1);
    peer.buffer = 0;
    peer.say(&mut guest, Op::CreditUpdate);
    stream.write_all(b"x").unwrap();
    guest.expect(Op::CreditRequest);
    stream.write_all(b"y").unwrap();
    guest.expect_silence();
    peer.say(&mut guest, Op::CreditRequest);
    let (update, _) = guest.expect(Op::CreditUpdate);
    assert_eq!(update.credit, Credit { buf_alloc: BUF_ALLOC, fwd_cnt: 0 });
    peer.buffer = 100;
    peer.say(&mut guest, Op::CreditUpdate);
    assert_eq!(guest.expect(Op::Rw).1, b"xy");
}

#[test]
fn guest_that_tells_of_its_credit_is_asked_no_more() {
    let mut guest = Guest::active(&[]);
    let (mut peer, mut stream) = host_opens(&mut guest, 1);
    peer.buffer = 0;
    peer.say(&mut guest, Op::CreditUpdate);
    stream.write_all(b"abc").unwrap();
    guest.expect(Op::CreditRequest);
    peer.say(&mut guest, Op::CreditUpdate);
    guest.expect_silence();
    for (buffer, byte) in [(1, b"a"), (2, b"b"), (3, b"c")] {
        peer.buffer = buffer;
        peer.say(&mut guest, Op::CreditUpdate);
        assert_eq!(guest.expect(Op::Rw).1, byte);
        guest.expect_silence();
    }
}

#[test]
fn receive_queue_that_ran_empty_goes_on_when_refilled() {
    let mut guest = Guest::active(&[]);
    guest.refill = false;
    let (mut peer, mut stream) = host_opens(&mut guest, 1);
    let bytes = pattern(200_000);
    stream.write_all(&bytes[..100_000]).unwrap();
    stream.write_all(&bytes[100_000..]).unwrap();
    while peer.received.len() < bytes.len() {
        peer.take_all(&mut guest);
        guest.offer_buffers();
    }
    assert_eq!(peer.received, bytes);
}

#[test]
fn reset_closes_all_streams_and_the_device_starts_again() {
    let mut guest = Guest::active(&[1024]);
    let (_, mut first) = guest_opens(&mut guest, 1024, 1);
    let (_, mut second) = host_opens(&mut guest, 2);
    guest.restart();
    assert_eq!(first.read(&mut [0]).unwrap(), 0);
    assert_eq!(second.read(&mut [0]).unwrap(), 0);
    let (mut peer, mut stream) = guest_opens(&mut guest, 1024, 1);
    peer.send(&mut guest, b"again");
    peer.shutdown(&mut guest, SEND);
    assert_eq!(read_to_end(&mut guest, &mut stream), b"again");
    let _ = host_opens(&mut guest, 2);
}
