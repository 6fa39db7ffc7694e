//! One blob from a registry into the store: what came before a connection broke is kept and continued.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use tempfile::TempPath;

use super::registry::Registry;
use crate::image::digest::{Digest, Hasher};
use crate::image::error::{ImageError, store as store_error};
use crate::image::store::{Lock, Loose, Store};

/// How often it is tried.
const ATTEMPTS: u32 = 5;
/// Before the second attempt; twice as long before each one after it.
const PAUSE: Duration = Duration::from_millis(500);
/// While somebody else gets the same.
const TURN: Duration = Duration::from_millis(100);

/// What is wanted.
pub(super) struct Wanted<'a> {
    pub(super) digest: &'a Digest,
    pub(super) size: u64,
    /// Told how much is there.
    pub(super) tell: &'a (dyn Fn(u64) + Sync),
}

/// Sees to it that a blob is in the store.
pub(super) async fn fetch(store: &Store, registry: &Registry, wanted: Wanted<'_>) -> Result<(), ImageError> {
    let name = wanted.digest.hex();
    let _alone = turn(store, &name).await?;
    if store.has(wanted.digest) {
        return Ok(());
    }
    let path = store.temporary().join(format!("{name}.part"));
    let mut attempt = 1;
    loop {
        match once(&path, registry, &wanted).await {
            Ok(()) => break,
            Err(ImageError::Pull(error)) if error.is_passing() && attempt < ATTEMPTS => {
                tokio::time::sleep(PAUSE * 2_u32.pow(attempt - 1)).await;
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
    let path = TempPath::try_from_path(&path).map_err(store_error("find", path))?;
    store.keep(Loose { path, digest: *wanted.digest, size: wanted.size }).map(drop)
}

/// Waits without keeping other downloads of this process from going on.
async fn turn(store: &Store, name: &str) -> Result<Lock, ImageError> {
    loop {
        if let Some(lock) = store.try_making(name)? {
            return Ok(lock);
        }
        tokio::time::sleep(TURN).await;
    }
}

/// One attempt: when it is done all is there, and is what was wanted.
async fn once(path: &Path, registry: &Registry, wanted: &Wanted<'_>) -> Result<(), ImageError> {
    let fail = || store_error("write to", path);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(fail())?;
    let (mut hash, mut have) = hashed(&mut file, wanted.size).map_err(fail())?;
    let before = have;
    if have < wanted.size || wanted.size == 0 {
        let (mut parts, continued) = registry.blob(wanted.digest, have).await?;
        if !continued {
            restart(&mut file).map_err(fail())?;
            (hash, have) = (Hasher::default(), 0);
        }
        while let Some(part) = parts.next().await {
            let part = match part {
                Ok(part) => part,
                // All is there, but it is not what was wanted: the library checks it too.
                Err(_) if have == wanted.size => break,
                Err(error) => return Err(registry.broken(error).into()),
            };
            have += part.len() as u64;
            if have > wanted.size {
                restart(&mut file).map_err(fail())?;
                let what = format!("{} has more than the {} bytes it says", wanted.digest, wanted.size);
                return Err(registry.protocol(what).into());
            }
            hash.update(&part);
            file.write_all(&part).map_err(fail())?;
            (wanted.tell)(have);
        }
    }
    if have < wanted.size {
        return Err(registry.broken(io::ErrorKind::UnexpectedEof.into()).into());
    }
    let found = hash.finish();
    if found != *wanted.digest {
        // What is there is worth nothing, whoever sent it.
        fs::remove_file(path).map_err(fail())?;
        let error = ImageError::Digest { wanted: *wanted.digest, found };
        // What was there from before may be to blame.
        return Err(if before > 0 { registry.broken(io::Error::other(error)).into() } else { error });
    }
    Ok(())
}

/// What is there from before.
fn hashed(file: &mut File, size: u64) -> io::Result<(Hasher, u64)> {
    let mut hash = Hasher::default();
    if file.metadata()?.len() > size {
        restart(file)?;
    }
    let mut buffer = vec![0; 128 << 10];
    let mut have = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((hash, have));
        }
        hash.update(&buffer[..count]);
        have += count as u64;
    }
}

fn restart(file: &mut File) -> io::Result<()> {
    use std::io::Seek;
    file.set_len(0)?;
    file.rewind()
}
