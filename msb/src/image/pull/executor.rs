//! What drives the clients of registries, on the thread that asks for it.
//!
//! Names are looked up on a thread beside it, which tokio starts with the first one, and ends the program where it gets none. So
//! that thread is asked for here, where there is still somebody to be told, and it stays for as long as the executor.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// Longer than anything takes that an executor is for.
const FOR_EVER: Duration = Duration::from_secs(7 * 24 * 3600);

/// One executor, with one thread for what waits.
///
/// # Errors
/// No thread can be started.
pub(super) fn executor() -> io::Result<Runtime> {
    // tokio does not say whether it can; what can be had now can be had a moment later.
    thread::Builder::new().name("trial".into()).spawn(|| ())?.join().map_err(|_| io::ErrorKind::Other)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_keep_alive(FOR_EVER)
        .build()?;
    runtime.block_on(runtime.spawn_blocking(|| ())).map_err(io::Error::other)?;
    Ok(runtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_waits_has_the_one_thread() {
        let runtime = executor().unwrap();
        let (first, second, third) = runtime.block_on(async {
            let whose = || runtime.spawn_blocking(|| thread::current().id());
            tokio::join!(whose(), whose(), whose())
        });
        let first = first.unwrap();
        assert_ne!(first, thread::current().id());
        assert_eq!([second.unwrap(), third.unwrap()], [first; 2]);
    }
}
