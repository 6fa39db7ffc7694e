//! What is known of each container, kept on disk between two commands.
//!
//! Enters and leaves: a [`Record`] per container, and small JSON files beside it whose types only the caller
//! knows. It must never know of the specification, the machine, or how a container is made.
//!
//! ```text
//!  ROOT/             --root, 0700
//!    ID/             made exclusively, 0700: who makes it owns the id
//!      lock          held (flock) by the verbs that change the container
//!      state.json    the Record; replaced as a whole (temporary file, fsync, rename)
//!      exit.json     the Exit, from the container's own process
//!      NAME.json     what a caller keeps here, in the same way
//! ```
//!
//! What is stored is what was done; whether the process still lives is asked of `/proc` each time ([`Status`]).

mod error;
mod exit;
mod file;
mod id;
mod liveness;
mod record;
mod store;

pub use error::StateError;
pub use exit::Exit;
pub use file::{load, save};
pub use id::{BadId, Id};
pub use liveness::Process;
pub use record::{Pod, Record, Stage, Status, VERSION};
pub use store::{Entry, Reservation, Store};
