//! A channel: requests come in one after the other, each has its answer; events go out between the answers.
//!
//! One thread per channel. What a channel has made ends with it.

mod create;
mod exec;
mod freeze;
mod limits;
mod refresh;

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use msb_agent::protocol::{
    self, Failure, FromAgent, Hello, ProcessId, Reply, Request, StreamHello, ToAgent, VERSION,
};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::agent::Agent;
use crate::container::made::Made;
use crate::process::record::Record;
use crate::transport::{self, Listener};
use crate::{datagrams, forward, log, network, signals, slots};

/// Stack of a channel's thread: decoding a container needs more than a relay.
const CHANNEL_STACK: usize = 256 << 10;
/// Stack of a stream's thread, which becomes its relay.
const STREAM_STACK: usize = 64 << 10;
/// How long a stream may take to say whose it is.
const STREAM_PATIENCE: i64 = 20;
/// After a failing accept: descriptors or memory are short, so wait for some to be freed.
const PAUSE: Duration = Duration::from_millis(100);

/// A channel's sending half.
#[derive(Debug)]
pub struct Channel {
    writer: Mutex<File>,
}

impl Channel {
    /// Says hello on a fresh connection.
    ///
    /// # Errors
    /// The connection's.
    pub fn open(connection: &File) -> std::io::Result<Arc<Self>> {
        let channel = Self { writer: Mutex::new(connection.try_clone()?) };
        channel.send(&FromAgent::Hello(Hello { version: VERSION }));
        Ok(Arc::new(channel))
    }

    /// Sends one message. Who does not listen any more is not told: the reading half notices.
    pub fn send(&self, message: &FromAgent) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = protocol::write(&mut *writer, message);
    }
}

/// What a channel is about.
#[derive(Debug, Default)]
struct Talk {
    /// A process that waits for its release.
    waiting: Option<Arc<Record>>,
    /// The container that was made on it, or entered.
    speaks_of: Option<Arc<Made>>,
}

impl Talk {
    /// Of which container: without another, the guest's first.
    fn container(&self, agent: &Agent) -> Result<Arc<Made>, Failure> {
        self.speaks_of.as_ref().map_or_else(|| agent.first(), |made| Ok(Arc::clone(made)))
    }

    fn enter(&mut self, agent: &Agent, first: ProcessId) -> Result<Reply, Failure> {
        if self.speaks_of.is_some() {
            return Err(Failure::WrongState { reason: "this channel has its container already".into() });
        }
        self.speaks_of = Some(agent.of(first)?);
        Ok(Reply::Done)
    }
}

/// Serves a channel until the host closes it or breaks the protocol, and ends what was made on it.
pub fn serve(agent: &Arc<Agent>, channel: &Arc<Channel>, mut connection: File) {
    let mut talk = Talk::default();
    let mut next: Result<ToAgent, _> = protocol::read_first(&mut connection);
    while let Ok(ToAgent { id, request }) = next {
        match answer(agent, channel, &mut talk, request) {
            Ok((reply, made)) => {
                channel.send(&FromAgent::Reply { id, result: Ok(reply) });
                if let Some(made) = made {
                    made.announce(true);
                }
            }
            Err(failure) => channel.send(&FromAgent::Reply { id, result: Err(failure) }),
        }
        next = protocol::read(&mut connection);
    }
    transport::hang_up(&connection);
    agent.registry().abandon(channel);
}

/// The reply, and the process that the host knows by it.
type Answer = Result<(Reply, Option<Arc<Record>>), Failure>;

fn answer(agent: &Arc<Agent>, channel: &Arc<Channel>, talk: &mut Talk, request: Request) -> Answer {
    let made = || talk.container(agent);
    let done = |()| Reply::Done;
    let reply = match request {
        Request::Create(container) => return create::create(agent, channel, &mut talk.speaks_of, container),
        Request::Exec(process) => {
            let made = made()?;
            return exec::exec(agent, channel, &made, &mut talk.waiting, process);
        }
        Request::Enter(first) => talk.enter(agent, first),
        Request::Detach { devices } => detach(agent, &devices).map(done),
        Request::Start => create::start(&*made()?),
        Request::Release => exec::release(&mut talk.waiting),
        Request::Signal { process, signal, all } => signals::send(agent, process, signal, all),
        Request::Resize { process, size } => signals::resize(agent, process, size),
        Request::Processes => Ok(signals::processes(&*made()?)),
        Request::Refresh { file, content } => refresh::refresh(&*made()?, file, &content),
        Request::Sync => made()?.root.sync().map(done),
        Request::Freeze => freeze::freeze(&*made()?),
        Request::Thaw { realtime } => freeze::thaw(&*made()?, realtime),
        Request::Update(new) => limits::update(&*made()?, &new),
        Request::Statistics => Ok(limits::statistics(&*made()?)),
        Request::Plug(interface) => network::plug(&interface).map(done),
        Request::Readdress { device, remove, add } => network::readdress(&device, &remove, &add).map(done),
        Request::Names => agent.serve_names().map(done),
        Request::Unplug { device } => network::unplug(&device).map(done),
    };
    reply.map(|reply| (reply, None))
}

/// Lets disks go, and before them what is on them.
fn detach(agent: &Agent, devices: &[String]) -> Result<(), Failure> {
    let _order = agent.further();
    agent.clear(devices)?;
    devices.iter().try_for_each(|device| slots::unbind(device))
}

/// Accepts channels for ever.
pub fn channels(agent: &Arc<Agent>, listener: &Listener) -> ! {
    loop {
        let agent = Arc::clone(agent);
        let begun = accept(listener, CHANNEL_STACK, move |connection| {
            if let Ok(channel) = Channel::open(&connection) {
                serve(&agent, &channel, connection);
            }
        });
        pause_after(begun, "accept a channel");
    }
}

/// Accepts streams for ever.
pub fn streams(agent: &Arc<Agent>, listener: &Listener) -> ! {
    loop {
        let agent = Arc::clone(agent);
        let begun = accept(listener, STREAM_STACK, move |connection| stream(&agent, connection));
        pause_after(begun, "accept a stream");
    }
}

fn stream(agent: &Agent, mut connection: File) {
    let patience = TimeVal::new(STREAM_PATIENCE, 0);
    if setsockopt(&connection, sockopt::ReceiveTimeout, &patience).is_err() {
        return;
    }
    // Without a hello, or for a process that is gone, the stream is closed.
    let Ok(hello) = protocol::read_first::<StreamHello>(&mut connection) else { return };
    match hello {
        StreamHello::Stdio { process, stream } => {
            let record = agent.registry().find(process).map(Arc::clone);
            if let Some(record) = record {
                let streams = Arc::clone(&record.streams);
                drop(record);
                streams.attach(stream, &connection);
            }
        }
        StreamHello::Port(port) => {
            if setsockopt(&connection, sockopt::ReceiveTimeout, &TimeVal::new(0, 0)).is_ok() {
                forward::join(&connection, port);
            }
        }
        StreamHello::Datagrams(port) => {
            if setsockopt(&connection, sockopt::ReceiveTimeout, &TimeVal::new(0, 0)).is_ok() {
                datagrams::join(&connection, port);
            }
        }
    }
}

fn accept(
    listener: &Listener,
    stack: usize,
    work: impl FnOnce(File) + Send + 'static,
) -> std::io::Result<()> {
    let connection = listener.accept()?;
    thread::Builder::new().stack_size(stack).spawn(move || work(connection)).map(drop)
}

fn pause_after(begun: std::io::Result<()>, step: &str) {
    if let Err(error) = begun {
        log::failure(step, &error);
        thread::sleep(PAUSE);
    }
}
