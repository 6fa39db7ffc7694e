//! The shim's log: the fifo `log` in the bundle, whose other end is containerd's own log.

use std::{
    error::Error,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use msb_runtime::{
    sandbox::{self, child::Moments},
    verbs::{Tell, clock, words},
};
use nix::libc::O_NONBLOCK;
use serde_json::json;

/// Where to log; nowhere if containerd gave no fifo.
#[derive(Debug, Clone)]
pub struct Log {
    fifo: Option<Arc<File>>,
    path: PathBuf,
    debug: bool,
}

impl Log {
    /// In `bundle`. It is opened both ways and never waited for: containerd may be away, and what it does not read then must
    /// not stop the shim.
    pub fn open(bundle: &Path, debug: bool) -> Self {
        Self::at(&bundle.join("log"), debug)
    }

    /// The fifo of that path.
    pub fn at(path: &Path, debug: bool) -> Self {
        let fifo = OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK).open(path);
        Self { fifo: fifo.ok().map(Arc::new), path: path.to_owned(), debug }
    }

    /// One line.
    pub fn line(&self, level: &str, text: &str) {
        let Some(fifo) = &self.fifo else { return };
        let line = format!("time={} level={level} msg={}\n", json!(clock::now()), json!(text));
        // Lost if nobody reads.
        let _ = fifo.as_ref().write_all(line.as_bytes());
    }
}

impl Tell for Log {
    fn warn(&self, problem: &(dyn Error + 'static)) {
        self.line("warning", &words::chain(problem));
    }

    fn log(&self) -> Option<sandbox::Log> {
        self.fifo.as_ref().map(|_| sandbox::Log { path: self.path.clone(), json: false })
    }

    fn moments(&self, moments: &Moments) {
        if self.debug {
            self.line("debug", &format!("{moments:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn who_outlives_a_verb_tells_containerd_too() {
        let bundle = tempfile::tempdir().unwrap();
        assert!(Log::open(bundle.path(), false).log().is_none(), "containerd gave none");
        mkfifo(&bundle.path().join("log"), Mode::S_IRWXU).unwrap();
        let log = Log::open(bundle.path(), false);
        let given = log.log().unwrap();
        Log::at(&given.path, false).line("warning", "memory");
        let mut line = [0; 200];
        let length = log.fifo.as_deref().unwrap().read(&mut line).unwrap();
        let line = String::from_utf8_lossy(&line[..length]);
        assert!(line.ends_with("level=warning msg=\"memory\"\n"), "{line}");
    }
}
