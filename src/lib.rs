//! The parts of the runtime, in the order in which a container passes through them:
//! `bundle` ‹ `config` ‹ `host` ‹ `image` ‹ `machine` ‹ `process` ‹ `sandbox` ‹ `state`.
//!
//! Only the binaries compose them; which part may know which is checked by `integration/tests/layering.rs`.

pub mod bundle;
pub mod config;
pub mod host;
pub mod image;
pub mod machine;
pub mod process;
pub mod sandbox;
pub mod state;
