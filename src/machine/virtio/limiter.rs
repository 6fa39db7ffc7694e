//! How much a device does in a second: one bucket of tokens for bytes, one for operations.
//!
//! Enters: limits, and what was done. Leaves: whether there may be more now, and an event when there may again. Nobody sleeps:
//! a device that may do no more leaves its chains in the queue, and its thread serves the others.
//!
//! What is done is taken from the buckets afterwards, at its whole size, so that they can be in debt: a request that is larger
//! than a burst is possible, and the next one waits for it. The buckets outlive a reset: a guest has nothing from that.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use vmm_sys_util::epoll::EventSet;

use crate::config::{Flow, Throttle};
use crate::machine::events::Watcher;

/// Parts of a token: one is what a rate of one in a second gives in a nanosecond.
const PARTS: i128 = 1_000_000_000;

/// One bucket.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    flow: Flow,
    /// In parts; below zero: debt.
    level: i128,
    /// When it was filled up to that level.
    at: Instant,
}

impl Bucket {
    /// Full.
    fn new(flow: Flow, now: Instant) -> Self {
        Self { flow, level: i128::from(flow.burst) * PARTS, at: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = i128::try_from(now.saturating_duration_since(self.at).as_nanos()).unwrap_or(i128::MAX);
        let more = passed.saturating_mul(self.flow.per_second.into());
        self.level = self.level.saturating_add(more).min(i128::from(self.flow.burst) * PARTS);
        self.at = self.at.max(now);
    }

    fn take(&mut self, tokens: u64) {
        self.level = self.level.saturating_sub(i128::from(tokens) * PARTS);
    }

    /// How long until there is a token; none when there is one.
    fn wait(&self) -> Option<Duration> {
        let lacking = PARTS - self.level;
        if lacking <= 0 {
            return None;
        }
        let rate = i128::from(self.flow.per_second);
        let nanoseconds = (lacking + rate - 1) / rate;
        Some(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
    }
}

/// The limits of a device, or of one of its directions.
#[derive(Debug)]
pub struct Limiter {
    bytes: Option<Bucket>,
    operations: Option<Bucket>,
    timer: TimerFd,
}

/// The timer is set to this at most, and then again.
const LONGEST: Duration = Duration::from_secs(3600);

impl Limiter {
    /// None: there are no limits.
    ///
    /// # Errors
    /// No descriptor for a timer.
    pub fn new(throttle: Throttle) -> io::Result<Option<Self>> {
        if throttle.is_none() {
            return Ok(None);
        }
        let now = Instant::now();
        let bucket = |flow: Option<Flow>| flow.map(|flow| Bucket::new(flow, now));
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        Ok(Some(Self { bytes: bucket(throttle.bytes), operations: bucket(throttle.operations), timer }))
    }

    /// Calls the device with that id when it may go on. By edges: nobody has to read the timer.
    ///
    /// # Errors
    /// As watching any descriptor.
    pub fn watch(&self, watcher: &Watcher, id: u32) -> io::Result<()> {
        watcher.watch(self.timer.as_fd(), id, EventSet::IN | EventSet::EDGE_TRIGGERED)
    }

    /// The opposite.
    pub fn unwatch(&self, watcher: &Watcher) {
        // Not watched when the activation failed.
        let _ = watcher.unwatch(self.timer.as_fd());
    }

    /// Whether one more operation may begin. If not, the device is called when it may.
    ///
    /// # Errors
    /// The timer's.
    pub fn may(&mut self) -> io::Result<bool> {
        let now = Instant::now();
        let buckets = [&mut self.bytes, &mut self.operations].into_iter().flatten();
        let wait = buckets
            .filter_map(|bucket| {
                bucket.fill(now);
                bucket.wait()
            })
            .max();
        let Some(wait) = wait else { return Ok(true) };
        let after = TimeSpec::from_duration(wait.clamp(Duration::from_nanos(1), LONGEST));
        self.timer.set(Expiration::OneShot(after), TimerSetTimeFlags::empty())?;
        Ok(false)
    }

    /// One operation of so many bytes was begun.
    pub fn took(&mut self, bytes: u64) {
        if let Some(bucket) = &mut self.bytes {
            bucket.take(bytes);
        }
        if let Some(bucket) = &mut self.operations {
            bucket.take(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(part: u64) -> Duration {
        Duration::from_secs(1) / u32::try_from(part).unwrap()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Flow { per_second: 10, burst: 3 }, start);
        for _ in 0..3 {
            assert_eq!(bucket.wait(), None);
            bucket.take(1);
        }
        assert_eq!(bucket.wait(), Some(second(10)));
        bucket.fill(start + second(20));
        assert_eq!(bucket.wait(), Some(second(20)));
        bucket.fill(start + second(10));
        assert_eq!(bucket.wait(), None);
        // A clock that goes back gives nothing.
        bucket.take(1);
        bucket.fill(start);
        assert_eq!(bucket.wait(), Some(second(10)));
        // What is larger than the burst is possible, and waited for.
        bucket.fill(start + Duration::from_secs(100));
        bucket.take(13);
        assert_eq!(bucket.wait(), Some(second(10) * 11));
        bucket.fill(start + Duration::from_secs(1_000_000));
        bucket.take(3);
        assert_eq!(bucket.wait(), Some(second(10)));
    }

    proptest! {
        /// Whoever asks, however often and for how much: what was let through is never more than the burst, the rate's
        /// share of the time, and the one operation that was larger than what was left. And who waits as told may go on.
        #[test]
        fn never_more_than_the_rate(
            per_second in 1_u64..1 << 40,
            burst in 1_u64..1 << 40,
            steps in proptest::collection::vec((0_u64..1 << 34, 0_u64..1 << 42, any::<bool>()), 1..100),
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::new(Flow { per_second, burst }, start);
            let (mut now, mut taken, mut largest) = (start, 0_u128, 0_u128);
            for (pause, size, patient) in steps {
                now += Duration::from_nanos(pause);
                bucket.fill(now);
                if let (Some(wait), true) = (bucket.wait(), patient) {
                    now += wait;
                    bucket.fill(now);
                    prop_assert_eq!(bucket.wait(), None, "who has waited as long as told may go on");
                }
                if bucket.wait().is_none() {
                    bucket.take(size);
                    taken += u128::from(size);
                    largest = largest.max(size.into());
                }
                let share = (now - start).as_nanos() * u128::from(per_second) / 1_000_000_000;
                prop_assert!(taken <= u128::from(burst) + share + largest, "{} in {:?}", taken, now - start);
            }
        }
    }
}
