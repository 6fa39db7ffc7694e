//! `mounts[].options`: words become flags, propagation and the file system's own data. Pure.

use msb_agent::protocol::Failure;
use nix::mount::MsFlags;

use super::users::Owners;

/// Parsed options of one mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// For mount(2).
    pub flags: MsFlags,
    /// Applied afterwards, one call each, in order.
    pub propagation: Vec<MsFlags>,
    /// What the file system itself understands, joined by commas.
    pub data: String,
    /// `tmpcopyup`: the tmpfs starts with what the image has at its place.
    pub copy_up: bool,
}

/// `MS_NOSYMFOLLOW` of linux/mount.h.
const NOSYMFOLLOW: MsFlags = MsFlags::from_bits_retain(256);
/// `MS_LAZYTIME` of linux/mount.h.
const LAZYTIME: MsFlags = MsFlags::from_bits_retain(1 << 25);

/// Word, whether it sets or clears, the flag: mount(8), "FILESYSTEM-INDEPENDENT MOUNT OPTIONS". The recursive forms
/// of runc (`rro`, …) are the same here, because a fresh mount has nothing below it.
const FLAGS: [(&str, bool, MsFlags); 46] = [
    ("async", false, MsFlags::MS_SYNCHRONOUS),
    ("atime", false, MsFlags::MS_NOATIME),
    ("dev", false, MsFlags::MS_NODEV),
    ("diratime", false, MsFlags::MS_NODIRATIME),
    ("dirsync", true, MsFlags::MS_DIRSYNC),
    ("exec", false, MsFlags::MS_NOEXEC),
    ("iversion", true, MsFlags::MS_I_VERSION),
    ("lazytime", true, LAZYTIME),
    ("loud", false, MsFlags::MS_SILENT),
    ("noatime", true, MsFlags::MS_NOATIME),
    ("nodev", true, MsFlags::MS_NODEV),
    ("nodiratime", true, MsFlags::MS_NODIRATIME),
    ("noexec", true, MsFlags::MS_NOEXEC),
    ("noiversion", false, MsFlags::MS_I_VERSION),
    ("nolazytime", false, LAZYTIME),
    ("norelatime", false, MsFlags::MS_RELATIME),
    ("nostrictatime", false, MsFlags::MS_STRICTATIME),
    ("nosuid", true, MsFlags::MS_NOSUID),
    ("nosymfollow", true, NOSYMFOLLOW),
    ("ratime", false, MsFlags::MS_NOATIME),
    ("rdev", false, MsFlags::MS_NODEV),
    ("rdiratime", false, MsFlags::MS_NODIRATIME),
    ("relatime", true, MsFlags::MS_RELATIME),
    ("remount", true, MsFlags::MS_REMOUNT),
    ("rexec", false, MsFlags::MS_NOEXEC),
    ("rnoatime", true, MsFlags::MS_NOATIME),
    ("rnodev", true, MsFlags::MS_NODEV),
    ("rnodiratime", true, MsFlags::MS_NODIRATIME),
    ("rnoexec", true, MsFlags::MS_NOEXEC),
    ("rnorelatime", false, MsFlags::MS_RELATIME),
    ("rnostrictatime", false, MsFlags::MS_STRICTATIME),
    ("rnosuid", true, MsFlags::MS_NOSUID),
    ("rnosymfollow", true, NOSYMFOLLOW),
    ("ro", true, MsFlags::MS_RDONLY),
    ("rrelatime", true, MsFlags::MS_RELATIME),
    ("rro", true, MsFlags::MS_RDONLY),
    ("rrw", false, MsFlags::MS_RDONLY),
    ("rstrictatime", true, MsFlags::MS_STRICTATIME),
    ("rsuid", false, MsFlags::MS_NOSUID),
    ("rsymfollow", false, NOSYMFOLLOW),
    ("rw", false, MsFlags::MS_RDONLY),
    ("silent", true, MsFlags::MS_SILENT),
    ("strictatime", true, MsFlags::MS_STRICTATIME),
    ("suid", false, MsFlags::MS_NOSUID),
    ("symfollow", false, NOSYMFOLLOW),
    ("sync", true, MsFlags::MS_SYNCHRONOUS),
];

/// Word and call: mount_namespaces(7).
const PROPAGATION: [(&str, MsFlags); 8] = [
    ("private", MsFlags::MS_PRIVATE),
    ("rprivate", MsFlags::MS_PRIVATE.union(MsFlags::MS_REC)),
    ("rshared", MsFlags::MS_SHARED.union(MsFlags::MS_REC)),
    ("rslave", MsFlags::MS_SLAVE.union(MsFlags::MS_REC)),
    ("runbindable", MsFlags::MS_UNBINDABLE.union(MsFlags::MS_REC)),
    ("shared", MsFlags::MS_SHARED),
    ("slave", MsFlags::MS_SLAVE),
    ("unbindable", MsFlags::MS_UNBINDABLE),
];

