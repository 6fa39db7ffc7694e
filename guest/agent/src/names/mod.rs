//! Docker's name server, for the container: what it asks 127.0.0.11 is answered by the one in the host's namespace.
//!
//! ```text
//!  resolver ── 127.0.0.11:53 ──▶ 127.0.0.11:port ── exchange ──▶ host (vsock) ──▶ 127.0.0.11:53 there
//!           (redirect.rs, as Docker's own iptables rule does)
//! ```
//!
//! The port is not 53: a container that serves names itself has that on all addresses, as with every runtime.
//! Bounded: so many questions at a time, each of a bounded length, none for ever. Must never know what is in a question.

mod redirect;

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use msb_agent::protocol::{Failure, NAME_SERVER, NameQuestion, names};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::container::{at, plain};
use crate::{log, transport};

/// Questions at the same time; further ones are dropped, and asked again by who asked.
const QUESTIONS: usize = 64;
/// Longest question over UDP, in bytes. Questions have one name of at most 255 bytes.
const DATAGRAM: usize = 4096;
/// Of the threads that wait for questions, and of those that hold one.
const STACK: usize = 32 << 10;
/// How long an answer may take: resolvers give up after 5 seconds, and Docker's asks several servers.
const PATIENCE: i64 = 20;

/// Serves 127.0.0.11 for the processes of `cgroup`, for the life of the guest.
///
/// # Errors
/// [`Failure::Setup`].
pub fn serve(cgroup: BorrowedFd<'_>) -> Result<(), Failure> {
    let serving = || "serve names".to_owned();
    let any = SocketAddrV4::new(NAME_SERVER, 0);
    let listener = TcpListener::bind(any).map_err(at(serving))?;
    let port = listener.local_addr().map_err(at(serving))?.port();
    let socket = UdpSocket::bind(SocketAddrV4::new(NAME_SERVER, port)).map_err(at(serving))?;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let spawn =
        |work: Box<dyn FnOnce() + Send>| thread::Builder::new().stack_size(STACK).spawn(work).map(drop);
    spawn(Box::new(move || datagrams(socket, &counted))).map_err(at(serving))?;
    spawn(Box::new(move || streams(&listener, &count))).map_err(at(serving))?;
    redirect::install(cgroup, port).map_err(plain).map_err(at(|| "redirect questions about names".into()))
}

fn datagrams(socket: UdpSocket, count: &Arc<AtomicUsize>) {
    let socket = Arc::new(socket);
    let mut place = [0; DATAGRAM];
    loop {
        let (length, from) = match socket.recv_from(&mut place) {
            Ok(received) => received,
            Err(error) => {
                pause(&error);
                continue;
            }
        };
        let (question, socket) = (place[..length].to_vec(), Arc::clone(&socket));
        in_thread(count, move || {
            if let Ok(answer) = exchange(NameQuestion::Datagram, &question) {
                // Who asked may be gone.
                let _ = socket.send_to(&answer, from);
            }
        });
    }
}

fn streams(listener: &TcpListener, count: &Arc<AtomicUsize>) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => in_thread(count, move || {
                // It ends when who asked closes, breaks the rules, or says nothing for long.
                let _ = stream_of_questions(stream);
            }),
            Err(error) => pause(&error),
        }
    }
}

fn stream_of_questions(mut stream: TcpStream) -> io::Result<()> {
    let patience = Duration::from_secs(PATIENCE.unsigned_abs());
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    loop {
        let question = names::read(&mut stream)?;
        names::write(&mut stream, &exchange(NameQuestion::Stream, &question)?)?;
    }
}

/// One question and its answer, on a connection of their own.
fn exchange(kind: NameQuestion, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut host: File = transport::names()?;
    let patience = TimeVal::new(PATIENCE, 0);
    setsockopt(&host, sockopt::ReceiveTimeout, &patience)?;
    setsockopt(&host, sockopt::SendTimeout, &patience)?;
    host.write_all(&[kind as u8])?;
    names::write(&mut host, question)?;
    names::read(&mut host)
}

fn in_thread(count: &Arc<AtomicUsize>, work: impl FnOnce() + Send + 'static) {
    if count.fetch_add(1, Ordering::Relaxed) >= QUESTIONS {
        count.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let shared = Arc::clone(count);
    let begun = thread::Builder::new().stack_size(STACK).spawn(move || {
        work();
        shared.fetch_sub(1, Ordering::Relaxed);
    });
    if begun.is_err() {
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Descriptors or memory are short: wait for some to be freed.
fn pause(error: &io::Error) {
    log::failure("wait for questions about names", error);
    thread::sleep(Duration::from_millis(100));
}
