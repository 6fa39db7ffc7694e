//! The shim's log: the fifo `log` in the bundle, whose other end is containerd's own log.

use std::{
    error::Error,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
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
    debug: bool,
}

impl Log {
    /// In `bundle`. It is opened both ways and never waited for: containerd may be away, and what it does not read then must
    /// not stop the shim.
    pub fn open(bundle: &Path, debug: bool) -> Self {
        let fifo =
            OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK).open(bundle.join("log"));
        Self { fifo: fifo.ok().map(Arc::new), debug }
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
        None
    }

    fn moments(&self, moments: &Moments) {
        if self.debug {
            self.line("debug", &format!("{moments:?}"));
        }
    }
}
