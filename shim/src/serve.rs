//! The server of one task, from its socket to its end.

use std::{
    collections::HashMap,
    env,
    fs::{self, File},
    io::{self, ErrorKind, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use containerd_shim_protos::{
    sandbox_async::create_sandbox,
    shim_async::create_task,
    ttrpc::asynchronous::{Server, Service as Methods, transport::Listener},
};
use msb_runtime::host::{fds, inherited};
use nix::{
    sys::signal::{SigSet, Signal},
    unistd::{dup2_stdout, setsid},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::Notify,
};

use crate::{
    address, apart::apart, events::Events, flags::Flags, log::Log, pod::PodService, service::Service,
    task::Shim,
};

/// What is printed once it listens; anything else is why it does not.
pub const READY: &str = "ready\n";

/// Where containerd takes events, in the environment.
const EVENTS: &str = "TTRPC_ADDRESS";

/// The file with the host's settings for a pod's sandbox, in the environment that `start` makes.
pub const SETTINGS: &str = "MSB_SHIM_SETTINGS";

/// How long answers may take to be sent before the end.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// How long events may take to be told before the end.
const LAST_EVENTS: Duration = Duration::from_secs(10);

/// Serves until containerd does not need it any more.
pub fn serve(flags: &Flags) -> anyhow::Result<()> {
    let (listener, log, runtime) = match begin(flags) {
        Ok(begun) => begun,
        Err(error) => {
            // Whoever waits for the word prints it.
            print!("{}", msb_runtime::verbs::words::chain(error.as_ref()));
            return Err(error);
        }
    };
    let served = runtime.block_on(run(flags, listener, log));
    if served.is_err() {
        address::forget(&address::socket(flags));
    }
    // What still waits, such as a thread that nobody answers, must not keep it.
    runtime.shutdown_background();
    served
}

/// Listens, and lets `start` know.
fn begin(flags: &Flags) -> anyhow::Result<(UnixListener, Log, Runtime)> {
    fds::forget_inherited()
        .context("Inherited descriptors can't be closed: a kernel from 5.11 on is needed")?;
    // It ends with its task. Children get no mask from this: the standard library clears it.
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().context("Signals can't be blocked")?;
    // Not in the session of containerd's service; it may lead one already, which is as good.
    let _ = setsid();
    expendable();
    let bundle = env::current_dir().context("The bundle is not there")?;
    let log = Log::open(&bundle, flags.debug);
    let runtime = Builder::new_current_thread().enable_all().build().context("No runtime can be had")?;
    let listener = listen(&address::socket(flags))?;
    let mut stdout = io::stdout();
    stdout.write_all(READY.as_bytes()).and_then(|()| stdout.flush()).context("Nobody waits for the shim")?;
    let null = File::options().write(true).open("/dev/null").context("/dev/null can't be opened")?;
    dup2_stdout(null).context("stdout can't be closed")?;
    Ok((listener, log, runtime))
}

/// The host shall end it rather than containerd, whose score it has (proc_pid_oom_score_adj(5)): one more, as with runc's shim.
fn expendable() {
    const FILE: &str = "/proc/self/oom_score_adj";
    const MOST: i32 = 1000;
    if let Some(score) = inherited::oom_score_adj().filter(|score| *score < MOST) {
        // It is no reason not to serve.
        let _ = fs::write(FILE, (score + 1).to_string());
    }
}

/// A socket that nobody serves is left by a shim that was killed.
fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("{} can't be made", parent.display()))?;
    }
    let failed = || format!("The shim can't listen at {}", path.display());
    match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                bail!("This task has a shim already, at {}", path.display());
            }
            fs::remove_file(path).with_context(failed)?;
            UnixListener::bind(path).with_context(failed)
        }
        bound => bound.with_context(failed),
    }
}

/// The task service by the names of both its versions, whose messages are the same on the wire: which one is used is in the
/// answer of `start`. And the sandbox service.
fn services(service: &Arc<Service>, pods: PodService) -> HashMap<String, Methods> {
    let mut services = create_task(Arc::clone(service) as _);
    services.extend(create_sandbox(Arc::new(pods)));
    services.extend(
        create_task(Arc::clone(service) as _)
            .into_iter()
            .map(|(name, methods)| (name.replace("task.v2", "task.v3"), methods)),
    );
    services
}

