//! MicroSandbox on aarch64, shown on a machine of another kind: an Arm computer with KVM, emulated, that runs our programs.
//!
//! Enters: this checkout, and the machine's own package sources. Leaves: a table of what holds in that computer, a line each.
//! Must never know the verb that asks for it, nor where products are kept.
//!
//! In the order of the data flow: `toolchain` is a compiler made of Debian's packages and what it compiles, `image` is the Arm host's disk, `machine` runs it, and `checks` are what must hold there. Commands go
//! over the virtual host's own channel, to the same agent.

pub mod checks;
pub mod image;
pub mod machine;
pub mod toolchain;

/// mmdebstrap's options for packages that are unpacked and not set up: nothing of them runs, so that they may be of any
/// processor. `architectures` as Debian names them.
fn unpacked(architectures: &str) -> [String; 2] {
    ["--variant=extract".into(), format!("--architectures={architectures}")]
}
