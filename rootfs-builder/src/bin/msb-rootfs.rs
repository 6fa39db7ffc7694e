//! `msb-rootfs`: makes the images of rootfs-builder by hand, for the build of the guest and for looking at them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Parser, Subcommand};
use rootfs_builder::cache::{self, Cache, CacheError};
use rootfs_builder::composed::{Composed, Kind, compose};
use rootfs_builder::layers::{self, Overlay, Source};
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
    /// Show what the root at DIR is made of.
    Layers {
        /// The root directory.
        #[arg(value_name = "DIR")]
        root: PathBuf,
    },
    /// Write the metadata of the root at DIR as a composed disk to FILE, and what is the container's own to FILE.top.
    Compose {
        /// The root directory.
        #[arg(value_name = "DIR")]
        root: PathBuf,
        /// The composition to write.
        #[arg(value_name = "FILE")]
        out: PathBuf,
        /// Take the image's layers from this cache, or put them there, instead of writing FILE.
        #[arg(long, value_name = "DIR")]
        cache: Option<PathBuf>,
    },
    /// Remove compositions that are of no use any more from the cache at DIR.
    Gc {
        /// The cache.
        #[arg(value_name = "DIR")]
        cache: PathBuf,
        /// Those that nobody used for so many days.
        #[arg(long, default_value_t = cache::UNUSED.as_secs() / DAY)]
        days: u64,
    },
}

/// Seconds.
const DAY: u64 = 24 * 60 * 60;

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
            let rights = writeback::Rights { devices: Vec::new(), ..writeback::Rights::all() };
            let options =
                writeback::Options { manifest, durability, rights, ..writeback::Options::default() };
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
        Verb::Layers { root } => show(&layers::of(&root)?),
        Verb::Compose { root, out, cache } => compose_root(&root, &out, cache.as_deref())?,
        Verb::Gc { cache, days } => {
            let collected = Cache::open(&cache)?.gc(Duration::from_secs(days.saturating_mul(DAY)))?;
            println!(
                "{} kept, {} removed, {} left-overs swept",
                collected.kept, collected.removed, collected.swept
            );
        }
    }
    Ok(())
}

fn show(source: &Source) {
    match source {
        Source::Overlay(overlay) => {
            overlay.chain.iter().for_each(|layer| println!("chain {}", layer.display()));
            overlay.top.iter().for_each(|layer| println!("top {}", layer.display()));
        }
        Source::Plain { path, why } => println!("plain {} ({why})", path.display()),
        Source::Image { device, filesystem } => println!("image {} {filesystem}", device.display()),
    }
}

fn compose_root(root: &Path, out: &Path, cache: Option<&Path>) -> anyhow::Result<()> {
    let plain = |path: PathBuf| compose(&[path], Kind::Plain, out, Durability::Throwaway);
    let composed = match layers::of(root)? {
        Source::Overlay(overlay) => match compose_overlay(&overlay, out, cache) {
            Err(error) if error.wants_plain() => vec![plain(root.to_owned())?],
            other => other?,
        },
        Source::Plain { path, .. } => vec![plain(path)?],
        Source::Image { device, .. } => bail!("{} is an image already", device.display()),
    };
    for Composed { path, composition, layers } in composed.into_iter().flatten() {
        println!(
            "{}: {} layers, {} files with data, {} bytes",
            path.display(),
            layers.len(),
            composition.files(),
            composition.size()
        );
    }
    Ok(())
}

/// The image's layers and the container's own, each as one.
fn compose_overlay(
    overlay: &Overlay,
    out: &Path,
    cache: Option<&Path>,
) -> Result<Vec<Option<Composed>>, CacheError> {
    let Overlay { chain, top, marks, .. } = overlay;
    let mut above = out.to_owned().into_os_string();
    above.push(".top");
    let above = compose(top, Kind::Top(*marks), Path::new(&above), Durability::Throwaway)?;
    let below = match cache {
        Some(cache) => Some(Cache::open(cache)?.chain(chain, *marks)?),
        None => compose(chain, Kind::Chain(*marks), out, Durability::Durable)?,
    };
    Ok(vec![below, above])
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
