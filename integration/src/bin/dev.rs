//! `cargo dev`: everything a developer does, from one command on a fresh machine.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use integration::dev::{self, Project};

/// Build, run and test MicroSandbox; where this machine has no real KVM, in a virtual host that has it
#[derive(Debug, Parser)]
#[command(name = "cargo dev", bin_name = "cargo dev")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The virtual KVM host
    #[command(subcommand)]
    Host(Host),
}

#[derive(Debug, Subcommand)]
enum Host {
    /// Run a shell command in a clean host that has the current build as Docker's runtime `msb`
    Run(dev::host::Run),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let project = Project::here();
    let outcome = match &arguments.verb {
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
