//! What POSIX and Linux promise of a file system (`guest-posix`), on a volume and on the root, and what differs.

use std::time::Duration;

use integration::check::{Lab, Runtime};
use integration::host::command::HostCommand;

crate::conformance!(both: [promises], ours: []);

/// Tools of every day, in a directory: a repository and its clone, a database with a log and three writers, a tree of small
/// files as of a package manager.
const WORK: &str = r#"
set -e; mkdir w; cd w
export GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=a@b; git init -q one; cd one
for i in $(seq 20); do echo $i > f$i; done; git add .; git commit -qm first; git gc -q; cd ..
git clone -q one two; cd two; echo more >> f1; git commit -qam second; git push -q origin HEAD:other; git status --porcelain | wc -l; cd ..
git -C one fsck --no-progress; git -C one log --format=%s other | tr "\n" " "
sqlite3 db "pragma journal_mode=wal; create table t (n integer)"
for writer in 1 2 3; do
    (for i in 1 2 3 4 5 6 7 8 9 10; do echo "insert into t values ($i);"; done) | sqlite3 -cmd ".timeout 60000" db &
done; wait
sqlite3 db "pragma integrity_check; select count(*), sum(n) from t"
busybox sh -c 'for p in 0 1 2 3 4 5 6 7 8 9; do
    d=modules/.staging/p$p; busybox mkdir -p $d/lib/deep
    for f in 0 1 2 3 4 5 6 7 8 9; do echo "module $f" > $d/lib/deep/$f.js; done
    busybox ln -s lib/deep/0.js $d/main; busybox mv $d modules/p$p
done; busybox find modules -type f | busybox wc -l; busybox cat modules/p9/lib/deep/9.js modules/p3/main; busybox rm -r modules'
cd ..; rm -r w
"#;
/// No fewer than so many promises are looked at, of all, and of [`SOME`].
const PROMISES: usize = 2600;
const PROMISES_OF_SOME: usize = 300;
/// Areas to look at where the root is served as volumes are.
const SOME: &str = "open chmod times shared locks programs";

/// Which promise is not kept on what virtiofsd serves (the beginning of its line), and why. With runc all are, and on a root
/// of disks.
const FAILS: &[(&str, &str)] = &[
    // EOPNOTSUPP, on which programs make a file with a name.
    ("open: a file without a name: ", "virtiofsd does not know FUSE_TMPFILE"),
    (
        "chmod: what another writes to loses both bits, at once (allocate :a 0 9): ",
        "the kernel leaves the bits to virtiofsd, which takes them away at a write and at a truncate alone",
    ),
    (
        "chmod: not where the group may not execute it: ",
        "what FUSE asks the daemon to take away is the set-group-ID bit, whether the group may execute the file or not",
    ),
];

/// The root is a directory of the host's own, not an overlay of two: it is compared with what Linux promises, not with overlayfs.
const PLACES: &str = r#"
mkdir -p /root/v /root/ro/d /sys/fs/cgroup/e2e; touch /root/ro/f; ln -s f /root/ro/s; mkfifo /root/ro/p
cp -a /opt/busybox/rootfs /root/tree; mkdir -p /root/tree/var/tmp; cp /usr/local/bin/guest-posix /root/tree/bin/
bundle c true
own() { jq "$1" /root/c/config.json > /root/new; mv /root/new /root/c/config.json; }
own '.mounts += [{destination: "/data", type: "bind", source: "/root/v", options: ["rbind"]},
        {destination: "/ro", type: "bind", source: "/root/ro", options: ["rbind", "ro"]}]
    | .root = {path: "/root/tree", readonly: false} | .process.noNewPrivileges = false
    | .process.capabilities |= map_values(["CAP_CHOWN", "CAP_DAC_OVERRIDE",
        "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETUID"])'
"#;

/// Of a step with thousands of promises, or with work.
fn long(command: HostCommand<'_>) -> HostCommand<'_> {
    command.timeout(Duration::from_secs(300))
}

fn promises(lab: &mut Lab) {
    lab.define(crate::direct::BUNDLE);
    lab.define(crate::work::DEBIAN);
    lab.bring_guest_posix();
    lab.must("a container with Docker's capabilities, two volumes and a root that can be written", PLACES);
    let ours = lab.runtime() == Runtime::Msb;
    // All that the container's start costs, once for two places.
    let mut runs = vec![("volume /data root /var/tmp", "", "")];
    if ours {
        runs.push(("shared /var/tmp", r#".annotations = {"dev.msb.root": "shared"} |"#, SOME));
    }
    for (places, annotation, areas) in runs {
        let script = format!(
            r#"name=c; own '{annotation} .process.args = ["sh", "-c", "set -- {places}; while [ $1 ]; do echo \"in $1\"; guest-posix $2 /ro {areas}; shift 2; done"]'
               $R run --bundle c c 2>&1"#
        );
        let out = lab.step_with(places, &script, long).code(0).stdout();
        compare(lab, ours, &out);
    }
    let copied = lab.step_with("the work", "cat > /root/work.sh", |command| command.stdin(WORK));
    let _ = copied.code(0);
    lab.step_with(
        "work on a volume",
        // What changes while it is read can't be a layer.
        r#"mkdir -p /var/lib/msb-runtime; mount -t tmpfs disks /var/lib/msb-runtime; debian d sh -c "cd /data; . /root/work.sh"
           own '.mounts += [{destination: "/data", type: "bind", source: "/root/v", options: ["rbind"]}]'
           $R run --bundle d d 2>&1; code=$?; umount d/rootfs d/written /var/lib/msb-runtime; ls -A /root/v; exit $code"#,
        long,
    )
    .code(0)
    .out("0\nsecond first wal\nok\n30|165\n100\nmodule 9\nmodule 0\n");
}

/// Every promise is kept, but for those that are known not to be, and these are not.
fn compare(lab: &mut Lab, ours: bool, out: &str) {
    let (mut place, mut wrong, mut seen) = ("", Vec::new(), [false; FAILS.len()]);
    for line in out.lines() {
        let served = ours && place != "root";
        if let Some(next) = line.strip_prefix("in ") {
            (place, seen) = (next, [false; FAILS.len()]);
        } else if let Some(failed) = line.strip_prefix("FAIL ") {
            match FAILS.iter().position(|(what, _)| served && failed.starts_with(what)) {
                Some(at) => seen[at] = true,
                None => wrong.push(format!("{place}: {failed}")),
            }
        } else if let Some(count) = line.strip_suffix(" promises") {
            let least = if place == "shared" { PROMISES_OF_SOME } else { PROMISES };
            if !count.parse().is_ok_and(|count: usize| count >= least) {
                wrong.push(format!("{place}: {line} alone"));
            }
            let kept = FAILS.iter().zip(seen).filter(|(_, seen)| served && !seen);
            wrong.extend(kept.map(|((what, why), _)| format!("{place}: {what}is kept, and was not ({why})")));
            place = "";
        } else {
            wrong.push(format!("{place}: {line}"));
        }
    }
    if !place.is_empty() {
        wrong.push(format!("{place}: it did not come to its end"));
    }
    if !wrong.is_empty() {
        lab.fail(&format!("otherwise than expected:\n  {}", wrong.join("\n  ")));
    }
}
