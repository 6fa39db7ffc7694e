//! A checked process → the agent's.

use msb_agent::protocol::{Capabilities, Process, Rlimit, Seccomp, TerminalSize, User};
use oci_spec::runtime::Capabilities as Names;

use super::{ConfigError, labels, schedule};
use crate::bundle;

/// The process as the agent runs it. Whether stdin comes by a stream is the caller's to know, and so is what it
/// has by inheritance. The filter of system calls
/// is the container's: an exec has none of its own, and the agent gives it that one.
///
/// # Errors
/// What it asks that can't be had in a machine of its own.
pub fn process(
    process: &bundle::Process,
    stdin: bool,
    seccomp: Option<Seccomp>,
) -> Result<Process, ConfigError> {
    labels::check(process)?;
    let user = process.user();
    let (rows, columns) = process.console_size();
    Ok(Process {
        args: process.args().to_vec(),
        env: process.env().to_vec(),
        cwd: process.cwd().to_owned(),
        user: User {
            uid: user.uid(),
            gid: user.gid(),
            additional_gids: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask(),
        },
        capabilities: process.capabilities().map(|sets| Capabilities {
            bounding: sorted(sets.bounding().as_ref()),
            effective: sorted(sets.effective().as_ref()),
            permitted: sorted(sets.permitted().as_ref()),
            inheritable: sorted(sets.inheritable().as_ref()),
            ambient: sorted(sets.ambient().as_ref()),
        }),
        rlimits: process
            .rlimits()
            .iter()
            .map(|limit| Rlimit { kind: limit.typ().to_string(), soft: limit.soft(), hard: limit.hard() })
            .collect(),
        inherited_rlimits: Vec::new(),
        no_new_privileges: process.no_new_privileges(),
        seccomp,
        oom_score_adj: process.oom_score_adj(),
        inherited_oom_score_adj: None,
        scheduler: process.scheduler().map(schedule::scheduler).transpose()?,
        io_priority: process.io_priority().map(schedule::io_priority),
        cpu_affinity: process.cpu_affinity().map(schedule::processors).transpose()?,
        terminal: process.terminal().then_some(TerminalSize { rows, columns }),
        stdin,
    })
}

/// With the kernel's prefix, in one order: the set has none.
fn sorted(set: Option<&Names>) -> Vec<String> {
    let mut names: Vec<String> = set.into_iter().flatten().map(|name| format!("CAP_{name}")).collect();
    names.sort_unstable();
    names
}
