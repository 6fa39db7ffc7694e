//! A channel to the agent: calls, their answers, and what it tells unasked.

use std::{
    collections::VecDeque,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use msb_agent::protocol::{
    self, Event, Failure, FrameError, FromAgent, Hello, MAX_FROM_AGENT, Reply, Request, ToAgent, VERSION,
};

use super::timely::Timely;

/// How long one answer may take. Generous: an emulated host is a hundred times slower than a real one.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Events kept while an answer is awaited; a channel has few processes, and each ends once.
const MAX_EVENTS: usize = 64;

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The channel broke, closed or carried nonsense.
    #[error("The guest's agent can't be reached")]
    Channel(#[source] FrameError),
    /// The first message was not a hello.
    #[error("The guest's agent did not say hello")]
    NoHello,
    /// Runtime and initramfs were not built together.
    #[error(
        "The guest's agent speaks version {theirs} and this runtime {VERSION}: install the initramfs that came with it"
    )]
    Version {
        /// The agent's.
        theirs: u32,
    },
    /// An answer that nobody asked for, or of the wrong kind.
    #[error("The guest's agent answered something else than was asked")]
    Unexpected,
    /// More events than processes.
    #[error("The guest's agent floods the host with events")]
    Flood,
    /// It did as it should and says why not.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl AgentError {
    /// Whether the other side is gone, as when the machine has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Channel(FrameError::Closed) => true,
            // An answer that is late is another fault than an agent that is gone.
            Self::Channel(FrameError::Stream(error)) => {
                !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
            }
            _ => false,
        }
    }
}

/// One channel, after its hello.
#[derive(Debug)]
pub struct Agent {
    stream: UnixStream,
    /// For each message.
    patience: Option<Duration>,
    last_id: u32,
    /// The agent knows which version this side speaks.
    greeted: bool,
    events: VecDeque<Event>,
}

impl Agent {
    /// Takes a fresh channel and awaits its hello for at most `patience`.
    ///
    /// # Errors
    /// [`AgentError::NoHello`], [`AgentError::Version`], or the channel's own failure.
    pub fn greet(stream: UnixStream, patience: Duration) -> Result<Self, AgentError> {
        let agent =
            Self { stream, patience: Some(patience), last_id: 0, greeted: false, events: VecDeque::new() };
        match agent.read()? {
            FromAgent::Hello(Hello { version: VERSION }) => {}
            FromAgent::Hello(Hello { version: theirs }) => return Err(AgentError::Version { theirs }),
            FromAgent::Reply { .. } | FromAgent::Event(_) => return Err(AgentError::NoHello),
        }
        Ok(Self { patience: Some(PATIENCE), ..agent })
    }

    fn read(&self) -> Result<FromAgent, AgentError> {
        let mut stream = Timely::new(&self.stream, self.patience);
        protocol::read_within(&mut stream, MAX_FROM_AGENT).map_err(AgentError::Channel)
    }

    /// Waits for answers as long as it takes: a container that is paused gives them when it is resumed. The machine's end
    /// still ends the wait.
    pub fn be_patient(&mut self) {
        self.patience = None;
    }

    /// As [`Self::call`], for what may take any time.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn call_patiently(&mut self, request: Request) -> Result<Reply, AgentError> {
        let patience = self.patience.take();
        let result = self.call(request);
        self.patience = patience;
        result
    }

    /// Asks and awaits the answer; events that come before it are kept for [`Self::event`].
    ///
    /// # Errors
    /// [`AgentError::Failed`] is the agent's own no; anything else ends the channel.
    pub fn call(&mut self, request: Request) -> Result<Reply, AgentError> {
        self.last_id = self.last_id.wrapping_add(1);
        let asked = self.last_id;
        let mut stream = Timely::new(&self.stream, self.patience);
        let message = ToAgent { id: asked, request };
        let written = if std::mem::replace(&mut self.greeted, true) {
            protocol::write(&mut stream, &message)
        } else {
            protocol::write_first(&mut stream, &message)
        };
        written.map_err(AgentError::Channel)?;
        loop {
            match self.read()? {
                FromAgent::Reply { id, result } if id == asked => {
                    return Some(result?)
                        .filter(|reply| message.request.takes(reply))
                        .ok_or(AgentError::Unexpected);
                }
                FromAgent::Event(_) if self.events.len() >= MAX_EVENTS => return Err(AgentError::Flood),
                FromAgent::Event(event) => self.events.push_back(event),
                FromAgent::Reply { .. } | FromAgent::Hello(_) => return Err(AgentError::Unexpected),
            }
        }
    }

    /// As [`Self::call`], for requests whose success has nothing to tell.
    ///
    /// # Errors
    /// As [`Self::call`]; [`AgentError::Unexpected`] for an answer of another kind.
    pub fn order(&mut self, request: Request) -> Result<(), AgentError> {
        match self.call(request)? {
            Reply::Done => Ok(()),
            Reply::Created { .. } | Reply::Processes(_) | Reply::Statistics(_) => Err(AgentError::Unexpected),
        }
    }

    /// An event that came with an earlier answer.
    pub fn kept_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Reads the next event: call it when the channel is readable.
    ///
    /// # Errors
    /// The channel's failure, or [`AgentError::Unexpected`] for anything but an event.
    pub fn event(&mut self) -> Result<Event, AgentError> {
        match self.read()? {
            FromAgent::Event(event) => Ok(event),
            FromAgent::Reply { .. } | FromAgent::Hello(_) => Err(AgentError::Unexpected),
        }
    }
}

