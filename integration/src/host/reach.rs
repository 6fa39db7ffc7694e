//! A port of the virtual host, reached from this machine.
//!
//! Enters: a port of the host's loopback device. Leaves: an address of this machine's, each connection to which is one to that
//! port, carried by a command on the channel: the host has no network in common with anybody.
//! Must never know what is said on it.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::channel::{Channel, Sinks};
use super::protocol::Start;
use super::{HostError, VirtualHost};

impl VirtualHost {
    /// Does `work` while `port` of the host is at the address that it is given. What is still connected then is cut off.
    pub fn reach<T>(&self, port: u16, work: impl FnOnce(SocketAddr) -> T) -> Result<T, HostError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(HostError::Reach)?;
        let address = listener.local_addr().map_err(HostError::Reach)?;
        let door = Door { address, over: AtomicBool::new(false), open: Mutex::new(Vec::new()) };
        Ok(thread::scope(|scope| {
            scope.spawn(|| {
                for stream in listener.incoming().flatten() {
                    if let Some(stream) = door.enter(stream) {
                        // Who can't be carried sees that it is cut off.
                        scope.spawn(|| carry(self.channel(), port, stream));
                    } else {
                        return;
                    }
                }
            });
            // Even where `work` panics: the scope waits for the threads.
            let _closed = Closing(&door);
            work(address)
        }))
    }
}

/// Who is connected.
struct Door {
    address: SocketAddr,
    over: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Door {
    /// Notes a connection; none: no more come in.
    fn enter(&self, stream: TcpStream) -> Option<TcpStream> {
        let mut open = self.open.lock().expect("no holder of the lock panics");
        if self.over.load(Ordering::SeqCst) {
            return None;
        }
        open.push(stream.try_clone().ok()?);
        Some(stream)
    }
}

struct Closing<'a>(&'a Door);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let open = self.0.open.lock().map(|mut open| {
            self.0.over.store(true, Ordering::SeqCst);
            std::mem::take(&mut *open)
        });
        for stream in open.into_iter().flatten() {
            // Whatever is closed already is what it is to be.
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes who waits for the next one.
        let _ = TcpStream::connect(self.0.address);
    }
}

/// One connection, to its end at either side.
fn carry(channel: &Channel, port: u16, mut stream: TcpStream) -> io::Result<()> {
    let start =
        Start { script: format!("exec socat -t 2 - TCP:127.0.0.1:{port}"), terminal: None, env: Vec::new() };
    let input = Box::new(stream.try_clone()?);
    let mut said = Vec::new();
    let mut sinks = Sinks { stdout: &mut stream, stderr: &mut said };
    let carried = channel.run(&start, Some(input), &mut sinks, None);
    // Nobody reads what a connection that was refused says of it.
    drop(carried);
    stream.shutdown(Shutdown::Both)
}
