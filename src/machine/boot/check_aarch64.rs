//! The instruction check: does this KVM run a guest?
//!
//! Four instructions, that ask the firmware for the end of the machine. Each machine's own kernel is as good a check: this one
//! is for who wants to know before there is one.

use kvm_ioctls::{VcpuExit, VcpuFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::arch::Start;
use crate::machine::kvm::{KvmProblem, PutOff};
use crate::machine::layout;

/// `KVM_SYSTEM_EVENT_SHUTDOWN` (Documentation/virt/kvm/api.rst, section 5).
const EVENT_SHUTDOWN: u32 = 1;

/// Calls `SYSTEM_OFF`, 0x8400_0008 (PSCI, Arm DEN0022, section 5.10).
const INSTRUCTIONS: [u32; 4] = [
    0x5280_0100, // movz w0, #0x0008
    0x72b0_8000, // movk w0, #0x8400, lsl #16
    0xd400_0002, // hvc #0
    0x1400_0000, // b .
];

/// Runs it on a processor that was never run.
pub fn probe(memory: &GuestMemoryMmap, processor: &mut VcpuFd) -> Result<(), KvmProblem> {
    let code = INSTRUCTIONS.map(u32::to_le_bytes).concat();
    memory.write_slice(&code, GuestAddress(layout::CHECK)).map_err(|_| KvmProblem::Refused {
        what: "take memory for a virtual machine",
        errno: libc::EFAULT,
    })?;
    Start::at(layout::CHECK).apply(processor)?;
    let mut put_off = PutOff::default();
    loop {
        match processor.run() {
            Ok(VcpuExit::SystemEvent(EVENT_SHUTDOWN, _)) => return Ok(()),
            Ok(exit) => return Err(KvmProblem::OnlyEmulates { exit: format!("{exit:?}") }),
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) if error.errno() == libc::EAGAIN => put_off.once_more()?,
            Err(error) => return Err(KvmProblem::refused("run a processor")(error)),
        }
    }
}
