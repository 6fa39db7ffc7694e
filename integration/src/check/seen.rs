//! Which tests runc has passed as they are now.
//!
//! With runc a test proves only itself, and until something of it changes, it proves nothing new: the list
//! `seen-with-runc.txt` beside the tests has each with a hash of what decides its outcome, its sources and the virtual host's
//! recipe. What is not there as it is now runs; `cargo dev test --with-runc` runs all, and writes the list.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use super::{Lab, Runtime};
use crate::dev::cache::Inputs;
use crate::dev::{Project, test};

/// Set, all run, and what passes is written down.
pub const ALL_VARIABLE: &str = "MSB_WITH_RUNC";

/// Runs `test`, whose whole path is `path` (`e2e::MODULE::runc::NAME`), with runc, unless it has passed as it is.
///
/// # Panics
/// When a step was not as it said, and when the list can't be read or written.
pub fn prove(path: &str, test: fn(&mut Lab)) {
    let project = Project::here();
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    let module = name.split("::").next().unwrap_or(name);
    let list = List::of(&project);
    let hash = list.hash(module).expect("the tests' sources can be read");
    let all = std::env::var_os(ALL_VARIABLE).is_some();
    let seen = list.read().expect("the list of what runc has passed can be read");
    if !all && seen.get(name) == Some(&hash) {
        return test::skipped(name, "runc has passed it as it is; `cargo dev test --with-runc` runs it");
    }
    Lab::check(Runtime::Runc, test);
    if all {
        list.add(name, &hash).expect("the list of what runc has passed can be written");
    }
}

/// The list, and the sources of what is in it.
#[derive(Debug)]
struct List {
    /// The workspace.
    root: PathBuf,
    /// Where the tests are.
    tests: PathBuf,
    /// One writes at a time.
    lock: PathBuf,
}

impl List {
    fn of(project: &Project) -> Self {
        let tests = project.root.join("integration/tests/e2e");
        Self { root: project.root.clone(), tests, lock: project.target.join("seen-with-runc.lock") }
    }

    fn path(&self) -> PathBuf {
        self.tests.join("seen-with-runc.txt")
    }

    /// Of a module, those that it names, all that the tests are written with, and what the host is made of.
    fn hash(&self, module: &str) -> Result<String> {
        let mut inputs = Inputs::default();
        for folder in ["integration/src/check", "integration/src/host/files"] {
            inputs = inputs.tree(&self.root.join(folder))?;
        }
        for path in self.sources(module)? {
            inputs = inputs.tree(&path)?;
        }
        Ok(inputs.hash())
    }

    /// The files of a module and of those that it names, in their order.
    fn sources(&self, module: &str) -> Result<BTreeSet<PathBuf>> {
        let mut modules = BTreeSet::new();
        for entry in fs::read_dir(&self.tests).context("Cannot list the tests")? {
            let path = entry.context("Cannot list the tests")?.path();
            modules.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
        let (mut sources, mut left) = (BTreeSet::new(), vec![module.to_owned()]);
        while let Some(module) = left.pop() {
            for path in files(&self.tests.join(&module), &self.tests.join(format!("{module}.rs")))? {
                let text =
                    fs::read_to_string(&path).with_context(|| format!("Cannot read {}", path.display()))?;
                if sources.insert(path) {
                    let named = |name: &String| {
                        text.contains(&format!("crate::{name}::")) || text.contains(&format!("super::{name}"))
                    };
                    left.extend(modules.iter().filter(|name| named(name)).cloned());
                }
            }
        }
        Ok(sources)
    }

    fn read(&self) -> Result<BTreeMap<String, String>> {
        let path = self.path();
        let text = fs::read_to_string(&path).with_context(|| format!("Cannot read {}", path.display()))?;
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        Ok(pairs.map(|(name, hash)| (name.to_owned(), hash.to_owned())).collect())
    }

    fn add(&self, name: &str, hash: &str) -> Result<()> {
        let lock = fs::File::create(&self.lock).context("Cannot make a lock")?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
        let mut seen = self.read()?;
        seen.insert(name.to_owned(), hash.to_owned());
        let text: String = seen.iter().map(|(name, hash)| format!("{name} {hash}\n")).collect();
        let mut file = tempfile::NamedTempFile::new_in(&self.tests).context("Cannot make a file")?;
        std::io::Write::write_all(&mut file, text.as_bytes()).context("Cannot write a file")?;
        file.as_file().sync_all().context("Cannot write a file")?;
        file.persist(self.path()).context("Cannot name a file")?;
        Ok(())
    }
}

/// `file`, and what is in `folder`, as far as they are there.
fn files(folder: &Path, file: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = file.exists().then(|| file.to_owned()).into_iter().collect();
    if folder.is_dir() {
        for entry in fs::read_dir(folder).with_context(|| format!("Cannot list {}", folder.display()))? {
            found.push(entry.context("Cannot list a folder")?.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(root: &Path) -> List {
        let tests = root.join("integration/tests/e2e");
        fs::create_dir_all(tests.join("b")).expect("a folder");
        for (name, text) in [
            ("a.rs", "use super::b;"),
            ("b/mod.rs", "mod part;"),
            ("b/part.rs", "crate::c::X"),
            ("c.rs", ""),
            ("d.rs", ""),
        ] {
            fs::write(tests.join(name), text).expect("a file");
        }
        fs::write(tests.join("seen-with-runc.txt"), "").expect("a file");
        List { root: root.to_owned(), tests, lock: root.join("lock") }
    }

    #[test]
    fn a_test_has_changed_when_what_it_names_has() {
        let folder = tempfile::tempdir().expect("a folder");
        let list = list(folder.path());
        let hashes = || ["a", "b", "c", "d"].map(|module| list.hash(module).expect("a hash"));
        let before = hashes();
        fs::write(list.tests.join("c.rs"), "// other").expect("a file");
        let after = hashes();
        assert_eq!([0, 1, 2, 3].map(|at| before[at] == after[at]), [false, false, false, true]);
    }

    #[test]
    fn what_is_added_stays_beside_the_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let list = list(folder.path());
        list.add("b::runc::x", "2").expect("room");
        list.add("a::runc::x", "1").expect("room");
        list.add("b::runc::x", "3").expect("room");
        let text = fs::read_to_string(list.path()).expect("the list");
        assert_eq!(text, "a::runc::x 1\nb::runc::x 3\n");
        assert_eq!(list.read().expect("the list").len(), 2);
    }
}
