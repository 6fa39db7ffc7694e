//! Every message of the agent's channel, both ways.

use std::time::Duration;

use msb_agent::protocol::{
    Address, Addressing, Amount, CommandProblem, Event, ExitStatus, Failure, FromAgent, GuestLimits, Hello,
    Interface, MemoryEvents, MemoryStatistics, Neighbour, PidsStatistics, Pressure, ProcessId, ProcessInfo,
    Reply, Request, Route, Statistics, Stream, StreamHello, TerminalSize, ToAgent, VERSION, Victim, encode,
    names,
};
use serde::Serialize;

use crate::config;

fn frame<T: Serialize>(message: &T) -> Vec<u8> {
    encode(message).expect("our own messages are small")
}

fn reply(id: u32, result: Result<Reply, Failure>) -> Vec<u8> {
    frame(&FromAgent::Reply { id, result })
}

/// The agent's side, behind the hello that the target says for it (1), or all of it (0).
pub(crate) fn to_host() -> Vec<Vec<u8>> {
    let processes = ["sh", "\u{1b}[2J", ""].map(|name| ProcessInfo {
        pid: 1,
        parent: 0,
        uid: 0,
        state: 'S',
        name: name.into(),
        args: vec![name.into(), "-c".into()],
        started: 1_700_000_000,
        cpu: 3,
        resident: 1 << 20,
    });
    let memory = MemoryStatistics {
        current: 5 << 20,
        peak: Some(6 << 20),
        max: Amount::Unlimited,
        swap: Some(0),
        swap_max: Some(Amount::Of(7)),
        events: MemoryEvents::default(),
        stat: vec![("anon".into(), 1), ("file".into(), 2)],
        pressure: Some(Pressure::default()),
    };
    let statistics = Statistics {
        memory: Some(memory),
        pids: Some(PidsStatistics { current: 3, max: Amount::Of(100) }),
        io_pressure: Some(Pressure::default()),
        ..Statistics::default()
    };
    let event = |event| frame(&FromAgent::Event(event));
    let exited = |number, status| event(Event::Exited { process: ProcessId(number), status });
    let victim = Victim { pid: 9, name: "stress".into() };
    let memory = event(Event::OutOfMemory { kills: 2, victims: vec![victim; 2] });
    let answers = [
        reply(1, Ok(Reply::Done)),
        reply(2, Ok(Reply::Processes(processes.to_vec()))),
        reply(3, Ok(Reply::Statistics(Box::new(statistics)))),
    ]
    .concat();
    let failures = [
        Failure::NoSuchProcess,
        Failure::WrongState { reason: "it runs".into() },
        Failure::Setup { step: "mount".into(), reason: "no".into() },
        Failure::Command { command: "x".into(), problem: CommandProblem::NotInPath },
    ];
    let mut sessions = vec![
        [answers.clone(), exited(0, ExitStatus::Code(3))].concat(),
        [answers.clone(), memory.clone(), exited(1, ExitStatus::Code(0)), exited(0, ExitStatus::Signal(9))]
            .concat(),
        // Before it was asked, twice, of another question, and nothing more.
        [memory, exited(0, ExitStatus::Code(0)), answers.clone()].concat(),
        [reply(1, Ok(Reply::Done)), reply(1, Ok(Reply::Done))].concat(),
        reply(1, Ok(Reply::Created { process: ProcessId(1), pid: 30 })),
        answers,
        (0..70).flat_map(|number| exited(number, ExitStatus::Code(1))).collect(),
    ];
    sessions.extend(failures.map(|failure| {
        [reply(1, Err(failure)), reply(2, Ok(Reply::Done)), exited(0, ExitStatus::Code(0))].concat()
    }));
    let hello = |version| frame(&FromAgent::Hello(Hello { version }));
    let whole = [hello(VERSION), sessions[0].clone()].concat();
    let mut all: Vec<Vec<u8>> = sessions.into_iter().map(|session| [vec![1], session].concat()).collect();
    all.extend([whole, hello(VERSION + 1)].map(|bytes| [vec![0], bytes].concat()));
    all
}

/// Every request, the first frames of streams, and a question about a name.
pub(crate) fn to_agent() -> Vec<Vec<u8>> {
    let containers = config::containers();
    let process = containers.first().expect("some caller's container is taken").init.clone();
    let local = std::net::Ipv4Addr::new(10, 0, 0, 2).into();
    let address =
        Address { local, peer: Some(local), prefix: 24, broadcast: Some(local), scope: 0, no_route: false };
    let route = Route {
        destination: std::net::Ipv6Addr::UNSPECIFIED.into(),
        prefix: 0,
        gateway: Some(local),
        source: None,
        metric: Some(5),
        scope: 0,
        onlink: true,
    };
    let addressing = Addressing {
        addresses: vec![address],
        routes: vec![route],
        neighbours: vec![Neighbour { address: local, mac: [2; 6] }],
    };
    let device = || "virtio-mmio.3".to_owned();
    let interface = Interface {
        device: device(),
        name: "eth0".into(),
        mtu: 1500,
        arp: true,
        ipv6: true,
        addressing: addressing.clone(),
    };
    let limits = GuestLimits {
        memory: Some(Amount::Of(1 << 26)),
        pids: Some(Amount::Unlimited),
        ..GuestLimits::default()
    };
    let mut requests = vec![
        Request::Enter(ProcessId(2)),
        Request::Detach { devices: vec![device()] },
        Request::Start,
        Request::Exec(Box::new(process)),
        Request::Release,
        Request::Signal { process: ProcessId::INIT, signal: 15, all: true },
        Request::Resize { process: ProcessId::INIT, size: TerminalSize::default() },
        Request::Processes,
        Request::Update(Box::new(limits)),
        Request::Statistics,
        Request::Refresh { file: 1, content: b"127.0.0.1 x".to_vec() },
        Request::Sync,
        Request::Freeze,
        Request::Thaw { realtime: Duration::from_secs(1_700_000_000) },
        Request::Plug(Box::new(interface)),
        Request::Readdress { device: device(), remove: addressing.clone(), add: addressing },
        Request::Names,
        Request::Unplug { device: device() },
    ];
    requests.extend(containers.into_iter().map(|container| Request::Create(Box::new(container))));
    let frames: Vec<Vec<u8>> =
        (1..).zip(requests).map(|(id, request)| frame(&ToAgent { id, request })).collect();
    // What one says after the other, and each message alone, with its length and without.
    let mut all = vec![frames[..18].concat()];
    all.extend(frames.iter().map(|frame| frame[4..].to_vec()));
    all.extend(frames);
    let process = ProcessId::INIT;
    all.extend(
        [
            StreamHello::Stdio { process, stream: Stream::Stdin },
            StreamHello::Stdio { process, stream: Stream::Terminal },
            StreamHello::Port(80),
            StreamHello::Datagrams(53),
        ]
        .iter()
        .map(frame),
    );
    let mut question = Vec::new();
    names::write(&mut question, b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01x\0\0\x01\0\x01")
        .expect("memory takes all");
    all.push(question);
    all
}
