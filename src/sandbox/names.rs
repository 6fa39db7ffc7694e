//! Docker's name server, for the guest: it listens on 127.0.0.11 of the VMM's own namespace.
//!
//! Enters: streams of the guest, each with one question. Leaves: the answer, as the server gave it. The guest is not
//! trusted: at most so many questions at a time, and each has an end. Must never know what is in a question.

use std::{
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::Receiver,
    },
    thread,
    time::Duration,
};

use msb_agent::protocol::{NAME_SERVER, NameQuestion, names};

/// Questions at the same time; further streams are closed.
const QUESTIONS: usize = 64;
/// Of a thread that holds one.
const STACK: usize = 256 << 10;
/// How long an answer may take: Docker's server asks several others, one after the other.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take to connect to a server of the same host.
const CONNECT: Duration = Duration::from_secs(1);
/// The port of name servers.
const PORT: u16 = 53;

fn server() -> SocketAddr {
    (NAME_SERVER, PORT).into()
}

/// Whether the namespace has the server.
pub(super) fn are_served() -> bool {
    TcpStream::connect_timeout(&server(), CONNECT).is_ok()
}

/// Answers the guest's questions in threads, for the life of the process.
pub(super) fn serve(streams: Receiver<UnixStream>) -> io::Result<()> {
    let serve = move || {
        let count = Arc::new(AtomicUsize::new(0));
        for stream in streams {
            if count.fetch_add(1, Ordering::Relaxed) < QUESTIONS {
                let shared = Arc::clone(&count);
                let begun = thread::Builder::new().name("name".into()).stack_size(STACK).spawn(move || {
                    // Without an answer the stream is closed: the guest asks again.
                    let _ = answer(stream);
                    shared.fetch_sub(1, Ordering::Relaxed);
                });
                if begun.is_ok() {
                    continue;
                }
            }
            count.fetch_sub(1, Ordering::Relaxed);
        }
    };
    thread::Builder::new().name("names".into()).stack_size(STACK).spawn(serve).map(drop)
}

fn answer(mut guest: UnixStream) -> io::Result<()> {
    guest.set_read_timeout(Some(PATIENCE))?;
    guest.set_write_timeout(Some(PATIENCE))?;
    let mut kind = [0];
    guest.read_exact(&mut kind)?;
    let question = names::read(&mut guest)?;
    let [kind] = kind;
    let answer = if kind == NameQuestion::Stream as u8 {
        let mut server = TcpStream::connect_timeout(&server(), CONNECT)?;
        server.set_read_timeout(Some(PATIENCE))?;
        server.set_write_timeout(Some(PATIENCE))?;
        names::write(&mut server, &question)?;
        names::read(&mut server)?
    } else {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(server())?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(&question)?;
        let mut place = vec![0; usize::from(u16::MAX)];
        let length = socket.recv(&mut place)?;
        place.truncate(length);
        place
    };
    names::write(&mut guest, &answer)
}
