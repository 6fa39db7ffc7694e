//! One QEMU process: the virtual host's hardware, started cold or from a saved state.
//!
//! Enters: a [`Machine`]. Leaves: a running [`Qemu`] with its monitor and the socket of the command channel.
//! Must never know what runs inside. Why these flags: a machine with more than one processor, or threads in the
//! emulator, dies while the kernel patches its own text; and a saved state fits only the flags it was made with.
//!
//! The emulator is that of the release that the host runs, not the machine's own: a saved state fits only the version
//! that made it, and QEMU 10 emulates a quarter faster than Debian 12's 7.2. The host's memory is a file beside its
//! state: restoring maps it, privately, so nothing is copied and what two hosts do not change is there once.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::monitor::{Monitor, MonitorError};

/// The program, from Debian's qemu-system-x86.
const PROGRAM: &str = "qemu-system-x86_64";
/// Memory of the host, in MiB. Only what is touched is taken from the machine.
pub const MEMORY_MIB: u32 = 4096;

/// How the host's processor counts time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    /// As fast as the emulation goes.
    Wall,
    /// One instruction is one nanosecond; what measurements need.
    Instructions,
}

/// What a virtual host is started with.
#[derive(Debug)]
pub struct Machine<'a> {
    /// The folder of QEMU and its libraries.
    pub emulator: &'a Path,
    /// Where kernel, initrd, root disk and memory are: `vmlinuz`, `initrd.img`, `root.img`, `memory`.
    pub disk: &'a Path,
    /// Keep what is written to the root disk and to memory.
    pub keep_writes: bool,
    /// A state to start from.
    pub state: Option<&'a Path>,
    /// An image for the second disk; the same size at all times, or a saved state does not fit.
    pub payload: &'a Path,
    /// Time.
    pub clock: Clock,
    /// A folder of its own for sockets and logs.
    pub run: &'a Path,
    /// It outlives the thread that starts it.
    pub stays: bool,
}

/// Why the machine did not start.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// Not runnable.
    #[error("{PROGRAM} cannot be started; `cargo dev clean` lets it be fetched anew")]
    Spawn(#[source] io::Error),
    /// It ended at once.
    #[error("{PROGRAM} ended at its start: {reason}")]
    Ended {
        /// What it wrote.
        reason: String,
    },
    /// Its sockets did not appear.
    #[error("{PROGRAM} did not open {path} in time")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The last failure.
        source: io::Error,
    },
    /// The monitor failed.
    #[error("{PROGRAM} could not be brought to run")]
    Monitor(#[from] MonitorError),
}

/// A running machine; dropping it ends it.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    /// Its monitor.
    pub monitor: Monitor,
    run: PathBuf,
}

/// File names in the machine's run folder.
pub mod files {
    /// What the host's kernel and systemd print.
    pub const CONSOLE: &str = "host-console.log";
    /// What QEMU itself prints.
    pub const QEMU: &str = "qemu.log";
    /// The command channel.
    pub const AGENT: &str = "agent.sock";
    /// The monitor.
    pub const MONITOR: &str = "monitor.sock";
    /// The host's memory, beside its disk.
    pub const MEMORY: &str = "memory";
}

impl Qemu {
    /// Starts the machine; from a state, it runs on when this returns.
    pub fn start(machine: &Machine<'_>) -> Result<Self, QemuError> {
        let log = machine.run.join(files::QEMU);
        let output = std::fs::File::create(&log).map_err(QemuError::Spawn)?;
        let errors = output.try_clone().map_err(QemuError::Spawn)?;
        let program = program(machine.emulator);
        let mut command = if machine.stays {
            program
        } else {
            // Whatever ends us, a kill included, ends it: the kernel sees to it when the starting thread is gone.
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).arg(program.get_program()).args(program.get_args());
            command
        };
        // A process group of its own: a terminal's interrupt is for us, and we end it.
        command.process_group(0).args(arguments(machine)).current_dir(machine.run).env("TMPDIR", machine.run);
        if let Some(state) = machine.state {
            command.env("MSB_STATE", state);
        }
        let mut child =
            command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn().map_err(QemuError::Spawn)?;
        match connect(&mut child, &machine.run.join(files::MONITOR), &log)
            .and_then(|socket| Ok(Monitor::open(socket)?))
        {
            Ok(monitor) => {
                let mut qemu = Self { child, monitor, run: machine.run.to_owned() };
                if machine.state.is_some() {
                    qemu.monitor.execute("migrate-set-capabilities", &leave_memory())?;
                    qemu.monitor.execute("migrate-incoming", &serde_json::json!({ "uri": LOAD }))?;
                    qemu.monitor.migrated(Duration::from_secs(240))?;
                    qemu.monitor.execute("cont", &serde_json::json!({}))?;
                }
                Ok(qemu)
            }
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    /// Connects to the command channel.
    pub fn agent(&mut self) -> Result<UnixStream, QemuError> {
        connect(&mut self.child, &self.run.join(files::AGENT), &self.run.join(files::QEMU))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes the machine's state to `path`. It stays stopped afterwards.
    pub fn save(&mut self) -> Result<(), MonitorError> {
        self.monitor.execute("stop", &serde_json::json!({}))?;
        self.monitor.execute("migrate-set-capabilities", &leave_memory())?;
        // Nothing runs, so nothing need be spared.
        self.monitor
            .execute("migrate-set-parameters", &serde_json::json!({ "max-bandwidth": 1_u64 << 40 }))?;
        self.monitor.execute("migrate", &serde_json::json!({ "uri": SAVE }))?;
        self.monitor.migrated(Duration::from_secs(120))
    }
}

/// The path goes by the environment and the run folder, so that no shell reads its characters.
const SAVE: &str = "exec:cat > state";
const LOAD: &str = "exec:cat \"$MSB_STATE\"";

/// Memory is in its file, not in the state.
fn leave_memory() -> serde_json::Value {
    serde_json::json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] })
}

