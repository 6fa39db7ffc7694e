//! The root's mounts, which containerd leaves to the shim: made in the bundle's `rootfs`, and unmade; or not made at all,
//! where the root is one image that is only read ([`image`]).

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use containerd_shim_protos::types::mount::Mount;
use msb_runtime::{host::apart::apart, image::RootImage};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

/// Why the root can't be had.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The place for it.
    #[error("The directory {} can't be made", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A mount.
    #[error("The {kind} {from} can't be mounted at {}", path.display())]
    Mount {
        /// Type of file system.
        kind: String,
        /// What.
        from: String,
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Errno,
    },
    /// mount(8), for what is in a file.
    #[error("The file {from} can't be mounted at {}: {reason}", path.display())]
    Loop {
        /// What.
        from: String,
        /// Where.
        path: PathBuf,
        /// Its own word.
        reason: String,
    },
    /// More options than the kernel reads, which would leave out the rest without a word.
    #[error("The mount at {} has too many layers, or too long paths of them: {bytes} bytes of options", path.display())]
    Long {
        /// Where.
        path: PathBuf,
        /// How many.
        bytes: usize,
    },
    /// An image that is not there.
    #[error("The {kind} {from} can't be read")]
    Image {
        /// Type of file system.
        kind: String,
        /// What.
        from: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It is in use.
    #[error("The root {} can't be unmounted", path.display())]
    Unmount {
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Errno,
    },
}

/// The bundle's directory that containerd wants the root in.
pub const ROOT: &str = "rootfs";

/// Options that are flags of mount(2), as mount(8) names them.
const FLAGS: [(&str, MsFlags); 12] = [
    ("ro", MsFlags::MS_RDONLY),
    ("nosuid", MsFlags::MS_NOSUID),
    ("nodev", MsFlags::MS_NODEV),
    ("noexec", MsFlags::MS_NOEXEC),
    ("sync", MsFlags::MS_SYNCHRONOUS),
    ("dirsync", MsFlags::MS_DIRSYNC),
    ("noatime", MsFlags::MS_NOATIME),
    ("nodiratime", MsFlags::MS_NODIRATIME),
    ("relatime", MsFlags::MS_RELATIME),
    ("strictatime", MsFlags::MS_STRICTATIME),
    ("bind", MsFlags::MS_BIND),
    ("rbind", MsFlags::MS_BIND.union(MsFlags::MS_REC)),
];

/// Options that are what happens without them.
const USUAL: [&str; 9] =
    ["rw", "suid", "dev", "exec", "async", "atime", "diratime", "defaults", "norelatime"];

/// What is to be mounted is in a file.
const LOOP: &str = "loop";

/// mount(2) reads one page of options, with the zero at their end.
const PAGE: usize = 4096;

/// An overlay of many layers in fewer bytes: the directory above all lower ones, and the options as seen from there.
fn from_above(data: &str) -> Option<(PathBuf, String)> {
    let lower = data.split(',').find_map(|option| option.strip_prefix("lowerdir="))?;
    // A path with a colon would be written with one of these.
    let directories: Option<Vec<&Path>> = lower
        .split(':')
        .map(|name| (name.starts_with('/') && !name.contains('\\')).then(|| Path::new(name)))
        .collect();
    let directories = directories?;
    let above = directories
        .first()?
        .ancestors()
        .skip(1)
        .find(|above| directories.iter().all(|one| one.starts_with(above)))?;
    let names: Option<Vec<&str>> = directories
        .iter()
        .map(|one| one.strip_prefix(above).ok()?.to_str().filter(|name| !name.is_empty()))
        .collect();
    Some((above.to_owned(), data.replacen(lower, &names?.join(":"), 1)))
}

/// Mounts with relative names in the options: on a thread whose working directory is its own.
fn mount_from(above: PathBuf, one: &Mount, path: &Path, flags: MsFlags, data: String) -> Result<(), Errno> {
    let (source, kind, path) = (one.source.clone(), one.type_.clone(), path.to_owned());
    let mounting = move || {
        unshare(CloneFlags::CLONE_FS)?;
        env::set_current_dir(above).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
        mount(Some(source.as_str()), &path, Some(kind.as_str()), flags, Some(data.as_str()))
    };
    apart("mount", mounting).map_err(|_| Errno::EAGAIN)?
}

