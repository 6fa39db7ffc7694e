//! `cargo dev`: everything a developer does, from one command on a fresh machine.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use integration::dev::{self, Project};
use integration::kernel::Arch;

/// Build, run and test MicroSandbox; where this machine has no real KVM, in a virtual host that has it
#[derive(Debug, Parser)]
#[command(name = "cargo dev", bin_name = "cargo dev")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build everything and run a container in a microVM: by default, one that says hello
    Run(dev::run::Run),
    /// Check format, lints and licences; run unit tests and end-to-end tests
    Test(dev::test::Test),
    /// Run the tests whose length is a number for long: starts, lives and deaths, execs
    Soak(dev::soak::Soak),
    /// Make up what strangers send, for each place where it comes in
    Fuzz(dev::fuzz::Fuzz),
    /// Measure start-up, memory and size beside runc and QEMU
    Bench(dev::bench::Bench),
    /// Build everything and put it where Docker, containerd and a shell find it
    Install(dev::install::Install),
    /// Look for what is known to be bad in what we depend on; code 3 if that could not be looked up
    Advisories(dev::advisories::Arguments),
    /// Build the agent and the kernel twice, in different places, and compare
    Reproduce(dev::reproduce::Reproduce),
    /// Build the guest kernel and print its path
    Kernel {
        /// For machines with this processor; this one's without. Another one's compiler has to be installed
        #[arg(long, value_enum, default_value_t = Arch::host())]
        arch: Arch,
    },
    /// Show on an emulated Arm computer with KVM that all of it works there
    Arm(dev::arm::Arm),
    /// Say what this machine can do
    Doctor,
    /// Remove everything that was built, but for cargo's own output
    Clean,
    /// The virtual KVM host
    #[command(subcommand)]
    Host(Host),
}

#[derive(Debug, Subcommand)]
enum Host {
    /// Start a host that stays until `down`
    Up,
    /// Open a shell in the host that is up, or in a clean one
    Shell,
    /// End the host that is up
    Down,
    /// Run a shell command in a clean host that has the current build as Docker's runtime `msb`
    Run(dev::host::Run),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let project = Project::here();
    let outcome = match &arguments.verb {
        Verb::Run(run) => dev::run::run(&project, run),
        Verb::Test(test) => dev::test::run(&project, test),
        Verb::Soak(soak) => dev::soak::run(&project, soak),
        Verb::Fuzz(fuzz) => dev::fuzz::run(&project, fuzz),
        Verb::Bench(bench) => dev::bench::run(&project, bench),
        Verb::Install(install) => dev::install::run(&project, install),
        Verb::Advisories(arguments) => dev::advisories::run(&project, arguments),
        Verb::Reproduce(reproduce) => dev::reproduce::run(&project, reproduce),
        Verb::Kernel { arch } => dev::kernel::run(&project, *arch),
        Verb::Arm(arm) => dev::arm::run(&project, arm),
        Verb::Doctor => dev::doctor::run(&project),
        Verb::Clean => dev::clean::run(&project),
        Verb::Host(Host::Up) => dev::shell::up(&project),
        Verb::Host(Host::Shell) => dev::shell::shell(&project),
        Verb::Host(Host::Down) => dev::shell::down(&project),
        Verb::Host(Host::Run(run)) => dev::host::run(&project, run),
    };
    match outcome {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("cargo dev: {error}");
            error.chain().skip(1).for_each(|cause| eprintln!("  because: {cause}"));
            ExitCode::FAILURE
        }
    }
}