async fn run(flags: &Flags, listener: UnixListener, log: Log) -> anyhow::Result<()> {
    let containerd = env::var(EVENTS).unwrap_or_else(|_| format!("{}.ttrpc", flags.address));
    let events = Events::to(containerd, flags.namespace.clone(), log.clone());
    let root: PathBuf = address::state(flags);
    let runtime = tokio::runtime::Handle::current();
    let shim = Arc::new(Shim::new(root, flags.namespace.clone(), events, log, runtime));
    let over = Arc::new(Notify::new());
    // Before anybody can ask.
    let (taking, id) = (Arc::clone(&shim), flags.id.clone());
    let taken = apart(move || {
        taking.take_over(&id);
        Ok(())
    });
    taken.await.context("What was left can't be taken over")?;
    let socket = address::socket(flags);
    let service = Arc::new(Service { shim: Arc::clone(&shim), over: Arc::clone(&over), socket });
    let settings = env::var_os(SETTINGS).map(PathBuf::from);
    let pods = PodService { tasks: Arc::clone(&service), settings };
    let listener = Listener::try_from(listener).context("The shim can't listen")?;
    let mut server = Server::new().add_listener(listener).register_service(services(&service, pods));
    server.start().await.context("The shim can't serve")?;
    over.notified().await;
    let _ = tokio::time::timeout(LAST_EVENTS, shim.events.flush()).await;
    tokio::time::sleep(LAST_ANSWERS).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::{
        api::{ConnectRequest, ConnectResponse},
        protobuf::Message,
        sandbox_api::PingRequest,
        ttrpc::{asynchronous::Client, proto::Request},
    };

    use super::*;

    #[test]
    fn both_versions_of_the_task_service_are_served() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(asked_by_both());
    }

    async fn asked_by_both() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = Listener::try_from(listen(&path).unwrap()).unwrap();
        let log = Log::open(dir.path(), false);
        let events = Events::to("/nowhere".into(), "test".into(), log.clone());
        let runtime = tokio::runtime::Handle::current();
        let shim = Arc::new(Shim::new(dir.path().to_owned(), "test".into(), events, log, runtime));
        let service = Arc::new(Service { shim, over: Arc::new(Notify::new()), socket: path.clone() });
        let pods = PodService { tasks: Arc::clone(&service), settings: None };
        let mut server = Server::new().add_listener(listener).register_service(services(&service, pods));
        server.start().await.unwrap();
        let client = Client::connect(&format!("unix://{}", path.display())).await.unwrap();
        for version in ["v2", "v3"] {
            let payload = ConnectRequest { id: "a".into(), ..ConnectRequest::default() };
            let answer = client.request(Request {
                service: format!("containerd.task.{version}.Task"),
                method: "Connect".into(),
                payload: payload.write_to_bytes().unwrap(),
                timeout_nano: 5_000_000_000,
                ..Request::default()
            });
            let answer = ConnectResponse::parse_from_bytes(&answer.await.unwrap().payload).unwrap();
            assert_eq!(answer.shim_pid, std::process::id(), "{version}");
        }
        let payload = PingRequest { sandbox_id: "a".into(), ..PingRequest::default() };
        let asked = client.request(Request {
            service: "containerd.runtime.sandbox.v1.Sandbox".into(),
            method: "PingSandbox".into(),
            payload: payload.write_to_bytes().unwrap(),
            timeout_nano: 5_000_000_000,
            ..Request::default()
        });
        let refused = asked.await.unwrap_err().to_string();
        assert!(refused.contains("sandbox a not found"), "{refused}");
        let asked = client.request(Request {
            service: "containerd.task.v2.Task".into(),
            method: "Shutdown".into(),
            timeout_nano: 5_000_000_000,
            ..Request::default()
        });
        asked.await.unwrap();
        assert!(!path.exists(), "the next shim of the same task would be taken for this one");
    }

    #[test]
    fn a_socket_that_was_left_is_used_and_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s/socket");
        drop(listen(&path).unwrap());
        let _served = listen(&path).unwrap();
        assert!(listen(&path).unwrap_err().to_string().contains("already"));
    }
}
