//! Sandboxes: a microVM each, with a name in a namespace.

mod exec;
mod failure;
mod info;
mod key;
mod log;
pub mod request;

pub use exec::{Exec, Exit};
pub use failure::Failure;
pub use info::{Info, State, Usage};
pub use key::Key;
pub use log::{Line, Logs, Since, Stream};
pub use request::{BadRequest, Network, Port, Protocol, Pull, Request, Volume, Where};
