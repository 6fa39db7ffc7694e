//! From a process's release to its end: signals go in, the exit status comes out.
//!
//! Every signal that this process gets is the container's: Docker, podman and `kill(1)` know only its pid.
//! SIGWINCH means that the terminal has a new size.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use msb_agent::protocol::{Event, ExitStatus, Failure, ProcessId, Request, Victim};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use super::{
    agent::{Agent, AgentError},
    terminal,
};

/// Not forwarded: those that can't be caught, those that mean a fault of this process's own, and its children's.
const OWN: [Signal; 12] = [
    Signal::SIGKILL,
    Signal::SIGSTOP,
    Signal::SIGCHLD,
    Signal::SIGPIPE,
    Signal::SIGURG,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGABRT,
    Signal::SIGSYS,
];

/// Meant for the container when a command that has it in its foreground gets them.
pub const FOREGROUND: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// Why a process can't be watched any longer.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Signals can't be received.
    #[error("Signals can't be received")]
    Signals(#[source] Errno),
    /// Waiting failed.
    #[error("Waiting failed")]
    Poll(#[source] Errno),
    /// The agent failed or is gone.
    #[error("The guest was lost")]
    Agent(#[from] AgentError),
}

/// All signals that are the container's, blocked in this thread and every thread it starts later.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Call it before the first thread is started, or a signal may find a thread that does not block it.
    ///
    /// # Errors
    /// [`SessionError::Signals`].
    pub fn block() -> Result<Self, SessionError> {
        // Real-time signals are left alone: one of them interrupts virtual processors.
        let set: SigSet = Signal::iterator().filter(|signal| !OWN.contains(signal)).collect();
        set.thread_block().map_err(SessionError::Signals)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        SignalFd::with_flags(&set, flags).map(Self).map_err(SessionError::Signals)
    }
}

/// What [`Session::turn`] came back for.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// The process ended.
    Exited(ExitStatus),
    /// The guest's kernel killed for want of memory; how many, and who.
    OutOfMemory(u64, Vec<Victim>),
    /// One of the other descriptors is readable, the first that is.
    Other(usize),
}

/// One process being watched over its channel.
#[derive(Debug)]
pub struct Session {
    /// The channel on which the process was made.
    pub agent: Agent,
    process: ProcessId,
    signals: Option<Signals>,
    /// Whether signals wait.
    held: bool,
    /// What the guest has told while somebody else's turn was first.
    told: Option<Turn>,
}

impl Session {
    /// Watches `process`; without `signals` none are forwarded.
    #[must_use]
    pub fn new(agent: Agent, process: ProcessId, signals: Option<Signals>) -> Self {
        Self { agent, process, signals, held: false, told: None }
    }

    /// While the guest stands still it answers nobody: signals wait then, as they do for a frozen process.
    pub fn hold_signals(&mut self, held: bool) {
        self.held = held;
    }

    /// Tells the guest the terminal's size, where this process's stdin is one.
    ///
    /// # Errors
    /// [`SessionError::Agent`].
    pub fn resize(&mut self) -> Result<(), SessionError> {
        if let Some(size) = terminal::size(io::stdin()) {
            self.tell(Request::Resize { process: self.process, size })?;
        }
        Ok(())
    }

    /// Waits until the process ends or one of `others` can be read; forwards signals meanwhile. A guest that tells without an
    /// end does not keep the others from their turns.
    ///
    /// # Errors
    /// [`SessionError`]; the session is of no use afterwards.
    pub fn turn(&mut self, others: &[BorrowedFd]) -> Result<Turn, SessionError> {
        if let Some(told) = self.told.take() {
            return Ok(told);
        }
        loop {
            while let Some(event) = self.agent.kept_event() {
                if let Some(turn) = self.news(event) {
                    return Ok(turn);
                }
            }
            let (agent, signal, other) = self.wait(others)?;
            if signal {
                self.forward()?;
                // The event that made the channel readable may have come with the answer: nothing is left to read then.
                continue;
            }
            if agent {
                let event = self.agent.event()?;
                match self.news(event) {
                    Some(told @ Turn::OutOfMemory(..)) if other.is_some() => self.told = Some(told),
                    Some(turn) => return Ok(turn),
                    None => {}
                }
            }
            if let Some(which) = other {
                return Ok(Turn::Other(which));
            }
        }
    }

    fn news(&self, event: Event) -> Option<Turn> {
        match event {
            Event::Exited { process, status } => (process == self.process).then_some(Turn::Exited(status)),
            Event::OutOfMemory { kills, victims } => Some(Turn::OutOfMemory(kills, victims)),
        }
    }

