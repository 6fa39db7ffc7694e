//! The stdio of a process that is started here: this command's own, or a terminal.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        linux::fs::MetadataExt,
    },
    path::Path,
    process::Stdio,
};

use anyhow::bail;
use msb_runtime::process::terminal::{self, Pair};
use nix::sys::stat::makedev;

/// What the started process gets.
#[derive(Debug)]
pub struct Console {
    /// Its three descriptors.
    pub stdio: [Stdio; 3],
    /// Whether there is anything to read from the first.
    pub stdin: bool,
    /// The terminal's other side, where this command stays to serve it.
    pub master: Option<OwnedFd>,
}

/// Decides, as runc does, from whether a terminal is wanted, whether this command goes away, and where the caller
/// takes terminals.
pub fn prepare(wants_terminal: bool, detached: bool, socket: Option<&Path>) -> anyhow::Result<Console> {
    let socket = socket.filter(|path| !path.as_os_str().is_empty());
    match (wants_terminal, socket) {
        (false, None) => {
            let stdio = [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()];
            Ok(Console { stdio, stdin: !is_null(io::stdin().as_fd()), master: None })
        }
        (false, Some(_)) => {
            bail!("--console-socket is given, but process.terminal is false: remove one of them")
        }
        (true, None) if detached => {
            bail!("process.terminal is true: give --console-socket, or don't detach")
        }
        (true, None) => {
            let pair = Pair::open()?;
            if let Some(size) = terminal::size(io::stdin()) {
                terminal::resize(&pair.master, size);
            }
            Ok(Console { stdio: thrice(&pair.slave)?, stdin: true, master: Some(pair.master) })
        }
        (true, Some(socket)) => {
            let pair = Pair::open()?;
            pair.send_master(socket)?;
            Ok(Console { stdio: thrice(&pair.slave)?, stdin: true, master: None })
        }
    }
}

fn thrice(slave: &OwnedFd) -> io::Result<[Stdio; 3]> {
    Ok([slave.try_clone()?.into(), slave.try_clone()?.into(), slave.try_clone()?.into()])
}

/// Whether it is `/dev/null` (kernel, `admin-guide/devices.txt`: character device 1, 3).
fn is_null(descriptor: impl AsFd) -> bool {
    let file = descriptor.as_fd().try_clone_to_owned().map(std::fs::File::from);
    file.and_then(|file| file.metadata()).is_ok_and(|metadata| metadata.st_rdev() == makedev(1, 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_told_from_a_pipe() {
        assert!(is_null(std::fs::File::open("/dev/null").unwrap()));
        assert!(!is_null(nix::unistd::pipe().unwrap().0));
    }

    #[test]
    fn a_terminal_needs_somebody_to_serve_it() {
        assert!(prepare(true, true, None).is_err());
        assert!(prepare(false, true, Some(Path::new("/s"))).is_err());
        assert!(prepare(true, false, None).unwrap().master.is_some());
    }
}
