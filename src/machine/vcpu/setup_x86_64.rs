//! The machine as KVM has it, and what each x86-64 processor needs before its first instruction, besides its registers.

use kvm_bindings::{CpuId, Msrs, kvm_lapic_state, kvm_msr_entry};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use super::cpuid;
use crate::machine::kvm::KvmProblem;

/// `IA32_MISC_ENABLE`, and its bit for fast string instructions.
const MISC_ENABLE: (u32, u64) = (0x1a0, 1);
/// `IA32_MTRR_DEF_TYPE`: memory type ranges enabled, write-back by default; else Linux thinks memory is uncached.
const MTRR_DEF_TYPE: (u32, u64) = (0x2ff, 1 << 11 | 6);
/// Register of the local APIC's input 0 (Intel SDM volume 3, section 12.5.1), and delivery mode ExtINT.
const LVT_LINT0: usize = 0x350;
/// See [`LVT_LINT0`].
const EXT_INT: u32 = 7 << 8;
/// Register of input 1, and delivery mode NMI.
const LVT_LINT1: usize = 0x360;
/// See [`LVT_LINT1`].
const NMI: u32 = 4 << 8;

/// A machine without memory, processors and devices, but with its interrupt controllers.
pub fn machine(kvm: &Kvm) -> Result<VmFd, KvmProblem> {
    let vm = kvm.create_vm().map_err(KvmProblem::refused("create a virtual machine"))?;
    vm.set_tss_address(crate::machine::layout::KVM_TSS)
        .map_err(KvmProblem::refused("place its task state segment"))?;
    // No PIT: Linux takes the local APIC's timer (TSC deadline, ARAT) and kvmclock.
    vm.create_irq_chip().map_err(KvmProblem::refused("create interrupt controllers"))?;
    Ok(vm)
}

/// Its processors, so many.
pub fn processors(kvm: &Kvm, vm: &VmFd, count: u8) -> Result<Vec<VcpuFd>, KvmProblem> {
    let offer = cpuid::supported(kvm)?;
    let made = (0..count).map(|id| {
        let fd = vm.create_vcpu(u64::from(id)).map_err(KvmProblem::refused("create a processor"))?;
        processor(&fd, &offer, id, count)?;
        Ok(fd)
    });
    made.collect()
}

/// Sets up processor number `id` of `count`.
fn processor(processor: &VcpuFd, offer: &CpuId, id: u8, count: u8) -> Result<(), KvmProblem> {
    cpuid::apply(processor, offer, id, count)?;
    let entries =
        [MISC_ENABLE, MTRR_DEF_TYPE].map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() });
    let msrs = Msrs::from_entries(&entries)
        .map_err(|_| KvmProblem::Refused { what: "take two registers", errno: 0 })?;
    let set = processor.set_msrs(&msrs).map_err(KvmProblem::refused("set model-specific registers"))?;
    if set != entries.len() {
        return Err(KvmProblem::Refused { what: "set model-specific registers", errno: libc::EINVAL });
    }
    let mut apic = processor.get_lapic().map_err(KvmProblem::refused("read a local APIC"))?;
    // Virtual wire mode (MultiProcessor Specification 1.4, section 3.6.2.2), as the MP table says.
    put(&mut apic, LVT_LINT0, EXT_INT);
    put(&mut apic, LVT_LINT1, NMI);
    processor.set_lapic(&apic).map_err(KvmProblem::refused("set a local APIC"))
}

fn put(apic: &mut kvm_lapic_state, register: usize, mode: u32) {
    for (at, byte) in mode.to_le_bytes().into_iter().enumerate() {
        // `regs` is bytes, as `c_char`.
        apic.regs[register + at] = i8::from_le_bytes([byte]);
    }
}
