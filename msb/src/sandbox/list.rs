//! Sandboxes are looked at: all of them, or one.
//!
//! In: nothing but names. Out: what is known of each. One that is being made or removed just now is not there.

use std::{collections::BTreeSet, fs, io, path::Path};

use super::{
    Failure, Info, Key, Sandboxes, State,
    sandboxes::is_damaged,
    stored::{Place, Stored},
};
use crate::name::Name;

impl Sandboxes {
    /// All of them, or those of a namespace, by namespace and name. One whose record is damaged is left out: nothing is known
    /// of it, and who asks for it by its name is told.
    ///
    /// # Errors
    /// [`Failure::NoNamespace`], or that they can't be read.
    pub fn list(&self, namespace: Option<&Name>) -> Result<Vec<Info>, Failure> {
        self.found(namespace, |failure| if is_damaged(&failure) { Ok(()) } else { Err(failure) })
    }

    /// All of them, and none left out: for who must know what each has.
    ///
    /// # Errors
    /// As for [`Self::list`], or that the record of one is damaged.
    pub(super) fn list_whole(&self) -> Result<Vec<Info>, Failure> {
        self.found(None, Err)
    }

    fn found(
        &self,
        namespace: Option<&Name>,
        unread: impl Fn(Failure) -> Result<(), Failure>,
    ) -> Result<Vec<Info>, Failure> {
        let all = self.home().namespaces();
        let namespaces = match namespace {
            None => names(&all)?,
            Some(one) if all.join(one.as_str()).is_dir() => BTreeSet::from([one.clone()]),
            Some(one) => return Err(Failure::NoNamespace(one.clone())),
        };
        let mut found = Vec::new();
        for namespace in namespaces {
            for key in self.keys(&namespace)? {
                match self.info(&key) {
                    // Being made, or removed just now.
                    Err(Failure::NoSandbox(_) | Failure::NoNamespace(_)) => {}
                    Err(failure) => unread(failure)?,
                    Ok(info) => found.push(info),
                }
            }
        }
        Ok(found)
    }

    /// What may be a sandbox of a namespace.
    fn keys(&self, namespace: &Name) -> Result<Vec<Key>, Failure> {
        let names = names(&self.home().namespaces().join(namespace.as_str()))?.into_iter();
        Ok(names.map(|name| Key { namespace: namespace.clone(), name }).collect())
    }

    /// What is known of one.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`], [`Failure::NoNamespace`], or that it can't be read.
    pub fn info(&self, key: &Key) -> Result<Info, Failure> {
        let (place, stored) = self.find(key)?;
        self.info_of(&place, stored)
    }

    /// What is known of one that was [found](Self::find).
    ///
    /// # Errors
    /// That it can't be looked at.
    pub fn info_of(&self, place: &Place, stored: Stored) -> Result<Info, Failure> {
        let state = self.state(place, &stored)?;
        let record = (state == State::Running).then(|| self.entry(&stored)?.record().ok()).flatten();
        let up = record.and_then(|record| super::usage::life(record.vmm));
        let Stored { key, request, created, started, ended, boot, .. } = stored;
        Ok(Info { key, request, state, created, started, up, ended: ended.map(|ended| ended.at), boot })
    }

    /// The digests of the images that sandboxes are made of. With one that is damaged they are not known: what it is made of
    /// must not be pruned.
    ///
    /// # Errors
    /// As for [`Self::list`], or that the record of one is damaged.
    pub fn digests(&self) -> Result<BTreeSet<String>, Failure> {
        let mut all = BTreeSet::new();
        for namespace in names(&self.home().namespaces())? {
            for key in self.keys(&namespace)? {
                match self.find(&key) {
                    Err(Failure::NoSandbox(_) | Failure::NoNamespace(_)) => {}
                    found => drop(all.insert(found?.1.digest)),
                }
            }
        }
        Ok(all)
    }
}

/// What in a directory can be a name. One that is not there has none.
pub(super) fn names(directory: &Path) -> Result<BTreeSet<Name>, Failure> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries.map_err(Failure::other)?,
    };
    let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    Ok(entries.filter_map(name).collect())
}
