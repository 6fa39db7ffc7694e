//! `mounts[].options`: words become flags, propagation and the file system's own data. Pure.

use nix::mount::MsFlags;

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
const FLAGS: [(&str, bool, MsFlags); 32] = [
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
    ("relatime", true, MsFlags::MS_RELATIME),
    ("rnodev", true, MsFlags::MS_NODEV),
    ("rnoexec", true, MsFlags::MS_NOEXEC),
    ("rnosuid", true, MsFlags::MS_NOSUID),
    ("ro", true, MsFlags::MS_RDONLY),
    ("rro", true, MsFlags::MS_RDONLY),
    ("rw", false, MsFlags::MS_RDONLY),
    ("silent", true, MsFlags::MS_SILENT),
    ("strictatime", true, MsFlags::MS_STRICTATIME),
    ("suid", false, MsFlags::MS_NOSUID),
    ("symfollow", false, NOSYMFOLLOW),
    ("sync", true, MsFlags::MS_SYNCHRONOUS),
    ("rrw", false, MsFlags::MS_RDONLY),
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

/// Mean nothing for what is mounted here: a file of the host came as its content, not by a bind.
const IGNORED: [&str; 4] = ["bind", "defaults", "notmpcopyup", "rbind"];

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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Options {
        parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn dockers_dev() {
        let options = parsed(&["nosuid", "strictatime", "mode=755", "size=65536k"]);
        assert_eq!(options.flags, MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME);
        assert_eq!(options.data, "mode=755,size=65536k");
        assert!(options.propagation.is_empty());
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
