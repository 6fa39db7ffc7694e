//! Work on a volume: through virtiofsd, on a bind mount of runc's, and on the guest's own disk.
//!
//! In instructions, with all files in memory. What is reported of a work is the time from the command's start to its end,
//! without that of a container that does nothing.

use anyhow::{Context, Result, ensure};

use super::cases::{self, MARKER};
use super::report::Report;
use crate::host::VirtualHost;

/// Runs of each case; the first is not counted.
const RUNS: usize = 3;

/// What a container does, in its directory of work: names and scripts. The first does nothing.
const WORKS: [(&str, &str); 4] = [
    ("nothing", "true"),
    (
        "200 small files written, read, listed, removed",
        "for i in $(seq 200); do echo $i > $i; done; cat * > /dev/null; ls -l > /dev/null; rm *",
    ),
    ("16 MiB written and synced", "dd if=/dev/zero of=big bs=64k count=256 conv=fsync 2> /dev/null; rm big"),
    ("16 MiB read", "dd if=/read of=/dev/null bs=64k 2> /dev/null"),
];

/// Where the work is done: names, runtimes, and the mounts of the bundle, which `jq` adds. `/read` is a file of 16 MiB.
const PLACES: [(&str, &str, &str); 3] = [
    ("a volume, msb", "msb-runtime", VOLUME),
    ("a volume, runc", "runc", VOLUME),
    ("its own disk, msb", "msb-runtime", "[]"),
];

const VOLUME: &str = r#"[{destination: "/work", type: "bind", source: "/bench/work", options: ["rbind"]},
    {destination: "/read", type: "bind", source: "/bench/read", options: ["rbind"]}]"#;

/// One bundle for each place and work, `/bench/volumes/PLACE-WORK`, all with the same root.
const PREPARE: &str = r#"
set -eu
mkdir -p /bench/work /bench/volumes/$NAME
cd /bench/bundle
mkdir -p rootfs/work
test -e /bench/read || { head -c 16M /dev/urandom > /bench/read; cp /bench/read rootfs/read; }
jq --arg work "set -e; cd /work; $WORK; echo $MARKER" \
    '.process.args = ["sh", "-c", $work] | .root.path = "/bench/bundle/rootfs" | .mounts += '"$MOUNTS" \
    config.json > /bench/volumes/$NAME/config.json
"#;

/// Measures all cases in `host`, which [`cases::prepare`] has prepared.
///
/// # Errors
/// The first command that can't be run or does not end as it should.
pub fn measure(host: &VirtualHost, report: &mut Report, progress: &dyn Fn(&str)) -> Result<()> {
    let mut nothing = Vec::new();
    for (index, (work, script)) in WORKS.iter().enumerate() {
        for (position, (place, runtime, mounts)) in PLACES.iter().enumerate() {
            let name = format!("{work}: {place}");
            progress(&name);
            let bundle = format!("{position}-{index}");
            let prepared = host
                .sh(PREPARE)
                .env("NAME", &bundle)
                .env("WORK", script)
                .env("MARKER", MARKER)
                .env("MOUNTS", mounts)
                .run()?;
            ensure!(prepared.code == 0, "The bundle of {name:?} can't be made: {}", prepared.err());
            let command =
                format!("{runtime} --root /run/bench-{runtime} run --bundle /bench/volumes/{bundle} bench");
            let measured = cases::runs(host, RUNS, MARKER, &command)?;
            if index == 0 {
                nothing.push(measured.first_output_ns);
                report.add(&format!("run, {name}"), measured);
            } else {
                let alone = measured.first_output_ns.checked_sub(nothing[position]);
                report.moment(&name, alone.with_context(|| format!("{name:?} took no time"))?);
            }
        }
    }
    let left = host.sh("ls -A /bench/work").run()?.out();
    ensure!(left.is_empty(), "The work left {left:?} on the volume");
    Ok(())
}
