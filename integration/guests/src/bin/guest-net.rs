//! Traffic of a guest, for the benchmark of network devices: pid 1 of a machine that has nothing else, an ordinary
//! program beside it, and the server that both talk to.
//!
//! Enters: as pid 1 nothing, the only interface becomes 10.9.0.2; as `guest-net client` the network as it is; as
//! `guest-net server` one to answer, on port 7000 of every address. Leaves: one line per case, `NET name operations
//! nanoseconds`, and as pid 1 the end of the machine. `bench/network.rs` starts it and reads them.
//!
//! Not iperf3: it needs a root to run from, and has no latency.

use std::{
    fs::OpenOptions,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::{
    mount::{MsFlags, mount},
    sys::reboot::{RebootMode, reboot},
};

const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 9, 0, 1), 7000);
/// Sent in each direction.
const BYTES: u64 = 64 << 20;
/// Of each write.
const PIECE: usize = 128 << 10;
/// Questions of one byte, on one connection.
const QUESTIONS: u64 = 1000;
/// Connections with one question each, one after the other, and at the same time.
const CONNECTIONS: u64 = 200;
const PARALLEL: usize = 16;

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("server") => serve(),
        Some("client") => measure(&mut |line| println!("{line}")),
        _ => {
            let mut console = OpenOptions::new().write(true).open("/dev/console").ok();
            let mut say = |line: &str| {
                if let Some(console) = &mut console {
                    let _ = console.write_all(format!("{line}\n").as_bytes());
                }
            };
            if let Err(error) = interface::configure().and_then(|()| measure(&mut say)) {
                say(&format!("FAILED {error:#}"));
            }
            // The VMM decides what a restart is: here its end.
            let _ = reboot(RebootMode::RB_AUTOBOOT);
            Ok(())
        }
    }
}

/// What a connection is for, its first byte.
const TAKE: u8 = b't';
const GIVE: u8 = b'g';
const ECHO: u8 = b'e';

fn serve() -> Result<()> {
    for stream in TcpListener::bind((Ipv4Addr::UNSPECIFIED, SERVER.1))?.incoming() {
        let stream = stream?;
        thread::spawn(move || answer(stream));
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    let mut place = vec![0; PIECE];
    match kind[0] {
        TAKE => {
            while stream.read(&mut place)? > 0 {}
            stream.write_all(&[1])
        }
        GIVE => (0..BYTES / u64::try_from(PIECE).unwrap_or(1)).try_for_each(|_| stream.write_all(&place)),
        _ => loop {
            match stream.read(&mut place)? {
                0 => return Ok(()),
                count => stream.write_all(&place[..count])?,
            }
        },
    }
}

fn connect(kind: u8) -> Result<TcpStream> {
    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::from(SERVER), Duration::from_secs(20)).context("connect")?;
    stream.set_nodelay(true)?;
    stream.write_all(&[kind])?;
    Ok(stream)
}

fn measure(say: &mut dyn FnMut(&str)) -> Result<()> {
    let mut place = vec![0; PIECE];
    // The first packets ask for addresses.
    drop(connect(ECHO)?);
    let mut tell = |name: &str, count: u64, began: Instant| {
        say(&format!("NET {name} {count} {}", began.elapsed().as_nanos()));
    };
    let began = Instant::now();
    let mut stream = connect(TAKE)?;
    (0..BYTES / u64::try_from(PIECE)?).try_for_each(|_| stream.write_all(&place))?;
    stream.shutdown(std::net::Shutdown::Write)?;
    ensure!(stream.read(&mut place)? == 1, "No answer");
    tell("tcp-send-64m", BYTES, began);

    let began = Instant::now();
    let mut stream = connect(GIVE)?;
    let mut got = 0;
    loop {
        match stream.read(&mut place)? {
            0 => break,
            count => got += u64::try_from(count)?,
        }
    }
    ensure!(got == BYTES, "Only {got} bytes came");
    tell("tcp-receive-64m", BYTES, began);

    let began = Instant::now();
    let mut stream = connect(ECHO)?;
    ask(&mut stream, QUESTIONS)?;
    tell("tcp-question-1000", QUESTIONS, began);

    let began = Instant::now();
    (0..CONNECTIONS).try_for_each(|_| ask(&mut connect(ECHO)?, 1))?;
    tell("tcp-connection-200", CONNECTIONS, began);

    let began = Instant::now();
    let threads: Vec<_> = (0..PARALLEL).map(|_| thread::spawn(|| ask(&mut connect(ECHO)?, 100))).collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("A thread panicked"))??;
    }
    tell("tcp-16-at-a-time-1600", 1600, began);
    Ok(())
}

fn ask(stream: &mut TcpStream, times: u64) -> Result<()> {
    let mut byte = [7];
    for _ in 0..times {
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
    }
    Ok(())
}

/// The machine's only interface, by ioctls (netdevice(7)).
#[allow(unsafe_code, reason = "nix has no such ioctls")]
mod interface {
    use std::os::fd::{AsRawFd, OwnedFd};

    use anyhow::Result;
    use nix::{
        errno::Errno,
        libc,
        sys::socket::{AddressFamily, SockFlag, SockType, socket},
    };

    use super::{MsFlags, mount};

    pub fn configure() -> Result<()> {
        let _ = mount(Some("dev"), "/dev", Some("devtmpfs"), MsFlags::empty(), None::<&str>);
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None)?;
        let address = |octets: [u8; 4]| {
            let mut bytes: [libc::c_char; 14] = [0; 14];
            for (to, from) in bytes[2..6].iter_mut().zip(octets) {
                *to = libc::c_char::from_ne_bytes([from]);
            }
            let family = libc::sa_family_t::try_from(libc::AF_INET).unwrap_or(2);
            libc::ifreq {
                ifr_name: name(),
                ifr_ifru: libc::__c_anonymous_ifr_ifru {
                    ifru_addr: libc::sockaddr { sa_family: family, sa_data: bytes },
                },
            }
        };
        order(&socket, libc::SIOCSIFADDR, &address([10, 9, 0, 2]))?;
        order(&socket, libc::SIOCSIFNETMASK, &address([255, 255, 255, 0]))?;
        let flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING)?;
        let up =
            libc::ifreq { ifr_name: name(), ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags } };
        Ok(order(&socket, libc::SIOCSIFFLAGS, &up)?)
    }

    fn name() -> [libc::c_char; 16] {
        let mut name = [0; 16];
        for (to, from) in name.iter_mut().zip(b"eth0") {
            *to = libc::c_char::from_ne_bytes([*from]);
        }
        name
    }

    fn order(socket: &OwnedFd, what: libc::Ioctl, request: &libc::ifreq) -> Result<(), Errno> {
        // SAFETY: each of the orders used reads one ifreq.
        Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), what, std::ptr::from_ref(request)) }).map(drop)
    }
}
