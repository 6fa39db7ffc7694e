//! A sandbox without a machine, and the host's half of the protocol.
//!
//! With `MSB_AGENT_TEST_KERNEL` and `MSB_AGENT_TEST_INITRAMFS` set it is one with a machine after all: QEMU's microvm, vhost-vsock
//! and socat, which proves the agent as pid 1 without our VMM. Then run the tests one at a time.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use msb_agent::protocol::{
    self, Capabilities, Container, DeviceAccess, DeviceRule, Event, ExitStatus, Failure, FromAgent,
    GuestLimits, Hello, Layer, Mount, MountSource, Namespace, Process, ProcessId, Reply, Request, Root,
    RootSource, Stream, StreamHello, ToAgent, User, UserMap, VERSION,
};

/// No message takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
const KERNEL: &str = "MSB_AGENT_TEST_KERNEL";
const INITRAMFS: &str = "MSB_AGENT_TEST_INITRAMFS";
/// Context id of a test's machine: there is one at a time.
const CID: &str = "77";
const APPLETS: &[&str] = &[
    "cat",
    "echo",
    "false",
    "grep",
    "head",
    "id",
    "ls",
    "cut",
    "mknod",
    "umount",
    "uname",
    "mkdir",
    "mount",
    "ps",
    "readlink",
    "rm",
    "sh",
    "sha256sum",
    "sleep",
    "stat",
    "stty",
    "touch",
    "true",
    "tty",
    "umask",
    "wc",
    "yes",
    "dd",
    "hostname",
    "env",
    "pwd",
    "kill",
];
/// Moves itself into a cgroup of its own and starts the agent in new namespaces: arguments are directory, name, agent.
const START: &str = r#"
set -e
mkdir "$1/cgroup"; mount -t cgroup2 cgroup2 "$1/cgroup"; mkdir "$1/cgroup/$2"; echo $$ > "$1/cgroup/$2/cgroup.procs"
umount "$1/cgroup"; exec unshare -C -m -p -f -u -i -n --kill-child "$3" --unix "$1"
"#;

/// Why a sandbox can't be had here; `None`: it can.
pub fn missing() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root");
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("no loop devices");
    }
    ["busybox", "mkfs.erofs", "mkfs.ext4", "losetup", "unshare"].into_iter().find(|tool| {
        !["/bin", "/usr/bin", "/sbin", "/usr/sbin"].iter().any(|at| Path::new(at).join(tool).exists())
    })
}

/// Runs the rest of a test only where a sandbox can be had.
macro_rules! sandbox {
    () => {
        match crate::harness::missing() {
            None => crate::harness::Sandbox::new(),
            Some(reason) => return test_skips::skip(reason),
        }
    };
}
pub(crate) use sandbox;

/// As for a privileged container.
pub const ALLOW_ALL: DeviceRule =
    DeviceRule { allow: true, kind: None, major: None, minor: None, access: DeviceAccess::ALL };

pub struct Channel {
    stream: UnixStream,
    last: u32,
    /// Told and not asked for yet.
    pub events: Vec<Event>,
}

impl Channel {
    fn greet(mut stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let hello: FromAgent = protocol::read(&mut stream).unwrap();
        assert_eq!(hello, FromAgent::Hello(Hello { version: VERSION }));
        Self { stream, last: 0, events: Vec::new() }
    }

    pub fn call(&mut self, request: Request) -> Result<Reply, Failure> {
        self.last += 1;
        let write = if self.last == 1 { protocol::write_first } else { protocol::write };
        write(&mut self.stream, &ToAgent { id: self.last, request }).unwrap();
        loop {
            match protocol::read(&mut self.stream).unwrap() {
                FromAgent::Reply { id, result } => {
                    assert_eq!(id, self.last);
                    return result;
                }
                FromAgent::Event(event) => self.events.push(event),
                FromAgent::Hello(_) => panic!("a second hello"),
            }
        }
    }

    pub fn created(&mut self, request: Request) -> ProcessId {
        match self.call(request).unwrap() {
            Reply::Created { process, .. } => process,
            other => panic!("{other:?}"),
        }
    }

    pub fn exited(&mut self, awaited: ProcessId) -> ExitStatus {
        loop {
            let ended = self.events.iter().enumerate().find_map(|(at, event)| match event {
                Event::Exited { process, status } if *process == awaited => Some((at, *status)),
                _ => None,
            });
            if let Some((at, status)) = ended {
                self.events.remove(at);
                return status;
            }
            match protocol::read(&mut self.stream).unwrap() {
                FromAgent::Event(event) => self.events.push(event),
                other => panic!("{other:?}"),
            }
        }
    }
}

pub struct Sandbox {
    pub boot: Channel,
    directory: tempfile::TempDir,
    name: String,
    agent: Child,
    helpers: Vec<Child>,
    disks: [String; 2],
}

