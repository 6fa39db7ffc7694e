//! From files to a guest that can be started: kernel and initramfs into memory, tables, registers.
//!
//! Enters: guest memory, paths, a command line. Leaves: memory as the boot protocol wants it and the registers of the
//! first processor. What is special to an architecture is in the file named for it.

pub mod cmdline;
pub(super) mod file;
pub mod initramfs;
pub mod kernel;

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
pub mod arch;
#[cfg_attr(target_arch = "x86_64", path = "check_x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "check_aarch64.rs")]
pub mod check;
#[cfg_attr(target_arch = "x86_64", path = "elf_x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "image_aarch64.rs")]
mod format;
#[cfg(target_arch = "x86_64")]
mod mptable;

use std::ops::Range;

pub use file::FileProblem;

/// What the guest is told when it is started.
#[derive(Debug)]
pub struct Boot<'a> {
    /// In guest memory.
    pub kernel: kernel::Kernel,
    /// Where it is in guest memory.
    pub initramfs: Range<u64>,
    /// Without its 0.
    pub command_line: &'a str,
    /// How many.
    pub processors: u8,
    /// Address and interrupt of each virtio device's registers.
    pub devices: &'a [(u64, u32)],
}
