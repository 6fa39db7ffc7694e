//! Every TCP port of 127.0.0.1 in a network namespace at once, on one socket.
//!
//! Enters: connections that another process of the host makes inside the namespace, such as containerd for a port to be
//! forwarded. Leaves: the same, accepted, each with the port that was asked for. No port is bound but one, no packet is
//! changed and no rule is seen: where the kernel looks for the socket that listens, a program of a few instructions names this
//! one (`BPF_PROG_TYPE_SK_LOOKUP`, Linux 5.9). It must never be used in a namespace that others live in: what they serve at
//! 127.0.0.1 could not be reached any more.

mod bpf;

use std::{
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::OwnedFd,
};

/// Why ports can't be caught.
#[derive(Debug, thiserror::Error)]
pub enum LoopbackError {
    /// The socket.
    #[error("Nothing can listen at 127.0.0.1 in the network namespace")]
    Listen(#[source] io::Error),
    /// The program.
    #[error(
        "Connections to 127.0.0.1 in the network namespace can't be caught: a kernel from 5.9 on and CAP_NET_ADMIN with CAP_BPF are needed"
    )]
    Catch(#[source] nix::errno::Errno),
}

/// All ports. Dropped, none is listened at.
#[derive(Debug)]
pub struct Loopback {
    listener: TcpListener,
    _program: OwnedFd,
}

impl Loopback {
    /// Those of the calling thread's namespace.
    ///
    /// # Errors
    /// [`LoopbackError`].
    pub fn catch() -> Result<Self, LoopbackError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(LoopbackError::Listen)?;
        let program = bpf::redirect(&listener).map_err(LoopbackError::Catch)?;
        Ok(Self { listener, _program: program })
    }

    /// The next connection, and the port that it was made to.
    ///
    /// # Errors
    /// The kernel's.
    pub fn accept(&self) -> io::Result<(TcpStream, u16)> {
        let (stream, _) = self.listener.accept()?;
        let port = stream.local_addr()?.port();
        Ok((stream, port))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        process::Command,
        thread,
    };

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn any_port_leads_to_the_one_socket_and_is_told() {
        if !nix::unistd::geteuid().is_root() {
            return test_skips::skip("only root makes a network namespace");
        }
        thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
            assert!(TcpStream::connect(("127.0.0.1", 80)).is_err());
            let caught = Loopback::catch().unwrap();
            for port in [1, 80, u16::MAX] {
                let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let (mut served, told) = caught.accept().unwrap();
                assert_eq!(told, port);
                client.write_all(b"in").unwrap();
                let mut bytes = [0; 2];
                served.read_exact(&mut bytes).unwrap();
                assert_eq!(&bytes, b"in");
            }
            assert!(TcpStream::connect(("127.0.0.2", 80)).is_err(), "another address is nobody's");
            drop(caught);
            assert!(TcpStream::connect(("127.0.0.1", 80)).is_err(), "it ends with its owner");
        })
        .join()
        .unwrap();
    }
}
