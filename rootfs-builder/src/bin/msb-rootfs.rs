//! `msb-rootfs`: makes the images of rootfs-builder by hand, for the build of the guest and for looking at them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rootfs_builder::output::Durability;
use rootfs_builder::{erofs, initramfs};

/// Make the images a sandbox boots from.
#[derive(Debug, Parser)]
#[command(name = "msb-rootfs", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write the directory DIR as a read-only EROFS file system to IMAGE.
    Erofs {
        /// The root directory.
        #[arg(value_name = "DIR")]
        root: PathBuf,
        /// The image to write.
        image: PathBuf,
    },
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
        Verb::Erofs { root, image } => {
            let summary = erofs::build_with(&root, &image, Durability::Durable)?;
            println!(
                "{} files, {} bytes of metadata, {} bytes",
                summary.inodes, summary.metadata, summary.size
            );
        }
        Verb::Initramfs { agent, image } => initramfs::write(&agent, &image)?,
    }
    Ok(())
}
