//! The order of a write-back: read and check everything, remember what is about to be, do it, remember what was done.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, mkdirat, syncfs};

use super::attributes::Attributes;
use super::copy::Copier;
use super::error::WritebackError;
use super::host::{Root, failed, kind, list, sweep};
use super::manifest::{self, Brought, Seen};
use super::names::{Full, Names, ROOT};
use super::place::Place;
use super::plan::{self, Entry, What};
use super::{Limits, Options, SkipReason, Summary, TEMPORARY};
use crate::ext4::reader::{Budget, Inode, Scratch};
use crate::output::Durability;

/// A file that was changed less than so many seconds before the disk was frozen could have been changed again at the same
/// (coarse) time: it is copied again the next time.
const SETTLED: i64 = 2;

/// Brings what a guest wrote on the scratch disk `scratch` to the directory `root`. Nobody else may write to either meanwhile,
/// and the guest must be gone, or have frozen its file system and be stopped.
///
/// # Errors
/// [`WritebackError`]. The scratch disk is never changed; see [`WritebackError::is_guest`] for whether it is to blame.
pub fn apply(scratch: &Path, root: &Path, options: &Options) -> Result<Summary, WritebackError> {
    let scratch = Scratch::open(scratch)?;
    let mut summary = Summary { disk_had_errors: scratch.has_errors(), ..Summary::default() };
    let Some(names) = plan::read(&scratch, &options.limits)? else { return Ok(summary) };
    let before = match &options.manifest {
        Some(path) => manifest::read(path)?,
        None => None,
    };
    let root = Root::open(root, options.limits.depth)?;
    let nothing = names.len() == 1 && before.as_ref().is_none_or(|before| before.len() == 1);
    let remember = options.manifest.as_deref().filter(|_| !options.last && !nothing);
    if let Some(path) = remember {
        // If we are killed, the next run has to know what this one may have brought.
        let intent = brought(&names, &[])?;
        let intent = match &before {
            Some(before) => before.merged(&intent).map_err(too_many)?,
            None => intent,
        };
        manifest::write(path, &intent)?;
    }
    let count = usize::try_from(names.len()).expect("32 bits fit in usize on every supported machine");
    let mut run = Run {
        scratch: &scratch,
        names: &names,
        before: before.as_ref(),
        root: &root,
        options,
        fresh: vec![false; count],
        before_at: vec![None; count],
        seen: vec![None; count],
        firsts: HashMap::new(),
        budget: scratch.budget(),
        copier: Copier::new(),
        summary: &mut summary,
    };
    run.all()?;
    let seen = run.seen;
    summary.bytes = run.copier.copied;
    if options.durability == Durability::Durable && !nothing {
        syncfs(root.descriptor()).map_err(failed("sync", Path::new("")))?;
    }
    if let Some(path) = remember {
        manifest::write(path, &brought(&names, &seen)?)?;
    }
    Ok(summary)
}

/// Whether a guest wrote nothing at all on the scratch disk `scratch`: then there is nothing to bring.
///
/// # Errors
/// [`WritebackError`], of the disk.
pub fn is_empty(scratch: &Path, limits: &Limits) -> Result<bool, WritebackError> {
    let names = plan::read(&Scratch::open(scratch)?, limits)?;
    Ok(names.is_none_or(|names| names.len() == 1))
}

fn too_many(_: Full) -> WritebackError {
    WritebackError::Limit { what: "names", limit: usize::try_from(u32::MAX).unwrap_or(usize::MAX) }
}

/// What the plan brings, as the manifest has it; `seen` is empty or as long as the plan.
fn brought(names: &Names<Entry>, seen: &[Option<Seen>]) -> Result<Names<Brought>, WritebackError> {
    let mut all = Names::new(Brought::Directory);
    let mut numbers = vec![ROOT];
    for number in ROOT + 1..names.len() {
        let entry = names.at(number);
        let value = match entry.value.what {
            What::Directory { .. } => Brought::Directory,
            What::File => Brought::File(seen.get(index(number)).copied().flatten()),
            What::Whiteout => {
                // Never anybody's parent.
                numbers.push(ROOT);
                continue;
            }
        };
        let added = all.add(numbers[index(entry.parent)], names.name(number), value).map_err(too_many)?;
        numbers.push(added);
    }
    Ok(all)
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("32 bits fit in usize on every supported machine")
}

/// A write-back in progress. Vectors are by the plan's numbers.
struct Run<'a> {
    scratch: &'a Scratch,
    names: &'a Names<Entry>,
    before: Option<&'a Names<Brought>>,
    root: &'a Root,
    options: &'a Options,
    /// Directories that were made now, with nothing in them.
    fresh: Vec<bool>,
    /// The same name in the manifest before.
    before_at: Vec<Option<u32>>,
    seen: Vec<Option<Seen>>,
    /// By inode, where a file with several names was made.
    firsts: HashMap<u32, u32>,
    budget: Budget,
    copier: Copier,
    summary: &'a mut Summary,
}

