//! The container: its root, its cgroup and, in a helper, everything its processes see.
//!
//! In: a [`protocol::Container`](msb_agent::protocol::Container). The agent itself calls only [`root`], [`cgroup`] and
//! [`made`]; all else runs in a helper that already lives in the container's namespaces, so that nothing an image contains is
//! ever resolved by pid 1.

pub mod beneath;
pub mod cgroup;
pub mod devices;
pub mod made;
pub mod mounts;
pub mod namespaces;
mod options;
pub mod paths;
pub mod place;
pub mod processes;
pub mod root;
pub mod tree;
pub mod users;
pub mod volumes;

use msb_agent::protocol::Failure;

/// A failed step, with the path or name concerned.
pub fn setup(step: impl Into<String>, reason: &dyn std::fmt::Display) -> Failure {
    Failure::Setup { step: step.into(), reason: reason.to_string() }
}

/// For `map_err`: the step's name is only made when it failed.
pub fn at<E: std::fmt::Display>(step: impl FnOnce() -> String) -> impl FnOnce(E) -> Failure {
    move |error| setup(step(), &error)
}

/// What an errno means, in the words everybody knows (nix adds the constant's name in front).
pub fn plain<E: Into<std::io::Error>>(error: E) -> std::io::Error {
    error.into()
}
