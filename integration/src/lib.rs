//! What `cargo dev` and the end-to-end tests are made of.
//!
//! `host` is the virtual KVM host, `arm` a virtual Arm computer, `cri` speaks to a runtime in the host as Kubernetes does,
//! `kernel` builds the guest's kernel, `bench` is the stop watch that runs in the host; `check` is what end-to-end tests are
//! written with; `dev` holds the verbs of `cargo dev`, one per file, and the cache of products they share.

#[cfg(feature = "harness")]
pub mod arm;
#[cfg(feature = "harness")]
pub mod bench;
#[cfg(feature = "harness")]
pub mod check;
#[cfg(feature = "harness")]
pub mod cri;
#[cfg(feature = "harness")]
pub mod dev;
pub mod host;
#[cfg(feature = "harness")]
pub mod kernel;