/// What a process said and how it ended.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Sandbox {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// With an image that `change` has had a hand in.
    pub fn with(change: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let image = path.join("image");
        make_image(&image);
        change(&image);
        tool(Command::new("mkfs.erofs").arg("-Enoinline_data").arg(path.join("lower")).arg(&image));
        fs::File::create(path.join("upper")).unwrap().set_len(64 << 20).unwrap();
        tool(Command::new("mkfs.ext4").arg("-q").arg(path.join("upper")));
        let listener = UnixListener::bind(path.join("host")).unwrap();
        let name = format!("msb-agent-test-{}", path.file_name().unwrap().to_str().unwrap().replace('.', ""));
        let (agent, helpers, disks) = match (env::var_os(KERNEL), env::var_os(INITRAMFS)) {
            (Some(kernel), Some(initramfs)) => machine(path, &kernel, &initramfs),
            _ => ordinary(path, &name),
        };
        let (stream, _) = listener.accept().unwrap();
        Self { boot: Channel::greet(stream), directory, name, agent, helpers, disks }
    }

    /// A container as Docker would ask for it, running `args`.
    pub fn container(&self, args: &[&str]) -> Container {
        Container {
            root: Root {
                source: RootSource::Disks {
                    layers: vec![Layer { device: self.disks[0].clone(), filesystem: "erofs".into() }],
                    scratch: self.disks[1].clone(),
                },
                readonly: false,
            },
            hostname: Some("inside".into()),
            domainname: None,
            namespaces: vec![Namespace::Pid, Namespace::Ipc, Namespace::Uts, Namespace::Cgroup],
            joined: Vec::new(),
            mounts: vec![
                kernel("/proc", "proc", &["nosuid", "noexec", "nodev"]),
                kernel("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
                kernel(
                    "/dev/pts",
                    "devpts",
                    &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
                ),
                kernel("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
                kernel("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
                kernel("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
                kernel("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
            ],
            user_map: UserMap::default(),
            time_offsets: Vec::new(),
            propagation: None,
            personality: None,
            devices: Vec::new(),
            all_devices: false,
            device_rules: vec![ALLOW_ALL],
            sysctls: Vec::new(),
            masked_paths: vec![
                "/proc/kcore".into(),
                "/proc/keys".into(),
                "/sys/firmware".into(),
                "/nothing".into(),
            ],
            readonly_paths: vec!["/proc/sys".into(), "/proc/sysrq-trigger".into(), "/nothing".into()],
            limits: GuestLimits::default(),
            start_hooks: protocol::StartHooks::default(),
            init: process(args),
        }
    }

    /// One more channel.
    pub fn channel(&self) -> Channel {
        Channel::greet(self.connect("1024"))
    }

    pub fn stream(&self, process: ProcessId, stream: Stream) -> UnixStream {
        let mut connection = self.connect("1025");
        protocol::write_first(&mut connection, &StreamHello::Stdio { process, stream }).unwrap();
        connection
    }

    /// Reads a stream to its end on a thread.
    pub fn collect(&self, process: ProcessId, stream: Stream) -> JoinHandle<Vec<u8>> {
        let mut connection = self.stream(process, stream);
        thread::spawn(move || {
            let mut bytes = Vec::new();
            connection.read_to_end(&mut bytes).unwrap();
            bytes
        })
    }

    /// From create to the exit.
    pub fn run(&mut self, container: Container) -> Outcome {
        let process = self.boot.created(Request::Create(Box::new(container)));
        let (stdout, stderr) = (self.collect(process, Stream::Stdout), self.collect(process, Stream::Stderr));
        assert_eq!(self.boot.call(Request::Start), Ok(Reply::Done));
        let status = self.boot.exited(process);
        Outcome { status, stdout: text(stdout), stderr: text(stderr) }
    }

    /// A container whose first process just waits.
    pub fn idle(&mut self) -> ProcessId {
        let container = self.container(&["sleep", "1000"]);
        let process = self.boot.created(Request::Create(Box::new(container)));
        drop((self.collect(process, Stream::Stdout), self.collect(process, Stream::Stderr)));
        assert_eq!(self.boot.call(Request::Start), Ok(Reply::Done));
        process
    }

    fn connect(&self, port: &str) -> UnixStream {
        UnixStream::connect(self.directory.path().join(port)).unwrap()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.boot.stream.shutdown(Shutdown::Both);
        let deadline = Instant::now() + PATIENCE;
        let mut ended = false;
        while !ended && Instant::now() < deadline {
            ended = self.agent.try_wait().is_ok_and(|status| status.is_some());
            thread::sleep(Duration::from_millis(10));
        }
        if !ended {
            let _ = self.agent.kill();
            let _ = self.agent.wait();
        }
        for helper in &mut self.helpers {
            let _ = helper.kill();
            let _ = helper.wait();
        }
        for device in self.disks.iter().filter(|device| device.starts_with("/dev/loop")) {
            let _ = Command::new("losetup").args(["-d", device]).status();
        }
        remove_cgroup(self.directory.path(), &self.name);
        assert!(ended || thread::panicking(), "the agent does not end with its boot channel");
    }
}

/// `NAME=value` and the rest as Docker has it.
pub fn process(args: &[&str]) -> Process {
    let sets = ["CAP_CHOWN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
        .map(String::from)
        .to_vec();
    Process {
        args: args.iter().map(ToString::to_string).collect(),
        env: vec!["PATH=/usr/bin:/bin".into()],
        cwd: "/".into(),
        user: User { uid: 0, gid: 0, additional_gids: Vec::new(), umask: None },
        capabilities: Some(Capabilities {
            bounding: sets.clone(),
            effective: sets.clone(),
            permitted: sets,
            ..Capabilities::default()
        }),
        rlimits: Vec::new(),
        inherited_rlimits: Vec::new(),
        no_new_privileges: true,
        seccomp: None,
        oom_score_adj: None,
        inherited_oom_score_adj: None,
        scheduler: None,
        io_priority: None,
        cpu_affinity: None,
        terminal: None,
        stdin: false,
    }
}

pub fn kernel(destination: &str, filesystem: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        source: MountSource::Kernel { filesystem: filesystem.into() },
        options: options.iter().map(ToString::to_string).collect(),
    }
}

pub fn text(thread: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8(thread.join().unwrap()).unwrap()
}

/// The agent as an ordinary process, with loop devices.
fn ordinary(path: &Path, name: &str) -> (Child, Vec<Child>, [String; 2]) {
    let disks = [attach(&path.join("lower")), attach(&path.join("upper"))];
    let agent = Command::new("unshare")
        .args(["-m", "sh", "-c", START, "sh"])
        .args([path.to_str().unwrap(), name, env!("CARGO_BIN_EXE_msb-agent")])
        .spawn()
        .unwrap();
    (agent, Vec::new(), disks)
}

/// The agent as pid 1. The sockets are the same: socat joins them with vsock.
fn machine(path: &Path, kernel: &OsStr, initramfs: &OsStr) -> (Child, Vec<Child>, [String; 2]) {
    let socat = |from: String, to: String| {
        Command::new("socat").args(["-t", "60", &from, &to]).spawn().expect("socat is installed")
    };
    let path = path.to_str().unwrap();
    let mut helpers = vec![socat("VSOCK-LISTEN:1024,reuseaddr".into(), format!("UNIX-CONNECT:{path}/host"))];
    for port in [1024, 1025] {
        helpers.push(socat(format!("UNIX-LISTEN:{path}/{port},fork"), format!("VSOCK-CONNECT:{CID}:{port}")));
    }
    let machine = Command::new("qemu-system-x86_64")
        .args(["-M", "microvm,acpi=off,rtc=off", "-accel", "kvm", "-cpu", "host", "-m", "256", "-no-reboot"])
        .args(["-global", "virtio-mmio.force-legacy=false"])
        .args(["-nodefaults", "-display", "none", "-serial", &format!("file:{path}/console")])
        .args(["-append", "quiet console=ttyS0 reboot=t panic=-1"])
        .args([OsStr::new("-kernel"), kernel, OsStr::new("-initrd"), initramfs])
        .args(["-drive", &format!("if=none,id=lower,format=raw,readonly=on,file={path}/lower")])
        .args(["-drive", &format!("if=none,id=upper,format=raw,file={path}/upper")])
        // QEMU fills the slots from the last one.
        .args(["-device", "virtio-blk-device,drive=upper", "-device", "virtio-blk-device,drive=lower"])
        .args(["-device", &format!("vhost-vsock-device,guest-cid={CID}")])
        .spawn()
        .unwrap();
    (machine, helpers, ["/dev/vda".into(), "/dev/vdb".into()])
}

fn make_image(image: &Path) {
    for directory in ["bin", "etc", "tmp", "proc", "sys", "dev"] {
        fs::create_dir_all(image.join(directory)).unwrap();
    }
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].iter().find(|path| Path::new(path).exists()).unwrap();
    fs::copy(busybox, image.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", image.join("bin").join(applet)).unwrap();
    }
    fs::write(image.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/var/www:/bin/sh\n")
        .unwrap();
    fs::write(image.join("etc/plain"), "no program").unwrap();
}

fn attach(file: &Path) -> String {
    String::from_utf8(tool(Command::new("losetup").args(["-f", "--show"]).arg(file)))
        .unwrap()
        .trim()
        .to_owned()
}

fn remove_cgroup(directory: &Path, name: &str) {
    let script = r#"mount -t cgroup2 cgroup2 "$1/cgroup"; rmdir "$1/cgroup/$2/container" "$1/cgroup/$2""#;
    let _ = Command::new("unshare").args(["-m", "sh", "-c", script, "sh"]).arg(directory).arg(name).output();
}

fn tool(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    if !output.status.success() {
        std::io::stderr().write_all(&output.stderr).unwrap();
        panic!("{command:?}");
    }
    output.stdout
}
