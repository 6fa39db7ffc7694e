//! Processes that are begun in a sandbox that runs: joined with their caller's descriptors, and waited for by a thread.

use std::{
    fmt, io,
    os::fd::OwnedFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use msb_agent::protocol::{ExitStatus, ProcessId, TerminalSize};
use msb_runtime::{
    bundle::{Process, Spec},
    process::attach::{self, Attached},
    sandbox::control::Control,
    state::{Entry, Record, StateError},
    verbs::{VerbError, exec, pod, resume},
};

use super::{
    Exec, Exit, Failure, InUse, Key, Sandboxes,
    beneath::Beneath,
    bundle,
    failure::not_running,
    stored::{Place, Stored},
    user,
};

/// Of a terminal whose size nobody has told.
const SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };

/// A process in a sandbox. Who drops it leaves it running.
#[derive(Debug)]
pub struct Running {
    control: Control,
    process: ProcessId,
    pid: u32,
    end: Arc<End>,
}

/// The end of a process, and who wants to know of it.
#[derive(Default)]
struct End {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    exit: Option<Exit>,
    tell: Vec<Box<dyn FnOnce(Exit) + Send>>,
}

impl End {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, exit: Exit) {
        let mut seen = self.seen();
        seen.exit = Some(exit);
        let tell = std::mem::take(&mut seen.tell);
        drop(seen);
        self.changed.notify_all();
        tell.into_iter().for_each(|tell| tell(exit));
    }
}

impl fmt::Debug for End {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        to.debug_struct("End").field("exit", &self.seen().exit).finish_non_exhaustive()
    }
}

impl Sandboxes {
    /// Begins a process whose stdin, stdout and stderr these are; `has_input`: whether anything comes from the first.
    ///
    /// # Errors
    /// [`Failure::NotRunning`], [`Failure::NoProgram`], [`Failure::NoSandbox`], or that it can't be begun.
    pub fn begin(
        &self,
        key: &Key,
        wanted: &Exec,
        stdio: [OwnedFd; 3],
        has_input: bool,
        size: Option<TerminalSize>,
    ) -> Result<Running, Failure> {
        let (place, stored) = self.find(key)?;
        let entry = self.reach(&place, &stored)?;
        let in_use = InUse::begin(&place).map_err(Failure::other)?;
        let record = ready(&entry).map_err(|error| not_running(error, key))?;
        let process = process(&place, &stored, wanted)?;
        let mut process = exec::prepare(&entry, &process, has_input)?;
        if wanted.terminal {
            process.terminal = Some(size.unwrap_or(SIZE));
        }
        let guest = pod::guest(&entry, &record);
        let control = Control::of(guest.control.directory());
        let door = |port| guest.control.open(port);
        let created = attach::create(&door, guest.container, process, stdio, None);
        let mut attached = created.map_err(VerbError::from)?;
        let id = attached.process();
        attached.release().map_err(VerbError::from)?;
        Running::watch(control, id, attached, in_use).map_err(Failure::other)
    }
}

/// Nothing but a copy pauses a sandbox: one that is under way is waited for, and after one that was killed it goes on.
fn ready(entry: &Entry) -> Result<Record, VerbError> {
    match exec::ready(entry, false) {
        Err(VerbError::ExecPaused) => {
            go_on(entry)?;
            exec::ready(entry, false)
        }
        ready => ready,
    }
}

/// Who pauses it holds its lock: if it stands still when that can be had, nobody else will resume it.
pub(super) fn go_on(entry: &Entry) -> Result<(), VerbError> {
    match resume::resume(&entry.locked()?) {
        Err(VerbError::State(StateError::NotPaused)) => Ok(()),
        resumed => resumed,
    }
}

