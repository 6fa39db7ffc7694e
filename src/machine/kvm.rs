//! The door to KVM: open it, check what it can, and say what to do when it can't.
//!
//! Enters: nothing. Leaves: a [`Kvm`] that has all we need, or a [`KvmProblem`].
//!
//! Some `/dev/kvm` only emulate the guest's kernel mode and lack instructions that every kernel uses. Recognising that
//! takes a run of a few instructions ([`boot::check`]): in a throw-away machine by [`probe`] (creating and
//! destroying one costs about a millisecond and waits for the host's RCU, too much for each container), and on the
//! first processor of each real machine, in its own thread, before it boots (a few microseconds).

use std::io::{self, ErrorKind};

use kvm_ioctls::{Cap, Kvm};
use thiserror::Error;

use super::memory::{self, Backing};
use super::{boot, vcpu};

/// `KVM_API_VERSION`, the only one there is (Documentation/virt/kvm/api.rst, section 4.1).
const API_VERSION: i32 = 12;

/// What the host must be able to do.
const REQUIRED: &[Cap] = &[
    Cap::Irqchip,
    Cap::Ioeventfd,
    Cap::Irqfd,
    Cap::UserMemory,
    Cap::ImmediateExit,
    #[cfg(target_arch = "x86_64")]
    Cap::ExtCpuid,
    #[cfg(target_arch = "x86_64")]
    Cap::SetTssAddr,
];

/// Why there can be no virtual machine here. The texts avoid the words by which Docker tells a missing command
/// ("no such file", "permission denied" and their like) from a failed start; so there is no source from the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KvmProblem {
    /// There is no device.
    #[error(
        "This host has no /dev/kvm; enable virtualisation in the firmware (or nested virtualisation for this virtual machine), then `modprobe kvm_intel` or `modprobe kvm_amd`"
    )]
    Missing,
    /// The device is not for us.
    #[error(
        "This user may not open /dev/kvm; run as root, or add the user to the group that owns it (`usermod -aG kvm USER`) and log in again"
    )]
    NoPermission,
    /// The device does not open for another reason.
    #[error("/dev/kvm does not open (errno {errno}); see `dmesg | grep -i kvm`")]
    Open {
        /// Linux error number.
        errno: i32,
    },
    /// Another API than the one since 2007.
    #[error(
        "/dev/kvm speaks version {version} of the KVM API, {API_VERSION} is needed; update the host's kernel"
    )]
    OldApi {
        /// What it said.
        version: i32,
    },
    /// Something that we need is not there.
    #[error("KVM of this host lacks {capability}; update the host's kernel (5.10 or later)")]
    Capability {
        /// Name in the KVM API.
        capability: String,
    },
    /// The device emulates what a processor should run.
    #[error(
        "This host's /dev/kvm only emulates kernel-mode instructions and cannot run a kernel ({exit}); use a host with VT-x or AMD-V (or with nested virtualisation enabled), or the virtual KVM host of `cargo dev`"
    )]
    OnlyEmulates {
        /// What KVM said instead of running the instructions.
        exit: String,
    },
    /// KVM works in threads of its own, which count as those of who has the machine.
    #[error("KVM can't begin a thread of its own; check `ulimit -u` and the pids limit of the cgroup")]
    NoThread,
    /// KVM refused an ordinary request.
    #[error("KVM refuses to {what} (errno {errno}); check the host's memory and limits")]
    Refused {
        /// What was asked of it.
        what: &'static str,
        /// Linux error number.
        errno: i32,
    },
}

impl KvmProblem {
    /// For `map_err`: the request that KVM refused.
    pub(super) fn refused(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Self {
        move |error| Self::Refused { what, errno: error.errno() }
    }
}

/// How often a processor has been put off, which does not wait for its start: KVM_RUN was EAGAIN.
///
/// KVM begins the thread that brings huge pages back (`kvm-nx-lpage-recovery`) when a machine is first run, since 6.14 and the
/// stable kernels that took that over, and says so as long as it gets none.
#[derive(Debug, Default)]
pub(super) struct PutOff(u32);

impl PutOff {
    /// Some hundredths of a second.
    const MOST: u32 = 1000;