impl Run<'_> {
    fn all(&mut self) -> Result<(), WritebackError> {
        self.before_at[0] = self.before.map(|_| ROOT);
        let directories: Vec<u32> = (ROOT..self.names.len())
            .filter(|number| matches!(self.names.at(*number).value.what, What::Directory { .. }))
            .collect();
        for number in &directories {
            self.directory(*number)?;
        }
        // From the deepest up, and last of all: filling a directory changes its times.
        for number in directories.iter().rev() {
            self.finish(*number)?;
        }
        Ok(())
    }

    /// Everything in one directory, but not in those in it.
    fn directory(&mut self, number: u32) -> Result<(), WritebackError> {
        let children = self.names.children(number);
        let path = self.names.path(number);
        self.forget(number)?;
        let opaque = self.names.at(number).value.what == What::Directory { opaque: true };
        if children.is_empty() && !opaque {
            return Ok(());
        }
        let directory = self.root.directory(&path).map_err(failed("open", &path))?;
        if !self.fresh[index(number)] {
            sweep(directory.as_fd(), &path)?;
            if opaque {
                self.clear(number, directory.as_fd(), &path)?;
            }
        }
        for child in children {
            self.child(child, directory.as_fd(), &path.join(self.name(child)))?;
        }
        Ok(())
    }

    /// Removes what was brought before and is gone since.
    fn forget(&mut self, number: u32) -> Result<(), WritebackError> {
        let (Some(before), Some(at)) = (self.before, self.before_at[index(number)]) else { return Ok(()) };
        for old in before.children(at) {
            if let Some(child) = self.names.child(number, before.name(old)) {
                self.before_at[index(child)] = Some(old);
                continue;
            }
            let mut gone = vec![old];
            let mut next = 0;
            while let Some(number) = gone.get(next) {
                gone.extend(before.children(*number));
                next += 1;
            }
            for number in gone.iter().rev() {
                self.summary.removed += u64::from(self.root.remove_one(&before.path(*number))?);
            }
        }
        Ok(())
    }

    /// Removes what does not show through an opaque directory.
    fn clear(&mut self, number: u32, directory: BorrowedFd<'_>, path: &Path) -> Result<(), WritebackError> {
        let kept: BTreeSet<&[u8]> = self.names.children(number).map(|child| self.names.name(child)).collect();
        for name in list(directory).map_err(failed("list", path))? {
            if !kept.contains(&*name) {
                let name_as_path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(&name);
                self.root.remove(directory, &name, &path.join(name_as_path))?;
                self.summary.removed += 1;
            }
        }
        Ok(())
    }

    fn child(&mut self, child: u32, directory: BorrowedFd<'_>, path: &Path) -> Result<(), WritebackError> {
        let names = self.names;
        let (name, entry) = (names.name(child), names.at(child).value);
        if name == TEMPORARY.as_bytes() {
            self.summary.skip(path, SkipReason::Reserved);
            return Ok(());
        }
        match entry.what {
            What::Whiteout => {
                self.summary.removed += 1;
                self.root.remove(directory, name, path)
            }
            What::Directory { .. } => {
                let there = kind(directory, name).map_err(failed("look at", path))?;
                if there != Some(FileType::Directory) {
                    self.root.remove(directory, name, path)?;
                    mkdirat(directory, name, Mode::from(0o700)).map_err(failed("make", path))?;
                    self.fresh[index(child)] = true;
                }
                Ok(())
            }
            What::File => {
                let place = Place { root: self.root, directory, name, path };
                let placed = self.file(child, entry.inode, place);
                if placed.is_err() {
                    place.clean_up();
                }
                placed
            }
        }
    }

    fn file(&mut self, number: u32, inode: u32, place: Place<'_>) -> Result<(), WritebackError> {
        let inode = self.scratch.inode(inode)?;
        if inode.links > 1
            && let Some(first) = self.firsts.get(&inode.number).copied()
        {
            let parent = self.names.path(self.names.at(first).parent);
            let directory = self.root.directory(&parent).map_err(failed("open", &parent))?;
            if place.link(directory.as_fd(), self.names.name(first))? {
                self.summary.links += 1;
                return Ok(());
            }
        }
        if let Some(seen) = self.seen_before(number)
            && place.is_unchanged(&inode, &seen)
        {
            self.seen[index(number)] = Some(seen);
            self.summary.unchanged += 1;
            return Ok(());
        }
        let rights = &self.options.rights;
        let made = place.make(self.scratch, &inode, rights, &mut self.budget, &mut self.copier)?;
        let Some(dropped) = made else {
            self.summary.skip(place.path, SkipReason::Device);
            return Ok(());
        };
        self.summary.files += 1;
        if dropped > 0 {
            self.summary.skip(place.path, SkipReason::Attributes);
        }
        if inode.links > 1 {
            self.firsts.insert(inode.number, number);
        } else if dropped == 0 && self.is_settled(&inode) {
            let guest = (inode.number, inode.generation, inode.ctime);
            self.seen[index(number)] = place.identity().map(|host| Seen { guest, host });
        }
        Ok(())
    }

    fn seen_before(&self, number: u32) -> Option<Seen> {
        match self.before?.at(self.before_at[index(number)]?).value {
            Brought::File(seen) => seen,
            Brought::Directory => None,
        }
    }

    fn is_settled(&self, inode: &Inode) -> bool {
        inode.ctime.seconds.saturating_add(SETTLED) <= i64::from(self.scratch.written_at())
    }

    /// Gives a directory its attributes.
    fn finish(&mut self, number: u32) -> Result<(), WritebackError> {
        let path = self.names.path(number);
        let inode = self.scratch.inode(self.names.at(number).value.inode)?;
        let mut attributes = Attributes::of(self.scratch, &inode)?;
        let directory = self.root.directory(&path).map_err(failed("open", &path))?;
        let times = number != ROOT || self.names.len() > 1;
        self.options.rights.limit_directory(&mut attributes, &directory);
        attributes
            .set_on_directory(directory.as_fd(), number == ROOT, times)
            .map_err(failed("set the attributes of", &path))?;
        if attributes.dropped > 0 {
            self.summary.skip(&path, SkipReason::Attributes);
        }
        self.summary.directories += u64::from(number != ROOT);
        Ok(())
    }

    fn name(&self, number: u32) -> PathBuf {
        let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(self.names.name(number));
        PathBuf::from(name)
    }
}
