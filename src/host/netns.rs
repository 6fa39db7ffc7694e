//! The network namespace in which the VMM lives, which is the container's towards Docker, podman and CNI.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
};

use crate::config::NetworkNamespace;

/// Why this process could not enter it.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// A new one can't be made.
    #[error("No network namespace could be made: run as root")]
    New(#[source] Errno),
    /// The given one can't be opened.
    #[error("The network namespace {} can't be opened", path.display())]
    Open {
        /// `linux.namespaces[].path`
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The given one can't be joined.
    #[error("{} can't be joined as a network namespace", path.display())]
    Join {
        /// `linux.namespaces[].path`
        path: PathBuf,
        /// The cause.
        #[source]
        source: Errno,
    },
}

/// Puts the calling thread, and every thread it starts later, into the namespace.
///
/// # Errors
/// [`NetnsError`]; the thread is then where it was.
pub fn enter(namespace: &NetworkNamespace) -> Result<(), NetnsError> {
    match namespace {
        NetworkNamespace::Host => Ok(()),
        NetworkNamespace::New => unshare(CloneFlags::CLONE_NEWNET).map_err(NetnsError::New),
        NetworkNamespace::Existing(path) => join(path),
    }
}

fn join(path: &Path) -> Result<(), NetnsError> {
    let file = File::open(path).map_err(|source| NetnsError::Open { path: path.to_owned(), source })?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|source| NetnsError::Join { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    fn current() -> PathBuf {
        fs::read_link("/proc/thread-self/ns/net").unwrap()
    }

    #[test]
    fn a_new_namespace_is_another_one_and_can_be_joined_by_path() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root to make a network namespace");
            return;
        }
        thread::spawn(|| {
            let before = current();
            let home = File::open("/proc/thread-self/ns/net").unwrap();
            enter(&NetworkNamespace::Host).unwrap();
            assert_eq!(current(), before);
            enter(&NetworkNamespace::New).unwrap();
            assert_ne!(current(), before);
            use std::os::fd::AsRawFd;
            let path = PathBuf::from(format!("/proc/self/fd/{}", home.as_raw_fd()));
            enter(&NetworkNamespace::Existing(path)).unwrap();
            assert_eq!(current(), before);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_is_no_namespace_is_refused_with_its_path() {
        let error = enter(&NetworkNamespace::Existing("/dev/null".into())).unwrap_err();
        assert!(matches!(error, NetnsError::Join { .. }));
        assert!(error.to_string().contains("/dev/null"));
    }
}
