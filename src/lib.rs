//! The parts of the runtime, in the order in which a container passes through them:
//! `bundle` ‹ `config` ‹ `host` ‹ `image` ‹ `machine` ‹ `process` ‹ `sandbox` ‹ `state`.
//!
//! Each may make plain what others say (`plain`), and two write programs for seccomp(2) (`bpf`). Only `verbs` and the binaries
//! compose them: the command line and containerd's shim do the same to a container, and differ in how they are spoken to. Which part may know which is checked by `integration/tests/layering.rs`.

pub mod bpf;
pub mod bundle;
pub mod config;
pub mod host;
pub mod image;
pub mod machine;
pub mod plain;
pub mod process;
pub mod sandbox;
pub mod state;
pub mod verbs;
