//! An engine for tests of the server: its sandboxes are names, and what runs in them runs on this machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    net::{Shutdown, TcpStream},
    os::{
        fd::OwnedFd,
        unix::{
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use msb::{
    name::Name,
    sandbox::{
        Boot, Connection, Exec, Exit, Failure, Files, Info, Key, Line, Logs, NamedVolume, Request, Since,
        State, Stream, Usage,
    },
    server::{Engine, Running},
};
use nix::{
    pty::{Winsize, openpty},
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

/// Sandboxes that are names.
#[derive(Default)]
pub struct Local {
    pub sandboxes: Mutex<BTreeMap<Key, Info>>,
    pub volumes: Mutex<BTreeMap<Name, NamedVolume>>,
    /// How many processes were begun.
    pub begun: AtomicUsize,
    /// How often one was to be made: what asks a registry for its image.
    pub made: AtomicUsize,
    /// Those that somebody changes at this moment.
    pub changing: Mutex<BTreeSet<Key>>,
    files: OnceLock<tempfile::TempDir>,
}

/// A sandbox that is changed: by one at a time, as a true engine needs it.
struct Changing<'engine>(&'engine Local, Key);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.changing.lock().unwrap().remove(&self.1);
    }
}

impl Local {
    fn changing(&self, key: &Key) -> Result<Changing<'_>, Failure> {
        if self.changing.lock().unwrap().insert(key.clone()) {
            Ok(Changing(self, key.clone()))
        } else {
            Err(Failure::other(format!("{key} is changed by two at once")))
        }
    }

    fn with<T>(&self, key: &Key, what: impl FnOnce(&mut Info) -> T) -> Result<T, Failure> {
        let mut all = self.sandboxes.lock().unwrap();
        if !all.keys().any(|other| other.namespace == key.namespace) {
            return Err(Failure::NoNamespace(key.namespace.clone()));
        }
        all.get_mut(key).map(what).ok_or_else(|| Failure::NoSandbox(key.clone()))
    }
}

impl Engine for Local {
    fn create(&self, key: &Key, request: Request) -> Result<(), Failure> {
        self.made.fetch_add(1, Ordering::Relaxed);
        let mut all = self.sandboxes.lock().unwrap();
        if all.contains_key(key) {
            return Err(Failure::Exists(key.clone()));
        }
        let info = Info {
            key: key.clone(),
            request,
            state: State::Created,
            created: SystemTime::now(),
            started: None,
            up: None,
            ended: None,
            boot: None,
        };
        all.insert(key.clone(), info);
        Ok(())
    }

    fn start(&self, key: &Key, request: Option<Request>) -> Result<(), Failure> {
        let _changing = self.changing(key)?;
        if let Some(request) = request {
            if request.image == "missing" {
                return Err(Failure::other("There is no image missing"));
            }
            if request.image == "slow" && !self.with(key, |info| info.running()).unwrap_or_default() {
                thread::sleep(Duration::from_secs(3));
            }
            match self.create(key, request.clone()) {
                Ok(()) | Err(Failure::Exists(_)) => self.with(key, |info| info.request = request)?,
                Err(failure) => return Err(failure),
            }
        }
        if self.with(key, |info| info.request.image == "slow-bad")? {
            thread::sleep(Duration::from_secs(2));
            return Err(Failure::other("It does not start"));
        }
        self.with(key, |info| {
            info.state = State::Running;
            info.started = Some(SystemTime::now());
            info.boot = Some(Boot { kernel: Duration::from_millis(80), agent: Duration::from_millis(20) });
        })
    }

    fn stop(&self, key: &Key) -> Result<(), Failure> {
        let _changing = self.changing(key)?;
        if self.with(key, |info| info.running() && info.request.image == "stubborn")? {
            thread::sleep(Duration::from_secs(2));
        }
        self.with(key, |info| {
            info.state = State::Stopped(Some(Exit::Signal(15)));
            info.ended = Some(SystemTime::now());
        })
    }

    fn remove(&self, key: &Key) -> Result<(), Failure> {
        let _changing = self.changing(key)?;
        self.with(key, |_| ())?;
        self.sandboxes.lock().unwrap().remove(key);
        Ok(())
    }

