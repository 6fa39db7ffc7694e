//! `process.rlimits`.

use msb_agent::protocol::{Failure, Rlimit};

use crate::container::{at, plain, setup};
use crate::sys;

/// Names and numbers of setrlimit(2) (asm-generic/resource.h).
const NAMES: [(&str, u32); 16] = [
    ("RLIMIT_AS", libc::RLIMIT_AS),
    ("RLIMIT_CORE", libc::RLIMIT_CORE),
    ("RLIMIT_CPU", libc::RLIMIT_CPU),
    ("RLIMIT_DATA", libc::RLIMIT_DATA),
    ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", libc::RLIMIT_NICE),
    ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", libc::RLIMIT_NPROC),
    ("RLIMIT_RSS", libc::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", libc::RLIMIT_STACK),
];

/// Sets each on this process.
///
/// # Errors
/// [`Failure::Setup`] with the limit's name.
pub fn set(limits: &[Rlimit]) -> Result<(), Failure> {
    for limit in limits {
        let step = || format!("set the limit {}", limit.kind);
        let (_, number) = NAMES
            .iter()
            .find(|(name, _)| *name == limit.kind)
            .ok_or_else(|| setup(step(), &"no such limit"))?;
        sys::set_limit(*number, limit.soft, limit.hard).map_err(plain).map_err(at(step))?;
    }
    Ok(())
}
