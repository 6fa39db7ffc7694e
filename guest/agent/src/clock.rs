//! The guest's clock, kept at the host's.
//!
//! kvm-clock goes on while the machine's processors stand still, so that usually nothing is to be done. It does not follow
//! a host whose clock was set, and not every host's goes on while the host itself is suspended.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

/// The host's time is as old as its message: a clock that is behind it is wrong for sure, but for what reading takes.
const BEHIND: Duration = Duration::from_millis(20);
/// One that is ahead by less may be right: the message may have waited for a processor.
const AHEAD: Duration = Duration::from_secs(2);

/// Sets the clock if it is wrong by more than the message's age may explain.
///
/// # Errors
/// The kernel's.
pub fn follow(host: Duration) -> Result<(), Errno> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME)?);
    if is_wrong(now, host) {
        clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(host))
    } else {
        Ok(())
    }
}

fn is_wrong(now: Duration, host: Duration) -> bool {
    host.saturating_sub(now) > BEHIND || now.saturating_sub(host) > AHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wrong_clock_is_set() {
        let at = |ms: u64| Duration::from_millis(1_000_000 + ms);
        assert!(!is_wrong(at(0), at(0)));
        assert!(!is_wrong(at(900), at(0)), "the message was late");
        assert!(is_wrong(at(0), at(100)), "behind");
        assert!(is_wrong(at(5000), at(0)), "ahead");
    }
}
