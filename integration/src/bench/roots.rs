//! Roots: our compositions and scratch disks against `mkfs.erofs` and `mke2fs -d`, and a container on such a root against
//! runc's.
//!
//! In instructions, with all files in memory. The trees are made of the virtual host's own files: 10,000 as in a small
//! Debian root, and 40,000 as in an image with a language and its libraries.

use anyhow::{Context, Result, ensure};

use super::cases;
use super::report::Report;
use crate::host::VirtualHost;

/// Names of the trees and how many files each has.
const TREES: [(&str, u32); 2] = [("10,000 files", 10_000), ("40,000 files", 40_000)];

/// Runs of each case; the first is not counted.
const RUNS: usize = 4;

/// What a case reads, writes or prints stands in `/bench/roots`; `$T` is the tree.
///
/// Large files are left out: the trees and an image of each must fit into the host's memory, and the size of data is no
/// matter to a composition, so that this favours the others.
const PREPARE: &str = r#"
set -eu
mkdir -p /bench/roots; cd /bench/roots
mount -t tmpfs -o exec,size=3500M tmpfs /bench/roots
find /usr /etc /lib/modules -xdev \( -type f -size -64k -o -type l \) | sort -u | head -n 10000 > list
wc -l < list >&2
plant() { mkdir -p "$1"; tar -C / -c -T list | tar -C "$1" -x; }
plant small
for part in a b c d; do plant large/opt/$part; done
for tree in small large; do
    mkdir -p $tree/bin $tree/proc $tree/sys $tree/dev; cp /usr/bin/busybox $tree/bin/busybox; ln -s busybox $tree/bin/echo
    mkdir -p $tree.upper $tree.work $tree.bundle/rootfs
    mount -t overlay -o lowerdir=$PWD/$tree,upperdir=$PWD/$tree.upper,workdir=$PWD/$tree.work overlay $tree.bundle/rootfs
    cp /bench/bundle/config.json $tree.bundle/config.json
done
find small -type f -o -type l | wc -l
find large -type f -o -type l | wc -l
"#;

/// Measures all cases in `host`, which [`cases::prepare`] has prepared.
///
/// # Errors
/// The first command that can't be run or does not end as it should.
pub fn measure(host: &VirtualHost, report: &mut Report, progress: &dyn Fn(&str)) -> Result<()> {
    progress("trees of files");
    let prepared = host.sh(PREPARE).timeout(Some(cases::PATIENCE)).run()?;
    ensure!(prepared.code == 0, "The trees can't be made: {}", prepared.err());
    let counts: Vec<u32> = prepared.out().lines().filter_map(|line| line.parse().ok()).collect();
    ensure!(
        counts.iter().zip(TREES).all(|(found, (_, wanted))| *found >= wanted) && counts.len() == TREES.len(),
        "The trees have {counts:?} files"
    );
    for ((name, _), tree) in TREES.iter().zip(["small", "large"]) {
        let cold = "rm -rf cache composition;";
        for (case, script) in [
            (
                "msb-rootfs compose, first",
                format!("{cold} exec msb-rootfs compose {tree}.bundle/rootfs composition --cache cache"),
            ),
            (
                "msb-rootfs compose, cached",
                format!("exec msb-rootfs compose {tree}.bundle/rootfs composition --cache cache"),
            ),
            ("mkfs.erofs", format!("exec mkfs.erofs -Enoinline_data image {tree}")),
            ("mke2fs -d", format!("rm -f image; exec mke2fs -q -t ext4 -d {tree} image 2G")),
        ] {
            add(host, report, progress, &format!("{case}, {name}"), "", &script)?;
        }
        let written = host.sh("cd /bench/roots; rm -f image; stat -c %s cache/*.composed").run()?.out();
        let written = written.trim().parse().with_context(|| format!("One composition, not {written:?}"))?;
        report.sizes.insert(format!("composition of {name}"), written);
        for (case, script) in [
            (
                "msb-runtime run, first",
                format!(
                    "rm -rf /var/lib/msb-runtime/compositions; exec msb-runtime --root /run/bench run --bundle {tree}.bundle bench"
                ),
            ),
            (
                "msb-runtime run, cached",
                format!("exec msb-runtime --root /run/bench run --bundle {tree}.bundle bench"),
            ),
            ("runc run", format!("exec runc --root /run/bench-runc run --bundle {tree}.bundle bench")),
        ] {
            add(host, report, progress, &format!("{case}, {name}"), cases::MARKER, &script)?;
        }
    }
    let scratch = "rm -f image; exec msb-rootfs scratch 16G image";
    add(host, report, progress, "msb-rootfs scratch, 16 GiB", "", scratch)?;
    let other = "rm -f image; truncate -s 16G image; exec mke2fs -q -t ext4 image";
    add(host, report, progress, "mke2fs, 16 GiB", "", other)?;
    add(host, report, progress, "the shell of these cases alone", "", "exec /bin/true")
}

fn add(
    host: &VirtualHost,
    report: &mut Report,
    progress: &dyn Fn(&str),
    case: &str,
    marker: &str,
    script: &str,
) -> Result<()> {
    progress(case);
    let command = format!("sh -c 'cd /bench/roots; {script}'");
    report.roots.push((case.to_owned(), cases::runs(host, RUNS, marker, &command)?));
    Ok(())
}
