//! An agent that lies: pid 1 of a machine whose host believes that it speaks with ours.
//!
//! Enters: `LIE=name`, which the kernel hands on from its command line. Leaves: that lie, on the channel to the host, and
//! then nothing more: the machine goes on until the host ends it. What the host must do then is in `e2e/liar.rs`.

use std::{
    fs::File,
    io::Write,
    os::fd::{AsRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use msb_agent::protocol::{
    self, CHANNEL_PORT, Event, ExitStatus, FromAgent, Hello, NAMES_PORT, ProcessId, ProcessInfo, Reply,
    Request, STREAM_PORT, TIME_PORT, ToAgent, VERSION, Victim,
};
use nix::{
    libc,
    sys::socket::{AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, connect, listen, socket},
};

/// More streams than a host serves to one guest.
const DIALS: usize = 3000;
/// Longest that one of them is tried.
const SHORTLY: Duration = Duration::from_secs(20);
/// Steers a terminal: another title, nothing on the screen, another colour.
const STEERS: &str = "\x1b]0;owned\x07\x1b[2J\x1b[31m\u{9b}31m\r\n";

fn main() {
    let lie = std::env::var("LIE").unwrap_or_default();
    if let Err(error) = tell(&lie) {
        // On the machine's console, which the host keeps.
        eprintln!("guest-liar: {lie}: {error:#}");
    }
    loop {
        thread::park();
    }
}

fn tell(lie: &str) -> Result<()> {
    // Streams of stdio find somebody, who never takes them.
    let streams = fresh()?;
    bind(streams.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_ANY, STREAM_PORT))?;
    listen(&streams, Backlog::new(16)?)?;
    let mut host = dial(CHANNEL_PORT)?;
    match lie {
        // What no frame can be.
        "noise" => host.write_all(&[0xa5; 1 << 16])?,
        "long" => host.write_all(&u32::MAX.to_le_bytes())?,
        "version" => say(&mut host, &FromAgent::Hello(Hello { version: VERSION + 1 }))?,
        "unasked" => say(&mut host, &FromAgent::Reply { id: 77, result: Ok(Reply::Done) })?,
        "gone" => return hello(&mut host),
        // To the first request.
        "events" => {
            create(&mut host)?;
            while say(&mut host, &FromAgent::Event(exited(9, ExitStatus::Code(0)))).is_ok() {}
        }
        "kind" => {
            let id = create(&mut host)?;
            reply(&mut host, id, Reply::Processes(Vec::new()))?;
        }
        "other" => {
            let id = create(&mut host)?;
            reply(&mut host, id.wrapping_add(1), Reply::Done)?;
        }
        // Of a container that never was.
        "early" => {
            let id = create(&mut host)?;
            say(&mut host, &FromAgent::Event(exited(0, ExitStatus::Code(3))))?;
            created(&mut host, id)?;
            obey(&mut host, |_| Reply::Done)?;
        }
        "signal" => {
            started(&mut host)?;
            say(&mut host, &FromAgent::Event(exited(0, ExitStatus::Signal(255))))?;
        }
        "stays" => {
            started(&mut host)?;
            obey(&mut host, |_| Reply::Done)?;
        }
        "processes" => {
            started(&mut host)?;
            obey(&mut host, |request| match request {
                Request::Processes => Reply::Processes(vec![process(); ProcessInfo::MAX + 1]),
                _ => Reply::Done,
            })?;
        }
        "names" => {
            started(&mut host)?;
            obey(&mut host, |request| match request {
                Request::Processes => Reply::Processes(vec![process()]),
                _ => Reply::Done,
            })?;
        }
        "memory" => {
            started(&mut host)?;
            let victim = Victim { pid: u32::MAX, name: STEERS.repeat(1000) };
            let event = Event::OutOfMemory { kills: u64::MAX, victims: vec![victim; 50] };
            let told = FromAgent::Event(event);
            while say(&mut host, &told).is_ok() {}
        }
        "dials" => {
            started(&mut host)?;
            let begun = Instant::now();
            let ports = [CHANNEL_PORT, NAMES_PORT, TIME_PORT, 1, u32::MAX - 1];
            // Kept, so that each is one that the host must keep, or end.
            let kept: Vec<File> = (ports.into_iter().cycle().take(DIALS))
                .take_while(|_| begun.elapsed() < SHORTLY)
                .filter_map(|port| dial(port).ok())
                .collect();
            eprintln!("guest-liar: dialled, {} of {DIALS} streams were there", kept.len());
            obey(&mut host, |_| Reply::Done)?;
        }
        other => bail!("no such lie: {other}"),
    }
    thread::park();
    Ok(())
}

fn fresh() -> Result<OwnedFd> {
    Ok(socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?)
}

fn dial(port: u32) -> Result<File> {
    let stream = fresh()?;
    connect(stream.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_HOST, port))?;
    Ok(File::from(stream))
}

fn say(host: &mut File, message: &FromAgent) -> Result<()> {
    Ok(protocol::write(host, message)?)
}

fn hello(host: &mut File) -> Result<()> {
    say(host, &FromAgent::Hello(Hello { version: VERSION }))
}

fn reply(host: &mut File, id: u32, reply: Reply) -> Result<()> {
    say(host, &FromAgent::Reply { id, result: Ok(reply) })
}

/// Says hello, and comes back with the number of the first request, whatever it is.
fn create(host: &mut File) -> Result<u32> {
    hello(host)?;
    Ok(protocol::read_first::<ToAgent>(host)?.id)
}

fn created(host: &mut File, id: u32) -> Result<()> {
    reply(host, id, Reply::Created { process: ProcessId::INIT, pid: u32::MAX })
}

/// The container is there, it says, and has been started.
fn started(host: &mut File) -> Result<()> {
    let id = create(host)?;
    created(host, id)?;
    loop {
        let ToAgent { id, request } = protocol::read(host)?;
        reply(host, id, Reply::Done)?;
        if request == Request::Start {
            return Ok(());
        }
    }
}

/// Answers so, and does nothing of it, until the host has enough.
fn obey(host: &mut File, answer: impl Fn(&Request) -> Reply) -> Result<()> {
    loop {
        let ToAgent { id, request } = protocol::read(host)?;
        reply(host, id, answer(&request))?;
    }
}

fn exited(process: u32, status: ExitStatus) -> Event {
    Event::Exited { process: ProcessId(process), status }
}

fn process() -> ProcessInfo {
    ProcessInfo {
        pid: 1,
        parent: u32::MAX,
        uid: 0,
        state: '\u{1b}',
        name: STEERS.into(),
        args: vec![STEERS.into()],
        started: u64::MAX,
        cpu: u64::MAX,
        resident: u64::MAX,
    }
}
