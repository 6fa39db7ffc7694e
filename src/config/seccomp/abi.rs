//! The ways in which a program can call the machine's kernel, and the numbers of calls in each.

/// Which family of ABIs a kernel has; its first member is its own.
pub type Family = &'static [Abi];

/// One calling convention.
#[derive(Debug, Clone, Copy)]
pub struct Abi {
    /// `seccomp_data.arch` (`AUDIT_ARCH_*`, linux/audit.h).
    pub audit: u32,
    /// Whether arguments are 64 bits wide; otherwise the upper halves are 0.
    pub wide: bool,
    /// Whether the numbers of x32 begin at bit 30 (`__X32_SYSCALL_BIT`, asm/unistd.h).
    pub has_x32: bool,
    /// The number of a call.
    pub number: fn(&str) -> Option<u32>,
    /// What the specification calls it.
    pub name: oci_spec::runtime::Arch,
    /// The call that does several, and the number there of the one named.
    pub multiplexed: fn(&str) -> Option<(&'static str, u64)>,
}

/// Of the machines of this build.
#[cfg(target_arch = "x86_64")]
pub const NATIVE: Family = x86::FAMILY;
/// Of the machines of this build.
#[cfg(target_arch = "aarch64")]
pub const NATIVE: Family = arm::FAMILY;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::str::FromStr;

    use oci_spec::runtime::Arch;
    use syscalls::{x86, x86_64};

    use super::{Abi, Family, i386_multiplexed};
    use crate::bpf::audit;

    /// The guest's kernel runs programs of both (`CONFIG_IA32_EMULATION`), and none of x32.
    pub const FAMILY: Family = &[
        Abi {
            audit: audit::X86_64,
            wide: true,
            has_x32: true,
            number: |name| Some(x86_64::Sysno::from_str(name).ok()? as u32),
            name: Arch::ScmpArchX86_64,
            multiplexed: |_| None,
        },
        Abi {
            audit: audit::I386,
            wide: false,
            has_x32: false,
            number: |name| Some(x86::Sysno::from_str(name).ok()? as u32),
            name: Arch::ScmpArchX86,
            multiplexed: i386_multiplexed,
        },
    ];
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::str::FromStr;

    use oci_spec::runtime::Arch;
    use syscalls::{aarch64, arm};

    use super::{Abi, Family};
    use crate::bpf::audit;

    pub const FAMILY: Family = &[
        Abi {
            audit: audit::AARCH64,
            wide: true,
            has_x32: false,
            number: |name| Some(aarch64::Sysno::from_str(name).ok()? as u32),
            name: Arch::ScmpArchAarch64,
            multiplexed: |_| None,
        },
        Abi {
            audit: audit::ARM,
            wide: false,
            has_x32: false,
            number: |name| Some(arm::Sysno::from_str(name).ok()? as u32),
            name: Arch::ScmpArchArm,
            multiplexed: |_| None,
        },
    ];
}

/// Calls that programs of i386 may also make through `socketcall` (linux/net.h) and `ipc` (linux/ipc.h).
#[cfg(target_arch = "x86_64")]
fn i386_multiplexed(name: &str) -> Option<(&'static str, u64)> {
    const SOCKETCALL: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    const IPC: [(&str, u64); 12] = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ];
    if let Some((_, number)) =
        (1..).zip(SOCKETCALL).map(|(number, call)| (call, number)).find(|(call, _)| *call == name)
    {
        return Some(("socketcall", number));
    }
    IPC.iter().find(|(call, _)| *call == name).map(|(_, number)| ("ipc", *number))
}
