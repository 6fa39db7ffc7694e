//! The specification's profile → rules that are checked and say what seccomp(2) returns.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};

use super::SeccompError;

/// What runc returns where a profile says no errno: `EPERM`.
const ERRNO: u32 = libc::EPERM.unsigned_abs();

/// Arguments of a system call.
const ARGUMENTS: usize = 6;

/// A whole profile.
#[derive(Debug)]
pub struct Profile {
    /// `SECCOMP_RET_*` with its data, for calls without a rule.
    pub default: u32,
    /// Whether that lets calls through.
    pub permissive: bool,
    /// In the profile's order.
    pub calls: Vec<Call>,
    /// Besides the machine's own.
    pub architectures: Vec<Arch>,
    /// `SECCOMP_FILTER_FLAG_*`
    pub flags: u32,
}

/// What a profile says of one name, once or more often.
#[derive(Debug)]
pub struct Call {
    /// Of the system call.
    pub name: String,
    /// Each on its own; none where it says what the default says.
    pub rules: Vec<Rule>,
}

/// If all of its comparisons hold, `action`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Of different arguments.
    pub comparisons: Vec<Comparison>,
    /// `SECCOMP_RET_*` with its data.
    pub action: u32,
}

/// One argument against one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// 0 to 5.
    pub index: u8,
    /// How.
    pub test: Test,
}

/// A test of an argument. The other operators are these the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// `argument & mask == value`
    Equal {
        /// All ones for a plain comparison.
        mask: u64,
        /// Only bits of the mask.
        value: u64,
        /// The other way round.
        not: bool,
    },
    /// `argument >= value`
    AtLeast {
        /// As given.
        value: u64,
        /// The other way round: less.
        not: bool,
    },
    /// `argument > value`
    Above {
        /// As given.
        value: u64,
        /// The other way round: at most.
        not: bool,
    },
}

impl Profile {
    /// Reads and checks a profile.
    ///
    /// # Errors
    /// What can't be had of it.
    pub fn new(seccomp: &LinuxSeccomp) -> Result<Self, SeccompError> {
        if seccomp.listener_path().is_some() {
            return Err(SeccompError::Notify { what: "listenerPath" });
        }
        if seccomp.listener_metadata().is_some() {
            return Err(SeccompError::Notify { what: "listenerMetadata" });
        }
        let default = action(seccomp.default_action(), seccomp.default_errno_ret())?;
        let mut calls = Vec::new();
        for group in seccomp.syscalls().iter().flatten() {
            let action = action(group.action(), group.errno_ret())?;
            let args = group.args().as_deref().unwrap_or_default();
            for name in group.names() {
                if name.is_empty() {
                    return Err(SeccompError::EmptyName);
                }
                let comparisons = comparisons(name, args)?;
                let rules = if action == default { Vec::new() } else { rules(comparisons, action) };
                calls.push(Call { name: name.clone(), rules });
            }
        }
        Ok(Self {
            default,
            permissive: matches!(
                seccomp.default_action(),
                LinuxSeccompAction::ScmpActAllow
                    | LinuxSeccompAction::ScmpActLog
                    // A tracer is expected to answer for calls that it does not know.
                    | LinuxSeccompAction::ScmpActTrace
            ),
            calls,
            architectures: seccomp.architectures().clone().unwrap_or_default(),
            flags: flags(seccomp.flags().as_deref())?,
        })
    }
}

fn rules(comparisons: Vec<Comparison>, action: u32) -> Vec<Rule> {
    let shared = comparisons
        .iter()
        .enumerate()
        .any(|(at, comparison)| comparisons[..at].iter().any(|other| other.index == comparison.index));
    if shared {
        comparisons.into_iter().map(|comparison| Rule { comparisons: vec![comparison], action }).collect()
    } else {
        vec![Rule { comparisons, action }]
    }
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, SeccompError> {
    // The kernel takes 16 bits of data (SECCOMP_RET_DATA); libseccomp and runc cut as well.
    let data = errno.unwrap_or(ERRNO) & libc::SECCOMP_RET_DATA;
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            libc::SECCOMP_RET_KILL_THREAD
        }
        LinuxSeccompAction::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        LinuxSeccompAction::ScmpActErrno => libc::SECCOMP_RET_ERRNO | data,
        LinuxSeccompAction::ScmpActTrace => libc::SECCOMP_RET_TRACE | data,
        LinuxSeccompAction::ScmpActLog => libc::SECCOMP_RET_LOG,
        LinuxSeccompAction::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
        LinuxSeccompAction::ScmpActNotify => return Err(SeccompError::Notify { what: "SCMP_ACT_NOTIFY" }),
    })
}

/// Without any, speculation is left alone, as by runc; an empty list means none.
fn flags(flags: Option<&[LinuxSeccompFilterFlag]>) -> Result<u32, SeccompError> {
    let default = [LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow];
    let mut all = 0;
    for flag in flags.unwrap_or(&default) {
        all |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            // Who installs it has one thread.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                return Err(SeccompError::Notify { what: "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" });
            }
        };
    }
    Ok(u32::try_from(all).unwrap_or_default())
}

fn comparisons(name: &str, args: &[LinuxSeccompArg]) -> Result<Vec<Comparison>, SeccompError> {
    args.iter()
        .map(|arg| match u8::try_from(arg.index()) {
            Ok(index) if usize::from(index) < ARGUMENTS => Ok(Comparison { index, test: test(*arg) }),
            _ => Err(SeccompError::Argument { name: name.to_owned(), index: arg.index() }),
        })
        .collect()
}

fn test(arg: LinuxSeccompArg) -> Test {
    let value = arg.value();
    match arg.op() {
        LinuxSeccompOperator::ScmpCmpEq => Test::Equal { mask: u64::MAX, value, not: false },
        LinuxSeccompOperator::ScmpCmpNe => Test::Equal { mask: u64::MAX, value, not: true },
        // Here the first value is the mask.
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            Test::Equal { mask: value, value: arg.value_two().unwrap_or_default() & value, not: false }
        }
        LinuxSeccompOperator::ScmpCmpGe => Test::AtLeast { value, not: false },
        LinuxSeccompOperator::ScmpCmpLt => Test::AtLeast { value, not: true },
        LinuxSeccompOperator::ScmpCmpGt => Test::Above { value, not: false },
        LinuxSeccompOperator::ScmpCmpLe => Test::Above { value, not: true },
    }
}
