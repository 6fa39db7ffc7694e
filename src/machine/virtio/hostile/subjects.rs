//! One device of each kind: what its requests look like, and what the host's side of it does meanwhile.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use nix::sys::memfd::{MFdFlags, memfd_create};
use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use crate::config::Throttle;
use crate::machine::virtio::VirtioDevice;
use crate::machine::virtio::balloon::Balloon;
use crate::machine::virtio::block::{Block, disk::RawFile};
use crate::machine::virtio::fs::Fs;
use crate::machine::virtio::net::{Net, Nic};
use crate::machine::virtio::rng::Rng;
use crate::machine::virtio::vsock::{Listeners, Vsock};

pub(super) struct Subject {
    pub device: Option<Box<dyn VirtioDevice>>,
    /// The features that its driver takes, of the first 32.
    pub features: u32,
    /// What a request begins with, mostly one that makes sense.
    pub content: fn(u8) -> Vec<u8>,
    /// Something happens on the host's side.
    pub host: Box<dyn FnMut(u8)>,
    /// What its host's side has seen, at the end.
    pub check: Box<dyn FnMut() -> Result<(), String>>,
    /// Whether it can be started again.
    pub heals: bool,
    /// It only writes into buffers: the balloon takes the pages away.
    pub writes_where_it_may: bool,
}

fn subject(
    device: impl VirtioDevice + 'static,
    content: fn(u8) -> Vec<u8>,
    host: impl FnMut(u8) + 'static,
) -> Subject {
    Subject {
        device: Some(Box::new(device)),
        features: u32::MAX,
        content,
        host: Box::new(host),
        check: Box::new(|| Ok(())),
        heals: true,
        writes_where_it_may: true,
    }
}

/// Bytes that depend on the seed.
fn words<const N: usize>(words: [u32; N]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// One of some, or the seed itself.
fn pick(seed: u8, from: &[u32]) -> u32 {
    from.get(usize::from(seed) % (from.len() + 1)).copied().unwrap_or(u32::from(seed) << 24 | u32::from(seed))
}

pub(super) fn rng() -> Subject {
    subject(Rng::default(), |seed| vec![seed; 16], |_| {})
}

/// A kind of section 5.2.6, reserved, a sector; then of a discard its range.
fn request(seed: u8) -> Vec<u8> {
    let kind = pick(seed, &[0, 1, 0, 1, 4, 8, 11, 13]);
    let sector = pick(seed >> 3, &[0, 1, 8, 2047, 2048]);
    words([
        kind,
        0,
        sector,
        u32::from(seed == 255),
        sector,
        0,
        pick(seed >> 4, &[1, 8, 16]),
        u32::from(seed & 1),
    ])
}

fn disk(read_only: bool) -> RawFile {
    let file = file();
    file.set_len(1 << 20).unwrap();
    // Its name is not needed once it is open.
    RawFile::open(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())), read_only).unwrap()
}

/// In memory, and gone with its last descriptor.
pub(super) fn file() -> File {
    memfd_create("hostile", MFdFlags::MFD_CLOEXEC).unwrap().into()
}

pub(super) fn block() -> Subject {
    subject(Block::new(Box::new(disk(false)), false, "disk0"), request, |_| {})
}

pub(super) fn read_only() -> Subject {
    subject(Block::without_ring(Box::new(disk(true)), true, "disk0"), request, |_| {})
}

/// What a limit lets through at once, and how soon it lets through more: before the driver's next steps, or not.
fn rate() -> Throttle {
    "bytes=32m,bytes-burst=4k,operations=50000,operations-burst=2".parse().unwrap()
}

pub(super) fn throttled_block() -> Subject {
    let device = Block::new(Box::new(disk(false)), false, "disk0").limited(rate()).unwrap();
    subject(device, request, |_| {})
}

pub(super) fn net() -> Subject {
    interface(|device| device)
}

pub(super) fn throttled_net() -> Subject {
    interface(|device| device.limited(rate()).unwrap())
}

fn interface(limited: fn(Net) -> Net) -> Subject {
    let (tap, network) = UnixDatagram::pair().unwrap();
    for end in [&tap, &network] {
        end.set_nonblocking(true).unwrap();
    }
    let nic = Nic { tap: tap.into(), mac: [2, 0, 0, 0, 0, 1], mtu: 1500, vhost: None };
    let device = limited(Net::new(nic).unwrap());
    let host = move |seed: u8| {
        // A frame, and what came is taken away. Both may fail: it is a network.
        let _ = network.send(&vec![seed; 12 + usize::from(seed) * 40]);
        while network.recv(&mut [0; 70_000]).is_ok() {}
    };
    // Checksums and segments are what a tap has, and this is a socket.
    let features =
        1 << VIRTIO_NET_F_MRG_RXBUF | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;
    Subject { features, ..subject(device, |seed| vec![seed; usize::from(seed) * 6], host) }
}

