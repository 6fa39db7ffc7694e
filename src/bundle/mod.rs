//! A bundle's `config.json`, read and checked.
//!
//! Enters: a directory that a caller prepared; nothing in it is trusted. Leaves: a [`Spec`] or a [`Process`] in
//! which every rule below holds, so nothing downstream checks again. It must never know of KVM, of the guest, or
//! of what the host lends: which valid container can be run by us is [`crate::config`]'s question.
//!
//! ```text
//!  read    config.json → bytes            bounded, regular file, no symbolic link
//!  parse   bytes → oci_spec types         what the types refuse is explained by a rule where there is one
//!  rules   one function per rule, one variant of SpecError per rule
//!  spec    the checked types
//! ```
//!
//! Like runc, unknown capability names are dropped rather than refused: callers list what their own kernel knows.

mod error;
mod parse;
mod process;
mod read;
mod rules;
mod spec;

pub use error::SpecError;
pub use process::Process;
pub use read::MAX_CONFIG;
pub use spec::Spec;