/// The two kinds of options.
fn understood(options: &[String]) -> (MsFlags, String) {
    let (mut flags, mut data) = (MsFlags::empty(), Vec::new());
    for option in options {
        if let Some((_, flag)) = FLAGS.iter().find(|(name, _)| name == option) {
            flags |= *flag;
        } else if !USUAL.contains(&option.as_str()) && !option.starts_with("X-containerd.") {
            data.push(option.as_str());
        }
    }
    (flags, data.join(","))
}

/// Mounts what is in a file: mount(8) finds a loop device, which goes with the mount.
fn mount_file(one: &Mount, path: &Path) -> Result<(), MountError> {
    let failed =
        |reason: String| MountError::Loop { from: one.source.clone(), path: path.to_owned(), reason };
    let options: Vec<&str> = one
        .options
        .iter()
        .map(String::as_str)
        .filter(|option| !option.starts_with("X-containerd."))
        .collect();
    let mounted = Command::new("mount")
        .args(["-t", &one.type_, "-o", &options.join(","), "--", &one.source])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    match mounted.status.success() {
        true => Ok(()),
        false => Err(failed(String::from_utf8_lossy(&mounted.stderr).trim().to_owned())),
    }
}

/// The image that a machine can have as it is instead of these mounts: the only one, all of it, and not to be written to,
/// which its own options say or else the configuration (`read_only`).
pub fn image(mounts: &[Mount], read_only: bool) -> Result<Option<RootImage>, MountError> {
    let [one] = mounts else { return Ok(None) };
    let (flags, data) = understood(&one.options);
    let plain = one.target.trim_matches('/').is_empty()
        && !flags.intersects(MsFlags::MS_BIND)
        && data.split(',').all(|option| option.is_empty() || option == LOOP);
    if !plain || !(read_only || flags.contains(MsFlags::MS_RDONLY)) {
        return Ok(None);
    }
    RootImage::of(Path::new(&one.source), &one.type_).map_err(|source| MountError::Image {
        kind: one.type_.clone(),
        from: one.source.clone(),
        source,
    })
}

/// The directory for them, or for none.
pub fn make(root: &Path) -> Result<(), MountError> {
    fs::create_dir_all(root).map_err(|source| MountError::Directory { path: root.to_owned(), source })
}

/// Mounts all of them at `root`, in order. What was mounted when one fails is unmounted.
pub fn mount_all(mounts: &[Mount], root: &Path) -> Result<(), MountError> {
    if mounts.is_empty() {
        return Ok(());
    }
    make(root)?;
    let done = mounts.iter().try_for_each(|one| mount_one(one, root));
    if done.is_err() {
        // The first failure is the one to tell.
        let _ = unmount_all(root);
    }
    done
}

fn mount_one(one: &Mount, root: &Path) -> Result<(), MountError> {
    let path = root.join(one.target.trim_start_matches('/'));
    if one.options.iter().any(|option| option == LOOP) {
        return mount_file(one, &path);
    }
    let (flags, data) = understood(&one.options);
    let failed = |source| MountError::Mount {
        kind: one.type_.clone(),
        from: one.source.clone(),
        path: path.clone(),
        source,
    };
    let bind = flags.contains(MsFlags::MS_BIND);
    if data.len() < PAGE {
        let data = (!data.is_empty()).then_some(data.as_str());
        mount(Some(one.source.as_str()), &path, Some(one.type_.as_str()), flags, data).map_err(failed)?;
    } else {
        match from_above(&data) {
            Some((above, data)) if data.len() < PAGE => {
                mount_from(above, one, &path, flags, data).map_err(failed)?
            }
            _ => return Err(MountError::Long { path, bytes: data.len() }),
        }
    }
    let rest = flags - MsFlags::MS_BIND - MsFlags::MS_REC;
    if bind && !rest.is_empty() {
        // A bind takes its flags only when it is there.
        let again = flags | MsFlags::MS_REMOUNT;
        mount(None::<&str>, &path, None::<&str>, again, None::<&str>).map_err(failed)?;
    }
    Ok(())
}

