//! MicroSandbox on aarch64, shown on a machine of another kind: an Arm computer with KVM, emulated, that runs our programs.
//!
//! Enters: this checkout, and the machine's own package sources. Leaves: a table of what holds in that computer, a line each.
//! Must never know the verb that asks for it, nor where products are kept.
//!
//! In the order of the data flow: `debian` fetches packages of another processor, `toolchain` is a compiler made of them and
//! what it compiles, `image` is the Arm host's disk, `machine` runs it, and `checks` are what must hold there. Commands go
//! over the virtual host's own channel, to the same agent.

pub mod checks;
mod debian;
pub mod image;
pub mod machine;
pub mod toolchain;