    /// Counts one more.
    ///
    /// # Errors
    /// [`KvmProblem::NoThread`]: it is not worth another try.
    pub(super) fn once_more(&mut self) -> Result<(), KvmProblem> {
        self.0 += 1;
        if self.0 > Self::MOST { Err(KvmProblem::NoThread) } else { Ok(()) }
    }
}

/// Opens KVM and checks what needs no machine.
pub fn open() -> Result<Kvm, KvmProblem> {
    let kvm = Kvm::new().map_err(|error| opening(error.errno()))?;
    let version = kvm.get_api_version();
    if version != API_VERSION {
        return Err(KvmProblem::OldApi { version });
    }
    match REQUIRED.iter().find(|capability| !kvm.check_extension(**capability)) {
        Some(capability) => Err(KvmProblem::Capability { capability: format!("{capability:?}") }),
        None => Ok(kvm),
    }
}

fn opening(errno: i32) -> KvmProblem {
    match io::Error::from_raw_os_error(errno).kind() {
        ErrorKind::NotFound => KvmProblem::Missing,
        ErrorKind::PermissionDenied => KvmProblem::NoPermission,
        // The node is there, the driver is not.
        _ if errno == libc::ENODEV || errno == libc::ENXIO => KvmProblem::Missing,
        _ => KvmProblem::Open { errno },
    }
}

/// Whether this host can run a virtual machine: [`open`], and the instruction check in a throw-away machine. For
/// `doctor`; takes a millisecond of work and some tens of waiting.
pub fn probe() -> Result<(), KvmProblem> {
    let kvm = open()?;
    let vm = vcpu::setup::machine(&kvm)?;
    let memory = memory::reserve(memory::MIN_MIB, Backing::Anonymous)
        .and_then(|memory| memory::register(&vm, &memory).map(|()| memory))
        .map_err(|_| KvmProblem::Refused {
            what: "take memory for a virtual machine",
            errno: libc::ENOMEM,
        })?;
    let mut processors = vcpu::setup::processors(&kvm, &vm, 1)?;
    processors.iter_mut().try_for_each(|processor| boot::check::probe(&memory, processor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_usable_or_says_why_not() {
        match probe() {
            Ok(()) => {}
            Err(
                problem @ (KvmProblem::Missing | KvmProblem::NoPermission | KvmProblem::OnlyEmulates { .. }),
            ) => {
                println!("Recognised: {problem}");
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn who_is_put_off_again_and_again_is_told_why() {
        let mut put_off = PutOff::default();
        for _ in 0..PutOff::MOST {
            put_off.once_more().unwrap();
        }
        assert_eq!(put_off.once_more(), Err(KvmProblem::NoThread));
    }

    #[test]
    fn texts_never_look_like_a_missing_command_to_docker() {
        let problems = [
            opening(libc::ENOENT),
            opening(libc::EACCES),
            opening(libc::ENODEV),
            opening(libc::EISDIR),
            KvmProblem::OldApi { version: 11 },
            KvmProblem::Capability { capability: "Irqfd".into() },
            KvmProblem::OnlyEmulates { exit: "InternalError".into() },
            KvmProblem::NoThread,
            KvmProblem::refused("create a virtual machine")(kvm_ioctls::Error::new(libc::ENOENT)),
        ];
        assert_eq!((&problems[0], &problems[1]), (&KvmProblem::Missing, &KvmProblem::NoPermission));
        for problem in problems {
            let text = problem.to_string().to_lowercase();
            for phrase in [
                "no such file or directory",
                "permission denied",
                "executable file not found",
                "is a directory",
            ] {
                assert!(!text.contains(phrase), "{text}");
            }
            assert!(std::error::Error::source(&problem).is_none());
        }
    }
}
