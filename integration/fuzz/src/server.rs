//! The server, with sandboxes that are names: any request to any of its routes, and any bytes on the stream to an agent. What
//! processes in a sandbox write is the fuzzer's too. The server answers, and goes on.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use msb::name::Name;
use msb::sandbox::{
    Connection, Exec, Exit, Failure, Files, Info, Key, Line, Logs, NamedVolume, Pull, Request, Since, State,
    Stream, Usage,
};
use msb::server::auth::Access;
use msb::server::{Engine, Limits, Running, ServerConfig};

/// A request's first line, but for its version. Those that have a body come first.
pub(crate) const ROUTES: [&str; 24] = [
    "POST /api/v1/rpc",
    "POST /api/v1/rpc",
    "POST /api/v1/rpc",
    "POST /mcp",
    "POST /mcp",
    "POST /v1/sandboxes",
    "POST /v1/sandboxes",
    "POST /v1/sandboxes/default.a/stop",
    "POST /v1/sandboxes/by-name/a/start",
    "DELETE /v1/sandboxes/by-name/a",
    "GET /v1/sandboxes",
    "GET /v1/sandboxes/by-name/a",
    "GET /v1/sandboxes/default.a",
    "GET /v1/sandboxes/default.a/logs",
    "GET /page/logs?sandbox=a&namespace=default",
    "GET /metrics",
    "GET /api/v1/health",
    "GET /",
    "OPTIONS /mcp",
    "GET /v1/sandboxes/default.a/metrics",
    "PATCH /v1/sandboxes/default.a",
    "POST /v1/volumes",
    "GET /v1/volumes",
    "DELETE /v1/volumes/a",
];
/// What a process writes at most.
const OUTPUT: usize = 60_000;
const PATIENCE: Duration = Duration::from_secs(20);
/// How long what has no end is listened to: twice as long as a log has nothing to say.
const ENOUGH: Duration = Duration::from_secs(1);
/// Between two looks at whether the server is done.
const PAUSE: Duration = Duration::from_micros(50);

/// What the next process writes.
static SAID: Mutex<Vec<u8>> = Mutex::new(Vec::new());

pub(crate) fn requests(bytes: &[u8]) {
    let [route, split, rest @ ..] = bytes else { return };
    let (said, rest) = rest.split_at((usize::from(*split) * 4).min(rest.len()));
    say(said);
    let message = match ROUTES.get(usize::from(*route)) {
        Some(route) => {
            let head = format!(
                "{route} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                rest.len()
            );
            [head.as_bytes(), rest].concat()
        }
        // All of it.
        None => rest.to_vec(),
    };
    ask(&message);
}

/// One binary message, then the end.
pub(crate) fn stream(bytes: &[u8]) {
    web_socket("/v1/sandboxes/default.a/agent", bytes, |rest| {
        [frame(Said::Bytes as u8, rest), frame(Said::Close as u8, &[])].concat()
    });
}

/// A page's terminal: messages, each behind its kind and its length; then the end.
pub(crate) fn terminal(bytes: &[u8]) {
    web_socket("/page/terminal", bytes, |mut rest| {
        let mut frames = Vec::new();
        while let [kind, low, high, behind @ ..] = rest {
            let length = usize::from(u16::from_le_bytes([*low, *high])).min(behind.len());
            let (message, behind) = behind.split_at(length);
            frames.extend(frame(*kind, message));
            rest = behind;
        }
        [frames, frame(Said::Close as u8, &[])].concat()
    });
}

