//! `binary://`: a program that takes a container's output, as containerd's clients name one (nerdctl does, for each container).
//!
//! It reads stdout from descriptor 3 and stderr from 4, and closes 5 when it is ready. It is told whose output it is in its
//! environment, and ends with what it reads.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use command_fds::{CommandFdExt, FdMapping};
use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::pipe2,
};

use super::{Owner, StdioError};

/// Before the program's path.
pub const SCHEME: &str = "binary://";

/// The program's descriptors, as containerd has them.
const STDOUT: i32 = 3;
const STDERR: i32 = 4;
const READY: i32 = 5;

/// How long it may take to be ready, in milliseconds.
const PATIENCE: u16 = 10_000;

/// Starts the program that `uri` names, and waits until it is ready. Returns what the process writes to.
pub fn start(uri: &str, owner: &Owner) -> Result<[OwnedFd; 2], StdioError> {
    let failed = |source: io::Error| StdioError::Logger { uri: uri.to_owned(), source };
    let (program, arguments) = program(uri).ok_or_else(|| StdioError::Scheme { uri: uri.to_owned() })?;
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed(errno.into()));
    let ((stdout, to_stdout), (stderr, to_stderr), (ready, is_ready)) = (pipe()?, pipe()?, pipe()?);
    let mapping = |parent_fd, child_fd| FdMapping { parent_fd, child_fd };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("CONTAINER_ID", owner.id)
        .env("CONTAINER_NAMESPACE", owner.namespace)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .fd_mappings(vec![mapping(stdout, STDOUT), mapping(stderr, STDERR), mapping(is_ready, READY)])
        .map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
    let mut program = command.spawn().map_err(failed)?;
    // The ends that it has now are its own alone.
    drop(command);
    let waited = is_closed(&ready);
    if !matches!(waited, Ok(true)) {
        let _ = program.kill();
        let _ = program.wait();
        return Err(failed(waited.err().unwrap_or_else(|| io::ErrorKind::TimedOut.into())));
    }
    // Without, its end is waited for when this process ends.
    let _ = thread::Builder::new().name("logger".into()).spawn(move || program.wait());
    Ok([to_stdout, to_stderr])
}

/// Whether the other end was closed in time. A byte from there is as good.
fn is_closed(ready: &OwnedFd) -> io::Result<bool> {
    Ok(poll(&mut [PollFd::new(ready.as_fd(), PollFlags::POLLIN)], PollTimeout::from(PATIENCE))? > 0)
}

/// The program's path, and its arguments: each name and value of the query, in the order of their names.
fn program(uri: &str) -> Option<(PathBuf, Vec<OsString>)> {
    let rest = uri.strip_prefix(SCHEME)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut arguments = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        arguments.entry(plain(name)).or_insert_with(|| plain(value));
    }
    let words = arguments.into_iter().flat_map(|(name, value)| [name, value]);
    path.starts_with('/').then(|| (plain(path).into(), words.filter(|word| !word.is_empty()).collect()))
}

/// Without percent-encoding (RFC 3986, section 2.1), and with a space for each plus, as Go writes queries.
fn plain(text: &str) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digits = rest.clone().take(2).map(char::from).collect::<String>();
        match (byte, u8::from_str_radix(&digits, 16)) {
            (b'%', Ok(code)) if digits.len() == 2 => {
                bytes.push(code);
                rest.nth(1);
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, os::unix::fs::PermissionsExt, time::Duration};

    use super::*;

    #[test]
    fn a_program_takes_both_streams_and_is_told_whose_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let (script, log) = (dir.path().join("log ger"), dir.path().join("log"));
        let text = format!(
            "#!/bin/sh\nexec 5>&-; {{ echo $CONTAINER_NAMESPACE/$CONTAINER_ID \"$@\"; /bin/cat <&3; /bin/cat <&4; echo end; }} > {}\n",
            log.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let uri = format!("{SCHEME}{}?b=2+3&a=%2Fx", script.display().to_string().replace(' ', "%20"));
        let [stdout, stderr] = start(&uri, &Owner { id: "box", namespace: "ns" }).unwrap();
        fs::File::from(stdout).write_all(b"out\n").unwrap();
        fs::File::from(stderr).write_all(b"err\n").unwrap();
        let mut told = String::new();
        for _ in 0..4000 {
            told = fs::read_to_string(&log).unwrap_or_default();
            if told.ends_with("end\n") {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(told, "ns/box a /x b 2 3\nout\nerr\nend\n");
    }

    #[test]
    fn what_is_no_program_is_told() {
        let owner = Owner { id: "box", namespace: "ns" };
        assert!(matches!(start("binary:///no/such", &owner), Err(StdioError::Logger { .. })));
        assert!(matches!(start("binary://relative", &owner), Err(StdioError::Scheme { .. })));
    }
}
