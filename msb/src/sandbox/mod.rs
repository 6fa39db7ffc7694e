//! Sandboxes: a microVM each, with a name in a namespace.
//!
//! ```text
//!  request ─▶ create ─▶ sandbox.json ─▶ keep: root, network, streams ─▶ msb_runtime::verbs ─▶ the machine
//!             exec, logs, usage, stop, remove ── by the runtime's record of the machine, and by what is stored
//! ```

mod activity;
mod attach;
mod beneath;
mod bundle;
mod connection;
mod copy;
mod create;
mod exec;
mod failure;
mod files;
mod info;
pub mod keep;
mod key;
mod list;
mod log;
mod mount;
mod processes;
pub mod request;
mod root;
mod running;
mod sandboxes;
mod setup;
pub mod signal;
mod stored;
mod usage;
mod user;
mod view;
mod volumes;

pub use activity::InUse;
pub use attach::{Attached, Sender, Told};
pub use connection::Connection;
pub use create::Prepared;
pub use exec::{Exec, Exit};
pub use failure::Failure;
pub use files::{FileInfo, Files, NewFile};
pub use info::{Boot, Info, State, Usage};
pub use key::Key;
pub use log::{Line, Logs, Since, Stream};
pub use mount::Mount;
pub use request::{BadRequest, Network, Port, Protocol, Pull, Request, Restart, Volume, Where};
pub use running::Running;
pub use sandboxes::{GRACE, Sandboxes};
pub use setup::{Setup, Tmpfs, Ulimit, capability, hostname};
pub use stored::{Ended, Place, Stored, random_id};
pub use volumes::NamedVolume;