/// Unmounts whatever is mounted at `root`, however often; nothing is as good.
pub fn unmount_all(root: &Path) -> Result<(), MountError> {
    loop {
        match umount2(root, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(source) => return Err(MountError::Unmount { path: root.to_owned(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_told_from_the_file_systems_own_options() {
        let options =
            ["workdir=/w", "upperdir=/u", "ro", "rw", "rbind", "X-containerd.x=y"].map(str::to_owned);
        let (flags, data) = understood(&options);
        assert_eq!(flags, MsFlags::MS_RDONLY | MsFlags::MS_BIND | MsFlags::MS_REC);
        assert_eq!(data, "workdir=/w,upperdir=/u");
    }

    #[test]
    fn what_is_in_no_file_is_told_by_mount_itself() {
        let dir = tempfile::tempdir().unwrap();
        let mut one = Mount::new();
        (one.type_, one.source) = ("ext4".into(), "/no/such/image".into());
        one.options = ["loop", "ro", "X-containerd.x=y"].map(str::to_owned).into();
        let error = mount_all(&[one], dir.path()).unwrap_err().to_string();
        assert!(error.contains("/no/such/image"), "{error}");
    }

    #[test]
    fn one_image_that_is_only_read_needs_no_mount() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("image");
        fs::write(&file, "an image").unwrap();
        let mount = |kind: &str, options: &[&str], target: &str| {
            let mut one = Mount::new();
            (one.type_, one.source, one.target) = (kind.into(), file.display().to_string(), target.into());
            one.options = options.iter().map(|option| (*option).to_owned()).collect();
            one
        };
        let direct = |mounts: &[Mount], read_only| image(mounts, read_only).unwrap().is_some();
        let one = mount("erofs", &["ro", "loop", "X-containerd.x=y"], "");
        assert!(direct(std::slice::from_ref(&one), false));
        assert!(direct(&[mount("erofs", &["rw"], "/")], true));
        assert!(!direct(&[mount("erofs", &["rw"], "")], false), "it may be written to");
        assert!(!direct(&[one.clone(), one], true), "there is more to it");
        assert!(!direct(&[mount("erofs", &["ro"], "/sub")], true), "it is a part");
        assert!(!direct(&[mount("erofs", &["ro", "device=/dev/x"], "")], true), "it has more devices");
        assert!(!direct(&[mount("ext4", &["ro"], "")], true), "it is no ext4");
        assert!(!direct(&[mount("xfs", &["ro"], "")], true), "the guest does not know it");
        assert!(!direct(&[mount("erofs", &["ro", "bind"], "")], true), "it is a directory");
        let mut none = mount("erofs", &["ro"], "");
        none.source = "/no/such/image".into();
        assert!(matches!(image(&[none], true), Err(MountError::Image { .. })));
    }

    #[test]
    fn names_of_layers_are_taken_from_the_directory_above_them() {
        let seen = |data: &str| from_above(data).map(|(above, data)| (above.display().to_string(), data));
        let told = |above: &str, data: &str| Some((above.to_owned(), data.to_owned()));
        assert_eq!(
            seen("index=off,lowerdir=/s/12/fs:/s/1/fs:/s/3/fs,upperdir=/s/4/fs,workdir=/s/4/work"),
            told("/s", "index=off,lowerdir=12/fs:1/fs:3/fs,upperdir=/s/4/fs,workdir=/s/4/work")
        );
        assert_eq!(seen("lowerdir=/s/1/fs"), told("/s/1", "lowerdir=fs"));
        assert_eq!(seen("lowerdir=/a:/b"), told("/", "lowerdir=a:b"));
        // One beneath the other, relative, with a colon in its name, no overlay at all.
        assert_eq!(seen("lowerdir=/s/1:/s/1/fs"), told("/s", "lowerdir=1:1/fs"));
        for other in ["lowerdir=a:/b", r"lowerdir=/a\:x:/b", "upperdir=/u", "lowerdir=/:/a"] {
            assert_eq!(seen(other), None, "{other}");
        }
    }

    #[test]
    fn what_the_kernel_would_cut_off_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut one = Mount::new();
        one.type_ = "overlay".into();
        one.options = vec![format!("lowerdir=/{}", "a:/b/".repeat(PAGE))];
        assert!(matches!(mount_all(&[one], dir.path()), Err(MountError::Long { .. })));
    }

    #[test]
    fn nothing_is_mounted_where_nothing_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("rootfs");
        mount_all(&[], &root).unwrap();
        assert!(!root.exists());
        unmount_all(&root).unwrap();
        unmount_all(dir.path()).unwrap();
    }
}
