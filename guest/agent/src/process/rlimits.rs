//! `process.rlimits`, and the limits that a process has of its caller on the host.

use msb_agent::protocol::{Failure, Process, Rlimit};

use crate::container::cgroup::files;
use crate::container::{at, plain, setup};
use crate::{log, sys};

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

/// The most that a process may be allowed to have open (proc(5), `/proc/sys/fs/nr_open`).
const NR_OPEN: &str = "/proc/sys/fs/nr_open";
/// The most that it can be set to (fs/file_table.c, `sysctl_nr_open_max`): what fits an `int`, in whole words of bits.
const NR_OPEN_MAX: u64 = 0x7fff_ffff & !63;

/// In the agent, before the process is made: the kernel allows as many open files as any of its limits. What can't be
/// allowed is told by [`set`].
pub fn make_room(process: &Process) {
    let wanted =
        effective(process).filter(|limit| limit.kind == "RLIMIT_NOFILE").map(|limit| limit.hard).max();
    let Some(wanted) = wanted.map(|hard| hard.min(NR_OPEN_MAX)) else { return };
    let now = files::read_path(NR_OPEN).ok().and_then(|text| text.trim().parse::<u64>().ok());
    if now.is_some_and(|now| now < wanted)
        && let Err(error) = files::write_path(NR_OPEN, &wanted.to_string())
    {
        log::failure("allow more open files", &error);
    }
}

/// Sets each on this process.
///
/// # Errors
/// [`Failure::Setup`] with the limit's name.
pub fn set(process: &Process) -> Result<(), Failure> {
    for limit in effective(process) {
        let step = || format!("set the limit {}", limit.kind);
        let (_, number) = NAMES
            .iter()
            .find(|(name, _)| *name == limit.kind)
            .ok_or_else(|| setup(step(), &"no such limit"))?;
        sys::set_limit(*number, limit.soft, limit.hard).map_err(plain).map_err(at(step))?;
    }
    Ok(())
}

/// Its own, and those of its caller that it does not name.
fn effective(process: &Process) -> impl Iterator<Item = &Rlimit> {
    let named = |kind: &str| process.rlimits.iter().any(|limit| limit.kind == kind);
    process.inherited_rlimits.iter().filter(move |limit| !named(&limit.kind)).chain(&process.rlimits)
}
