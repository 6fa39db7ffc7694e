//! Products that take long to make, kept by a hash of all that they depend on.
//!
//! Enters: a name, [`Inputs`], and how to make it. Leaves: a folder that is whole or absent. Several `cargo dev` may run
//! at once, in several checkouts, over one cache.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use super::progress::Step;

/// Versions of a product that nobody used for so long are removed when a new one is made.
const FORGOTTEN: Duration = Duration::from_secs(3 * 24 * 3600);

/// What a product depends on.
#[derive(Clone, Debug, Default)]
pub struct Inputs(Sha256);

impl Inputs {
    /// A piece of text: a version, a flag, a script, another product's path.
    pub fn text(mut self, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        self.0.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
        self.0.update(text);
        self
    }

    /// A file, or a folder with all below it: names and contents. What is absent counts as such.
    pub fn tree(self, path: &Path) -> Result<Self> {
        let mut inputs = self;
        let mut left = vec![path.to_owned()];
        while let Some(path) = left.pop() {
            if path.is_dir() {
                let entries =
                    fs::read_dir(&path).with_context(|| format!("Cannot read {}", path.display()))?;
                let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
                entries.sort_by_key(|entry| entry.file_name());
                left.extend(entries.into_iter().map(|entry| entry.path()));
            } else if path.exists() {
                let bytes = fs::read(&path).with_context(|| format!("Cannot read {}", path.display()))?;
                inputs = inputs.text(path.file_name().unwrap_or_default().as_encoded_bytes()).text(bytes);
            }
        }
        Ok(inputs)
    }

    /// What stands for all of it.
    pub fn hash(self) -> String {
        self.0.finalize().iter().take(10).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The folder of products.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache in `root`, which is made when something is put there.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of product `name`, made by `build` in an empty folder if it is not there for these inputs.
    pub fn product(
        &self,
        name: &str,
        inputs: Inputs,
        build: impl FnOnce(&Path, &Step) -> Result<()>,
    ) -> Result<PathBuf> {
        let hash = inputs.hash();
        let versions = self.root.join(name);
        let product = versions.join(&hash);
        if touch(&product) {
            return Ok(product);
        }
        fs::create_dir_all(&versions).with_context(|| format!("Cannot make {}", versions.display()))?;
        let step = Step::begin(name);
        let _lock = lock(&versions.join(format!("{hash}.lock")), &step)?;
        if touch(&product) {
            return Ok(product);
        }
        let unfinished = versions.join(format!("{hash}.unfinished"));
        remove(&unfinished)?;
        fs::create_dir(&unfinished).with_context(|| format!("Cannot make {}", unfinished.display()))?;
        build(&unfinished, &step).with_context(|| format!("The product `{name}` could not be made"))?;
        fs::rename(&unfinished, &product).with_context(|| format!("Cannot name {}", product.display()))?;
        forget(&versions, &product);
        Ok(product)
    }
}

/// Removes a folder if it is there.
pub fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("Cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Marks a product as used; false if it is not there.
fn touch(product: &Path) -> bool {
    let Ok(folder) = File::open(product) else { return false };
    // A cache that may only be read still serves.
    let _ = folder.set_modified(SystemTime::now());
    true
}

fn lock(path: &Path, step: &Step) -> Result<Flock<File>> {
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = open.with_context(|| format!("Cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => return Ok(lock),
        Err((file, Errno::EWOULDBLOCK)) => {
            step.phase("waiting for another cargo dev that makes it");
            Flock::lock(file, FlockArg::LockExclusive)
        }
        Err(other) => Err(other),
    }
    .map_err(|(_, error)| error)
    .with_context(|| format!("Cannot lock {}", path.display()))
}

/// Removes versions that were not used for long. What cannot be removed stays for the next time.
fn forget(versions: &Path, keep: &Path) {
    for entry in fs::read_dir(versions).into_iter().flatten().flatten() {
        let used = entry.metadata().and_then(|metadata| metadata.modified());
        let old = used.is_ok_and(|used| used.elapsed().is_ok_and(|age| age > FORGOTTEN));
        if old && entry.path() != keep {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_for_the_same_inputs_and_never_by_halves() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"));
        let inputs = || Inputs::default().text("a");
        cache.product("thing", inputs(), |_, _| anyhow::bail!("no")).unwrap_err();
        let first = cache.product("thing", inputs(), |at, _| Ok(fs::write(at.join("file"), "1")?)).unwrap();
        let second = cache.product("thing", inputs(), |_, _| anyhow::bail!("made twice")).unwrap();
        assert_eq!(first, second);
        assert_eq!(fs::read_to_string(second.join("file")).unwrap(), "1");
        let other = cache.product("thing", inputs().text("b"), |_, _| Ok(())).unwrap();
        assert_ne!(first, other);
    }

    #[test]
    fn inputs_tell_names_and_contents_apart() {
        let folder = tempfile::tempdir().unwrap();
        let hash = || Inputs::default().tree(folder.path()).unwrap().hash();
        let empty = hash();
        fs::write(folder.path().join("a"), "1").unwrap();
        let one = hash();
        fs::rename(folder.path().join("a"), folder.path().join("b")).unwrap();
        let renamed = hash();
        fs::write(folder.path().join("b"), "2").unwrap();
        assert_eq!(
            [&empty, &one, &renamed, &hash()].iter().collect::<std::collections::HashSet<_>>().len(),
            4
        );
    }
}
