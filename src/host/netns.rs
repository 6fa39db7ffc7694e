//! The network namespace in which the VMM lives, which is the container's towards Docker, podman and CNI.

use std::{
    fs::{self, File},
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
    /// A machine takes all that the namespace's links bring.
    #[error(
        "The network namespace {} is that of process {pid} already, and a microVM needs one for itself: \
         leave --network container:… away, or put both containers into one network", path.display()
    )]
    Inhabited {
        /// `linux.namespaces[].path`
        path: PathBuf,
        /// Who lives there.
        pid: i32,
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
/// [`NetnsError`]; the thread is then where it was, or in a namespace that is not for it.
pub fn enter(namespace: &NetworkNamespace) -> Result<(), NetnsError> {
    match namespace {
        NetworkNamespace::New => unshare(CloneFlags::CLONE_NEWNET).map_err(NetnsError::New),
        NetworkNamespace::Existing(path) => {
            join(path)?;
            match other_inhabitant() {
                Some(pid) => Err(NetnsError::Inhabited { path: path.clone(), pid }),
                None => Ok(()),
            }
        }
    }
}

/// Another process that lives in the namespace of the calling thread, if there is one. What the namespace's links bring
/// in goes to the machine alone: nobody else there would hear anything any more.
fn other_inhabitant() -> Option<i32> {
    let here = fs::read_link("/proc/thread-self/ns/net").ok()?;
    let own = std::process::id().cast_signed();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own)
        .find(|pid| lives(*pid, &here))
}

/// Whether all threads of a process are in a namespace. The first alone says nothing: a caller in Go (podman) makes a
/// namespace in one thread of many, and if chance took the first, that one can't end and stays there, asleep.
fn lives(pid: i32, namespace: &Path) -> bool {
    let is_there =
        |thread: PathBuf| fs::read_link(thread.join("ns/net")).is_ok_and(|there| there == namespace);
    if !is_there(PathBuf::from(format!("/proc/{pid}"))) {
        return false;
    }
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut threads = threads.peekable();
    // One that has ended meanwhile has none.
    threads.peek().is_some() && threads.all(|thread| is_there(thread.path()))
}

/// Puts the calling thread into the namespace at `path`, whoever else is there: for what uses its network beside the
/// machine.
///
/// # Errors
/// [`NetnsError::Open`], [`NetnsError::Join`]; the thread is then where it was.
pub fn join(path: &Path) -> Result<(), NetnsError> {
    let file = File::open(path).map_err(|source| NetnsError::Open { path: path.to_owned(), source })?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|source| NetnsError::Join { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::{os::fd::AsRawFd, thread};

    use super::*;

    fn current() -> PathBuf {
        fs::read_link("/proc/thread-self/ns/net").unwrap()
    }

    #[test]
    fn a_new_namespace_is_another_one_and_can_be_joined_by_path() {
        if !nix::unistd::geteuid().is_root() {
            return test_skips::skip("only root makes a network namespace");
        }
        thread::spawn(|| {
            let before = current();
            let here = || File::open("/proc/thread-self/ns/net").unwrap();
            let by_path = |file: &File| {
                NetworkNamespace::Existing(PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())))
            };
            let home = here();
            enter(&NetworkNamespace::New).unwrap();
            let (first, held) = (current(), here());
            assert_ne!(first, before);
            enter(&NetworkNamespace::New).unwrap();
            enter(&by_path(&held)).unwrap();
            assert_eq!(current(), first);
            let error = enter(&by_path(&home)).unwrap_err();
            assert!(matches!(error, NetnsError::Inhabited { .. }), "{error:?}");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_process_lives_where_all_its_threads_are() {
        if !nix::unistd::geteuid().is_root() {
            return test_skips::skip("only root makes a network namespace");
        }
        thread::spawn(|| {
            let (home, own) = (current(), std::process::id().cast_signed());
            enter(&NetworkNamespace::New).unwrap();
            let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            let pid = child.id().cast_signed();
            let found =
                [(pid, &current()), (pid, &home), (own, &home)].map(|(pid, namespace)| lives(pid, namespace));
            child.kill().unwrap();
            child.wait().unwrap();
            // This process has its first thread at home, and this one elsewhere.
            assert_eq!(found, [true, false, false]);
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
