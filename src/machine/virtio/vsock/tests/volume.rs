//! Much at once: long streams and many of them.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use super::guest::{Guest, Peer, RX_RING, guest_opens, host_opens};
use super::{SEND, pattern};
use crate::machine::virtio::vsock::header::{Op, Ports};

/// A repeatable sequence of sizes from 1 to `max`.
struct Sizes(u64);

impl Sizes {
    fn next(&mut self, max: u64) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % max + 1).unwrap()
    }
}

/// Streams `bytes` both ways at the same time through one stream, the guest sending in pieces of up to `piece` bytes.
fn both_ways(bytes: &[u8], piece: u64) {
    let mut guest = Guest::active(&[1024]);
    let (mut peer, stream) = guest_opens(&mut guest, 1024, 5000);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut sizes = Sizes(1);
            let mut rest = bytes;
            while !rest.is_empty() {
                let count = (&stream).write(&rest[..sizes.next(piece).min(rest.len())]).unwrap();
                rest = &rest[count..];
            }
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let reader = scope.spawn(|| {
            let mut got = Vec::new();
            (&stream).read_to_end(&mut got).unwrap();
            got
        });
        let mut sizes = Sizes(2);
        let mut sent = 0;
        let mut ended = false;
        // When both directions have ended before the device looks, its shutdown names both.
        while !(ended && peer.shut & SEND != 0) {
            guest.turn(if peer.credit() > 0 && !ended { 0 } else { 10 });
            peer.take_all(&mut guest);
            let count = sizes.next(piece).min(bytes.len() - sent).min(peer.credit() as usize);
            if count > 0 && guest.can_send() {
                peer.send(&mut guest, &bytes[sent..sent + count]);
                sent += count;
            }
            if sent == bytes.len() && !ended {
                peer.shutdown(&mut guest, SEND);
                ended = true;
            }
        }
        guest.settle();
        writer.join().unwrap();
        assert!(peer.received == bytes, "host to guest");
        while !reader.is_finished() {
            guest.turn(10);
        }
        assert!(reader.join().unwrap() == bytes, "guest to host");
    });
}

#[test]
fn ten_mebibytes_of_odd_sizes_arrive_both_ways() {
    both_ways(&pattern(10 << 20), 64 * 1024);
    both_ways(&pattern(1 << 20), 700);
}

#[test]
fn many_streams_take_turns() {
    const STREAMS: u32 = 200;
    const EACH: usize = 20_000;
    let mut guest = Guest::active(&[1024]);
    let mut streams: Vec<_> =
        (0..STREAMS)
            .map(|index| {
                if index % 2 == 0 {
                    guest_opens(&mut guest, 1024, index)
                } else {
                    host_opens(&mut guest, 1025)
                }
            })
            .collect();
    // With no receive buffer left, all streams come to wait for their turn.
    guest.refill = false;
    for index in 0..u32::from(RX_RING) {
        Peer::new(Ports { host: 9, guest: index }).say(&mut guest, Op::Request);
        guest.expect(Op::Rst);
    }
    let bytes = |index: usize| pattern(EACH + index).split_off(index);
    for (index, (peer, stream)) in streams.iter_mut().enumerate() {
        stream.write_all(&bytes(index)).unwrap();
        peer.send(&mut guest, &bytes(STREAMS as usize - index));
    }
    guest.settle();
    guest.refill = true;
    guest.offer_buffers();
    let mut first_done = None;
    let mut began = std::collections::HashSet::new();
    while let Some((header, payload)) = guest.next() {
        let at = streams
            .iter()
            .position(|(peer, _)| (peer.ports.host, peer.ports.guest) == (header.src_port, header.dst_port))
            .unwrap();
        let peer: &mut Peer = &mut streams[at].0;
        peer.take(&mut guest, &header, &payload);
        began.insert(at);
        if peer.received.len() == EACH {
            first_done.get_or_insert(began.len());
        }
    }
    assert_eq!(first_done, Some(streams.len()), "all had a turn before the first was done");
    for (index, (peer, stream)) in streams.iter_mut().enumerate() {
        assert!(peer.received == bytes(index));
        let mut got = vec![0; EACH];
        stream.read_exact(&mut got).unwrap();
        assert!(got == bytes(STREAMS as usize - index));
    }
}
