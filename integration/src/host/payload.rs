//! The second disk: files that go into the host each time it starts.
//!
//! Enters: [`Item`]s. Leaves: an ext4 image of fixed size with the files under numbered names and a `list` that says
//! where each goes. The size is fixed because a saved state fits only the disks it was made with.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Size of the disk, in bytes; sparse.
pub const SIZE: u64 = 1 << 30;

/// A file to put into the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The file here.
    pub source: PathBuf,
    /// Its path there, absolute; folders above it are made.
    pub target: String,
    /// Its permission bits.
    pub mode: u32,
}

/// Why there is no payload disk.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// A file could not be taken.
    #[error("{path} could not be taken into the virtual host")]
    Source {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A target that the list cannot hold.
    #[error(
        "{target:?} cannot be a path in the virtual host: it must be absolute, of one line, without tabs"
    )]
    Target {
        /// The path asked for.
        target: String,
    },
    /// mkfs failed.
    #[error("mkfs.ext4 failed on the payload disk (at most 1 GiB of files fit): {reason}")]
    Mkfs {
        /// What it said.
        reason: String,
    },
}

/// Writes the disk to `image`, and with `agent` beside the items, for a host that boots.
pub fn build(image: &Path, agent: Option<&Path>, items: &[Item]) -> Result<(), PayloadError> {
    let own = |path: &Path| {
        let path = path.to_owned();
        move |source| PayloadError::Source { path, source }
    };
    let folder = image.parent().unwrap_or(Path::new("."));
    let work = tempfile::Builder::new().prefix("payload-").tempdir_in(folder).map_err(own(folder))?;
    let work = work.path();
    let mut list = String::new();
    if let Some(agent) = agent {
        take(agent, &work.join("host-agent"))?;
    }
    for (index, item) in items.iter().enumerate() {
        if !item.target.starts_with('/') || item.target.contains(['\n', '\t']) {
            return Err(PayloadError::Target { target: item.target.clone() });
        }
        take(&item.source, &work.join(index.to_string()))?;
        list.push_str(&format!("{index}\t{:o}\t{}\n", item.mode, item.target));
    }
    fs::write(work.join("list"), list).map_err(own(work))?;
    File::create(image).and_then(|file| file.set_len(SIZE)).map_err(own(image))?;
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-O", "^has_journal,^resize_inode", "-m", "0", "-N", "512", "-d"])
        .args([work, image])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| PayloadError::Mkfs { reason: error.to_string() })?;
    if !made.status.success() {
        return Err(PayloadError::Mkfs { reason: String::from_utf8_lossy(&made.stderr).trim().to_owned() });
    }
    Ok(())
}

fn take(source: &Path, target: &Path) -> Result<(), PayloadError> {
    let error = |error| PayloadError::Source { path: source.to_owned(), source: error };
    fs::copy(source, target).map_err(error)?;
    Ok(())
}
