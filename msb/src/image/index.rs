//! Which name is which image.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::error::{ImageError, store};
use super::store::{self, Store};

/// All names. Unknown members of a newer version are not lost silently: they are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    pub(super) images: BTreeMap<String, Entry>,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Of this machine's platform.
    pub(super) manifest: Digest,
    /// The image's ID.
    pub(super) config: Digest,
    /// What its registry calls it: that manifest, or the index of all platforms'.
    pub(super) upstream: Option<Digest>,
    /// Bytes of its layers as they are stored.
    pub(super) size: u64,
}

impl Index {
    pub(super) fn read(from: &Store) -> Result<Self, ImageError> {
        let path = from.index();
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|source| ImageError::Index { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(store("read", path)(error)),
        }
    }

    /// Changes it, while nobody else does.
    pub(super) fn change<T>(of: &Store, change: impl FnOnce(&mut Self) -> T) -> Result<T, ImageError> {
        let _alone = of.index_lock()?;
        let before = Self::read(of)?;
        let mut index = before.clone();
        let result = change(&mut index);
        if index != before {
            let text = serde_json::to_vec_pretty(&index)
                .map_err(|source| ImageError::Index { path: of.index(), source })?;
            store::replace(&of.index(), &text)?;
        }
        Ok(result)
    }

    /// The names of what a user calls `given`: a name, a name with a digest, or the beginning of an ID or digest.
    pub(super) fn find(&self, given: &str) -> Result<Option<(&String, &Entry)>, ImageError> {
        if let Some(found) = self.images.get_key_value(given) {
            return Ok(Some(found));
        }
        if let Ok(reference) = super::reference::parse(given) {
            if let Some(found) = self.images.get_key_value(&reference.whole()) {
                return Ok(Some(found));
            }
            if let Some(digest) = reference.digest().and_then(|digest| digest.parse().ok()) {
                let repository = format!("{}/{}", reference.registry(), reference.repository());
                let same = |name: &str| {
                    name.strip_prefix(&repository).is_some_and(|rest| rest.starts_with([':', '@']))
                };
                let is = |entry: &Entry| entry.manifest == digest || entry.upstream == Some(digest);
                return Ok(self.images.iter().find(|(name, entry)| same(name) && is(entry)));
            }
        }
        self.by_id(given)
    }

    fn by_id(&self, given: &str) -> Result<Option<(&String, &Entry)>, ImageError> {
        let digits = given.strip_prefix("sha256:").unwrap_or(given);
        if digits.len() < 12 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let begins = |digest: Digest| digest.hex().starts_with(digits);
        let mut found =
            self.images.iter().filter(|(_, entry)| begins(entry.config) || begins(entry.manifest));
        let first = found.next();
        match (first, found.find(|(_, other)| first.is_some_and(|(_, first)| first.config != other.config))) {
            (_, Some(_)) => Err(ImageError::Ambiguous { given: given.to_owned() }),
            (first, None) => Ok(first),
        }
    }
}