/// Kinds of frames (RFC 6455, section 5.2).
#[derive(Clone, Copy)]
pub(crate) enum Said {
    Piece = 0,
    Text = 1,
    Bytes = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// A frame that is whole, masked by zeros. Of the kind, the highest bit says otherwise: that more of its message comes.
fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    let mut frame = vec![kind ^ 0x80];
    // Of a few bytes as those have it that count: others are refused.
    match u8::try_from(length) {
        Ok(few @ ..126) => frame.push(0x80 | few),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(&content[..usize::from(length)]);
    frame
}

fn web_socket(path: &str, bytes: &[u8], frames: fn(&[u8]) -> Vec<u8>) {
    let [split, rest @ ..] = bytes else { return };
    let (said, rest) = rest.split_at((usize::from(*split) * 4).min(rest.len()));
    say(said);
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    ask(&[head.into_bytes(), frames(rest)].concat());
}

fn say(what: &[u8]) {
    *SAID.lock().unwrap_or_else(PoisonError::into_inner) = what[..what.len().min(OUTPUT)].to_vec();
}

/// Sends it, reads the answer, and waits until the server has done with it: a thread of a request that is over, and of which
/// the engine has not been told so, would be a leak to it.
fn ask(message: &[u8]) {
    static SERVER: OnceLock<SocketAddr> = OnceLock::new();
    let server = SERVER.get_or_init(begin);
    let before = Held::now();
    let mut stream = TcpStream::connect(server).expect("the server takes connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a time limit");
    finish(&mut stream, message);
    drop(stream);
    let began = Instant::now();
    loop {
        let held = Held::now();
        if held.threads <= before.threads && held.descriptors <= before.descriptors {
            return;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "of a request that is over it keeps something: {before:?}, {held:?}"
        );
        thread::sleep(PAUSE);
    }
}

/// What this process has.
#[derive(Debug)]
struct Held {
    threads: usize,
    descriptors: usize,
}

impl Held {
    fn now() -> Self {
        let count = |path| std::fs::read_dir(path).expect("this process is there").count();
        Self { threads: count("/proc/self/task"), descriptors: count("/proc/self/fd") }
    }
}

/// Sends it, and reads until the server closes. It sees that nobody writes any more when it has read all; behind a log that is
/// followed, which has no end, another request may wait for ever, and who asked for both goes away.
fn finish(stream: &mut TcpStream, message: &[u8]) {
    if stream.write_all(message).is_ok() && stream.shutdown(std::net::Shutdown::Write).is_ok() {
        let began = Instant::now();
        let mut answer = [0; 4096];
        loop {
            match stream.read(&mut answer) {
                Ok(0) => return,
                Ok(_) if began.elapsed() > ENOUGH => return,
                Ok(_) => {}
                Err(error) => {
                    let late =
                        matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                    assert!(!late, "the server does not answer");
                    return;
                }
            }
        }
    }
}

fn begin() -> SocketAddr {
    let limits =
        Limits { run: Duration::from_millis(500), slow: Duration::from_secs(1), ..Limits::default() };
    let config = ServerConfig {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        access: Access::Everybody,
        limits,
        pull: Pull::IfMissing,
        stop_sandboxes: false,
        log: None,
    };
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let listening = move |address| tell.send(address).expect("somebody waits for it");
        let never = std::future::pending();
        let served = runtime.expect("threads can be had").block_on(msb::server::run(
            Arc::new(Fake),
            config,
            listening,
            never,
        ));
        panic!("the server ended: {served:?}");
    });
    told.recv_timeout(PATIENCE).expect("the server begins")
}

/// Sandboxes that are all there, and run.
struct Fake;

impl Fake {
    fn info(key: &Key) -> Info {
        let (created, started) = (SystemTime::UNIX_EPOCH, Some(SystemTime::UNIX_EPOCH));
        Info {
            key: key.clone(),
            request: Request::of("x"),
            state: State::Running,
            created,
            started,
            up: None,
            ended: None,
            boot: None,
        }
    }

    fn volume(name: Name) -> NamedVolume {
        NamedVolume { name, created: SystemTime::UNIX_EPOCH, changed: SystemTime::UNIX_EPOCH }
    }
}

impl Engine for Fake {
    fn create(&self, key: &Key, _: Request) -> Result<(), Failure> {
        if key.name.as_str() == "a" { Err(Failure::Exists(key.clone())) } else { Ok(()) }
    }

