//! From the paths in an overlay's options to directories.
//!
//! In: the options and where the overlay is mounted. Out: absolute paths without symbolic links, the lowest first.
//! Paths can be relative to the directory that the mounting process was in: Docker's and podman's when the options would
//! else be too long for a page (`l/` and a short link, from the store's directory, above the mount's), containerd's when it
//! has cut off what they have in common (`7/fs`, from the snapshots' directory, above the upper layer's).
//! It must never take a layer for sure: the caller compares.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Why;
use super::options::{Given, Options};

/// Where stores are, for an overlay that has neither an upper layer nor is mounted within its store.
const STORES: [&str; 4] = [
    "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots",
    "/var/lib/docker/containerd/daemon/io.containerd.snapshotter.v1.overlayfs/snapshots",
    "/var/lib/docker/overlay2",
    "/var/lib/containers/storage/overlay",
];

/// The directories of an overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) lowers: Vec<PathBuf>,
    pub(super) upper: Option<PathBuf>,
}

/// Finds the layers of the overlay at `mount`.
pub(super) fn find(options: &Options, mount: &Path) -> Result<Found, Why> {
    let all = || options.lowers.iter().chain(&options.upper);
    if all().any(|given| {
        given.readings.iter().any(|path| path.starts_with(b"/proc/") || path.starts_with(b"/dev/fd/"))
    }) {
        return Err(Why::Descriptor);
    }
    if all().all(Given::is_absolute) {
        return beneath(Path::new("/"), options);
    }
    let own = options.upper.iter().chain(&options.work).filter(|given| given.is_absolute());
    let own: Vec<&Path> = own.map(|given| Path::new(OsStr::from_bytes(&given.readings[0]))).collect();
    let above = own.into_iter().chain([mount]).flat_map(|path| path.ancestors().skip(1));
    let mut first = None;
    for base in above.chain(STORES.map(Path::new)) {
        match beneath(base, options) {
            Ok(found) => return Ok(found),
            Err(why) => drop(first.get_or_insert(why)),
        }
    }
    Err(first.unwrap_or(Why::Options("relative paths")))
}

/// All layers, if each is a directory when looked up from `base`.
fn beneath(base: &Path, options: &Options) -> Result<Found, Why> {
    let lowers = options.lowers.iter().rev().map(|given| directory(base, given)).collect::<Result<_, _>>()?;
    let upper = options.upper.as_ref().map(|given| directory(base, given)).transpose()?;
    Ok(Found { lowers, upper })
}

fn directory(base: &Path, given: &Given) -> Result<PathBuf, Why> {
    let paths = given.readings.iter().map(|reading| base.join(OsStr::from_bytes(reading)));
    let directory = |path: PathBuf| {
        let path = fs::canonicalize(path).ok()?;
        fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir()).then_some(path)
    };
    let missing = || Why::Missing(PathBuf::from(OsStr::from_bytes(&given.readings[0])));
    paths.filter_map(directory).next().ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::options::parse;
    use super::*;

    fn made(base: &Path, directories: &[&str]) {
        for directory in directories {
            fs::create_dir_all(base.join(directory)).unwrap();
        }
    }

    #[test]
    fn dockers_relative_links_start_above_the_mount() {
        let store = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(store.path()).unwrap();
        made(&base, &["l", "one/diff", "two-init/diff", "two/diff", "two/work", "two/merged"]);
        symlink("../one/diff", base.join("l/AAA")).unwrap();
        symlink("../two-init/diff", base.join("l/BBB")).unwrap();
        let options = parse(b"rw,lowerdir=l/BBB:l/AAA,upperdir=two/diff,workdir=two/work").unwrap();
        let found = find(&options, &base.join("two/merged")).unwrap();
        assert_eq!(found.lowers, [base.join("one/diff"), base.join("two-init/diff")]);
        assert_eq!(found.upper, Some(base.join("two/diff")));
        assert!(
            super::super::is_docker_init(&found.lowers[1]) && !super::super::is_docker_init(&found.lowers[0])
        );
    }

    #[test]
    fn containerds_relative_lowers_start_above_the_upper() {
        let store = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(store.path()).unwrap();
        made(&base, &["1/fs", "2/fs", "3/fs", "3/work"]);
        let at = base.display();
        let text = format!("rw,lowerdir=2/fs:1/fs,upperdir={at}/3/fs,workdir={at}/3/work");
        let found = find(&parse(text.as_bytes()).unwrap(), Path::new("/run/rootfs")).unwrap();
        assert_eq!(found.lowers, [base.join("1/fs"), base.join("2/fs")]);
        let text = format!("rw,lowerdir=9/fs,upperdir={at}/3/fs,workdir={at}/3/work");
        let error = find(&parse(text.as_bytes()).unwrap(), Path::new("/run/rootfs")).unwrap_err();
        assert_eq!(error, Why::Missing("9/fs".into()));
    }

    #[test]
    fn open_files_of_another_process_are_not_ours() {
        let options = parse(b"ro,lowerdir=/proc/self/fd/5:/usr").unwrap();
        assert_eq!(find(&options, Path::new("/m")), Err(Why::Descriptor));
    }
}
