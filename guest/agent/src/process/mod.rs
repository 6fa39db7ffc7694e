//! A process of the container, from the agent's side ([`record`], [`spawn`]) and from the inside ([`helper`]).
//!
//! The set-up runs in a helper, this binary once more, that becomes the process by execve: it already is in the right
//! cgroup and namespaces, has its streams as descriptors 0 to 2, and talks with the agent over one socket, whose end
//! tells that execve was called.

mod capabilities;
mod environment;
pub mod helper;
mod hooks;
pub mod inherit;
mod lookup;
pub mod record;
mod rlimits;
mod schedule;
mod setup;
pub mod spawn;
mod user;
