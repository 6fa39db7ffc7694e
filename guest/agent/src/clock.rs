//! The guest's clock, kept at the host's.
//!
//! Where the kernel has kvm-clock it knows the time from its first line; on Arm nobody tells it ([`begin`]).
//!
//! kvm-clock goes on while the machine's processors stand still, so that usually nothing is to be done. It does not follow
//! a host whose clock was set or is corrected by NTP, and not every host's goes on while the host itself is suspended.
//! So the clock is set after a pause, by the host's word ([`follow`]), and looked after while the guest runs, by a call to
//! the hypervisor or a question to the host ([`Keeper`]): a container that sets the clock itself sets it for half a minute.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeSpec, TimeVal};
use nix::time::{ClockId, clock_gettime, clock_settime};

use crate::{sys, transport};

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

/// The host's clock (`ptp_kvm`: a hypercall, so no delay is in its answer). Not there where the host's clock is not
/// its processors' counter, as where its kernel has found that unsteady.
const HOST: &str = "/dev/ptp0";
/// Less is left alone.
const EXACT: Duration = Duration::from_millis(1);
/// Up to here the clock is made to run slower or faster for a while (by 1 in 2000), so that no program sees it jump;
/// beyond, the host's was set, and the guest's is too.
const SLEWED: Duration = Duration::from_millis(100);
/// Seconds to wait for the host's word: who waits has more to do.
const PATIENCE: i64 = 2;

/// A clock that says less was never set.
const SET: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Sets a clock that nobody has set, from the hypervisor; where that can't say the time, the first container's [`Keeper`] asks.
///
/// # Errors
/// The kernel's.
pub fn begin() -> std::io::Result<()> {
    if is_set() {
        return Ok(());
    }
    let Reading { host, .. } = hypercall(&File::open(HOST)?)?;
    Ok(clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(host))?)
}

/// Whether anybody has set the clock.
pub fn is_set() -> bool {
    clock_gettime(ClockId::CLOCK_REALTIME).is_ok_and(|now| Duration::from(now) >= SET)
}

/// Keeps the clock at the host's.
#[derive(Debug)]
pub struct Keeper(Option<File>);

/// What the host's clock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    host: Duration,
    /// It may be off by as much, either way.
    doubt: Duration,
}

/// What is to be done about a clock.
#[derive(Debug, PartialEq, Eq)]
enum Correction {
    Slew { microseconds: i64 },
    Set,
}

impl Keeper {
    /// Finds who knows the host's clock.
    pub fn new() -> Self {
        Self(File::open(HOST).ok())
    }

    /// Compares, and corrects.
    ///
    /// # Errors
    /// Those of asking, and the kernel's.
    pub fn keep(&self) -> std::io::Result<()> {
        // The host's counter may have become no clock since: then the hypercall fails from then on.
        let reading = match self.0.as_ref().map(hypercall) {
            Some(Ok(reading)) => reading,
            Some(Err(_)) | None => ask()?,
        };
        let now = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME)?);
        match correction(now, reading) {
            None => {}
            Some(Correction::Slew { microseconds }) => sys::slew_clock(microseconds)?,
            Some(Correction::Set) => {
                clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(reading.host))?;
            }
        }
        Ok(())
    }
}

fn hypercall(device: &File) -> Result<Reading, Errno> {
    // `FD_TO_CLOCKID` (kernel, tools/testing/selftests/ptp/testptp.c): how a clock is named that is a device.
    let clock = ClockId::from_raw((!device.as_raw_fd() << 3) | 3);
    Ok(Reading { host: clock_gettime(clock)?.into(), doubt: Duration::ZERO })
}

/// The host's answer was true at some moment between question and answer: taken for the middle (as RFC 5905 does, section 8).
fn ask() -> std::io::Result<Reading> {
    let asked = Instant::now();
    let mut stream = transport::time()?;
    setsockopt(&stream, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)?;
    Ok(middle(u64::from_le_bytes(answer), asked.elapsed()))
}

fn middle(nanoseconds: u64, took: Duration) -> Reading {
    let doubt = took / 2;
    Reading { host: Duration::from_nanos(nanoseconds).saturating_add(doubt), doubt }
}

fn correction(now: Duration, Reading { host, doubt }: Reading) -> Option<Correction> {
    let off = now.abs_diff(host);
    if off < EXACT.max(doubt) {
        None
    } else if off < SLEWED {
        let microseconds = i64::try_from(off.as_micros()).unwrap_or(0);
        Some(Correction::Slew { microseconds: if host > now { microseconds } else { -microseconds } })
    } else {
        Some(Correction::Set)
    }
}

fn is_wrong(now: Duration, host: Duration) -> bool {
    host.saturating_sub(now) > BEHIND || now.saturating_sub(host) > AHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_is_slewed_and_much_is_set() {
        let at = |us: u64| Duration::from_micros(5_000_000 + us);
        let sure = |us: u64| Reading { host: at(us), doubt: Duration::ZERO };
        assert_eq!(correction(at(0), sure(999)), None);
        assert_eq!(correction(at(0), sure(1500)), Some(Correction::Slew { microseconds: 1500 }));
        assert_eq!(correction(at(99_000), sure(0)), Some(Correction::Slew { microseconds: -99_000 }));
        assert_eq!(correction(at(100_000), sure(0)), Some(Correction::Set));
        assert_eq!(correction(at(0), sure(3_600_000_000)), Some(Correction::Set));
    }

    #[test]
    fn what_a_slow_answer_may_explain_is_left_alone() {
        let second = Duration::from_secs(1);
        // Ten seconds for the host, when it was asked at five and answered at seven.
        let reading = middle(10_000_000_000, 2 * second);
        assert_eq!(reading, Reading { host: 11 * second, doubt: second });
        let at = |ms: u64| Duration::from_millis(ms);
        assert_eq!(correction(at(10_001), reading), None);
        assert_eq!(correction(at(11_999), reading), None);
        assert_eq!(correction(at(12_000), reading), Some(Correction::Set));
    }

    #[test]
    fn only_a_wrong_clock_is_set() {
        let at = |ms: u64| Duration::from_millis(1_000_000 + ms);
        assert!(!is_wrong(at(0), at(0)));
        assert!(!is_wrong(at(900), at(0)), "the message was late");
        assert!(is_wrong(at(0), at(100)), "behind");
        assert!(is_wrong(at(5000), at(0)), "ahead");
    }
}
