//! A network namespace that is kept by a file, as `ip netns` does.

use std::{
    fs::{self, File},
    io,
    path::Path,
    thread,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

/// Makes one at `path`, which must not exist.
pub(super) fn make(path: &Path) -> io::Result<()> {
    File::create_new(path)?;
    let target = path.to_owned();
    let made = thread::Builder::new().name("namespace".into()).spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let own = "/proc/thread-self/ns/net";
        mount(Some(own), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
    })?;
    Ok(made.join().unwrap_or(Err(Errno::ECANCELED))?)
}

/// Removes it; that it is not there is as good.
pub(super) fn remove(path: &Path) {
    while umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
    // What is not there can't be removed.
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use std::os::linux::fs::MetadataExt;

    use super::*;

    #[test]
    fn it_is_another_and_goes_without_a_trace() {
        if !nix::unistd::geteuid().is_root() {
            return test_skips::skip("only root makes a network namespace");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("network");
        make(&path).unwrap();
        let own = fs::metadata("/proc/self/ns/net").unwrap();
        assert_ne!(fs::metadata(&path).unwrap().st_ino(), own.st_ino());
        make(&path).unwrap_err();
        remove(&path);
        assert!(!path.exists());
        remove(&path);
    }
}