    fn list(&self, namespace: Option<&Name>) -> Result<Vec<Info>, Failure> {
        let all = self.sandboxes.lock().unwrap();
        let found: Vec<Info> = all
            .values()
            .filter(|info| namespace.is_none_or(|namespace| info.key.namespace == *namespace))
            .cloned()
            .collect();
        match namespace {
            Some(namespace) if found.is_empty() && namespace.as_str() != "default" => {
                Err(Failure::NoNamespace(namespace.clone()))
            }
            _ => Ok(found),
        }
    }

    fn info(&self, key: &Key) -> Result<Info, Failure> {
        self.with(key, |info| info.clone())
    }

    fn usage(&self, key: &Key) -> Result<Usage, Failure> {
        self.with(key, |info| {
            let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
            if info.running() {
                Usage {
                    cpu: Some(50.0 + 40.0 * since.as_secs_f64().sin()),
                    memory: Some((96 << 20) + (since.as_secs() % 30) * (1 << 20)),
                    disk: Some(5 << 20),
                }
            } else {
                Usage { disk: Some(5 << 20), ..Usage::default() }
            }
        })
    }

    fn logs(&self, key: &Key, since: Since) -> Result<Logs, Failure> {
        self.with(key, |info| {
            let lines: Vec<Line> = (1..=5)
                .map(|number| Line {
                    at: info.created,
                    stream: if number == 4 { Stream::Stderr } else { Stream::Stdout },
                    text: format!("line {number} of <b>{}</b>", info.key.name),
                    next: number,
                })
                .collect();
            let from = match since {
                Since::Beginning => 0,
                Since::Last(count) => 5 - count.min(5),
                Since::After(next) => usize::try_from(next).unwrap().min(5),
            };
            Logs { lines: lines[from..].to_vec(), next: 5 }
        })
    }

    fn rename(&self, key: &Key, name: Name) -> Result<(), Failure> {
        let _changing = self.changing(key)?;
        let wanted = Key { name, ..key.clone() };
        if self.with(key, |info| info.running())? {
            return Err(Failure::Runs(key.clone()));
        }
        let mut all = self.sandboxes.lock().unwrap();
        if all.contains_key(&wanted) {
            return Err(Failure::Exists(wanted));
        }
        let info = all.remove(key).unwrap();
        all.insert(wanted.clone(), Info { key: wanted, ..info });
        Ok(())
    }

    fn touch(&self, key: &Key) -> Result<(), Failure> {
        self.with(key, |_| ())
    }

    /// To a port of this machine, by way of a thread for each direction.
    fn connect(&self, key: &Key, port: u16) -> Result<Connection, Failure> {
        self.with(key, |_| ())?;
        let served = TcpStream::connect(("127.0.0.1", port)).map_err(Failure::other)?;
        let (stream, theirs) = UnixStream::pair().unwrap();
        let (mut from, mut to) = (served.try_clone().unwrap(), theirs.try_clone().unwrap());
        thread::spawn(move || {
            io::copy(&mut from, &mut to).unwrap();
            to.shutdown(Shutdown::Write).unwrap();
        });
        thread::spawn(move || {
            io::copy(&mut &theirs, &mut &served).unwrap();
            served.shutdown(Shutdown::Write).unwrap();
        });
        Ok(Connection { stream, in_use: None })
    }

    fn volumes(&self) -> Result<Vec<NamedVolume>, Failure> {
        Ok(self.volumes.lock().unwrap().values().cloned().collect())
    }

    fn create_volume(&self, name: Name) -> Result<NamedVolume, Failure> {
        let mut all = self.volumes.lock().unwrap();
        if all.contains_key(&name) {
            return Err(Failure::VolumeExists(name));
        }
        let now = SystemTime::now();
        let made = NamedVolume { name: name.clone(), created: now, changed: now };
        all.insert(name, made.clone());
        Ok(made)
    }

    fn remove_volume(&self, name: Name) -> Result<(), Failure> {
        let removed = self.volumes.lock().unwrap().remove(&name);
        removed.map(drop).ok_or(Failure::NoVolume(name))
    }

