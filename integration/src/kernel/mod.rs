//! The guest kernel: built from the distribution's own source with our configuration.
//!
//! In: the fragments in `guest/kernel/` (compiled in) and Debian's `linux-source-6.12`. Out: one file that the VMM boots,
//! the list of inputs that a cache hashes, and what kernels of such inputs have been before. It knows nothing of the cache, of the VMM, or of who installs packages.

mod config;
mod elf;
pub mod known;
mod recipe;

pub use config::{Fragment, lost_symbols};
pub use elf::{ElfError, pack};
pub use recipe::{KernelError, build, check, inputs};

/// Debian packages that [`build`] needs, on Debian 12 (with its security archive) and on Debian 13.
pub const PACKAGES: &[&str] = &[
    "bc",
    "binutils",
    "bison",
    "flex",
    "gcc",
    "libc6-dev",
    "libelf-dev",
    "linux-source-6.12",
    "make",
    "perl",
    "xz-utils",
];

/// The package whose version decides which kernel comes out.
pub const SOURCE_PACKAGE: &str = "linux-source-6.12";

/// Where [`SOURCE_PACKAGE`] puts the source.
pub const SOURCE_ARCHIVE: &str = "/usr/src/linux-source-6.12.tar.xz";

/// The most a kernel may weigh, in bytes: the VMM copies it into the guest's memory at every start.
pub const SIZE_LIMIT: u64 = 25_000_000;

/// The processor that a kernel is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Arch {
    /// 64-bit x86.
    #[value(name = "x86_64")]
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl Arch {
    /// All that there are fragments for.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The processor that this program runs on.
    #[must_use]
    pub const fn host() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 }
    }

    /// Its name, as part of file names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// What the kernel's makefile calls it (`ARCH=`).
    const fn make_name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "arm64",
        }
    }

    /// What its compiler's programs are called (`CROSS_COMPILE=`) on another processor; Debian's names.
    const fn tools(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-gnu-",
            Self::Aarch64 => "aarch64-linux-gnu-",
        }
    }

    /// The make target, and where below the build directory its result is.
    const fn target(self) -> (&'static str, &'static str) {
        match self {
            Self::X86_64 => ("vmlinux", "vmlinux"),
            Self::Aarch64 => ("Image", "arch/arm64/boot/Image"),
        }
    }
}
