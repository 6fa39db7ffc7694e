//! `msb-rootfs`: makes the images of rootfs-builder by hand, for the build of the guest and for looking at them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rootfs_builder::output::Durability;
use rootfs_builder::{erofs, ext4, initramfs, writeback};

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
    /// Write an empty ext4 file system, sparse, to IMAGE.
    Scratch {
        /// In bytes, or with K, M, G or T behind it for powers of 1024.
        #[arg(value_parser = size)]
        size: u64,
        /// The image to write.
        image: PathBuf,
    },
    /// Apply what a guest wrote on the scratch disk SCRATCH to the directory ROOT.
    Writeback {
        /// The scratch disk; nobody may write it meanwhile.
        scratch: PathBuf,
        /// What is to become as the container saw it.
        root: PathBuf,
        /// Where to remember what was brought, if the scratch disk is to be used again.
        #[arg(long)]
        manifest: Option<PathBuf>,
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
        Verb::Scratch { size, image } => ext4::create_scratch_with(&image, size, Durability::Durable)?,
        Verb::Writeback { scratch, root, manifest } => {
            let durability = Durability::Durable;
            let options = writeback::Options { manifest, durability, ..writeback::Options::default() };
            let summary = writeback::apply(&scratch, &root, &options)?;
            println!(
                "{} files, {} links, {} directories, {} unchanged, {} removed, {} bytes, {} skipped",
                summary.files,
                summary.links,
                summary.directories,
                summary.unchanged,
                summary.removed,
                summary.bytes,
                summary.skipped_count
            );
            for skipped in &summary.skipped {
                println!("skipped: {:?}: {:?}", skipped.path, skipped.reason);
            }
        }
        Verb::Initramfs { agent, image } => initramfs::write(&agent, &image)?,
    }
    Ok(())
}

/// `16G` and the like.
fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((end, 'K')) => (&text[..end], 10),
        Some((end, 'M')) => (&text[..end], 20),
        Some((end, 'G')) => (&text[..end], 30),
        Some((end, 'T')) => (&text[..end], 40),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| "give bytes, or a number with K, M, G or T".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "the size is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let good = [("4096", 4096), ("1K", 1 << 10), ("16M", 16 << 20), ("8G", 8 << 30), ("2T", 2 << 40)];
        for (text, bytes) in good {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "1Q", "-1", "1.5G", "99999999999T", "\u{fffd}"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
