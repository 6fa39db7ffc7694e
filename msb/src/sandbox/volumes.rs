//! Volumes with names: directories of ours that sandboxes share, and that stay when these go.

use std::{
    fs::{self, DirBuilder},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    time::SystemTime,
};

use super::{Failure, Files, Key, Sandboxes, Where, list::names};
use crate::name::Name;

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedVolume {
    /// What it is called.
    pub name: Name,
    /// When it was made, as far as its file system tells.
    pub created: SystemTime,
    /// When something was last put at its top or taken away there.
    pub changed: SystemTime,
}

impl Sandboxes {
    /// All of them, by name.
    ///
    /// # Errors
    /// That they can't be read.
    pub fn volumes(&self) -> Result<Vec<NamedVolume>, Failure> {
        let all = names(&self.home().volumes())?.into_iter();
        // One that is gone by now is no error.
        Ok(all.filter_map(|name| self.volume(name).ok()).collect())
    }

    /// One of them.
    ///
    /// # Errors
    /// [`Failure::NoVolume`].
    pub fn volume(&self, name: Name) -> Result<NamedVolume, Failure> {
        let found = fs::symlink_metadata(self.home().volume(&name)).ok().filter(fs::Metadata::is_dir);
        let Some(found) = found else { return Err(Failure::NoVolume(name)) };
        let changed = found.modified().map_err(Failure::other)?;
        Ok(NamedVolume { name, created: found.created().unwrap_or(changed), changed })
    }

    /// Bytes that one takes on the disk.
    ///
    /// # Errors
    /// [`Failure::NoVolume`].
    pub fn volume_used(&self, name: Name) -> Result<u64, Failure> {
        let NamedVolume { name, .. } = self.volume(name)?;
        Ok(super::usage::layer(&self.home().volume(&name)))
    }

    /// What is in one.
    ///
    /// # Errors
    /// [`Failure::NoVolume`].
    pub fn volume_files(&self, name: Name) -> Result<Files, Failure> {
        let NamedVolume { name, .. } = self.volume(name)?;
        Files::of(&self.home().volume(&name)).map_err(Failure::other)
    }

    /// Makes one.
    ///
    /// # Errors
    /// [`Failure::VolumeExists`], or that it can't be made.
    pub fn create_volume(&self, name: Name) -> Result<NamedVolume, Failure> {
        let (all, mut one) = (self.home().volumes(), DirBuilder::new());
        DirBuilder::new().recursive(true).mode(0o700).create(all).map_err(Failure::other)?;
        match one.mode(0o755).create(self.home().volume(&name)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Failure::VolumeExists(name)),
            made => {
                made.map_err(Failure::other)?;
                self.volume(name)
            }
        }
    }

    /// Removes one, with all that is in it.
    ///
    /// # Errors
    /// [`Failure::NoVolume`], [`Failure::VolumeUsed`], or that it can't be removed.
    pub fn remove_volume(&self, name: Name) -> Result<(), Failure> {
        let NamedVolume { name, .. } = self.volume(name)?;
        let users: Vec<Key> = self.users(&name)?;
        if !users.is_empty() {
            return Err(Failure::VolumeUsed(name, users));
        }
        fs::remove_dir_all(self.home().volume(&name)).map_err(Failure::other)
    }

    /// The sandboxes that name it.
    fn users(&self, volume: &Name) -> Result<Vec<Key>, Failure> {
        let names = |all: &[super::Volume]| {
            all.iter().any(|one| matches!(&one.source, Where::Named(name) if name == volume))
        };
        let all = self.list_whole()?.into_iter();
        Ok(all.filter(|info| names(&info.request.volumes)).map(|info| info.key).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;

    #[test]
    fn one_is_made_once_and_removed_once() {
        let dir = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::new(Home::at(dir.path().to_owned()).unwrap());
        let name: Name = "data".parse().unwrap();
        assert!(sandboxes.volumes().unwrap().is_empty());
        assert!(matches!(sandboxes.remove_volume(name.clone()), Err(Failure::NoVolume(_))));
        sandboxes.create_volume(name.clone()).unwrap();
        assert!(matches!(sandboxes.create_volume(name.clone()), Err(Failure::VolumeExists(_))));
        fs::write(sandboxes.home().volume(&name).join("file"), "x").unwrap();
        assert_eq!(sandboxes.volumes().unwrap()[0].name, name);
        sandboxes.remove_volume(name).unwrap();
        assert!(sandboxes.volumes().unwrap().is_empty());
    }
}
