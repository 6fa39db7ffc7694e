//! What `cargo dev` and the end-to-end tests are made of.
//!
//! `host` is the virtual KVM host, `cri` speaks to a runtime in it as Kubernetes does, `kernel` builds the guest's kernel,
//! `bench` is the stop watch that runs in the host; `check` is what end-to-end tests are written with; `dev` holds the verbs
//! of `cargo dev`, one per file, and the cache of products they share.

pub mod bench;
pub mod check;
pub mod cri;
pub mod dev;
pub mod host;
pub mod kernel;
