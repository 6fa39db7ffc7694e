//! Digests: of what content a name is, and whether content is what its name says.

use std::{
    fmt,
    io::{self, Read},
    str::FromStr,
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// `sha256:` and 64 hexadecimal digits (OCI image-spec, descriptor.md, "Digests"). No other algorithm is in use for images.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no digest: one is `sha256:` and 64 hexadecimal digits")]
pub struct BadDigest(String);

/// What every digest begins with.
const ALGORITHM: &str = "sha256:";

impl Digest {
    /// Of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digits alone.
    #[must_use]
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// As Docker shortens it for people.
    #[must_use]
    pub fn short(&self) -> String {
        HEXLOWER.encode(&self.0[..6])
    }

    /// As bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let hex = text.strip_prefix(ALGORITHM).filter(|hex| hex.len() == 64);
        let bytes = hex.and_then(|hex| HEXLOWER.decode(hex.as_bytes()).ok());
        let whole = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        whole.map(Self).ok_or_else(|| BadDigest(text.chars().take(100).collect()))
    }
}

impl TryFrom<String> for Digest {
    type Error = BadDigest;

    fn try_from(text: String) -> Result<Self, BadDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "{ALGORITHM}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}

/// Hands on what it reads and knows its digest. No more than a limit is read: more is an error, not an end.
pub(super) struct Hashing<R> {
    inner: R,
    hash: Sha256,
    read: u64,
    limit: u64,
}

/// More came than was allowed.
#[derive(Debug, thiserror::Error)]
#[error("There is more of it than {limit} bytes")]
pub struct TooLong {
    /// What was allowed.
    pub limit: u64,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(inner: R, limit: u64) -> Self {
        Self { inner, hash: Sha256::new(), read: 0, limit }
    }

    /// Of all that was read, and how much that was.
    pub(super) fn finish(self) -> (Digest, u64) {
        (Digest(self.hash.finalize().into()), self.read)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        if self.read > self.limit {
            return Err(io::Error::other(TooLong { limit: self.limit }));
        }
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

/// A digest in the making.
#[derive(Default)]
pub(super) struct Hasher(Sha256);

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// The ChainID of each layer (OCI image-spec, config.md, "Layer ChainID"): what it and all below it are, in one digest.
#[must_use]
pub(super) fn chain(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let id = match chain.last() {
            None => *diff_id,
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(id);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_its_text() {
        let digest = Digest::of(b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for bad in ["", "sha256:", "sha512:00", "sha256:../../../etc/passwd", &"0".repeat(71)] {
            bad.parse::<Digest>().unwrap_err();
        }
        digest.to_string().to_uppercase().parse::<Digest>().unwrap_err();
    }

    #[test]
    fn a_chain_is_of_all_below() {
        let ids = [Digest::of(b"a"), Digest::of(b"b")];
        let chained = chain(&ids);
        assert_eq!(chained[0], ids[0]);
        assert_eq!(chained[1], Digest::of(format!("{} {}", ids[0], ids[1]).as_bytes()));
        assert_ne!(chain(&[ids[1], ids[0]])[1], chained[1]);
    }

    #[test]
    fn more_than_the_limit_is_an_error() {
        let mut all = Vec::new();
        Hashing::new(&b"12345"[..], 5).read_to_end(&mut all).unwrap();
        Hashing::new(&b"123456"[..], 5).read_to_end(&mut all).unwrap_err();
    }
}
