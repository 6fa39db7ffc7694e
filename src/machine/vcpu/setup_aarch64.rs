//! The machine as KVM has it, its processors as they are before the first instruction, and their interrupt controller, a GICv3.

use kvm_bindings::{
    KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2, KVM_ARM_VCPU_PTRAUTH_ADDRESS,
    KVM_ARM_VCPU_PTRAUTH_GENERIC, KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR,
    KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, KVM_VGIC_V3_ADDR_TYPE_DIST,
    KVM_VGIC_V3_ADDR_TYPE_REDIST, kvm_create_device, kvm_device_attr,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3, kvm_vcpu_init,
};
use kvm_ioctls::{Cap, DeviceFd, Kvm, VcpuFd, VmFd};

use crate::machine::kvm::KvmProblem;
use crate::machine::layout;

/// Interrupts of the controller, the 32 of each processor's own included (a multiple of 32).
const INTERRUPTS: u32 = (32 + layout::LAST_IRQ + 1).next_multiple_of(32);

/// A machine without memory, processors and devices.
pub fn machine(kvm: &Kvm) -> Result<VmFd, KvmProblem> {
    // Without the capability there are 40 bits; with it a host may have fewer.
    let bits = u32::try_from(kvm.get_host_ipa_limit()).unwrap_or(0).min(layout::ADDRESS_BITS);
    let vm = if bits == 0 { kvm.create_vm_with_type(0) } else { kvm.create_vm_with_ipa_size(bits) };
    vm.map_err(KvmProblem::refused("create a virtual machine"))
}

/// Its processors, so many, and their interrupt controller.
pub fn processors(kvm: &Kvm, vm: &VmFd, count: u8) -> Result<Vec<VcpuFd>, KvmProblem> {
    let mut wanted = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut wanted).map_err(KvmProblem::refused("say what its processors are"))?;
    let mut add = |feature: u32| wanted.features[0] |= 1 << feature;
    add(KVM_ARM_VCPU_PSCI_0_2);
    if kvm.check_extension(Cap::ArmPtrAuthAddress) && kvm.check_extension(Cap::ArmPtrAuthGeneric) {
        add(KVM_ARM_VCPU_PTRAUTH_ADDRESS);
        add(KVM_ARM_VCPU_PTRAUTH_GENERIC);
    }
    let made = (0..count).map(|id| {
        let fd = vm.create_vcpu(u64::from(id)).map_err(KvmProblem::refused("create a processor"))?;
        let mut own = wanted;
        if id > 0 {
            // The guest starts it.
            own.features[0] |= 1 << KVM_ARM_VCPU_POWER_OFF;
        }
        fd.vcpu_init(&own).map_err(KvmProblem::refused("set up a processor"))?;
        Ok(fd)
    });
    let made = made.collect::<Result<Vec<_>, KvmProblem>>()?;
    controller(vm)?;
    Ok(made)
}

/// The controller of the processors that there are. KVM keeps it as long as the machine.
fn controller(vm: &VmFd) -> Result<(), KvmProblem> {
    let mut device =
        kvm_create_device { type_: kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3, ..Default::default() };
    let gic = vm.create_device(&mut device).map_err(KvmProblem::refused("create a GICv3"))?;
    let ((distributor, _), (redistributors, _)) = (layout::GIC_DISTRIBUTOR, layout::GIC_REDISTRIBUTORS);
    set(&gic, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, Some(&distributor))?;
    set(&gic, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST, Some(&redistributors))?;
    set(&gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, Some(&INTERRUPTS))?;
    set::<u32>(&gic, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, None)
}

/// Of what size the value is depends on the group (Documentation/virt/kvm/devices/arm-vgic-v3.rst).
fn set<T>(gic: &DeviceFd, group: u32, attribute: u32, value: Option<&T>) -> Result<(), KvmProblem> {
    let address = value.map_or(0, |value| std::ptr::from_ref(value).expose_provenance());
    let attribute = kvm_device_attr {
        group,
        attr: u64::from(attribute),
        addr: u64::try_from(address).expect("an address has at most 64 bits"),
        flags: 0,
    };
    gic.set_device_attr(&attribute).map_err(KvmProblem::refused("set up its GICv3"))
}

/// What KVM calls processor number `id` (`MPIDR_EL1`, affinity levels 0 and 1): a GICv3 has up to 16 at the lowest level.
pub fn affinity(id: u8) -> u32 {
    u32::from(id >> 4) << 8 | u32::from(id & 0xf)
}
