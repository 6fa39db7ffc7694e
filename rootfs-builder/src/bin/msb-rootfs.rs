//! `msb-rootfs`: makes the images of rootfs-builder by hand, for the build of the guest and for looking at them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Make the images a sandbox boots from.
#[derive(Debug, Parser)]
#[command(name = "msb-rootfs", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write the initramfs whose /init is the static binary AGENT to IMAGE.
    Initramfs {
        /// The guest agent's static binary.
        agent: PathBuf,
        /// The archive to write.
        image: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("msb-rootfs: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Initramfs { agent, image } => rootfs_builder::initramfs::write(&agent, &image)?,
    }
    Ok(())
}
