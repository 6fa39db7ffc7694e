//! What a processor says of itself: KVM's own offer, with the guest's topology and without what we do not give.
//!
//! Sources: Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E; Documentation/virt/kvm/x86/cpuid.rst.
//! The guest has one package of cores with one thread each, whatever the host's packages are.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm, VcpuFd};

use crate::machine::kvm::KvmProblem;

/// Leaf 1, ECX: no MONITOR/MWAIT, and no VMX: a container needs no KVM, and nesting is a large part of the host's.
const HIDDEN_1_ECX: u32 = 1 << 3 | 1 << 5;
/// Leaf 0x80000001, ECX: no SVM, for the same reason.
const HIDDEN_EXTENDED_ECX: u32 = 1 << 2;
/// Leaf 1, ECX: the local APIC's timer by TSC deadline, which KVM offers by a capability instead of here.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1, ECX: runs under a hypervisor.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, EDX: the package has more than one logical processor.
const HTT: u32 = 1 << 28;
/// Leaf 6, EAX: the local APIC's timer never stops. KVM's does not, and Linux then needs no other timer.
const ARAT: u32 = 1 << 2;

/// What KVM offers here.
pub fn supported(kvm: &Kvm) -> Result<CpuId, KvmProblem> {
    let mut offer = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(KvmProblem::refused("say what its processors can"))?;
    if kvm.check_extension(Cap::TscDeadlineTimer) {
        for entry in offer.as_mut_slice() {
            if entry.function == 1 {
                entry.ecx |= TSC_DEADLINE;
            }
        }
    }
    Ok(offer)
}

/// Gives a processor its identity: number `id` of `count`.
pub fn apply(processor: &VcpuFd, offer: &CpuId, id: u8, count: u8) -> Result<(), KvmProblem> {
    let mut cpuid = offer.clone();
    for entry in cpuid.as_mut_slice() {
        adjust(entry, u32::from(id), u32::from(count));
    }
    processor.set_cpuid2(&cpuid).map_err(KvmProblem::refused("describe a processor"))
}

/// Bits of an APIC id that number the cores.
fn core_bits(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

fn replace(register: &mut u32, mask: u32, value: u32) {
    *register = *register & !mask | value & mask;
}

fn adjust(entry: &mut kvm_cpuid_entry2, id: u32, count: u32) {
    match entry.function {
        0x1 => {
            entry.ecx = entry.ecx & !HIDDEN_1_ECX | HYPERVISOR;
            // Initial APIC id; addressable logical processors; CLFLUSH line of 64 bytes, in units of 8.
            replace(&mut entry.ebx, 0xffff_ff00, id << 24 | count.next_power_of_two() << 16 | 8 << 8);
            replace(&mut entry.edx, HTT, if count > 1 { HTT } else { 0 });
        }
        // Deterministic cache parameters, Intel's and AMD's: levels 1 and 2 are a core's own, 3 is everyone's.
        0x4 | 0x8000_001d => {
            let level = entry.eax >> 5 & 7;
            let sharing = if level >= 3 { count.next_power_of_two() - 1 } else { 0 };
            replace(&mut entry.eax, 0xfff << 14, sharing << 14);
            if entry.function == 0x4 {
                replace(&mut entry.eax, 0x3f << 26, (count.next_power_of_two() - 1) << 26);
            }
        }
        // MWAIT, power management but for ARAT, performance counters.
        0x5 | 0xa => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
        0x6 => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (ARAT, 0, 0, 0),
        // Extended topology: level 0 is the thread (type 1), level 1 the core (type 2).
        0xb | 0x1f => {
            let (shift, processors, kind) = match entry.index {
                0 => (0, 1, 1),
                1 => (core_bits(count), count, 2),
                _ => (0, 0, 0),
            };
            (entry.eax, entry.ebx) = (shift, processors);
            (entry.ecx, entry.edx) = (entry.index & 0xff | kind << 8, id);
        }
        0x8000_0001 => entry.ecx &= !HIDDEN_EXTENDED_ECX,
        // NC, ApicIdSize: cores of the package.
        0x8000_0008 => replace(&mut entry.ecx, 0xf0ff, core_bits(count) << 12 | (count - 1)),
        // Extended APIC id; core id with one thread; one node.
        0x8000_001e => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (id, id & 0xff, 0, 0),
        // SVM features, of a guest without SVM.
        0x8000_000a => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adjusted(function: u32, index: u32, id: u32, count: u32) -> kvm_cpuid_entry2 {
        let ones = u32::MAX;
        let mut entry = kvm_cpuid_entry2 {
            function,
            index,
            eax: ones,
            ebx: ones,
            ecx: ones,
            edx: ones,
            ..Default::default()
        };
        adjust(&mut entry, id, count);
        entry
    }

    #[test]
    fn every_processor_has_its_own_id() {
        for id in 0..32 {
            assert_eq!(adjusted(1, 0, id, 32).ebx >> 24, id);
            assert_eq!(adjusted(0xb, 0, id, 32).edx, id);
            assert_eq!(adjusted(0x8000_001e, 0, id, 32).eax, id);
        }
    }

    #[test]
    fn topology_is_one_package_of_cores() {
        for (count, bits) in [(1, 0), (2, 1), (3, 2), (4, 2), (32, 5)] {
            let (thread, core, end) =
                (adjusted(0xb, 0, 0, count), adjusted(0xb, 1, 0, count), adjusted(0xb, 2, 0, count));
            assert_eq!((thread.eax, thread.ebx, thread.ecx), (0, 1, 0x100));
            assert_eq!((core.eax, core.ebx, core.ecx), (bits, count, 0x201));
            assert_eq!((end.eax, end.ebx, end.ecx), (0, 0, 2));
        }
        assert_eq!(adjusted(1, 0, 0, 1).edx & HTT, 0);
    }

    #[test]
    fn what_is_not_given_is_hidden() {
        let first = adjusted(1, 0, 0, 1);
        assert_eq!(first.ecx & (HIDDEN_1_ECX | HYPERVISOR), HYPERVISOR);
        assert_eq!(adjusted(0x8000_0001, 0, 0, 1).ecx & HIDDEN_EXTENDED_ECX, 0);
        assert_eq!(adjusted(0xa, 0, 0, 1).eax, 0);
    }
}
