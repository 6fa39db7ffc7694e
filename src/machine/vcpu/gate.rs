//! The gate in front of the guest: while it is closed, no processor executes an instruction of the guest.
//!
//! Enters: processors' threads, one by one, each before KVM_RUN; from outside, the wish to close or to open. Leaves: from
//! [`Gate::close`], the certainty that every processor stands still. Must never know what a processor does.
//!
//! A processor that stands still waits for a condition and costs nothing. The guest's timers are KVM's and go on, but
//! what they would interrupt does not run; kvm-clock goes on too, so that the guest's clocks are right afterwards.

use std::os::unix::thread::RawPthread;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::kick;

/// How long the processors may take to leave the guest.
const PATIENCE: Duration = Duration::from_secs(5);
/// After this the kick is repeated.
const KICK_AGAIN: Duration = Duration::from_millis(2);

/// Some processor does not come out of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The machine's processors do not stand still within {} s: is the host overloaded?", PATIENCE.as_secs())]
pub struct Stuck;

/// One gate for all processors of a machine.
#[derive(Debug, Default)]
pub(in crate::machine) struct Gate {
    closed: AtomicBool,
    threads: Mutex<Threads>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Threads {
    /// Those of all processors that have come and not yet left for good.
    running: Vec<RawPthread>,
    /// How many of them wait here.
    waiting: usize,
}

impl Gate {
    /// One that is closed at first: nobody has come yet, so that nobody is waited for. The default is open.
    pub(in crate::machine) fn closed() -> Self {
        Self { closed: AtomicBool::new(true), ..Self::default() }
    }

    /// Closes it, and returns when every processor stands still. Closed already is as good.
    pub(in crate::machine) fn close(&self) -> Result<(), Stuck> {
        let deadline = Instant::now() + PATIENCE;
        let mut threads = self.threads();
        // Before the first kick: who leaves the guest by it finds the gate closed.
        self.closed.store(true, Ordering::SeqCst);
        while threads.waiting < threads.running.len() {
            if Instant::now() >= deadline {
                drop(threads);
                self.open();
                return Err(Stuck);
            }
            // Under the lock, without which no thread ends.
            threads.running.iter().for_each(|thread| kick::kick(*thread));
            let waited = self.changed.wait_timeout(threads, KICK_AGAIN);
            threads = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Opens it. Open already is as good.
    pub(in crate::machine) fn open(&self) {
        let threads = self.threads();
        self.closed.store(false, Ordering::SeqCst);
        drop(threads);
        self.changed.notify_all();
    }

    /// Whether it is closed.
    pub(in crate::machine) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Counts the calling thread among the processors' while the guard lives.
    pub(super) fn enter(&self) -> Place<'_> {
        let thread = kick::own_thread();
        self.threads().running.push(thread);
        Place { gate: self, thread }
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A processor's thread at the gate.
#[derive(Debug)]
pub(super) struct Place<'a> {
    gate: &'a Gate,
    thread: RawPthread,
}

impl Place<'_> {
    /// Waits while the gate is closed; whether it was.
    pub(super) fn pass(&self) -> bool {
        if !self.gate.is_closed() {
            return false;
        }
        let mut threads = self.gate.threads();
        threads.waiting += 1;
        self.gate.changed.notify_all();
        let waited = self.gate.changed.wait_while(threads, |_| self.gate.is_closed());
        waited.unwrap_or_else(PoisonError::into_inner).waiting -= 1;
        true
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut threads = self.gate.threads();
        threads.running.retain(|thread| *thread != self.thread);
        drop(threads);
        self.gate.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::thread;

    use super::*;

    #[test]
    fn who_comes_to_a_closed_gate_waits_until_it_opens() {
        kick::install().unwrap();
        let (gate, turns, end) =
            (Arc::new(Gate::default()), Arc::new(AtomicU32::new(0)), AtomicBool::new(false));
        let end = Arc::new(end);
        let processors: Vec<_> = (0..3)
            .map(|_| {
                let (gate, turns, end) = (Arc::clone(&gate), Arc::clone(&turns), Arc::clone(&end));
                thread::spawn(move || {
                    let place = gate.enter();
                    while !end.load(Ordering::SeqCst) {
                        place.pass();
                        turns.fetch_add(1, Ordering::SeqCst);
                        // A long stay in the guest, which a kick ends.
                        thread::sleep(Duration::from_micros(200));
                    }
                })
            })
            .collect();
        for _ in 0..20 {
            gate.close().unwrap();
            let still = turns.load(Ordering::SeqCst);
            thread::sleep(Duration::from_millis(5));
            assert_eq!(turns.load(Ordering::SeqCst), still);
            gate.open();
            while turns.load(Ordering::SeqCst) == still {
                thread::yield_now();
            }
        }
        gate.close().unwrap();
        end.store(true, Ordering::SeqCst);
        gate.open();
        processors.into_iter().for_each(|thread| thread.join().unwrap());
        // Nobody is there any more.
        gate.close().unwrap();
    }
}
