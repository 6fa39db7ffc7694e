//! Requests that are on no list, to what a VMM has open: each ends a thread of any kind.
//!
//! To who is not held the kernel does them, or reads first what they are told, which is nothing here: so each is one that there
//! is, and the filter alone holds it.

use nix::libc::{self, c_long};

use super::{Held, NULL};

/// What a request is made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// KVM itself, from which a VMM has its machine.
    Kvm,
    /// The machine.
    Machine,
    /// One of its processors.
    Processor,
    /// A tap.
    Tap,
    /// The kernel's device for a tap.
    Vhost,
}

/// What the kernel says to who is not held: that there is nothing to be read, that it is done, or a descriptor.
const READS: &str = "EFAULT";
const DOES: &str = "DONE";
const GIVES: &str = "a descriptor";

/// By the kernel's names and numbers: linux/kvm.h, linux/if_tun.h, linux/sockios.h, linux/vhost.h.
pub(super) const REQUESTS: &[(&str, To, &str, u32)] = &[
    // Another machine; and of this one the memory, the processors, the devices and what interrupts them.
    ("KVM_CREATE_VM", To::Kvm, GIVES, 0xae01),
    ("KVM_CREATE_VCPU", To::Machine, "EEXIST", 0xae41),
    ("KVM_GET_DIRTY_LOG", To::Machine, READS, 0x4010_ae42),
    ("KVM_SET_USER_MEMORY_REGION", To::Machine, READS, 0x4020_ae46),
    ("KVM_IRQ_LINE", To::Machine, READS, 0x4008_ae61),
    ("KVM_REGISTER_COALESCED_MMIO", To::Machine, READS, 0x4010_ae67),
    ("KVM_SET_GSI_ROUTING", To::Machine, READS, 0x4008_ae6a),
    ("KVM_IRQFD", To::Machine, READS, 0x4020_ae76),
    ("KVM_IOEVENTFD", To::Machine, READS, 0x4040_ae79),
    ("KVM_ENABLE_CAP", To::Machine, READS, 0x4068_aea3),
    ("KVM_SIGNAL_MSI", To::Machine, READS, 0x4020_aea5),
    ("KVM_CREATE_DEVICE", To::Machine, READS, 0xc00c_aee0),
    // A processor's state, and what it is.
    ("KVM_ENABLE_CAP", To::Processor, READS, 0x4068_aea3),
    #[cfg(target_arch = "x86_64")]
    ("KVM_SET_REGS", To::Processor, READS, 0x4090_ae82),
    #[cfg(target_arch = "x86_64")]
    ("KVM_SET_SREGS", To::Processor, READS, 0x4138_ae84),
    #[cfg(target_arch = "x86_64")]
    ("KVM_TRANSLATE", To::Processor, READS, 0xc018_ae85),
    #[cfg(target_arch = "x86_64")]
    ("KVM_INTERRUPT", To::Processor, READS, 0x4004_ae86),
    #[cfg(target_arch = "x86_64")]
    ("KVM_GET_MSRS", To::Processor, READS, 0xc008_ae88),
    #[cfg(target_arch = "x86_64")]
    ("KVM_SET_MSRS", To::Processor, READS, 0x4008_ae89),
    #[cfg(target_arch = "x86_64")]
    ("KVM_SET_CPUID2", To::Processor, READS, 0x4008_ae90),
    #[cfg(target_arch = "x86_64")]
    ("KVM_SET_GUEST_DEBUG", To::Processor, READS, 0x4048_ae9b),
    #[cfg(target_arch = "aarch64")]
    ("KVM_ARM_VCPU_INIT", To::Processor, READS, 0x4020_aeae),
    // A tap's interface, its owner and filters, how long it lives; and the network that it is in.
    ("TUNSETIFF", To::Tap, READS, 0x4004_54ca),
    ("TUNSETPERSIST", To::Tap, DOES, 0x4004_54cb),
    ("TUNSETOWNER", To::Tap, DOES, 0x4004_54cc),
    ("TUNSETGROUP", To::Tap, DOES, 0x4004_54ce),
    ("TUNSETSNDBUF", To::Tap, READS, 0x4004_54d4),
    ("TUNATTACHFILTER", To::Tap, READS, 0x4010_54d5),
    ("TUNDETACHFILTER", To::Tap, DOES, 0x4010_54d6),
    ("TUNSETVNETHDRSZ", To::Tap, READS, 0x4004_54d8),
    ("TUNSETQUEUE", To::Tap, READS, 0x4004_54d9),
    ("TUNSETSTEERINGEBPF", To::Tap, READS, 0x8004_54e0),
    ("TUNSETFILTEREBPF", To::Tap, READS, 0x8004_54e1),
    ("TUNSETCARRIER", To::Tap, READS, 0x4004_54e2),
    ("TUNGETDEVNETNS", To::Tap, GIVES, 0x54e3),
    ("SIOCSIFHWADDR", To::Tap, READS, 0x8924),
    ("SIOCGSKNS", To::Tap, GIVES, 0x894c),
    // The kernel's threads, a log of what it writes, and how long it looks for more.
    ("VHOST_SET_LOG_BASE", To::Vhost, READS, 0x4008_af04),
    ("VHOST_SET_LOG_FD", To::Vhost, READS, 0x4004_af07),
    ("VHOST_NEW_WORKER", To::Vhost, READS, 0x8004_af08),
    ("VHOST_GET_VRING_BASE", To::Vhost, READS, 0xc008_af12),
    ("VHOST_SET_VRING_ENDIAN", To::Vhost, READS, 0x4008_af13),
    ("VHOST_SET_VRING_BUSYLOOP_TIMEOUT", To::Vhost, READS, 0x4008_af23),
    ("VHOST_SET_BACKEND_FEATURES", To::Vhost, READS, 0x4008_af25),
];

/// Makes it, with nothing to be read.
pub(super) fn make(held: &Held, to: To, number: u32) -> c_long {
    call!(SYS_ioctl, held.number(to), number, NULL)
}
