//! A process's streams: containerd gives the paths of fifos, and the other ends are its clients'.
//!
//! Enters: paths or URIs. Leaves: three descriptors for the process, and the end of its input that the shim keeps.

mod logger;

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    libc::O_NONBLOCK,
};
use serde::{Deserialize, Serialize};

/// Why they can't be had.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// Opening failed.
    #[error("The stream {} can't be opened", path.display())]
    Open {
        /// Which one.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Neither a path nor a file nor a program.
    #[error("The stream {uri:?} can't be served: give a fifo, file:///PATH or binary:///PROGRAM")]
    Scheme {
        /// As given.
        uri: String,
    },
    /// The program that was to take the output.
    #[error("The program of {uri:?} can't be started, or is not ready")]
    Logger {
        /// As given.
        uri: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Whose streams they are.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// The container.
    pub id: &'a str,
    /// containerd's namespace of it.
    pub namespace: &'a str,
}

/// As containerd names them; empty: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// Read from.
    pub stdin: String,
    /// Written to.
    pub stdout: String,
    /// Written to; not with a terminal.
    pub stderr: String,
    /// All of them are one terminal, which is in the guest.
    pub terminal: bool,
}

/// Opened.
#[derive(Debug)]
pub struct Streams {
    /// The process's.
    pub descriptors: [OwnedFd; 3],
    /// Whether there is anything to read from the first.
    pub has_stdin: bool,
    /// The input ends when this is closed, and whoever else writes there has done so: who goes away may come back.
    pub input: Option<File>,
}

impl Paths {
    /// Opens all of them; waits for nobody but a program that takes the output.
    pub fn open(&self, owner: &Owner) -> Result<Streams, StdioError> {
        let (stdin, input) = match self.stdin.as_str() {
            "" => (null(false)?, None),
            path => input(Path::new(path))?,
        };
        let [stdout, stderr] = if self.stdout.starts_with(logger::SCHEME) {
            // It takes both.
            logger::start(&self.stdout, owner)?
        } else {
            let stderr = if self.terminal { "" } else { &self.stderr };
            [output(&self.stdout)?.into(), output(stderr)?.into()]
        };
        Ok(Streams { has_stdin: !self.stdin.is_empty(), descriptors: [stdin.into(), stdout, stderr], input })
    }
}

/// A reader, and for a fifo a writer that keeps it from ending.
fn input(path: &Path) -> Result<(File, Option<File>), StdioError> {
    let failed = |source| StdioError::Open { path: path.to_owned(), source };
    let open = |options: &mut OpenOptions| options.custom_flags(O_NONBLOCK).open(path).map_err(failed);
    let reader = open(OpenOptions::new().read(true))?;
    let is_fifo = reader.metadata().map_err(failed)?.file_type().is_fifo();
    let writer = is_fifo.then(|| open(OpenOptions::new().write(true))).transpose()?;
    // It was only to be opened without waiting.
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::empty())).map_err(|errno| failed(errno.into()))?;
    Ok((reader, writer))
}

/// A fifo is opened both ways: its reader may come later, go and come back, without the container ever seeing a broken pipe.
fn output(uri: &str) -> Result<File, StdioError> {
    let path = match uri.split_once("://") {
        _ if uri.is_empty() => return null(true),
        None => Path::new(uri),
        Some(("file", path)) => Path::new(path),
        Some(_) => return Err(StdioError::Scheme { uri: uri.to_owned() }),
    };
    let failed = |source| StdioError::Open { path: path.to_owned(), source };
    let is_fifo = path.metadata().is_ok_and(|found| found.file_type().is_fifo());
    let mut options = OpenOptions::new();
    let options = if is_fifo { options.read(true).write(true) } else { options.append(true).create(true) };
    options.mode(0o600).open(path).map_err(failed)
}

fn null(write: bool) -> Result<File, StdioError> {
    let path = Path::new("/dev/null");
    let opened = OpenOptions::new().read(!write).write(write).open(path);
    opened.map_err(|source| StdioError::Open { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        thread,
        time::Duration,
    };

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    const OWNER: Owner = Owner { id: "box", namespace: "ns" };

    fn fifo(dir: &Path, name: &str) -> String {
        let path = dir.join(name);
        mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn an_input_ends_when_the_shim_and_its_writers_have_closed_it() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths { stdin: fifo(dir.path(), "in"), ..Paths::default() };
        let Streams { descriptors: [stdin, ..], has_stdin, input } = paths.open(&OWNER).unwrap();
        assert!(has_stdin);
        let reading = thread::spawn(move || {
            let mut text = String::new();
            File::from(stdin).read_to_string(&mut text).unwrap();
            text
        });
        for text in ["one ", "two"] {
            OpenOptions::new().write(true).open(&paths.stdin).unwrap().write_all(text.as_bytes()).unwrap();
        }
        thread::sleep(Duration::from_millis(20));
        assert!(!reading.is_finished());
        drop(input);
        assert_eq!(reading.join().unwrap(), "one two");
    }

    #[test]
    fn outputs_need_no_reader_and_end_with_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let paths = Paths {
            stdout: fifo(dir.path(), "out"),
            stderr: format!("file://{}", file.display()),
            ..Paths::default()
        };
        let Streams { descriptors: [_, stdout, stderr], has_stdin, .. } = paths.open(&OWNER).unwrap();
        assert!(!has_stdin);
        File::from(stderr).write_all(b"said").unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "said");
        let mut stdout = File::from(stdout);
        stdout.write_all(b"before ").unwrap();
        let mut reader = File::open(&paths.stdout).unwrap();
        stdout.write_all(b"after").unwrap();
        drop(stdout);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before after");
        let unknown = Paths { stdout: "nonsense:///logger".into(), ..Paths::default() };
        assert!(matches!(unknown.open(&OWNER), Err(StdioError::Scheme { .. })));
    }
}