    fn start(&self, _: &Key, _: Option<Request>) -> Result<(), Failure> {
        Ok(())
    }

    fn stop(&self, _: &Key) -> Result<(), Failure> {
        Ok(())
    }

    fn remove(&self, _: &Key) -> Result<(), Failure> {
        Ok(())
    }

    fn list(&self, namespace: Option<&Name>) -> Result<Vec<Info>, Failure> {
        let name = || "a".parse::<Name>().expect("a name");
        let namespace = namespace.cloned().unwrap_or_else(|| Key::of(name()).namespace);
        Ok(vec![Self::info(&Key { namespace, name: name() })])
    }

    fn info(&self, key: &Key) -> Result<Info, Failure> {
        Ok(Self::info(key))
    }

    fn usage(&self, _: &Key) -> Result<Usage, Failure> {
        Ok(Usage { cpu: Some(1.5), memory: Some(1 << 20), disk: Some(5) })
    }

    fn logs(&self, _: &Key, _: Since) -> Result<Logs, Failure> {
        let said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&said).into_owned();
        let line = Line { at: SystemTime::UNIX_EPOCH, stream: Stream::Stdout, text, next: 1 };
        Ok(Logs { lines: vec![line], next: 1 })
    }

    fn rename(&self, key: &Key, _: Name) -> Result<(), Failure> {
        Err(Failure::Runs(key.clone()))
    }

    fn touch(&self, _: &Key) -> Result<(), Failure> {
        Ok(())
    }

    fn connect(&self, _: &Key, port: u16) -> Result<Connection, Failure> {
        if port == 0 {
            return Err(Failure::other("Nobody listens"));
        }
        let (stream, mut theirs) = UnixStream::pair().map_err(Failure::other)?;
        let said = SAID.lock().unwrap_or_else(PoisonError::into_inner).clone();
        theirs.write_all(&said).map_err(Failure::other)?;
        Ok(Connection { stream, in_use: None })
    }

    fn volumes(&self) -> Result<Vec<NamedVolume>, Failure> {
        Ok(vec![Self::volume("a".parse().expect("a name"))])
    }

    fn create_volume(&self, name: Name) -> Result<NamedVolume, Failure> {
        if name.as_str() == "a" { Err(Failure::VolumeExists(name)) } else { Ok(Self::volume(name)) }
    }

    fn remove_volume(&self, name: Name) -> Result<(), Failure> {
        if name.as_str() == "a" { Ok(()) } else { Err(Failure::NoVolume(name)) }
    }

    fn volume_used(&self, name: Name) -> Result<u64, Failure> {
        if name.as_str() == "a" { Ok(5) } else { Err(Failure::NoVolume(name)) }
    }

    /// What is on the disk is not the server's to judge.
    fn volume_files(&self, name: Name) -> Result<Files, Failure> {
        Err(Failure::NoVolume(name))
    }

    fn exec(&self, key: &Key, exec: &Exec, stdio: [OwnedFd; 3]) -> Result<Arc<dyn Running>, Failure> {
        if exec.args.first().is_some_and(|program| program == "none") {
            return Err(Failure::NotRunning(key.clone()));
        }
        let [stdin, stdout, stderr] = stdio;
        let said = SAID.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let code = said.first().copied().unwrap_or(0);
        // Fewer bytes than a pipe or a socket takes: nobody is waited for.
        let _ = File::from(stdout).write_all(&said);
        drop((stdin, stderr));
        Ok(Arc::new(Ended(i32::from(code % 3))))
    }
}

struct Ended(i32);

impl Running for Ended {
    fn signal(&self, _: i32) {}

    fn pid(&self) -> u32 {
        1
    }

    fn kill(&self) {}

    fn resize(&self, _: u16, _: u16) {}

    fn at_end(&self, then: Box<dyn FnOnce(Exit) + Send>) {
        then(Exit::Code(self.0));
    }
}
