//! A guest that breaks the rules: each is answered as the protocol says, nothing panics, nothing grows.

use std::io::Read;

use proptest::prelude::*;

use super::guest::{Guest, Peer, RX_RING, guest_opens, host_opens};
use super::{RCV, SEND, pattern, read_to_end};
use crate::machine::virtio::vsock::header::{Credit, HEADER_LEN, Header, Op, Ports};
use crate::machine::virtio::vsock::packet::MAX_PAYLOAD;

#[test]
fn packet_cut_anywhere_is_understood() {
    let mut guest = Guest::active(&[1024]);
    let (peer, mut stream) = guest_opens(&mut guest, 1024, 5000);
    let bytes = pattern(1000);
    let header = Header { len: 1000, ..peer.header(Op::Rw) };
    let packet = [&header.encode()[..], &bytes].concat();
    for cuts in [&[][..], &[44], &[20], &[20, 44], &[10, 30, 500], &[44, 45, 1043], &[43, 44, 45]] {
        guest.send_raw(&packet, cuts);
        let mut got = vec![0; 1000];
        guest.settle();
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, bytes, "cut at {cuts:?}");
    }
    peer.shutdown(&mut guest, SEND);
    assert_eq!(read_to_end(&mut guest, &mut stream), b"");
}

#[test]
fn longer_than_its_buffers_is_refused() {
    let mut guest = Guest::active(&[1024]);
    let (peer, mut stream) = guest_opens(&mut guest, 1024, 5000);
    let header = Header { len: 101, ..peer.header(Op::Rw) };
    guest.send(&header, &[0; 100]);
    guest.expect(Op::Rst);
    assert_eq!(read_to_end(&mut guest, &mut stream), b"");
}

#[test]
fn too_long_a_packet_is_refused() {
    let mut guest = Guest::active(&[1024]);
    let (peer, _stream) = guest_opens(&mut guest, 1024, 5000);
    let header = Header { len: MAX_PAYLOAD + 1, ..peer.header(Op::Rw) };
    guest.send(&header, &pattern(MAX_PAYLOAD as usize + 1));
    guest.expect(Op::Rst);
}

#[test]
fn more_than_the_credit_is_refused_and_what_came_before_it_arrives() {
    let mut guest = Guest::active(&[1024]);
    let (mut peer, mut stream) = guest_opens(&mut guest, 1024, 5000);
    let chunk = pattern(50_000);
    let mut sent = 0;
    let mut had_credit = true;
    while !peer.reset {
        had_credit = peer.credit() >= 50_000;
        peer.send(&mut guest, &chunk);
        peer.take_all(&mut guest);
        sent += 1;
        assert!(sent < 100);
    }
    assert!(!had_credit, "the device keeps its word");
    assert!(read_to_end(&mut guest, &mut stream) == chunk.repeat(sent - 1));
}

#[test]
fn sending_after_the_end_is_refused() {
    let mut guest = Guest::active(&[1024]);
    let (mut peer, _stream) = guest_opens(&mut guest, 1024, 5000);
    peer.shutdown(&mut guest, SEND);
    peer.send(&mut guest, b"x");
    guest.expect(Op::Rst);
}

#[test]
fn packets_out_of_turn_are_refused() {
    let mut guest = Guest::active(&[1024]);
    for op in [Op::Request, Op::Response] {
        let (peer, mut stream) = guest_opens(&mut guest, 1024, 5000);
        peer.say(&mut guest, op);
        guest.expect(Op::Rst);
        assert_eq!(read_to_end(&mut guest, &mut stream), b"");
    }
    for op in [Op::Response, Op::Rw, Op::Shutdown, Op::CreditUpdate, Op::CreditRequest] {
        Peer::new(Ports { host: 1024, guest: 77 }).say(&mut guest, op);
        guest.expect(Op::Rst);
    }
    Peer::new(Ports { host: 1024, guest: 77 }).say(&mut guest, Op::Rst);
    guest.expect_silence();
}

#[test]
fn wrong_addresses_types_and_operations() {
    let mut guest = Guest::active(&[1024]);
    let (peer, _stream) = guest_opens(&mut guest, 1024, 5000);
    let request = peer.header(Op::Request);
    // Another address has the same port: refused in its name, and the host's stream is left alone.
    guest.send(&Header { dst_cid: 9, ..request }, &[]);
    let (reset, _) = guest.expect(Op::Rst);
    assert_eq!((reset.src_cid, reset.src_port, reset.dst_port), (9, 1024, 5000));
    guest.send(&Header { src_cid: 9, ..request }, &[]);
    guest.expect_silence();
    peer.say(&mut guest, Op::CreditRequest);
    guest.expect(Op::CreditUpdate);
    guest.send(&Header { kind: 2, src_port: 1, ..request }, &[]);
    guest.expect(Op::Rst);
    guest.send(&Header { op: 8, src_port: 1, ..request }, &[]);
    guest.expect(Op::Rst);
    guest.send_raw(&request.encode()[..HEADER_LEN - 1], &[]);
    guest.expect_silence();
}