/// A header of section 5.10.6: from the guest's port, to one where somebody listens or to another.
fn packet(seed: u8) -> Vec<u8> {
    let cid = |wanted| if seed == 77 { u32::MAX } else { wanted };
    let kind = 1 | pick(seed, &[1, 1, 1, 3, 4, 5, 6, 7]) << 16;
    let (from, to) = (pick(seed >> 6, &[5000, 5001]), pick(seed >> 4, &[1024, 1024, 1025]));
    let length = pick(seed, &[0, 0, 100, 0, 4096]);
    words([
        cid(3),
        0,
        cid(2),
        0,
        from,
        to,
        length,
        kind,
        u32::from(seed & 3),
        1 << 16,
        u32::from(seed) * 50,
        7,
        7,
        7,
    ])
}

pub(super) fn vsock() -> Subject {
    let (sender, streams) = std::sync::mpsc::sync_channel(64);
    let mut listeners = Listeners::default();
    listeners.insert(1024, Arc::new(move |stream| sender.try_send(stream).is_ok()));
    let (device, handle) = Vsock::new(listeners).unwrap();
    let mut open: Vec<UnixStream> = Vec::new();
    let host = move |seed: u8| {
        open.extend(streams.try_iter());
        let (ours, theirs) = UnixStream::pair().unwrap();
        match seed % 4 {
            0 => {
                let _ = handle.connect(u32::from(seed), theirs);
                open.push(ours);
            }
            1 => drop(open.pop()),
            _ => {
                for stream in &mut open {
                    stream.set_nonblocking(true).unwrap();
                    let _ = stream.write(&[seed; 3000]);
                    let _ = stream.read(&mut [0; 1000]);
                }
            }
        }
    };
    subject(device, packet, host)
}

pub(super) fn balloon() -> Subject {
    let (device, handle) = Balloon::new(4096).unwrap();
    let pages =
        |seed: u8| words([u32::from(seed), u32::from(seed) + 1, pick(seed, &[0, 1 << 20, u32::MAX]), 128]);
    let host = move |seed: u8| handle.want(u64::from(seed));
    Subject { writes_where_it_may: false, ..subject(device, pages, host) }
}

/// The numbers of messages (QEMU's docs/interop/vhost-user).
const GET_FEATURES: u32 = 1;
const SET_MEM_TABLE: u32 = 5;
const SET_VRING_NUM: u32 = 8;
const SET_VRING_ADDR: u32 = 9;
const GET_PROTOCOL_FEATURES: u32 = 15;
const NEED_REPLY: u32 = 8;

/// A daemon that says yes to all, and looks whether all that it is given lies in the memory that it is given.
fn daemon(mut stream: UnixStream, wrong: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let (mut memory, mut sizes) = (0..0, [0; 2]);
    loop {
        let mut header = [0; 12];
        stream.read_exact(&mut header)?;
        let word = |bytes: &[u8], at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let (kind, flags) = (word(&header, 0), word(&header, 4));
        let mut body = vec![0; usize::try_from(word(&header, 8)).unwrap()];
        stream.read_exact(&mut body)?;
        let long = |at: usize| u64::from(word(&body, at)) | u64::from(word(&body, at + 4)) << 32;
        match kind {
            SET_MEM_TABLE => memory = long(24)..long(24) + long(16),
            SET_VRING_NUM => sizes[usize::try_from(word(&body, 0)).unwrap()] = u64::from(word(&body, 4)),
            SET_VRING_ADDR => {
                let size = sizes[usize::try_from(word(&body, 0)).unwrap()];
                for (at, length) in [(8, size * 16), (16, 6 + size * 8), (24, 6 + size * 2)] {
                    let (start, end) = (long(at), long(at) + length);
                    if start < memory.start || end > memory.end {
                        wrong
                            .lock()
                            .unwrap()
                            .push(format!("a ring at {start:#x} to {end:#x} of {memory:x?}"));
                    }
                }
            }
            _ => {}
        }
        let answer = match kind {
            GET_FEATURES => u64::MAX,
            GET_PROTOCOL_FEATURES => 1 << 3,
            _ if flags & NEED_REPLY != 0 => 0,
            _ => continue,
        };
        let bytes = [&words([kind, 5, 8])[..], &answer.to_le_bytes()];
        stream.write_all(&bytes.concat())?;
    }
}

/// Ends with its subject: a thread that is about to end looks like a leak to the fuzzer.
struct Daemon {
    stream: UnixStream,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(super) fn fs() -> Subject {
    let (front, back) = UnixStream::pair().unwrap();
    let end = back.try_clone().unwrap();
    let wrong = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&wrong);
    let stream = back.try_clone().unwrap();
    let daemon = Daemon { stream, thread: Some(thread::spawn(move || drop(daemon(back, &told)))) };
    let device = Fs::new("volumes", front).unwrap();
    let host = move |seed: u8| {
        if seed.is_multiple_of(4) {
            // It ends, and leaves its queues behind.
            let _ = end.shutdown(std::net::Shutdown::Both);
        }
    };
    let check = move || {
        let _ends_with_it = &daemon;
        wrong.lock().unwrap().pop().map_or(Ok(()), Err)
    };
    let fuse = |seed: u8| words([40, pick(seed, &[1, 3, 26]), u32::from(seed), 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    Subject { heals: false, check: Box::new(check), ..subject(device, fuse, host) }
}
