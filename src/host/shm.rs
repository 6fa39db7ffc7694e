//! How large the shared memory is that a caller has made for a container (`--shm-size` of podman, and of Docker with
//! `--ipc=shareable`): it says so only in the file system that it has mounted.

use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

/// The size of the tmpfs at `path`, in bytes; none when there is no tmpfs, or one without a limit.
#[must_use]
pub fn size(path: &Path) -> Option<u64> {
    let found = statfs(path).ok().filter(|found| found.filesystem_type() == TMPFS_MAGIC)?;
    let size = found.blocks().checked_mul(u64::try_from(found.block_size()).ok()?)?;
    (size > 0).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_of_a_file_system_in_memory() {
        assert_eq!(size(Path::new("/proc")), None);
        assert_eq!(size(Path::new("/no/such/path")), None);
    }
}
