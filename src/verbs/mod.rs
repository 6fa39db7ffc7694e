//! What can be done to a container: each verb composes the other parts of this library, for every caller alike.
//!
//! Enters: what a caller has parsed (`msb-runtime`'s command line, containerd's requests to the shim), and a [`Context`].
//! Leaves: a container that has changed, or one [`VerbError`] that callers can tell apart. It never knows how a caller
//! speaks: no arguments, nothing on stdout or stderr, no exit codes.
//!
//! ```text
//!  create ─▶ start ─▶ (kill, pause, resume, update, exec) ─▶ the container ends ─▶ delete
//! ```

mod announce;
pub mod clock;
pub mod create;
pub mod delete;
pub mod doctor;
mod error;
pub mod exec;
mod hook_state;
pub mod kill;
mod lent;
pub mod pause;
pub mod pod;
pub mod rescue;
pub mod resume;
pub mod settings;
pub mod start;
pub mod update;
pub mod words;

use std::{error::Error, path::PathBuf};

pub use announce::Announce;
pub use error::VerbError;
pub use lent::Lent;

use crate::{
    sandbox::{Log, child::Moments},
    state::Store,
};

/// Whom a verb works for.
#[derive(Debug)]
pub struct Context {
    /// All containers of this caller.
    pub store: Store,
    /// Whether `cgroupsPath` is slice:prefix:name, as systemd has it.
    pub systemd_cgroup: bool,
    /// The host's settings for this caller; otherwise the usual ones.
    pub settings: Option<PathBuf>,
    /// Who is told what is no error.
    pub tell: Box<dyn Tell>,
}

/// What a caller is told beside a verb's result.
pub trait Tell: std::fmt::Debug + Send + Sync {
    /// Something went wrong that does not make the verb fail.
    fn warn(&self, problem: &(dyn Error + 'static));

    /// Where a process that outlives the verb tells such things.
    fn log(&self) -> Option<Log>;

    /// How far a new machine was when.
    fn moments(&self, moments: &Moments);
}

impl Context {
    fn warn_all<E: Error + 'static>(&self, problems: impl IntoIterator<Item = E>) {
        for problem in problems {
            self.tell.warn(&problem);
        }
    }
}
