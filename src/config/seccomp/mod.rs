//! `linux.seccomp` → the program that the guest's kernel runs at each system call (seccomp(2), classic BPF).
//!
//! Enters: the specification's profile. Leaves: a bounded program for the machine's kernel, the same for the first process
//! and every exec. Pure; what the guest does with it is the agent's. No libseccomp: it would be a C library to ship, and
//! the crates that compile filters know one action per filter.
//!
//! ```text
//!  profile   names, actions, comparisons → checked rules
//!  abi       the calls that the machine's kernel can be asked by: numbers, word size
//!  decide    rules → what happens for each range of numbers
//!  compile   ranges → a binary search: Docker's default profile is 235 instructions, and a call takes ten of them (`bpf`)
//! ```
//!
//! It decides as runc does with libseccomp, whose habits callers' profiles rely on:
//!
//! - A name that this machine's kernel does not have is skipped, and so is a rule that says what the default says.
//! - A rule without comparisons beats those with; of those the first that holds counts.
//! - Comparisons of one rule must all hold, unless two look at the same argument: then one is enough.
//! - Calls newer than every one that the profile names give `ENOSYS`, unless the default lets calls through: programs
//!   then try what older kernels have.
//! - On i386, a rule for `socket` or `semget` is also one for `socketcall` or `ipc` with that call's number.
//! - Calls by an ABI that the profile does not list end the thread. x32, where it is listed, gives `ENOSYS`: the guest's
//!   kernel has none.

mod abi;
mod compile;
mod decide;
mod profile;

use msb_agent::protocol::Seccomp;
use oci_spec::runtime::LinuxSeccomp;

use profile::Profile;

/// Why a profile can't be had. None of Docker's words for a failed command is in these texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeccompError {
    /// `SCMP_ACT_NOTIFY`, `listenerPath` or what goes with them.
    #[error(
        "linux.seccomp: {what} is not supported: the listener on the host can't answer for calls of the machine's \
         kernel. Use SCMP_ACT_ERRNO or SCMP_ACT_TRACE"
    )]
    Notify {
        /// What asks for it.
        what: &'static str,
    },
    /// A system call has six arguments.
    #[error("linux.seccomp: {name} has no argument {index}: use an index from 0 to 5")]
    Argument {
        /// Of which call.
        name: String,
        /// As given.
        index: usize,
    },
    /// A call without a name.
    #[error("linux.seccomp: a name is empty: name the system call or remove it")]
    EmptyName,
    /// More than the kernel takes.
    #[error(
        "linux.seccomp: {length} instructions are more than the {most} that the kernel takes: use fewer comparisons"
    )]
    TooLong {
        /// What it would be.
        length: usize,
        /// [`Seccomp::MAX_PROGRAM`].
        most: usize,
    },
}

/// The filter of a profile.
///
/// # Errors
/// What can't be had of it.
pub fn filter(seccomp: &LinuxSeccomp) -> Result<Seccomp, SeccompError> {
    let profile = Profile::new(seccomp)?;
    let program = compile::compile(&profile, abi::NATIVE)?;
    Ok(Seccomp { flags: profile.flags, program })
}

#[cfg(test)]
mod tests;
