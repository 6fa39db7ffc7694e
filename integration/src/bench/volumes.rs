//! Work on a volume: through virtiofsd, on a bind mount of runc's, and on the guest's own disk.
//!
//! By the wall's clock, in turns, the best of some runs; all files lie in memory. Not by counting instructions, for the
//! reason that `turns.rs` gives. The container measures itself, so its start does not count.

use anyhow::{Result, ensure};

use super::{report::Report, turns};
use crate::host::VirtualHost;

/// Names, and the arguments of `volumes` in [`PREPARE`]. Ours is the first, what it is compared with the second.
pub const PLACES: [(&str, &str); 3] = [
    ("a volume, msb", "msb-runtime volume"),
    ("a volume, runc", "runc volume"),
    ("own disk, msb", "msb-runtime disk"),
];

/// What a container does in its directory of work. `/read` and `/random` are files of 16 MiB.
const WORK: &str = r#"
set -e; cd /work
timed() { began=$(/bin/now +%s%N); eval "$3"; echo "VOL $1 $2 $(($(/bin/now +%s%N) - began))"; }
timed small-files-write 200 'for i in $(seq 200); do echo $i > $i; done'
timed small-files-read 200 'cat * > /dev/null'
timed small-files-list 200 'ls -l > /dev/null'
timed small-files-remove 200 'rm *'
timed write-and-sync-16m 256 'dd if=/dev/zero of=big bs=64k count=256 conv=fsync 2> /dev/null'; rm big
guest-io files /random /work
timed read-16m 256 'dd if=/read of=/dev/null bs=64k 2> /dev/null'
"#;

/// Two bundles of one root, in memory.
const PREPARE: &str = r#"
set -eu
systemctl stop docker.socket docker containerd
mkdir -p /bench /var/lib/msb-runtime
mount -t tmpfs -o size=1G,exec tmpfs /bench
mount -t tmpfs tmpfs /var/lib/msb-runtime
mkdir /bench/work /bench/volume /bench/disk
cp -a /opt/busybox/rootfs /bench/root
mkdir /bench/root/work
# Busybox has no date with nanoseconds.
cp /usr/bin/date /bench/root/bin/now
ldd /usr/bin/date | awk '{for (i = 1; i <= NF; i++) if ($i ~ /^\//) print $i}' | xargs cp -L --parents -t /bench/root
head -c 16M /dev/urandom > /bench/read
cp /bench/read /bench/random; cp /bench/read /bench/root/read; cp /bench/read /bench/root/random
cp /usr/local/bin/guest-io /bench/root/bin/
cd /opt/busybox/bundle
jq --arg work "$WORK" '.process.args = ["sh", "-c", $work] | .root.path = "/bench/root"' config.json > /bench/disk/config.json
jq '.mounts += [{destination: "/work", type: "bind", source: "/bench/work", options: ["rbind"]},
    ({destination: ("/read", "/random"), type: "bind", options: ["rbind"]} | .source = "/bench" + .destination)]' /bench/disk/config.json > /bench/volume/config.json
"#;

/// Measures all cases in all places.
///
/// # Errors
/// A container that does not come to its end.
pub fn measure(host: &VirtualHost, report: &mut Report, progress: &dyn Fn(&str)) -> Result<()> {
    let prepared = host.sh(PREPARE).env("WORK", WORK).run()?;
    ensure!(prepared.code == 0, "The host can't be prepared: {}", prepared.err());
    let command =
        |place: &str| format!("set -- {place}; $1 --root /run/bench-$1 run --bundle /bench/$2 bench 2>&1");
    report.volumes = turns::best(host, report.brief, &PLACES, command, cases, progress)?;
    let left = host.sh("ls -A /bench/work; umount /bench /var/lib/msb-runtime").run()?;
    ensure!(left.code == 0 && left.out().is_empty(), "The work left {:?}: {}", left.out(), left.err());
    Ok(())
}

/// The container's lines: `VOL name operations nanoseconds`.
fn cases(output: &str) -> Result<Vec<(String, u64)>> {
    turns::cases(output, "VOL ", "read-16m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_container() {
        let output = "VOL small-files-list 200 9\nVOL read-16m 256 7\n";
        let expected = [("small-files-list".to_owned(), 9), ("read-16m".to_owned(), 7)];
        assert_eq!(cases(output).unwrap(), expected);
        assert!(cases("VOL small-files-list 200 9").is_err());
    }
}
