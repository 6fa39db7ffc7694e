//! A thread that is there before what it is for: where no more can be had (a full pid table, memory), that is known while
//! nothing is made yet that somebody has to watch.

use std::{io, sync::mpsc, thread};

type Work = Box<dyn FnOnce() + Send>;

/// Waits for its work; without any, it ends with this.
#[derive(Debug)]
pub struct StandBy(mpsc::Sender<Work>);

impl StandBy {
    /// Starts it.
    ///
    /// # Errors
    /// The system's.
    pub fn new(name: &str) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel::<Work>();
        let wait = move || {
            if let Ok(work) = receiver.recv() {
                work();
            }
        };
        thread::Builder::new().name(name.into()).spawn(wait)?;
        Ok(Self(sender))
    }

    /// Gives it its work.
    pub fn begin(self, work: impl FnOnce() + Send + 'static) {
        // The thread does nothing but wait for this.
        let _ = self.0.send(Box::new(work));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_what_it_is_given() {
        let (sender, done) = mpsc::channel();
        StandBy::new("worker")
            .unwrap()
            .begin(move || sender.send(thread::current().name().map(str::to_owned)).unwrap());
        assert_eq!(done.recv().unwrap().as_deref(), Some("worker"));
    }
}
