//! One interpreter.

use std::{io, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{io::AsyncWriteExt, net::unix::pipe::Sender, sync::oneshot, time::Instant};

use super::{
    Language,
    marker::{Marker, Seen, Word},
};
use crate::{
    sandbox::{Exec, Exit, Failure, Key},
    server::{
        auth::random,
        engine::Engine,
        process::{Lines, Next, Process, Side, buffers, tell},
    },
};

/// One interpreter, with our program in it.
pub(super) struct Interpreter {
    process: Process,
    stdin: Sender,
    /// What came after the end of the last run: of threads and processes that it left behind.
    rest: [Vec<u8>; 2],
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Well, or not.
    Done(bool),
    /// It took too long, and was stopped.
    Interrupted,
    /// It took too long, and could not be stopped.
    Killed,
    /// The code ended its interpreter.
    Left(i64),
    /// Something else did.
    Died(Exit),
}

/// For an interpreter to start, on a machine that is busy.
const START: Duration = Duration::from_secs(60);
/// For an interpreter to heed an interrupt.
const GRACE: Duration = Duration::from_secs(2);
/// For what an interpreter wrote before its end.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Characters of a run's word.
const TOKEN: usize = 32;

#[derive(Serialize)]
struct Run<'run> {
    token: &'run str,
    code: &'run str,
    milliseconds: u64,
}

impl Interpreter {
    /// Begins the first that there is.
    ///
    /// # Errors
    /// As [`Engine::exec`].
    pub(super) async fn begin(
        engine: &Arc<dyn Engine>,
        key: &Key,
        language: Language,
    ) -> Result<Self, Failure> {
        let (programs, flags, driver) = language.programs();
        let mut missing = None;
        for program in programs {
            let exec = Exec::of(&[&[*program], flags, &[driver]].concat());
            let begun = tokio::time::timeout(START, Process::begin(engine, key, exec, true));
            match begun.await.unwrap_or_else(|_| Err(Failure::other("The interpreter did not start in time")))
            {
                Ok(mut process) => {
                    let stdin = process.stdin.take().ok_or_else(|| Failure::other("no stdin"))?;
                    return Ok(Self { process, stdin, rest: [Vec::new(), Vec::new()] });
                }
                Err(failure @ Failure::NoProgram { .. }) => drop(missing.get_or_insert(failure)),
                Err(failure) => return Err(failure),
            }
        }
        Err(missing.unwrap_or_else(|| Failure::other("there is no interpreter")))
    }

    /// Waits until it takes code: its own start is none of the code's time, and an interrupt in the midst of it would end it.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(super) async fn ready(&mut self, lines: &mut Lines) -> io::Result<()> {
        let (_stays, gone) = oneshot::channel();
        // One that ended instead is seen by who runs code.
        self.run("", START, gone, lines).await.map(drop)
    }

    /// Whether it is no more.
    pub(super) fn ended(&mut self) -> bool {
        self.process.ended()
    }

    /// Runs code; interrupted at `limit`, or when `gone` says that nobody waits for it.
    ///
    /// # Errors
    /// That its streams can't be read. It is of no use then.
    pub(super) async fn run(
        &mut self,
        code: &str,
        limit: Duration,
        gone: oneshot::Receiver<()>,
        lines: &mut Lines,
    ) -> io::Result<Outcome> {
        let token = random(TOKEN)?;
        let milliseconds =
            u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).min(u64::from(i32::MAX.unsigned_abs()));
        let mut line = serde_json::to_vec(&Run { token: &token, code, milliseconds })?;
        line.push(b'\n');
        lines.write(Side::Out, &std::mem::take(&mut self.rest[0]));
        lines.write(Side::Err, &std::mem::take(&mut self.rest[1]));
        let running = self.process.running();
        let interrupt = async {
            tokio::select! {
                () = tokio::time::sleep(limit) => {}
                _ = gone => {}
            }
            let told = tell(&running, |running| running.signal(nix::libc::SIGINT));
            let _ = tokio::time::timeout(GRACE, told).await;
            tokio::time::sleep(GRACE).await;
        };
        let began = Instant::now();
        let stdin = &mut self.stdin;
        let send = async {
            // One that ended reads nothing, which is seen below.
            let _ = stdin.write_all(&line).await;
            std::future::pending::<()>().await;
        };
        let done = follow(&mut self.process, &token, &mut self.rest, lines);
        tokio::select! {
            done = done => {
                let late = began.elapsed() >= limit;
                Ok(match done? {
                    Ended::Said(Word { end: Some(code), .. }) => Outcome::Left(code),
                    Ended::Said(word) if word.late || (late && !word.good) => Outcome::Interrupted,
                    Ended::Said(word) => Outcome::Done(word.good),
                    Ended::Died(exit) => Outcome::Died(exit),
                })
            }
            () = interrupt => {
                self.process.kill().await;
                Ok(Outcome::Killed)
            }
            () = send => Ok(Outcome::Killed),
        }
    }
}

enum Ended {
    Said(Word),
    Died(Exit),
}

/// Reads until the end of the run was said on both streams, or there is nobody to say it.
async fn follow(
    process: &mut Process,
    token: &str,
    rest: &mut [Vec<u8>; 2],
    lines: &mut Lines,
) -> io::Result<Ended> {
    let mut marks = [Marker::of(token), Marker::of(token)];
    let mut words = [None, None];
    let mut open = [true; 2];
    let mut buffers = buffers();
    let mut died = None;
    while words.contains(&None) && open != [false; 2] {
        let wanted = [0, 1].map(|at| open[at] && words[at].is_none());
        let next = process.next(&mut buffers, wanted);
        let next = match died {
            None => next.await?,
            Some(_) => match tokio::time::timeout(LAST_WORDS, next).await {
                Ok(next) => next?,
                Err(_) => break,
            },
        };
        let (side, read) = match next {
            Next::Ended(exit) if died.is_none() => {
                died = Some(exit);
                continue;
            }
            Next::Ended(_) => break,
            Next::Read(side, read) => (side, read),
        };
        let at = side as usize;
        if read == 0 {
            open[at] = false;
            continue;
        }
        let Seen { text, end } = marks[at].look(&buffers[at][..read]);
        lines.write(side, &text);
        if let Some((word, after)) = end {
            words[at] = Some(word);
            rest[at] = after;
        }
    }
    match (words, died) {
        ([Some(word), Some(_)], _) => Ok(Ended::Said(word)),
        (_, Some(exit)) => Ok(Ended::Died(exit)),
        (_, None) => Ok(Ended::Died(process.wait().await)),
    }
}
