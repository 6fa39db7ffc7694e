//! The instruction check: can this KVM really run a kernel?
//!
//! A KVM that only emulates kernel mode stops at instructions that every kernel uses: `cmpxchg16b`, `int3` through an
//! interrupt table, `xrstor`. They are run in 64-bit mode, and a port is written when all is well. On a real KVM that
//! takes one entry and one exit.

use kvm_bindings::kvm_regs;
use kvm_ioctls::{VcpuExit, VcpuFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::arch::{self, WriteError};
use crate::machine::kvm::{KvmProblem, PutOff};
use crate::machine::layout;

/// The port that says "done"; POST codes of PC firmware went there.
const DONE_PORT: u16 = 0x80;
/// `int3` adds this once.
const DONE: u8 = 1;

const CODE: u64 = layout::CHECK;
const HANDLER: u64 = layout::CHECK + 0x100;
const INTERRUPT_TABLE: u64 = layout::CHECK + 0x200;
/// The boot tables may have 32-bit descriptors.
const DESCRIPTORS: u64 = layout::CHECK + 0x300;
const STACK_TOP: u64 = layout::CHECK + 0x1000;
const OPERAND: u64 = layout::CHECK + 0x1000;
/// 512 bytes of legacy state and the header, all 0: "everything in its initial state" (Intel SDM volume 1, 13.4.2).
const XSAVE_AREA: u64 = layout::CHECK + 0x1040;

const INSTRUCTIONS: &[u8] = &[
    0x48, 0x0f, 0xc7, 0x0f, // cmpxchg16b [rdi]
    0xcc, // int3
    0x0f, 0xae, 0x2e, // xrstor [rsi]
    0x88, 0xd8, // mov al, bl
    0xe6, 0x80, // out DONE_PORT, al
    0xf4, // hlt
];
const HANDLER_INSTRUCTIONS: &[u8] = &[
    0xfe, 0xc3, // inc bl
    0x48, 0xcf, // iretq
];

/// Writes code and tables into guest memory, between the places of the boot tables.
pub fn prepare(memory: &GuestMemoryMmap) -> Result<(), WriteError> {
    arch::write_page_tables(memory)?;
    arch::write_gdt(memory, DESCRIPTORS, true)?;
    memory.write_slice(INSTRUCTIONS, GuestAddress(CODE))?;
    memory.write_slice(HANDLER_INSTRUCTIONS, GuestAddress(HANDLER))?;
    // Gate of vector 3: present interrupt gate (0x8e) into the boot code segment (Intel SDM volume 3, 6.14.1).
    let gate = HANDLER & 0xffff | 0x10 << 16 | 0x8e << 40 | (HANDLER >> 16) << 48;
    memory.write_obj(gate, GuestAddress(INTERRUPT_TABLE + 3 * 16))?;
    memory.write_obj(1_u64, GuestAddress(OPERAND))
}

/// Both, in a machine that is for nothing else.
pub fn probe(memory: &GuestMemoryMmap, processor: &mut VcpuFd) -> Result<(), KvmProblem> {
    prepare(memory).map_err(|_| KvmProblem::Refused {
        what: "take memory for a virtual machine",
        errno: libc::EFAULT,
    })?;
    run(processor)
}

/// Runs the check on a processor that was never run, and leaves it free to be set up. The calling thread becomes the
/// processor's: KVM waits for the host's RCU when it is run by another one later.
pub fn run(processor: &mut VcpuFd) -> Result<(), KvmProblem> {
    // CR4.OSFXSR and CR4.OSXSAVE, without which xrstor is an invalid opcode.
    const SAVING: u64 = 1 << 9 | 1 << 18;
    arch::set_mode(processor, true)?;
    let mut sregs = processor.get_sregs().map_err(KvmProblem::refused("read a processor's registers"))?;
    sregs.cr4 |= SAVING;
    sregs.gdt.base = DESCRIPTORS;
    (sregs.idt.base, sregs.idt.limit) = (INTERRUPT_TABLE, 4 * 16 - 1);
    processor.set_sregs(&sregs).map_err(KvmProblem::refused("set a processor's mode"))?;
    let regs = kvm_regs {
        rip: CODE,
        rsp: STACK_TOP,
        rax: 1,
        rdi: OPERAND,
        rsi: XSAVE_AREA,
        rflags: 2,
        ..Default::default()
    };
    processor.set_regs(&regs).map_err(KvmProblem::refused("set a processor's registers"))?;
    let mut put_off = PutOff::default();
    loop {
        match processor.run() {
            Ok(VcpuExit::IoOut(DONE_PORT, [DONE])) => break,
            Ok(exit) => return Err(KvmProblem::OnlyEmulates { exit: format!("{exit:?}") }),
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) if error.errno() == libc::EAGAIN => put_off.once_more()?,
            Err(error) => return Err(KvmProblem::refused("run a processor")(error)),
        }
    }
    // Let KVM finish the `out` now; it would otherwise step over the first instruction of what is set up next.
    processor.set_kvm_immediate_exit(1);
    let _ = processor.run();
    processor.set_kvm_immediate_exit(0);
    Ok(())
}
