//! Work on a thread of its own, for what changes the thread that does it (its namespaces, its root, its working directory).

use std::{io, thread};

/// What `work` gives, done on a thread that is called `name` and ends with it.
///
/// # Errors
/// The thread can't be had, or has panicked.
pub fn apart<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let thread = thread::Builder::new().name(name.into()).spawn(work)?;
    thread.join().map_err(|_| io::ErrorKind::Other.into())
}
