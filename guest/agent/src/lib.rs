//! The guest's half of a sandbox, and the contract between the halves.
//!
//! The host imports [`protocol`] and nothing else of this crate.

pub mod protocol;
