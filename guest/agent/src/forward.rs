//! A port of the guest, for the host: one stream of the host's joined with one connection to localhost, in the network that all
//! containers here have. Which ports are served, nobody is told: the connection says.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpStream};
use std::thread;

use msb_agent::protocol::CONNECTED;

use crate::transport;

/// Bytes copied at a time.
const BUFFER: usize = 16 << 10;
/// Of the thread of the way back, whose buffer is elsewhere.
const STACK: usize = 32 << 10;

/// Copies both ways until both have ended. Where nobody listens, the stream is closed without a word.
pub fn join(mut host: &File, port: u16) {
    let localhost = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
    let Some(served) = localhost.into_iter().find_map(|one| TcpStream::connect((one, port)).ok()) else {
        return;
    };
    if host.write_all(&[CONNECTED]).is_err() {
        return;
    }
    thread::scope(|scope| {
        let back = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || {
            copy(&served, host);
            transport::finish(host);
        });
        if back.is_ok() {
            copy(host, &served);
            // An error says that the other side is gone already.
            let _ = served.shutdown(Shutdown::Write);
        } else {
            transport::hang_up(host);
        }
    });
}

/// Until the end of `from`, or the first error of either: the other side then sees the end.
fn copy(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if to.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn joined(port: u16) -> UnixStream {
        let (host, ours) = UnixStream::pair().unwrap();
        thread::spawn(move || join(&File::from(OwnedFd::from(ours)), port));
        host
    }

    #[test]
    fn both_ways_end_by_themselves() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut host = joined(listener.local_addr().unwrap().port());
        let (mut served, _) = listener.accept().unwrap();
        let mut said = [0];
        host.read_exact(&mut said).unwrap();
        assert_eq!(said, [CONNECTED]);
        host.write_all(b"question").unwrap();
        host.shutdown(Shutdown::Write).unwrap();
        assert_eq!(io::read_to_string(&mut served).unwrap(), "question");
        served.write_all(b"answer").unwrap();
        drop(served);
        assert_eq!(io::read_to_string(&mut host).unwrap(), "answer");
    }

    #[test]
    fn where_nobody_listens_nothing_is_said() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert_eq!(io::read_to_string(joined(port)).unwrap(), "");
    }
}