/// Mean nothing for what is mounted here: a file of the host came as its content, not by a bind, and the kernel has
/// dropped mandatory locks; access control lists are always on.
const IGNORED: [&str; 8] = ["acl", "bind", "defaults", "mand", "noacl", "nomand", "notmpcopyup", "rbind"];

/// `uid=` and `gid=` of the file systems that have an owner of their own (tmpfs(5), `Documentation/filesystems/devpts.rst`).
const OWNED: [&str; 3] = ["devpts", "hugetlbfs", "tmpfs"];

/// Reads the words in order: of two that contradict each other the later wins, as with mount(8).
pub fn parse(words: &[String]) -> Options {
    let mut options =
        Options { flags: MsFlags::empty(), propagation: Vec::new(), data: String::new(), copy_up: false };
    for word in words {
        if let Some((_, set, flag)) = FLAGS.iter().find(|(name, ..)| name == word) {
            options.flags.set(*flag, *set);
        } else if let Some((_, flag)) = PROPAGATION.iter().find(|(name, _)| name == word) {
            options.propagation.push(*flag);
        } else if word == "tmpcopyup" {
            options.copy_up = true;
        } else if !IGNORED.contains(&word.as_str()) && !word.is_empty() {
            if !options.data.is_empty() {
                options.data.push(',');
            }
            options.data.push_str(word);
        }
    }
    options
}

impl Options {
    /// Of a file system with an owner: the ids that are given are the container's, and without any it is its root's.
    ///
    /// # Errors
    /// [`Failure::Setup`] for an id that the container does not have.
    pub fn own(&mut self, filesystem: &str, owners: Owners<'_>) -> Result<(), Failure> {
        if !owners.any() || !OWNED.contains(&filesystem) {
            return Ok(());
        }
        let mut words: Vec<String> =
            self.data.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        for (key, group) in [("uid=", false), ("gid=", true)] {
            let outside = |inside| if group { owners.gid(inside) } else { owners.uid(inside) };
            let mut given = false;
            for word in &mut words {
                // The kernel refuses what is no number.
                if let Some(inside) = word.strip_prefix(key).and_then(|id| id.parse().ok()) {
                    *word = format!("{key}{}", outside(inside)?);
                    given = true;
                }
            }
            if !given {
                words.push(format!("{key}{}", outside(0)?));
            }
        }
        self.data = words.join(",");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use msb_agent::protocol::{IdRange, MOUNT_OPTIONS, UserMap};

    use super::*;

    fn parsed(words: &[&str]) -> Options {
        parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn callers_are_told_every_word() {
        let mut words: Vec<&str> = FLAGS.iter().map(|(word, ..)| *word).collect();
        words.extend(PROPAGATION.iter().map(|(word, _)| *word));
        words.extend(IGNORED);
        words.push("tmpcopyup");
        words.sort_unstable();
        assert_eq!(words, MOUNT_OPTIONS);
    }

    #[test]
    fn dockers_dev() {
        let options = parsed(&["nosuid", "strictatime", "mode=755", "size=65536k"]);
        assert_eq!(options.flags, MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME);
        assert_eq!(options.data, "mode=755,size=65536k");
        assert!(options.propagation.is_empty());
    }

    #[test]
    fn owners_are_the_containers() {
        let range = |outside| vec![IdRange { inside: 0, outside, count: 10 }];
        let map = UserMap { uids: range(1000), gids: range(2000) };
        let mut pts = parsed(&["newinstance", "gid=5"]);
        pts.own("devpts", Owners(&map)).unwrap();
        assert_eq!(pts.data, "newinstance,gid=2005,uid=1000");
        let mut proc = parsed(&[]);
        proc.own("proc", Owners(&map)).unwrap();
        assert_eq!(proc.data, "");
        assert!(parsed(&["uid=10"]).own("tmpfs", Owners(&map)).is_err());
        let none = UserMap::default();
        let mut plain = parsed(&["uid=10"]);
        plain.own("tmpfs", Owners(&none)).unwrap();
        assert_eq!(plain.data, "uid=10");
    }

    #[test]
    fn the_later_of_two_wins() {
        assert_eq!(parsed(&["ro", "rw"]).flags, MsFlags::empty());
        assert_eq!(parsed(&["exec", "noexec"]).flags, MsFlags::MS_NOEXEC);
    }

    #[test]
    fn propagation_keeps_its_order_and_bind_is_no_data() {
        let options = parsed(&["rbind", "rprivate", "shared"]);
        assert_eq!(options.propagation, [MsFlags::MS_PRIVATE | MsFlags::MS_REC, MsFlags::MS_SHARED]);
        assert_eq!(options.data, "");
    }
}