    fn wait(&self, others: &[BorrowedFd]) -> Result<(bool, bool, Option<usize>), SessionError> {
        let signals = self.signals.as_ref().filter(|_| !self.held);
        let mut fds = vec![PollFd::new(self.agent.as_fd(), PollFlags::POLLIN)];
        fds.extend(others.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)));
        fds.extend(signals.map(|signals| PollFd::new(signals.0.as_fd(), PollFlags::POLLIN)));
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(SessionError::Poll(errno)),
                Ok(_) => {
                    let ready = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
                    let other = (0..others.len()).find(|at| ready(1 + at));
                    return Ok((ready(0), ready(1 + others.len()), other));
                }
            }
        }
    }

    fn forward(&mut self) -> Result<(), SessionError> {
        while let Some(signals) = &self.signals
            && let Some(info) = signals.0.read_signal().map_err(SessionError::Signals)?
        {
            let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
            if signal == Signal::SIGWINCH as i32 {
                self.resize()?;
            } else {
                self.tell(Request::Signal { process: self.process, signal, all: false })?;
            }
        }
        Ok(())
    }

    /// An order whose refusal is no news here: the process may just have ended.
    fn tell(&mut self, request: Request) -> Result<(), SessionError> {
        match self.agent.order(request) {
            Ok(()) | Err(AgentError::Failed(Failure::NoSuchProcess | Failure::WrongState { .. })) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::net::UnixStream,
        thread::{self, JoinHandle},
        time::Duration,
    };

    use msb_agent::protocol::{self, FromAgent, Hello, Reply, ToAgent, VERSION};
    use nix::{
        sys::{pthread::pthread_self, signal::SigmaskHow},
        unistd::gettid,
    };

    use super::*;
    use crate::process::agent::PATIENCE;

    /// An agent that answers `answers` orders and then tells the process's end.
    fn scripted(answers: usize, status: ExitStatus) -> (UnixStream, JoinHandle<Vec<Request>>) {
        let (host, mut guest) = UnixStream::pair().unwrap();
        let thread = thread::spawn(move || {
            protocol::write(&mut guest, &FromAgent::Hello(Hello { version: VERSION })).unwrap();
            let mut asked = Vec::new();
            for number in 0..answers {
                let read = if number == 0 { protocol::read_first } else { protocol::read };
                let ToAgent { id, request } = read(&mut guest).unwrap();
                asked.push(request);
                protocol::write(&mut guest, &FromAgent::Reply { id, result: Ok(Reply::Done) }).unwrap();
            }
            let event = Event::Exited { process: ProcessId(4), status };
            protocol::write(&mut guest, &FromAgent::Event(event)).unwrap();
            asked
        });
        (host, thread)
    }

    #[test]
    fn a_signal_to_this_process_becomes_the_containers() {
        thread::spawn(|| {
            let signals = Signals::block().unwrap();
            let (host, agent) = scripted(1, ExitStatus::Signal(10));
            let mut session =
                Session::new(Agent::greet(host, PATIENCE).unwrap(), ProcessId(4), Some(signals));
            nix::sys::pthread::pthread_kill(pthread_self(), Signal::SIGUSR1).unwrap();
            assert_eq!(session.turn(&[]).unwrap(), Turn::Exited(ExitStatus::Signal(10)));
            let asked = agent.join().unwrap();
            assert_eq!(asked, [Request::Signal { process: ProcessId(4), signal: 10, all: false }]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_guest_that_tells_without_an_end_keeps_nobody_from_a_turn() {
        let (host, mut guest) = UnixStream::pair().unwrap();
        let teller = thread::spawn(move || {
            protocol::write(&mut guest, &FromAgent::Hello(Hello { version: VERSION })).unwrap();
            let event = || Event::OutOfMemory { kills: 1, victims: Vec::new() };
            while protocol::write(&mut guest, &FromAgent::Event(event())).is_ok() {}
        });
        let mut session = Session::new(Agent::greet(host, PATIENCE).unwrap(), ProcessId(4), None);
        let (other, mut asks) = UnixStream::pair().unwrap();
        assert!(matches!(session.turn(&[other.as_fd()]).unwrap(), Turn::OutOfMemory(1, _)));
        io::Write::write_all(&mut asks, b"?").unwrap();
        let turns: Vec<Turn> = (0..20).map(|_| session.turn(&[other.as_fd()]).unwrap()).collect();
        let had = turns.iter().filter(|turn| **turn == Turn::Other(0)).count();
        assert!((9..=10).contains(&had), "each second turn: {turns:?}");
        drop(session);
        teller.join().unwrap();
    }

    #[test]
    fn an_end_that_comes_together_with_a_signal_is_seen() {
        thread::spawn(|| {
            let signals = Signals::block().unwrap();
            let (host, mut guest) = UnixStream::pair().unwrap();
            let mut say = |message| protocol::write(&mut guest, &message).unwrap();
            say(FromAgent::Hello(Hello { version: VERSION }));
            // Both are there before the first wait: the channel's event and the signal.
            say(FromAgent::Event(Event::Exited { process: ProcessId(4), status: ExitStatus::Code(3) }));
            say(FromAgent::Reply { id: 1, result: Err(Failure::NoSuchProcess) });
            nix::sys::pthread::pthread_kill(pthread_self(), Signal::SIGUSR1).unwrap();
            let agent = Agent::greet(host, Duration::from_secs(1)).unwrap();
            let mut session = Session::new(agent, ProcessId(4), Some(signals));
            assert_eq!(session.turn(&[]).unwrap(), Turn::Exited(ExitStatus::Code(3)));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn held_signals_wait_until_they_are_let_go() {
        thread::spawn(|| {
            let signals = Signals::block().unwrap();
            let (host, agent) = scripted(1, ExitStatus::Code(0));
            let mut session =
                Session::new(Agent::greet(host, PATIENCE).unwrap(), ProcessId(4), Some(signals));
            nix::sys::pthread::pthread_kill(pthread_self(), Signal::SIGUSR1).unwrap();
            session.hold_signals(true);
            let (reader, writer) = nix::unistd::pipe().unwrap();
            drop(writer);
            assert_eq!(session.turn(&[reader.as_fd()]).unwrap(), Turn::Other(0));
            session.hold_signals(false);
            assert_eq!(session.turn(&[]).unwrap(), Turn::Exited(ExitStatus::Code(0)));
            let asked = agent.join().unwrap();
            assert_eq!(asked, [Request::Signal { process: ProcessId(4), signal: 10, all: false }]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn memory_that_was_short_is_told_before_the_end() {
        thread::spawn(|| {
            let signals = Signals::block().unwrap();
            let (host, mut guest) = UnixStream::pair().unwrap();
            let mut say = |message| protocol::write(&mut guest, &message).unwrap();
            say(FromAgent::Hello(Hello { version: VERSION }));
            let victims = vec![Victim { pid: 7, name: "hog".into() }];
            say(FromAgent::Event(Event::OutOfMemory { kills: 2, victims: victims.clone() }));
            say(FromAgent::Event(Event::Exited { process: ProcessId(4), status: ExitStatus::Signal(9) }));
            let mut session =
                Session::new(Agent::greet(host, PATIENCE).unwrap(), ProcessId(4), Some(signals));
            assert_eq!(session.turn(&[]).unwrap(), Turn::OutOfMemory(2, victims));
            assert_eq!(session.turn(&[]).unwrap(), Turn::Exited(ExitStatus::Signal(9)));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn another_descriptor_brings_the_turn_back() {
        thread::spawn(|| {
            let signals = Signals::block().unwrap();
            let (host, guest) = UnixStream::pair().unwrap();
            protocol::write(&mut &guest, &FromAgent::Hello(Hello { version: VERSION })).unwrap();
            let mut session =
                Session::new(Agent::greet(host, PATIENCE).unwrap(), ProcessId(4), Some(signals));
            let (reader, writer) = nix::unistd::pipe().unwrap();
            drop(writer);
            assert_eq!(session.turn(&[reader.as_fd()]).unwrap(), Turn::Other(0));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn real_time_signals_stay_free() {
        thread::spawn(|| {
            let _signals = Signals::block().unwrap();
            let mut now = SigSet::empty();
            nix::sys::signal::pthread_sigmask(SigmaskHow::SIG_BLOCK, None, Some(&mut now)).unwrap();
            assert!(now.contains(Signal::SIGTERM) && now.contains(Signal::SIGWINCH));
            assert!(!now.contains(Signal::SIGKILL) && !now.contains(Signal::SIGCHLD));
            let blocked = std::fs::read_to_string(format!("/proc/self/task/{}/status", gettid())).unwrap();
            let mask = blocked.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
            assert_eq!(u64::from_str_radix(mask, 16).unwrap() >> 31, 0, "{mask}");
        })
        .join()
        .unwrap();
    }
}
