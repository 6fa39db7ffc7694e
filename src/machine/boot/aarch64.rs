//! The state in which an arm64 kernel is entered (Documentation/arch/arm64/booting.rst): a device tree in memory, and the
//! registers of the first processor.
//!
//! The tree's nodes are those of the bindings in the kernel's Documentation/devicetree/bindings: `arm/cpus.yaml`, `arm/psci.yaml`,
//! `timer/arm,arch_timer.yaml`, `interrupt-controller/arm,gic-v3.yaml`, `serial/8250.yaml`, `virtio/mmio.yaml`, and `chosen`
//! of the devicetree specification.

use std::io;

use kvm_ioctls::VcpuFd;
use thiserror::Error;
use vm_fdt::{Error as FdtError, FdtWriter};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::Boot;
use super::kernel::Entry;
use crate::machine::kvm::KvmProblem;
use crate::machine::layout;
use crate::machine::serial::SerialPort;
use crate::machine::vcpu::setup;
use crate::machine::virtio::rng;

/// Why the device tree can't be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// Guest memory is smaller than the constants of the layout.
    #[error(transparent)]
    Memory(#[from] vm_memory::GuestMemoryError),
    /// A property that can't be.
    #[error("The device tree can't be made")]
    Tree(#[from] FdtError),
    /// More than Linux takes.
    #[error("The device tree has {bytes} bytes, {} are possible", layout::DEVICE_TREE_SIZE)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// No seed.
    #[error("The kernel gives no random bytes")]
    Random(#[source] io::Error),
}

/// `PSTATE` of the entry: EL1 with its own stack (`PSR_MODE_EL1h`), and D, A, I and F masked.
const PSTATE: u64 = 0x3c5;
/// Register numbers (`KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE`, arch/arm64/include/uapi/asm/kvm.h), and the place of
/// each in `struct kvm_regs`, in words of 32 bits.
const CORE: u64 = 0x6000_0000_0000_0000 | 0x0030_0000_0000_0000 | 0x0010 << 16;
const X0: u64 = CORE;
const PC: u64 = CORE | (2 * 32);
const PSTATE_REGISTER: u64 = CORE | (2 * 33);

/// Handle of the interrupt controller's node.
const GIC: u32 = 1;
/// Interrupts of the binding: shared or of each processor; raised by an edge or by a level.
const SHARED: u32 = 0;
const PRIVATE: u32 = 1;
const EDGE: u32 = 1;
const LEVEL: u32 = 4;
/// Private interrupts of the timers: secure and other physical, virtual, hypervisor's (Arm BSA, section 3.8.1, less 16).
const TIMERS: [u32; 4] = [13, 14, 11, 10];
/// Of a 16550 on a PC, in Hz; the speed means nothing here.
const CLOCK: u32 = 1_843_200;
/// Bytes that the guest's random generator is seeded with: not each processor has an instruction for it.
const SEED: usize = 64;

/// Registers of the first processor.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    pc: u64,
    device_tree: u64,
}

/// Writes the device tree; returns how the first processor is to be started.
pub fn prepare(memory: &GuestMemoryMmap, boot: &Boot<'_>) -> Result<Start, WriteError> {
    let mut seed = [0; SEED];
    rng::random(&mut seed).map_err(WriteError::Random)?;
    let tree = tree(memory, boot, &seed)?;
    if tree.len() > layout::DEVICE_TREE_SIZE {
        return Err(WriteError::TooLarge { bytes: tree.len() });
    }
    memory.write_slice(&tree, GuestAddress(layout::DEVICE_TREE))?;
    let Entry::Image(pc) = boot.kernel.entry;
    Ok(Start { pc, device_tree: layout::DEVICE_TREE })
}

impl Start {
    /// There, with nothing to read.
    pub(super) fn at(pc: u64) -> Self {
        Self { pc, device_tree: 0 }
    }

    /// Puts the first processor there.
    pub fn apply(&self, processor: &mut VcpuFd) -> Result<(), KvmProblem> {
        for (register, value) in [(PSTATE_REGISTER, PSTATE), (PC, self.pc), (X0, self.device_tree)] {
            processor
                .set_one_reg(register, &value.to_le_bytes())
                .map_err(KvmProblem::refused("set a processor's registers"))?;
        }
        Ok(())
    }
}

fn tree(memory: &GuestMemoryMmap, boot: &Boot<'_>, seed: &[u8]) -> Result<Vec<u8>, FdtError> {
    let mut tree = FdtWriter::new()?;
    let root = tree.begin_node("")?;
    tree.property_string("compatible", "linux,dummy-virt")?;
    tree.property_u32("#address-cells", 2)?;
    tree.property_u32("#size-cells", 2)?;
    tree.property_u32("interrupt-parent", GIC)?;

    let node = tree.begin_node("chosen")?;
    tree.property_string("bootargs", boot.command_line)?;
    tree.property_u64("linux,initrd-start", boot.initramfs.start)?;
    tree.property_u64("linux,initrd-end", boot.initramfs.end)?;
    tree.property("rng-seed", seed)?;
    tree.end_node(node)?;

    for region in memory.iter() {
        let start = region.start_addr().raw_value();
        let node = tree.begin_node(&format!("memory@{start:x}"))?;
        tree.property_string("device_type", "memory")?;
        tree.property_array_u64("reg", &[start, region.len()])?;
        tree.end_node(node)?;
    }
    processors(&mut tree, boot.processors)?;
    interrupts(&mut tree, boot.processors)?;

    let node = tree.begin_node(&format!("serial@{:x}", layout::SERIAL_PORT))?;
    tree.property_string("compatible", "ns16550a")?;
    tree.property_array_u64("reg", &[layout::SERIAL_PORT, SerialPort::REGISTERS])?;
    tree.property_u32("clock-frequency", CLOCK)?;
    tree.property_array_u32("interrupts", &[SHARED, layout::SERIAL_IRQ, EDGE])?;
    tree.end_node(node)?;
    for (address, interrupt) in boot.devices {
        let node = tree.begin_node(&format!("virtio_mmio@{address:x}"))?;
        tree.property_string("compatible", "virtio,mmio")?;
        tree.property_array_u64("reg", &[*address, u64::from(layout::VIRTIO_WINDOW)])?;
        tree.property_array_u32("interrupts", &[SHARED, *interrupt, EDGE])?;
        tree.property_null("dma-coherent")?;
        tree.end_node(node)?;
    }
    tree.end_node(root)?;
    tree.finish()
}

/// Each processor, how it is switched on, and its timers.
fn processors(tree: &mut FdtWriter, count: u8) -> Result<(), FdtError> {
    let all = tree.begin_node("cpus")?;
    tree.property_u32("#address-cells", 1)?;
    tree.property_u32("#size-cells", 0)?;
    for affinity in (0..count).map(setup::affinity) {
        let node = tree.begin_node(&format!("cpu@{affinity:x}"))?;
        tree.property_string("device_type", "cpu")?;
        tree.property_string("compatible", "arm,armv8")?;
        tree.property_string("enable-method", "psci")?;
        tree.property_u32("reg", affinity)?;
        tree.end_node(node)?;
    }
    tree.end_node(all)?;
    let node = tree.begin_node("psci")?;
    tree.property_string_list("compatible", vec!["arm,psci-1.0".into(), "arm,psci-0.2".into()])?;
    tree.property_string("method", "hvc")?;
    tree.end_node(node)?;
    let node = tree.begin_node("timer")?;
    tree.property_string("compatible", "arm,armv8-timer")?;
    tree.property_null("always-on")?;
    tree.property_array_u32("interrupts", &TIMERS.map(|number| [PRIVATE, number, LEVEL]).concat())?;
    tree.end_node(node)
}

fn interrupts(tree: &mut FdtWriter, processors: u8) -> Result<(), FdtError> {
    let ((distributor, its), (redistributors, each)) = (layout::GIC_DISTRIBUTOR, layout::GIC_REDISTRIBUTORS);
    let node = tree.begin_node(&format!("interrupt-controller@{distributor:x}"))?;
    tree.property_string("compatible", "arm,gic-v3")?;
    tree.property_null("interrupt-controller")?;
    tree.property_u32("#interrupt-cells", 3)?;
    tree.property_array_u64("reg", &[distributor, its, redistributors, each * u64::from(processors)])?;
    tree.property_u32("phandle", GIC)?;
    tree.end_node(node)
}

#[cfg(test)]
mod tests {
    use super::super::kernel::Kernel;
    use super::*;
    use crate::machine::memory::{Backing, reserve};

    #[test]
    fn the_tree_is_where_the_first_processor_looks_and_names_the_devices() {
        let memory = reserve(128, Backing::Anonymous).unwrap();
        let kernel = Kernel { entry: Entry::Image(layout::KERNEL), end: layout::KERNEL + 4096 };
        let boot = Boot {
            kernel,
            initramfs: 0x8100_0000..0x8100_1000,
            command_line: "quiet",
            processors: 2,
            devices: &[(layout::VIRTIO_START, 5)],
        };
        let start = prepare(&memory, &boot).unwrap();
        assert_eq!((start.pc, start.device_tree), (layout::KERNEL, layout::DEVICE_TREE));
        // Devicetree specification 0.4, section 5.2: big-endian magic and size.
        let magic: u32 = memory.read_obj(GuestAddress(layout::DEVICE_TREE)).unwrap();
        let size: u32 = memory.read_obj(GuestAddress(layout::DEVICE_TREE + 4)).unwrap();
        assert_eq!(u32::from_be(magic), 0xd00d_feed);
        let mut tree = vec![0; usize::try_from(u32::from_be(size)).unwrap()];
        memory.read_slice(&mut tree, GuestAddress(layout::DEVICE_TREE)).unwrap();
        for name in ["virtio_mmio@10000000", "cpu@1", "memory@80000000", "serial@9000000", "quiet"] {
            assert!(tree.windows(name.len()).any(|part| part == name.as_bytes()), "{name}");
        }
    }
}
