//! A UDP port of the guest, for the host: one stream of the host's is one sender to localhost, in the network that all
//! containers here have.

use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use msb_agent::protocol::{CONNECTED, MAX_DATAGRAM, read_datagram, write_datagram};
use nix::sys::socket::{Shutdown, shutdown};

use crate::transport;

/// Of the thread of the way back, whose buffer is elsewhere.
const STACK: usize = 32 << 10;

/// Passes datagrams both ways until the host ends the stream. That nobody listens is no end: somebody may come, as with any
/// UDP.
pub fn join(mut host: &File, port: u16) {
    let Ok(socket) = sender(port) else { return };
    if host.write_all(&[CONNECTED]).is_err() {
        return;
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let back = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || {
            back(&socket, host, &over);
            transport::hang_up(host);
        });
        if back.is_ok() {
            // What can't be sent is lost, as any datagram may be.
            while let Ok(Some(datagram)) = read_datagram(host) {
                let _ = socket.send(&datagram);
            }
        }
        over.store(true, Ordering::Relaxed);
        // The other thread waits in it. What is connected can be shut, though the standard library does not offer it.
        let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
    });
}

fn sender(port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, port))?;
    Ok(socket)
}

/// Until it is over; what was shut is read as empty datagrams.
fn back(socket: &UdpSocket, host: &File, over: &AtomicBool) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        match socket.recv(&mut buffer) {
            Ok(_) if over.load(Ordering::Relaxed) => return,
            Ok(length) => {
                if write_datagram(host, &buffer[..length]).is_err() {
                    return;
                }
            }
            // Nobody listens, which is told of what was sent before.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::thread::JoinHandle;

    use super::*;

    fn joined(port: u16) -> (UnixStream, JoinHandle<()>) {
        let (mut host, ours) = UnixStream::pair().unwrap();
        let thread = thread::spawn(move || join(&File::from(OwnedFd::from(ours)), port));
        let mut said = [0];
        io::Read::read_exact(&mut host, &mut said).unwrap();
        assert_eq!(said, [CONNECTED]);
        (host, thread)
    }

    #[test]
    fn each_datagram_is_passed_whole_and_the_hosts_end_is_the_end() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (host, thread) = joined(server.local_addr().unwrap().port());
        for said in [&b"one"[..], b"", b"three"] {
            write_datagram(&host, said).unwrap();
            let mut buffer = [0; 16];
            let (length, from) = server.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], said);
            server.send_to(&buffer[..length], from).unwrap();
            assert_eq!(read_datagram(&host).unwrap().as_deref(), Some(said));
        }
        drop(host);
        thread.join().unwrap();
    }

    #[test]
    fn who_listens_later_is_heard() {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (host, _) = joined(free.port());
        write_datagram(&host, b"lost").unwrap();
        // Refused only once it was sent; on a busy machine it may be later than who listens, and is heard.
        thread::sleep(std::time::Duration::from_millis(50));
        let server = UdpSocket::bind(free).unwrap();
        let mut buffer = [0; 16];
        server.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        let heard = (0..100).find_map(|_| {
            write_datagram(&host, b"heard").unwrap();
            server.recv(&mut buffer).ok().filter(|length| buffer[..*length] != *b"lost")
        });
        assert_eq!(heard, Some(5));
    }
}