    fn volume_used(&self, name: Name) -> Result<u64, Failure> {
        self.volume_files(name).map(|_| 4096)
    }

    fn volume_files(&self, name: Name) -> Result<Files, Failure> {
        if !self.volumes.lock().unwrap().contains_key(&name) {
            return Err(Failure::NoVolume(name));
        }
        let directory = self.files.get_or_init(|| tempfile::tempdir().unwrap()).path().join(name.as_str());
        std::fs::create_dir_all(&directory).map_err(Failure::other)?;
        Files::of(&directory).map_err(Failure::other)
    }

    fn exec(&self, key: &Key, exec: &Exec, stdio: [OwnedFd; 3]) -> Result<Arc<dyn Running>, Failure> {
        if !self.with(key, |info| info.running())? {
            return Err(Failure::NotRunning(key.clone()));
        }
        let mut command = Command::new(&exec.args[0]);
        command.args(&exec.args[1..]);
        for env in &exec.env {
            let (name, value) = env.split_once('=').unwrap();
            command.env(name, value);
        }
        if let Some(workdir) = &exec.workdir {
            command.current_dir(workdir);
        }
        let [stdin, stdout, stderr] = stdio;
        let mut terminal = None;
        if exec.terminal {
            let pty = openpty(&Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }, None).unwrap();
            let mut with = Command::new("setsid");
            with.args(["-c", "-w"]).args(&exec.args).env("TERM", "xterm-256color").process_group(0);
            command = with;
            let slave = || Stdio::from(pty.slave.try_clone().unwrap());
            command.stdin(slave()).stdout(slave()).stderr(slave());
            let master = Arc::new(File::from(pty.master));
            terminal = Some((master, stdin, stdout));
        } else {
            command.stdin(stdin).stdout(stdout).stderr(stderr).process_group(0);
        }
        let child = command.spawn().map_err(|error| Failure::NoProgram {
            program: exec.args[0].clone(),
            reason: error.to_string(),
        })?;
        drop(command);
        let process = Arc::new(Process {
            pid: Pid::from_raw(child.id().cast_signed()),
            end: Mutex::default(),
            terminal: terminal.as_ref().map(|(master, ..)| Arc::clone(master)),
        });
        self.begun.fetch_add(1, Ordering::Relaxed);
        let waited = Arc::clone(&process);
        thread::spawn(move || {
            let mut child = child;
            let relay = terminal.map(|(master, stdin, stdout)| {
                let (mut from, to) = (File::from(stdin), Arc::clone(&master));
                thread::spawn(move || drop(io::copy(&mut from, &mut to.as_ref())));
                thread::spawn(move || drop(io::copy(&mut master.as_ref(), &mut File::from(stdout))))
            });
            let status = child.wait().unwrap();
            if let Some(relay) = relay {
                relay.join().unwrap();
            }
            let exit = status.code().map_or_else(|| Exit::Signal(status.signal().unwrap()), Exit::Code);
            let mut end = waited.end.lock().unwrap();
            end.0 = Some(exit);
            for then in std::mem::take(&mut end.1) {
                then(exit);
            }
        });
        Ok(process)
    }
}

type Then = Box<dyn FnOnce(Exit) + Send>;

struct Process {
    pid: Pid,
    end: Mutex<(Option<Exit>, Vec<Then>)>,
    terminal: Option<Arc<File>>,
}

impl Running for Process {
    fn signal(&self, number: i32) {
        if self.end.lock().unwrap().0.is_none() {
            let _ = kill(self.pid, Signal::try_from(number).unwrap());
        }
    }

    fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    fn kill(&self) {
        if self.end.lock().unwrap().0.is_none() {
            let _ = killpg(self.pid, Signal::SIGKILL);
        }
    }

    fn resize(&self, rows: u16, columns: u16) {
        if let Some(terminal) = &self.terminal {
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            rustix::termios::tcsetwinsize(terminal.as_ref(), size).unwrap();
        }
    }

    fn at_end(&self, then: Then) {
        let mut end = self.end.lock().unwrap();
        match end.0 {
            Some(exit) => then(exit),
            None => end.1.push(then),
        }
    }
}
