//! A process of a sandbox, as the server's requests see it: its streams read and written without a thread each, and its end
//! not waited for longer than its request lives.

mod lines;

use std::{io, os::fd::OwnedFd, sync::Arc, thread};

use nix::{fcntl::OFlag, unistd::pipe2};
use tokio::{
    net::unix::pipe::{Receiver, Sender},
    sync::oneshot::{self, error::TryRecvError},
};

pub(crate) use lines::{Line, Lines, Side};

use super::engine::{Engine, Running};
use crate::sandbox::{Exec, Exit, Failure, Key};

/// How a process ended whose end nobody could see.
const KILLED: Exit = Exit::Signal(nix::libc::SIGKILL);

/// A process that was begun. Who drops it kills it, with all that came of it.
pub(crate) struct Process {
    pub stdin: Option<Sender>,
    pub stdout: Receiver,
    pub stderr: Receiver,
    handle: Handle,
    ended: oneshot::Receiver<Exit>,
    exit: Option<Exit>,
}

/// What can be done to a process by who does not read it.
pub(crate) struct Handle {
    running: Arc<dyn Running>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let running = Arc::clone(&self.running);
        // That waits for the sandbox's answer; here rather than not at all.
        if apart(move || running.kill()).is_err() {
            self.running.kill();
        }
    }
}

impl Process {
    /// Begins it; with `stdin` somebody writes to it, without it reads its end at once.
    ///
    /// # Errors
    /// As [`Engine::exec`].
    pub(crate) async fn begin(
        engine: &Arc<dyn Engine>,
        key: &Key,
        exec: Exec,
        stdin: bool,
    ) -> Result<Self, Failure> {
        let (theirs_in, ours_in) = pipe()?;
        let (ours_out, theirs_out) = pipe()?;
        let (ours_err, theirs_err) = pipe()?;
        let ours_in = stdin.then_some(ours_in);
        let running = blocking({
            let (engine, key) = (Arc::clone(engine), key.clone());
            move || engine.exec(&key, &exec, [theirs_in, theirs_out, theirs_err]).map(Handle::of)
        })
        .await?;
        // No thread of ours waits for it: there may be more processes than those that may block.
        let (tell, ended) = oneshot::channel();
        running.running.at_end(Box::new(move |exit| {
            // Who gave up on it does not want to know.
            let _ = tell.send(exit);
        }));
        Ok(Self {
            stdin: ours_in.map(Sender::from_owned_fd).transpose().map_err(Failure::other)?,
            stdout: Receiver::from_owned_fd(ours_out).map_err(Failure::other)?,
            stderr: Receiver::from_owned_fd(ours_err).map_err(Failure::other)?,
            handle: running,
            ended,
            exit: None,
        })
    }

    /// Kills it, and all that came of it, and returns when they are gone.
    pub(crate) async fn kill(&self) {
        tell(&self.handle.running, |running| running.kill()).await;
    }

    /// Who can do that from elsewhere.
    pub(crate) fn running(&self) -> Arc<dyn Running> {
        Arc::clone(&self.handle.running)
    }

    /// Whether it ended.
    pub(crate) fn ended(&mut self) -> bool {
        if self.exit.is_none() {
            self.exit = match self.ended.try_recv() {
                Ok(exit) => Some(exit),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Closed) => Some(KILLED),
            };
        }
        self.exit.is_some()
    }

    /// Waits for its end. May be given up, and asked again.
    pub(crate) async fn wait(&mut self) -> Exit {
        if self.exit.is_none() {
            self.exit = Some((&mut self.ended).await.unwrap_or(KILLED));
        }
        self.exit.unwrap_or(KILLED)
    }

    /// Waits for what comes next of the streams that are `open`, or for its end, which comes once. What is written before
    /// the end is read before it, as far as it is there. May be given up, and asked again.
    ///
    /// # Errors
    /// That its streams can't be read.
    pub(crate) async fn next(&mut self, buffers: &mut [Vec<u8>; 2], open: [bool; 2]) -> io::Result<Next> {
        let [one, other] = buffers;
        tokio::select! {
            biased;
            read = some(&mut self.stdout, one), if open[0] => Ok(Next::Read(Side::Out, read?)),
            read = some(&mut self.stderr, other), if open[1] => Ok(Next::Read(Side::Err, read?)),
            ended = &mut self.ended, if self.exit.is_none() => {
                Ok(Next::Ended(*self.exit.insert(ended.unwrap_or(KILLED))))
            }
            else => Ok(Next::Ended(self.exit.unwrap_or(KILLED))),
        }
    }
}

/// What a process did next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It wrote so many bytes; none: it never writes there again.
    Read(Side, usize),
    /// It ended.
    Ended(Exit),
}

/// Room for what it writes next.
pub(crate) fn buffers() -> [Vec<u8>; 2] {
    [vec![0; 16 << 10], vec![0; 16 << 10]]
}

impl Handle {
    fn of(running: Arc<dyn Running>) -> Self {
        Self { running }
    }
}

/// What can be read now, or the end.
async fn some(from: &mut Receiver, into: &mut [u8]) -> io::Result<usize> {
    loop {
        from.readable().await?;
        match from.try_read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

/// Tells a process something, and returns when it was told: that waits for the sandbox's answer, where it may.
pub(crate) async fn tell(
    running: &Arc<dyn Running>,
    what: impl FnOnce(&dyn Running) + Copy + Send + 'static,
) {
    let (done, told) = oneshot::channel();
    let there = Arc::clone(running);
    let begun = apart(move || {
        what(there.as_ref());
        // Who asked may have gone.
        let _ = done.send(());
    });
    match begun {
        Ok(()) => drop(told.await),
        // Rather than not at all.
        Err(_) => what(running.as_ref()),
    }
}

/// Runs what blocks where it may.
///
/// # Errors
/// Its own.
pub(crate) async fn blocking<T: Send + 'static>(
    what: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (done, told) = oneshot::channel();
    apart(move || {
        // Who asked may have gone.
        let _ = done.send(what());
    })
    .map_err(|error| Failure::other(NoThread(error)))?;
    told.await.map_err(Failure::other)?
}

/// The executor's own pool is not asked: without a thread left it lets the work lie, or ends the whole server.
fn apart(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("request".into()).spawn(work).map(drop)
}

/// The system has none left.
#[derive(Debug, thiserror::Error)]
#[error("No thread can be started: raise the limits of processes (pids.max, ulimit -u) or end others")]
struct NoThread(#[source] io::Error);

fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    pipe2(OFlag::O_CLOEXEC).map_err(|errno| Failure::other(io::Error::from(errno)))
}