#[test]
fn guest_that_takes_no_answers_is_read_no_further() {
    let mut guest = Guest::active(&[]);
    guest.refill = false;
    // The first use up the receive buffers, then 256 wait in the device.
    let mut sent: u32 = 0;
    while guest.can_send() || guest.turn(0) {
        if guest.can_send() {
            Peer::new(Ports { host: 1, guest: sent }).say(&mut guest, Op::Request);
            sent += 1;
        }
        assert!(sent < 1000);
    }
    let mut answers = 0;
    while guest.next().is_some() {
        answers += 1;
        guest.refill = true;
        if answers == RX_RING {
            guest.offer_buffers();
        }
    }
    assert_eq!(u32::from(answers), sent);
}

#[test]
fn streams_that_come_and_go_leave_nothing_for_a_guest_that_takes_nothing() {
    let mut guest = Guest::new(&[1024]);
    guest.activate();
    for port in 0..2000 {
        let peer = Peer::new(Ports { host: 1024, guest: port });
        peer.say(&mut guest, Op::Request);
        peer.say(&mut guest, Op::Rst);
        guest.settle();
        guest.listeners[&1024].try_recv().expect("it was accepted");
    }
    let mux = &guest.device.running.as_ref().expect("an active device").mux;
    assert!(!mux.wants_room());
    guest.offer_buffers();
    guest.expect_silence();
}

#[test]
fn a_guest_that_counts_wrong_has_no_credit() {
    let mut guest = Guest::active(&[]);
    let (peer, stream) = host_opens(&mut guest, 1);
    let credit = Credit { buf_alloc: 1000, fwd_cnt: 5 };
    guest.send(&Header { credit, ..peer.header(Op::CreditUpdate) }, &[]);
    std::io::Write::write_all(&mut &stream, b"x").unwrap();
    guest.expect(Op::CreditRequest);
    guest.expect_silence();
}

/// Headers that are near enough to valid ones to get past the first rule now and then.
fn headers() -> impl Strategy<Value = Header> {
    let cid = |usual: u64| prop_oneof![30 => Just(usual), 1 => any::<u64>()];
    let port = |range: std::ops::Range<u32>| prop_oneof![20 => range, 1 => any::<u32>()];
    let length = prop_oneof![10 => Just(0), 10 => 0..5000_u32, 2 => 60_000..70_000_u32, 1 => any::<u32>()];
    let count = prop_oneof![3 => Just(0), 3 => 0..300_000_u32, 1 => any::<u32>()];
    let kind = prop_oneof![30 => Just(1), 1 => any::<u16>()];
    let op = prop_oneof![4 => 1..8_u16, 4 => Just(5), 1 => any::<u16>()];
    let ports = (port(1024..1026), port(0..4));
    (cid(3), cid(2), ports, length, kind, op, any::<u32>(), (count.clone(), count)).prop_map(
        |(src_cid, dst_cid, (dst_port, src_port), len, kind, op, flags, (buf_alloc, fwd_cnt))| Header {
            src_cid,
            dst_cid,
            src_port,
            dst_port,
            len,
            kind,
            op,
            flags,
            credit: Credit { buf_alloc, fwd_cnt },
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the guest says, the device lives, keeps its bounds, and serves the next one.
    #[test]
    fn any_packets_are_survived(
        packets in proptest::collection::vec((headers(), any::<bool>(), 0..5000_usize, 0..60_usize), 1..200),
    ) {
        let mut guest = Guest::active(&[1024, 1025]);
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        guest.handle.connect(1, far).unwrap();
        std::io::Write::write_all(&mut &near, &pattern(10_000)).unwrap();
        let mut streams = Vec::new();
        for (mut header, honest, len, cut) in packets {
            let mut bytes = header.encode().to_vec();
            if honest && header.op == 5 {
                header.len = u32::try_from(len).unwrap();
                bytes = header.encode().to_vec();
            }
            bytes.resize(HEADER_LEN + len, 7);
            let cuts: &[usize] = if cut > 0 && cut < bytes.len() { &[cut] } else { &[] };
            guest.send_raw(&bytes, cuts);
            guest.settle();
            for listener in guest.listeners.values() {
                streams.extend(listener.try_iter());
            }
        }
        while guest.next().is_some() {}
        let (mut peer, mut stream) = guest_opens(&mut guest, 1024, 50_000);
        peer.send(&mut guest, b"alive");
        peer.shutdown(&mut guest, SEND | RCV);
        prop_assert_eq!(read_to_end(&mut guest, &mut stream), b"alive");
    }
}
