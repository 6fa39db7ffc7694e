//! Sandboxes: a microVM each, with a name in a namespace.

mod key;
pub mod request;

pub use key::Key;
pub use request::{BadRequest, Network, Port, Protocol, Pull, Request, Volume, Where};