impl AsFd for Agent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use msb_agent::protocol::{ExitStatus, ProcessId};

    use super::*;

    fn said(messages: &[FromAgent]) -> (UnixStream, UnixStream) {
        let (host, mut guest) = UnixStream::pair().unwrap();
        for message in messages {
            protocol::write(&mut guest, message).unwrap();
        }
        (host, guest)
    }

    #[test]
    fn another_version_is_refused_with_both_numbers() {
        let (host, _guest) = said(&[FromAgent::Hello(Hello { version: VERSION + 1 })]);
        let error = Agent::greet(host, PATIENCE).unwrap_err();
        assert!(matches!(error, AgentError::Version { theirs } if theirs == VERSION + 1));
    }

    #[test]
    fn an_event_before_the_answer_is_kept() {
        let exited = Event::Exited { process: ProcessId::INIT, status: ExitStatus::Code(3) };
        let (host, guest) = said(&[
            FromAgent::Hello(Hello { version: VERSION }),
            FromAgent::Event(exited.clone()),
            FromAgent::Reply { id: 1, result: Ok(Reply::Done) },
        ]);
        let mut agent = Agent::greet(host, PATIENCE).unwrap();
        agent.order(Request::Start).unwrap();
        assert_eq!(agent.kept_event(), Some(exited));
        assert_eq!(agent.kept_event(), None);
        drop(guest);
        assert!(agent.event().unwrap_err().is_closed());
    }

    #[test]
    fn a_flood_of_events_ends_the_call() {
        let (host, mut guest) = said(&[FromAgent::Hello(Hello { version: VERSION })]);
        let flood = thread::spawn(move || {
            let event = Event::Exited { process: ProcessId(9), status: ExitStatus::Code(0) };
            while protocol::write(&mut guest, &FromAgent::Event(event.clone())).is_ok() {}
        });
        let mut agent = Agent::greet(host, PATIENCE).unwrap();
        assert!(matches!(agent.call(Request::Start), Err(AgentError::Flood)));
        drop(agent);
        flood.join().unwrap();
    }

    #[test]
    fn a_late_answer_is_not_a_closed_channel() {
        let (host, guest) = UnixStream::pair().unwrap();
        let error = Agent::greet(host, Duration::from_millis(10)).unwrap_err();
        assert!(!error.is_closed(), "{error:?}");
        drop(guest);
    }

    #[test]
    fn an_answer_of_another_kind_is_refused() {
        let flood = vec![String::new(); protocol::ProcessInfo::MAX_ALL_ARGS + 1];
        let process = protocol::ProcessInfo {
            pid: 1,
            parent: 0,
            uid: 0,
            state: 'S',
            name: String::new(),
            args: flood,
            started: 0,
            cpu: 0,
            resident: 0,
        };
        for (request, reply) in [
            (Request::Statistics, Reply::Processes(Vec::new())),
            (Request::Sync, Reply::Statistics(Box::default())),
            (Request::Processes, Reply::Processes(vec![process])),
        ] {
            let hello = FromAgent::Hello(Hello { version: VERSION });
            let (host, mut guest) = said(&[hello]);
            // More than a socket takes unread.
            let saying = thread::spawn(move || {
                let _ = protocol::write(&mut guest, &FromAgent::Reply { id: 1, result: Ok(reply) });
                guest
            });
            let mut agent = Agent::greet(host, PATIENCE).unwrap();
            assert!(matches!(agent.call(request), Err(AgentError::Unexpected)));
            drop(agent);
            drop(saying.join().unwrap());
        }
    }

    #[test]
    fn an_answer_to_another_question_is_refused() {
        let (host, _guest) = said(&[
            FromAgent::Hello(Hello { version: VERSION }),
            FromAgent::Reply { id: 77, result: Ok(Reply::Done) },
        ]);
        let mut agent = Agent::greet(host, PATIENCE).unwrap();
        assert!(matches!(agent.call(Request::Sync), Err(AgentError::Unexpected)));
    }
}
