//! Roots: our compositions and scratch disks against `mkfs.erofs` and `mke2fs -d`, and a container on such a root against
//! runc's.
//!
//! In instructions, with all files in memory. The trees are made of the virtual host's own files: 10,000 as in a small
//! Debian root, and 40,000 as in an image with a language and its libraries. Each is one layer of an overlay; the other
//! programs read that layer's directory itself.

use anyhow::{Context, Result, ensure};

use super::cases::{self, Case, MARKER};
use super::report::Report;
use crate::host::VirtualHost;

/// A root of files.
struct Root {
    name: &'static str,
    /// The layer, and with `.bundle` behind it the bundle whose root it is.
    tree: &'static str,
    /// Files and symbolic links at least.
    files: u64,
    /// Uncounted runs and counted ones.
    runs: (usize, usize),
}

/// The same command takes the same time, and what one root has warmed is warm for the other.
const ROOTS: [Root; 2] = [
    Root { name: "10,000 files", tree: "large/opt/a", files: 10_000, runs: (1, 2) },
    Root { name: "40,000 files", tree: "large", files: 40_000, runs: (0, 1) },
];

/// Runs of what takes no time: uncounted, counted.
const QUICK: (usize, usize) = (1, 4);

/// The small root is a quarter of the large one. Large files are left out: trees and images must fit into the host's
/// memory, and the size of data is no matter to a composition, so that this favours the others.
const PREPARE: &str = r#"
set -eu
mkdir -p /bench/roots
mount -t tmpfs -o exec,size=3500M tmpfs /bench/roots
cd /bench/roots
find /usr /etc /lib/modules -xdev \( -type f -size -64k -o -type l \) | sort -u | head -n 10000 > list
mkdir -p large/opt/a
xargs -d '\n' cp -a --parents -t large/opt/a < list
for part in b c d; do cp -a large/opt/a large/opt/$part; done
for tree in large/opt/a large; do
    mkdir -p $tree/bin $tree/proc $tree/sys $tree/dev
    cp /usr/bin/busybox $tree/bin/busybox
    ln -s busybox $tree/bin/echo
    find $tree -type f -o -type l | wc -l
    du -s --apparent-size --block-size=1 $tree | cut -f 1
done
for tree in large/opt/a large; do
    own=$(echo $tree | tr / -)
    mkdir -p $own.upper $own.work $own.bundle/rootfs
    mount -t overlay -o lowerdir=$PWD/$tree,upperdir=$PWD/$own.upper,workdir=$PWD/$own.work overlay $own.bundle/rootfs
    # The tree has an echo of its own, without the libraries it needs.
    jq '.process.args[0] = "/bin/echo"' /bench/bundle/config.json > $own.bundle/config.json
done
"#;

/// Measures all cases in `host`, which [`cases::prepare`] has prepared.
///
/// # Errors
/// The first command that can't be run or does not end as it should.
pub fn measure(host: &VirtualHost, report: &mut Report, progress: &dyn Fn(&str)) -> Result<()> {
    progress("trees of files");
    let prepared = host.sh(PREPARE).timeout(Some(cases::PATIENCE)).run()?;
    ensure!(prepared.code == 0, "The trees can't be made: {}", prepared.err());
    let told: Vec<u64> = prepared.out().lines().filter_map(|line| line.trim().parse().ok()).collect();
    ensure!(told.len() == 2 * ROOTS.len(), "The trees can't be counted: {}", prepared.out());
    let roots = if report.brief { &ROOTS[..1] } else { &ROOTS };
    for (root, told) in roots.iter().zip(told.chunks(2)) {
        ensure!(told[0] >= root.files, "{} has only {} files", root.tree, told[0]);
        let mut add =
            |case: &str, (warm, counted): (usize, usize), marker: &str, before: &str, command: &str| {
                let counted = report.runs(counted + 1) - 1;
                let name = format!("{case}, {}", root.name);
                progress(&name);
                let before =
                    if before.is_empty() { String::new() } else { format!("cd /bench/roots; {before}") };
                let command = command
                    .replace("BUNDLE", &format!("/bench/roots/{}.bundle", root.tree.replace('/', "-")));
                let command = command.replace("TREE", &format!("/bench/roots/{}", root.tree));
                let measured = cases::measured(
                    host,
                    Case { warm, counted, marker, environment: "", before: &before, command: &command },
                );
                report.roots.push((name, measured?));
                anyhow::Ok(())
            };
        let compose = "msb-rootfs compose BUNDLE/rootfs /bench/roots/out --cache /bench/roots/cache";
        add("msb-rootfs compose, first", root.runs, "", "rm -rf cache", compose)?;
        add("msb-rootfs compose, cached", QUICK, "", "", compose)?;
        let erofs = "mkfs.erofs --quiet -Enoinline_data /bench/roots/image TREE";
        add("mkfs.erofs", root.runs, "", "rm -f image", erofs)?;
        add("mke2fs -d", root.runs, "", "rm -f image", "mke2fs -q -t ext4 -d TREE /bench/roots/image 2G")?;
        let ours = "msb-runtime --root /run/bench run --bundle BUNDLE bench";
        add("msb-runtime run, first", root.runs, MARKER, "rm -rf /var/lib/msb-runtime/compositions", ours)?;
        add("msb-runtime run, cached", QUICK, MARKER, "", ours)?;
        add("runc run", QUICK, MARKER, "", "runc --root /run/bench-runc run --bundle BUNDLE bench")?;

        let written = host.sh("cd /bench/roots; rm -f image; stat -c %s cache/*.composed").run()?.out();
        let written: u64 =
            written.trim().parse().with_context(|| format!("One composition, not {written:?}"))?;
        ensure!(written < told[1] / 8, "A composition of {written} bytes for files of {} bytes", told[1]);
        report.sizes.insert(format!("composition of {}", root.name), written);
        report.sizes.insert(format!("data of {}", root.name), told[1]);
    }
    for (name, command) in [
        ("msb-rootfs scratch, 16 GiB", "msb-rootfs scratch 16G /bench/roots/image"),
        ("mke2fs, 16 GiB", "mke2fs -q -t ext4 /bench/roots/image 16G"),
        ("/bin/true", "/bin/true"),
    ] {
        progress(name);
        let before = "rm -f /bench/roots/image";
        let case = Case {
            warm: QUICK.0,
            counted: report.runs(QUICK.1 + 1) - 1,
            marker: "",
            environment: "",
            before,
            command,
        };
        report.roots.push((name.to_owned(), cases::measured(host, case)?));
    }
    Ok(())
}
