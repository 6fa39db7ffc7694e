//! From files to a guest that can be started: kernel and initramfs into memory, tables, registers.
//!
//! Enters: guest memory, paths, a command line. Leaves: memory as the boot protocol wants it and the registers of the
//! first processor. What is special to an architecture is in the file named for it.

pub mod cmdline;
pub(super) mod file;
pub mod initramfs;
pub mod kernel;

#[cfg(target_arch = "x86_64")]
#[path = "check_x86_64.rs"]
pub mod check;
#[cfg(target_arch = "x86_64")]
mod mptable;
#[cfg(target_arch = "x86_64")]
pub mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64 as arch;

pub use file::FileProblem;
