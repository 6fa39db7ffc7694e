//! What an image's user is told meanwhile.

use super::digest::Digest;

/// Something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A registry is asked for an image.
    Resolving {
        /// Its name.
        reference: &'a str,
    },
    /// Something is done with a layer. Said often.
    Layer {
        /// Of the layer as it is stored.
        digest: &'a Digest,
        /// What.
        stage: Stage,
        /// Bytes so far.
        done: u64,
        /// Bytes of all.
        total: u64,
    },
    /// An archive is read.
    Reading {
        /// Bytes so far.
        done: u64,
    },
}

/// What is done with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It is here already: nothing.
    Here,
    /// It comes from a registry.
    Downloading,
    /// It came.
    Downloaded,
    /// Its files are made.
    Unpacking,
    /// They are.
    Unpacked,
}

/// Wants to know. Called from several threads.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}

/// Nobody wants to know.
impl Progress for () {
    fn event(&self, _: Event<'_>) {}
}

impl<F: Fn(Event<'_>) + Send + Sync> Progress for F {
    fn event(&self, event: Event<'_>) {
        self(event);
    }
}
