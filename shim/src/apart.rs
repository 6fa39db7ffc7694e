//! Work that blocks: each on a thread of its own, where one can be had.
//!
//! The executor's own pool ends the whole process where the system has no thread left, and its containers with it.

use std::thread;

use tokio::sync::oneshot;

use crate::failure::Failure;

/// Does `work`, to its end, also when nobody waits for it any more.
///
/// # Errors
/// [`Failure::Thread`], and nothing of it is done; or its own.
pub async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (done, told) = oneshot::channel();
    let work = move || {
        // Who asked may have gone.
        let _ = done.send(work());
    };
    thread::Builder::new().name("request".into()).spawn(work).map_err(Failure::Thread)?;
    told.await.unwrap_or_else(|_| Err(Failure::Broken("The request was given up".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_done_elsewhere_and_a_panic_is_a_failure() {
        let here = thread::current().id();
        assert_ne!(apart(move || Ok(thread::current().id())).await.unwrap(), here);
        let lost = apart::<()>(|| panic!("on purpose")).await.unwrap_err();
        assert!(matches!(lost, Failure::Broken(_)), "{lost}");
    }
}
