//! What keys are signed with: a file that only its owner reads.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// What keys are signed with.
#[derive(Clone)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        to.write_str("Secret(…)")
    }
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Not readable, or not writable.
    #[error("Can't keep the server's key in {}", path.display())]
    File {
        /// Where it would be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Keys signed with it could be guessed.
    #[error("The server's key has only {length} characters: give it {LEAST} or more")]
    Short {
        /// What it has.
        length: usize,
    },
}

/// Characters of a secret that is made here: 190 bits.
const LENGTH: usize = 32;
/// Characters of one that is given.
const LEAST: usize = 16;
/// What a secret is made of.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

impl Secret {
    /// One that its owner chose.
    ///
    /// # Errors
    /// [`SecretError::Short`].
    pub fn given(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let length = text.len();
        if length < LEAST { Err(SecretError::Short { length }) } else { Ok(Self(text.to_owned())) }
    }

    /// The same, put into `path` in place of what was there: keys are made by who reads it there.
    ///
    /// # Errors
    /// [`SecretError`]; what was there stays then.
    pub fn replace(path: &Path, text: &str) -> Result<Self, SecretError> {
        let secret = Self::given(text)?;
        write(path, &secret.0, |beside| fs::rename(beside, path))
            .map_err(|source| SecretError::File { path: path.to_owned(), source })?;
        Ok(secret)
    }

    /// That of `path`; made there where there is none, so that of two who make it at once both have the same.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn kept(path: &Path) -> Result<Self, SecretError> {
        let failed = |source| SecretError::File { path: path.to_owned(), source };
        match fs::read_to_string(path) {
            Ok(text) => Self::given(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(path).map_err(failed)?;
                Self::given(&fs::read_to_string(path).map_err(failed)?)
            }
            Err(error) => Err(failed(error)),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// A new secret, linked to `path`: never over another's.
fn make(path: &Path) -> io::Result<()> {
    write(path, &random(LENGTH)?, |beside| match fs::hard_link(beside, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    })
}

/// Writes `text` beside `path`, from where `place` brings it there: whole, or not at all.
fn write(path: &Path, text: &str, place: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let beside = path.with_extension(random(8)?);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        place(&beside)
    })();
    match fs::remove_file(&beside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => written,
        removed => written.and(removed),
    }
}

/// So many letters and digits that nobody can guess.
///
/// # Errors
/// That the kernel has no random numbers.
pub(in crate::server) fn random(length: usize) -> io::Result<String> {
    let mut source = File::open("/dev/urandom")?;
    let mut text = String::with_capacity(length);
    let mut byte = [0];
    while text.len() < length {
        source.read_exact(&mut byte)?;
        // 248 is four times 62: above it the first letters would come more often.
        if byte[0] < 248 {
            text.push(char::from(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_file_one_secret_and_nobody_else_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.key");
        let (one, other) = std::thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(|| Secret::kept(&path).unwrap().0));
            let [one, other] = threads.map(|thread| thread.join().unwrap());
            (one, other)
        });
        assert_eq!(one, other);
        assert_eq!(one.len(), LENGTH);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(Secret::kept(&path).unwrap().0, one);
    }

    #[test]
    fn one_that_is_given_is_kept_in_place_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.key");
        let made = Secret::kept(&path).unwrap().0;
        Secret::replace(&path, "short").unwrap_err();
        assert_eq!(Secret::kept(&path).unwrap().0, made);
        let given = Secret::replace(&path, "0123456789abcdef\n").unwrap().0;
        assert_eq!((given.as_str(), &Secret::kept(&path).unwrap().0), ("0123456789abcdef", &given));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_can_be_guessed_is_no_secret() {
        assert!(matches!(Secret::given("short"), Err(SecretError::Short { length: 5 })));
        assert!(!format!("{:?}", Secret::given("long enough, really").unwrap()).contains("long"));
    }
}
