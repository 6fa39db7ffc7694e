//! `config.json` → bytes: bounded, and nothing but a regular file.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat},
    sys::stat::{Mode, SFlag, fstat},
};

use super::SpecError;

/// Longest configuration in bytes that is read. Docker's largest (`--privileged`, seccomp) stay below 128 KiB.
pub const MAX_CONFIG: u64 = 4 << 20;

/// The bytes of `config.json` in `bundle`.
///
/// The name is one component and symbolic links are not followed, so what is read lies in the bundle.
///
/// # Errors
/// One variant per way in which there is no such file.
pub fn config(bundle: &Path) -> Result<Vec<u8>, SpecError> {
    let directory = open(bundle, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| SpecError::Bundle { path: bundle.into(), source: errno.into() })?;
    let path = bundle.join("config.json");
    // O_NONBLOCK: a fifo is refused below instead of waiting for a writer that never comes.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    match openat(directory.as_fd(), "config.json", flags, Mode::empty()) {
        Ok(file) => bounded(file, &path),
        Err(Errno::ENOENT) => Err(SpecError::NoConfig { bundle: bundle.into() }),
        // ELOOP: a symbolic link. ENXIO: a socket.
        Err(Errno::ELOOP | Errno::ENXIO) => Err(SpecError::NotRegular { path }),
        Err(errno) => Err(SpecError::Read { path, source: errno.into() }),
    }
}

/// The bytes of a process description at `path`, which may be a link: the caller named it.
///
/// # Errors
/// As [`config`].
pub fn process(path: &Path) -> Result<Vec<u8>, SpecError> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file = open(path, flags, Mode::empty())
        .map_err(|errno| SpecError::Read { path: path.into(), source: errno.into() })?;
    bounded(file, path)
}

/// All of a regular file that is not too long.
fn bounded(file: OwnedFd, path: &Path) -> Result<Vec<u8>, SpecError> {
    let failed = |source: io::Error| SpecError::Read { path: path.into(), source };
    let status = fstat(&file).map_err(|errno| failed(errno.into()))?;
    if SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(SpecError::NotRegular { path: path.into() });
    }
    let too_long = || SpecError::TooLong { path: path.into(), limit: MAX_CONFIG };
    let length = u64::try_from(status.st_size).unwrap_or(u64::MAX);
    if length > MAX_CONFIG {
        return Err(too_long());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length + 1).map_err(|_| too_long())?);
    // One byte more than allowed: a file that grows while it is read is noticed.
    File::from(file).take(MAX_CONFIG + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_CONFIG {
        return Err(too_long());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn the_bytes_come_back() {
        let bundle = tempfile::tempdir().unwrap();
        fs::write(bundle.path().join("config.json"), "{}").unwrap();
        assert_eq!(config(bundle.path()).unwrap(), b"{}");
    }

    #[test]
    fn no_bundle_and_no_config_differ() {
        let bundle = tempfile::tempdir().unwrap();
        assert!(matches!(config(bundle.path()), Err(SpecError::NoConfig { .. })));
        assert!(matches!(config(&bundle.path().join("none")), Err(SpecError::Bundle { .. })));
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let bundle = tempfile::tempdir().unwrap();
        let path = bundle.path().join("config.json");
        fs::create_dir(&path).unwrap();
        assert!(matches!(config(bundle.path()), Err(SpecError::NotRegular { .. })));
        fs::remove_dir(&path).unwrap();
        symlink("/etc/hostname", &path).unwrap();
        assert!(matches!(config(bundle.path()), Err(SpecError::NotRegular { .. })));
        fs::remove_file(&path).unwrap();
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert!(matches!(config(bundle.path()), Err(SpecError::NotRegular { .. })));
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused() {
        let bundle = tempfile::tempdir().unwrap();
        File::create(bundle.path().join("config.json")).unwrap().set_len(MAX_CONFIG + 1).unwrap();
        assert!(matches!(config(bundle.path()), Err(SpecError::TooLong { .. })));
    }
}