/// The sandbox's own process with another command, and what is asked for beside it.
fn process(place: &Place, stored: &Stored, wanted: &Exec) -> Result<Process, Failure> {
    let spec = Spec::load(place.bundle()).map_err(VerbError::from)?;
    let mut process = spec.process().as_oci().clone();
    process.set_args(Some(wanted.args.clone())).set_terminal(Some(wanted.terminal));
    if let Some(workdir) = &wanted.workdir {
        process.set_cwd(workdir.clone());
    }
    let env = process.env_mut().get_or_insert_default();
    if wanted.terminal && !env.iter().any(|variable| variable.starts_with("TERM=")) {
        env.push("TERM=xterm".into());
    }
    if let Some(name) = &wanted.user {
        let root = Beneath::new(&place.root()).map_err(Failure::other)?;
        let user = user::find(&root, name).map_err(|error| Failure::Bad(error.to_string()))?;
        process.user_mut().set_uid(user.uid).set_gid(user.gid).set_additional_gids(Some(user.groups));
        // The home is the user's, where neither the image nor who made the sandbox has said another.
        if bundle::has_users_home(&stored.request, &stored.defaults) {
            let home = format!("HOME={}", user.home.as_deref().unwrap_or("/"));
            put(process.env_mut().get_or_insert_default(), &home);
        }
        if user.uid != 0 {
            // A program of an unprivileged user has none that it did not get from its file.
            if let Some(mut sets) = process.capabilities().clone() {
                sets.set_effective(None).set_permitted(None);
                process.set_capabilities(Some(sets));
            }
        }
    }
    let env = process.env_mut().get_or_insert_default();
    for variable in &wanted.env {
        put(env, variable);
    }
    Ok(Process::check(process).map_err(VerbError::from)?)
}

/// In place of another value of the same name.
fn put(env: &mut Vec<String>, variable: &str) {
    let name = variable.split('=').next();
    env.retain(|old| old.split('=').next() != name);
    env.push(variable.to_owned());
}

impl Running {
    fn watch(control: Control, process: ProcessId, attached: Attached, in_use: InUse) -> io::Result<Self> {
        let (end, pid) = (Arc::<End>::default(), attached.pid());
        let shared = Arc::clone(&end);
        thread::Builder::new().name("exec".into()).stack_size(256 << 10).spawn(move || {
            // Lost with its sandbox, as if it had been killed.
            let exit = match attached.wait(None).unwrap_or(attach::KILLED) {
                ExitStatus::Code(code) => Exit::Code(code.into()),
                ExitStatus::Signal(number) => Exit::Signal(number.into()),
            };
            drop(in_use);
            shared.is(exit);
        })?;
        Ok(Self { control, process, pid, end })
    }

    /// What the sandbox's kernel calls it, for people.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether its end was seen.
    fn ended(&self) -> bool {
        self.end.seen().exit.is_some()
    }

    /// Kills it, and all that came of it; of one that ended by itself, what it left goes on.
    pub fn kill(&self) {
        if !self.ended() {
            // It has ended since, or its sandbox has.
            let _ = self.control.kill_family(self.process);
        }
    }

    /// Sends it a signal; one that ended gets none.
    pub fn signal(&self, number: i32) {
        // It has ended, or its sandbox has.
        let _ = self.control.signal_process(self.process, number);
    }

    /// Tells its terminal how large it is.
    pub fn resize(&self, rows: u16, columns: u16) {
        // As above.
        let _ = self.control.resize(self.process, TerminalSize { rows, columns });
    }

    /// Waits for its end, and for all that it wrote to be written to its descriptors.
    #[must_use]
    pub fn wait(&self) -> Exit {
        let mut seen = self.end.seen();
        loop {
            match seen.exit {
                Some(exit) => return exit,
                None => seen = self.end.changed.wait(seen).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Has its end told, once: by the thread that sees it, or at once where it has ended.
    pub fn at_end(&self, then: Box<dyn FnOnce(Exit) + Send>) {
        let mut seen = self.end.seen();
        match seen.exit {
            Some(exit) => {
                drop(seen);
                then(exit);
            }
            None => seen.tell.push(then),
        }
    }
}
