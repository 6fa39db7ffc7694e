//! The Arm host, running: its hardware emulated by QEMU, hypervisor mode included, so that its KVM is a whole one.
//!
//! Enters: the folder that `image` filled, and the files under test. Leaves: a running [`ArmHost`] in which commands run;
//! dropping it ends it and throws away all that was written there.
//! Must never know what is run in it.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::host::channel::{Channel, ChannelError};
use crate::host::command::HostCommand;
use crate::host::payload::{self, Item, PayloadError};
use crate::host::qemu::escaped;
use crate::host::{self, HostError, last_lines};

/// The program, from Debian's qemu-system-arm.
const PROGRAM: &str = "qemu-system-aarch64";
/// How long it may take to boot on a machine that does much else.
const BOOT: Duration = Duration::from_secs(300);
/// Most lines of its console that a failure shows.
const SHOWN: usize = 20;

/// Why there is no Arm host.
#[derive(Debug, thiserror::Error)]
pub enum ArmError {
    /// A file of ours.
    #[error("{path} could not be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The second disk.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// Not runnable.
    #[error("{PROGRAM} cannot be started")]
    Spawn(#[source] io::Error),
    /// It ended.
    #[error("{PROGRAM} ended at its start:\n{said}")]
    Ended {
        /// What it and its console said.
        said: String,
    },
    /// No answer from its agent.
    #[error("The Arm host did not come up; its console ends with:\n{console}")]
    Boot {
        /// The last lines.
        console: String,
        /// What failed.
        source: ChannelError,
    },
    /// The files under test could not be put into place.
    #[error("The files under test could not be put into the Arm host")]
    Host(#[from] HostError),
}

/// A running Arm host.
#[derive(Debug)]
pub struct ArmHost {
    // The order is that of dropping: the channel, the machine, its files.
    channel: Channel,
    _qemu: Qemu,
    run: TempDir,
}

/// The emulator; dropping it ends it.
#[derive(Debug)]
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl ArmHost {
    /// Boots the host of `image` with `agent` and `items` in it. Half a minute, of an idle machine less.
    pub fn start(image: &Path, agent: &Path, items: &[Item]) -> Result<Self, ArmError> {
        let temporary = std::env::temp_dir();
        let run = tempfile::Builder::new().prefix("msb-arm-").tempdir_in(&temporary);
        let run = run.map_err(|source| ArmError::File { path: temporary, source })?;
        payload::build(&run.path().join(PAYLOAD), Some(agent), items)?;
        let mut qemu = spawn(image, run.path())?;
        let socket = connect(&mut qemu, run.path())?;
        let channel = Channel::open(socket, BOOT)
            .map_err(|source| ArmError::Boot { console: tail(run.path(), CONSOLE), source })?;
        host::place(&channel)?;
        Ok(Self { channel, _qemu: qemu, run })
    }

    /// A shell command in the host, to be run.
    pub fn sh(&self, script: &str) -> HostCommand<'_> {
        HostCommand::new(&self.channel, script)
    }

    /// The last lines of its console.
    pub fn console(&self) -> String {
        tail(self.run.path(), CONSOLE)
    }
}

/// What its kernel and its init print.
const CONSOLE: &str = "console.log";
/// What QEMU itself prints.
const LOG: &str = "qemu.log";
/// The command channel.
const AGENT: &str = "agent.sock";
/// The second disk.
const PAYLOAD: &str = "payload.img";

fn spawn(image: &Path, run: &Path) -> Result<Qemu, ArmError> {
    let log = File::create(run.join(LOG)).map_err(ArmError::Spawn)?;
    let errors = log.try_clone().map_err(ArmError::Spawn)?;
    // Whatever ends us, a kill included, ends it: the kernel sees to it when the starting thread is gone. A process group of
    // its own: a terminal's interrupt is for us.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", PROGRAM]).args(arguments(image));
    command.process_group(0).current_dir(run).stdin(Stdio::null()).stdout(log).stderr(errors);
    command.spawn().map(Qemu).map_err(ArmError::Spawn)
}

/// The command line after the program, which runs in a folder of its own.
fn arguments(image: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |parts: &[&str]| arguments.extend(parts.iter().map(OsString::from));
    add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    add(&["-machine", "virt,virtualization=on,gic-version=3", "-accel", "tcg,thread=multi,tb-size=512"]);
    // All that a processor of today has, but for what costs an emulator much and a hypervisor nothing.
    add(&["-cpu", "max,sve=off,sme=off,pauth-impdef=on", "-smp", "2", "-m", "3072"]);
    add(&["-chardev", &format!("file,id=console,path={CONSOLE}"), "-serial", "chardev:console"]);
    add(&[
        "-chardev",
        &format!("socket,id=agent,path={AGENT},server=on,wait=off"),
        "-device",
        "virtio-serial-pci",
    ]);
    add(&["-device", "virtserialport,chardev=agent,name=msb.agent"]);
    add(&["-append", "console=ttyAMA0 loglevel=4 mitigations=off panic=-1 net.ifnames=0"]);
    arguments.extend(["-kernel".into(), image.join("vmlinuz").into()]);
    arguments.extend(["-initrd".into(), image.join("initrd.img").into()]);
    for (id, path, how) in [
        ("root", image.join("root.img"), "snapshot=on,cache=unsafe"),
        ("payload", PathBuf::from(PAYLOAD), "readonly=on"),
    ] {
        let mut drive = OsString::from(format!("if=none,id={id},format=raw,{how},file="));
        drive.push(escaped(path.as_os_str()));
        arguments.extend(["-drive".into(), drive]);
        arguments.extend(["-device".into(), format!("virtio-blk-pci,drive={id}").into()]);
    }
    arguments
}

/// Connects to the agent's socket, which appears a moment after QEMU's start.
fn connect(qemu: &mut Qemu, run: &Path) -> Result<UnixStream, ArmError> {
    let started = Instant::now();
    loop {
        let source = match UnixStream::connect(run.join(AGENT)) {
            Ok(socket) => return Ok(socket),
            Err(source) => source,
        };
        if let Ok(Some(_)) = qemu.0.try_wait() {
            return Err(ArmError::Ended { said: [tail(run, LOG), tail(run, CONSOLE)].concat() });
        }
        if started.elapsed() > Duration::from_secs(30) {
            return Err(ArmError::File { path: run.join(AGENT), source });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The last lines of a log; what can't be read has none.
fn tail(run: &Path, name: &str) -> String {
    last_lines(&run.join(name), SHOWN).lines().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_hypervisors_processor_and_a_root_that_forgets() {
        let arguments = arguments(Path::new("/a,b"));
        let line: Vec<_> = arguments.iter().map(|part| part.to_string_lossy()).collect();
        let line = line.join(" ");
        assert!(line.contains("virt,virtualization=on,gic-version=3") && line.contains("-smp 2"), "{line}");
        assert!(line.contains("snapshot=on,cache=unsafe,file=/a,,b/root.img"), "{line}");
        // The disk's driver counts them in this order: `find.sh` and `init.sh` name them.
        assert!(line.find("drive=root").unwrap() < line.find("drive=payload").unwrap(), "{line}");
    }

    #[test]
    fn of_a_log_the_end_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let lines: String = (0..100).map(|number| format!("line {number}\n")).collect();
        fs::write(folder.path().join(LOG), lines).unwrap();
        let shown = tail(folder.path(), LOG);
        assert!(shown.starts_with("line 80\n") && shown.ends_with("line 99\n"), "{shown}");
        assert_eq!(tail(folder.path(), CONSOLE), "");
    }
}
