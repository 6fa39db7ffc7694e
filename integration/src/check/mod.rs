//! What the end-to-end tests are written with.
//!
//! Enters: a runtime and a list of steps, each a shell script in a clean virtual host and what it must leave.
//! Leaves: nothing when all is as said, else one panic that tells every step that went wrong, with the host's logs kept.
//!
//! A test is a function of a [`Lab`], written once and run for each runtime: where runc and ours should agree, runc
//! proves the test first (`seen.rs`).

mod browser;
mod lab;
mod leftovers;
mod random;
mod seen;
mod step;
mod table;

pub use browser::{CHROMIUM, Page};
pub use lab::Lab;
pub use leftovers::Snapshot;
pub use random::Random;
pub use seen::{ALL_VARIABLE, prove};
pub use step::Step;
pub use table::{DOCKERS_WORDS, Row};

/// A runtime under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// The reference.
    Runc,
    /// Ours.
    Msb,
}

impl Runtime {
    /// What Docker calls it.
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Runc => "runc",
            Runtime::Msb => "msb",
        }
    }

    /// Its program, found in the host's `PATH`.
    pub fn program(self) -> &'static str {
        match self {
            Runtime::Runc => "runc",
            Runtime::Msb => "msb-runtime",
        }
    }
}