/// QEMU with its own libraries, those of another release than the machine's.
fn program(emulator: &Path) -> Command {
    let mut command = Command::new(emulator.join("lib/loader"));
    command.arg("--library-path").arg(emulator.join("lib")).arg(emulator.join(PROGRAM));
    command.arg("-L").arg(emulator.join("firmware"));
    command
}

impl Drop for Qemu {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // Both fail only if it has ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// Connects to a socket of QEMU's, which appears a moment after its start.
fn connect(child: &mut Child, path: &Path, log: &Path) -> Result<UnixStream, QemuError> {
    let started = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(socket) => return Ok(socket),
            Err(source) if started.elapsed() > Duration::from_secs(120) => {
                return Err(QemuError::Socket { path: path.to_owned(), source });
            }
            Err(_) => {}
        }
        if let Ok(Some(_)) = child.try_wait() {
            let reason = std::fs::read_to_string(log).unwrap_or_default().trim().to_owned();
            return Err(QemuError::Ended { reason });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The command line after the program.
pub fn arguments(machine: &Machine<'_>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |parts: &[&str]| arguments.extend(parts.iter().map(OsString::from));
    add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    add(&[
        "-M",
        "q35,memory-backend=memory",
        "-cpu",
        "EPYC,+svm",
        "-smp",
        "1",
        "-m",
        &MEMORY_MIB.to_string(),
    ]);
    add(&["-accel", "tcg,tb-size=1024,thread=single"]);
    if machine.clock == Clock::Instructions {
        add(&["-icount", "shift=0,sleep=off"]);
    }
    add(&["-serial", &format!("file:{}", files::CONSOLE)]);
    add(&["-qmp", &format!("unix:{},server=on,wait=off", files::MONITOR)]);
    add(&["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]);
    add(&["-chardev", &format!("socket,id=agent,path={},server=on,wait=off", files::AGENT)]);
    add(&["-device", "virtserialport,chardev=agent,name=msb.agent"]);
    let (share, snapshot) = if machine.keep_writes { ("on", "off") } else { ("off", "on") };
    let mut memory =
        OsString::from(format!("memory-backend-file,id=memory,size={MEMORY_MIB}M,share={share},mem-path="));
    memory.push(escaped(machine.disk.join(files::MEMORY).as_os_str()));
    arguments.extend(["-object".into(), memory]);
    for (id, path, how) in [
        ("root", machine.disk.join("root.img"), format!("snapshot={snapshot},cache=unsafe")),
        ("payload", machine.payload.to_owned(), "readonly=on".to_owned()),
    ] {
        let mut drive = OsString::from(format!("if=none,id={id},format=raw,{how},file="));
        drive.push(escaped(path.as_os_str()));
        arguments.extend([
            "-drive".into(),
            drive,
            "-device".into(),
            format!("virtio-blk-pci,drive={id}").into(),
        ]);
    }
    let console = "console=ttyS0 loglevel=4 systemd.show_status=false";
    let cmdline = format!("root=/dev/vda rw {console} mitigations=off net.ifnames=0");
    arguments.extend(["-kernel".into(), machine.disk.join("vmlinuz").into()]);
    arguments.extend(["-initrd".into(), machine.disk.join("initrd.img").into()]);
    arguments.extend(["-append".into(), cmdline.into()]);
    if machine.state.is_some() {
        arguments.extend(["-incoming".into(), "defer".into()]);
    }
    arguments
}

/// A comma in a QEMU option's value is written twice.
pub(crate) fn escaped(value: &OsStr) -> OsString {
    value.to_string_lossy().replace(',', ",,").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_processor_one_thread_and_a_root_that_forgets() {
        let mut machine = Machine {
            emulator: Path::new("/qemu"),
            disk: Path::new("/a,b"),
            keep_writes: false,
            state: Some(Path::new("/state")),
            payload: Path::new("/payload.img"),
            clock: Clock::Wall,
            run: Path::new("/run"),
            stays: false,
        };
        let line = |machine: &Machine<'_>| arguments(machine).join(OsStr::new(" ")).into_string().unwrap();
        let restored = line(&machine);
        assert!(restored.contains("-smp 1") && restored.contains("thread=single"));
        assert!(restored.contains("snapshot=on,cache=unsafe,file=/a,,b/root.img"));
        assert!(restored.contains("-incoming defer") && !restored.contains("-icount"));
        assert!(restored.contains("share=off,mem-path=/a,,b/memory"));
        (machine.state, machine.clock) = (None, Clock::Instructions);
        let cold = line(&machine);
        assert!(!cold.contains("-incoming") && cold.contains("-icount shift=0,sleep=off"));
    }
}
