//! What a container could leave on a host: processes, mounts, cgroups, files, loop devices, network links.
//!
//! Enters: the output of [`Snapshot::SCRIPT`]. Leaves: what a later one has more. Must never know which runtime ran.

use std::collections::BTreeMap;

/// One look at a host: each thing, and how many of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, usize>);

/// Processes that come and go by themselves, and those of the script.
const PASSING: [&str; 8] =
    ["sh", "ps", "cut", "sed", "find", "(udev-worker)", "systemd-hostnam", "systemd-timedat"];

/// Folders that a runtime makes with its first container and keeps; what is in them counts.
const KEPT: [&str; 3] = ["/run/runc", "/run/msb-runtime", "/var/lib/msb-runtime"];

impl Snapshot {
    /// Prints one thing a line. A test's own files belong in `/root`, which is not looked at. Docker removes its files in
    /// `netns` once a minute; what counts, the mount on each, is looked at. podman keeps exit codes in `persist`,
    /// and our runtime what it found out about an image in `compositions`, for the next container.
    pub const SCRIPT: &str = r"
ps --ppid 2 --deselect -o comm=,args= | sed 's/^/process /'
sed 's/^[^ ]* [^ ]* [^ ]* [^ ]* \([^ ]*\) .* - \(.*\)$/mount \1 \2/' /proc/self/mountinfo
find /sys/fs/cgroup -type d | sed 's/^/cgroup /'
find /run /tmp /var/tmp /dev/shm /var/lib/msb-runtime -xdev \
    \( -path /run/udev -o -path /run/systemd -o -path /run/log -o -path /run/user -o -path '/run/docker/netns/*' \
       -o -path '/run/libpod/persist/*' -o -path /var/lib/msb-runtime/compositions \) -prune -o -print 2>/dev/null |
    sed 's/^/file /'
find /var/lib/docker/containers /var/lib/docker/overlay2 /var/lib/containers/storage/overlay-containers -maxdepth 1 -type d |
    sed 's/^/file /'
losetup -a | sed 's/^/loop /'
ip -o link | cut -d' ' -f2 | sed 's/@.*//; s/^/link /'
";

    /// Reads what the script printed.
    pub fn parse(text: &str) -> Self {
        let mut found = BTreeMap::new();
        let kept = KEPT.map(|folder| format!("file {folder}"));
        for line in text.lines() {
            let program = line.strip_prefix("process ").and_then(|rest| rest.split_whitespace().next());
            let passing = program.is_some_and(|program| PASSING.contains(&program));
            // Lines of a script's own arguments begin with no kind.
            let kind = line.split(' ').next().unwrap_or_default();
            if !passing
                && !kept.contains(&line.to_owned())
                && ["process", "mount", "cgroup", "file", "loop", "link"].contains(&kind)
            {
                *found.entry(line.trim_end().to_owned()).or_insert(0) += 1;
            }
        }
        Self(found)
    }

    /// What is here and was not in `before`, or not as often.
    pub fn beyond(&self, before: &Self) -> Vec<String> {
        let more = |(thing, count): &(&String, &usize)| before.0.get(*thing).is_none_or(|then| then < count);
        self.0.iter().filter(more).map(|(thing, _)| thing.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_more_than_before() {
        let before = Snapshot::parse("process dockerd dockerd\nmount / ext4 /dev/vda\nfile /run/a\n");
        let after = Snapshot::parse(
            "process dockerd dockerd\nprocess dockerd dockerd\nmount / ext4 /dev/vda\nprocess ps ps\nnoise\nloop /dev/loop0\n",
        );
        assert_eq!(after.beyond(&before), ["loop /dev/loop0", "process dockerd dockerd"]);
        assert!(before.beyond(&after).contains(&"file /run/a".to_owned()));
    }
}
