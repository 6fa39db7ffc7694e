//! What POSIX and Linux promise of a file system (`posix/suite.py`), on a volume and on the root, and what differs.

use std::time::Duration;

use integration::check::{Lab, Runtime};

crate::conformance!(both: [promises], ours: []);

/// The checks, run by Python in a container of Debian.
const SUITE: &str = include_str!("posix/suite.py");
/// Tools of every day, in a directory: a repository and its clone, a database with a log and three writers, a tree of small
/// files as of a package manager.
const WORK: &str = r#"
set -e; mkdir w; cd w
export GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=a@b; git init -q one; cd one
for i in $(seq 100); do echo $i > f$i; done; git add .; git commit -qm first; git gc -q; cd ..
git clone -q one two; cd two; echo more >> f1; git commit -qam second; git push -q origin HEAD:other; git status --porcelain | wc -l; cd ..
git -C one fsck --no-progress; git -C one log --format=%s other | tr "\n" " "
sqlite3 db "pragma journal_mode=wal; create table t (n integer)"
for writer in 1 2 3; do
    (for i in 1 2 3 4 5 6 7 8 9 10; do sqlite3 -cmd ".timeout 60000" db "insert into t values ($i)"; done) &
done; wait
sqlite3 db "pragma integrity_check; select count(*), sum(n) from t"
python3 - <<PY
import os, shutil
for p in range(60):
    d = f"modules/.staging/p{p}/lib/deep"
    os.makedirs(d)
    for f in range(10):
        open(f"{d}/{f}.js", "w").write("x" * (f * 700))
    os.symlink("lib/deep/0.js", f"modules/.staging/p{p}/main")
    os.rename(f"modules/.staging/p{p}", f"modules/p{p}")
print(sum(len(files) for _, _, files in os.walk("modules")), os.path.getsize("modules/p59/lib/deep/9.js"), os.path.exists("modules/p3/main"))
shutil.rmtree("modules")
PY
cd ..; rm -r w
"#;
/// How many checks there are.
const CHECKS: usize = 28;

/// Where a check fails with our runtime, and why. With runc none does.
const FAILS: &[(&str, &str, &str)] =
    &[("volume", "tmpfile", NO_TMPFILE), ("shared root", "tmpfile", NO_TMPFILE)];
/// EOPNOTSUPP, on which programs make a file with a name.
const NO_TMPFILE: &str = "virtiofsd does not know FUSE_TMPFILE";

fn promises(lab: &mut Lab) {
    lab.define(crate::direct::BUNDLE);
    lab.define(crate::work::DEBIAN);
    let copied =
        lab.step_with("the checks", "mkdir -p /sys/fs/cgroup/e2e /root/v; cat > /root/suite.py", |command| {
            command.stdin(SUITE)
        });
    let _ = copied.code(0);
    let copied = lab.step_with("the work", "cat > /root/work.sh", |command| command.stdin(WORK));
    let _ = copied.code(0);
    lab.must(
        "a container with Docker's capabilities, a volume and a root that can be written",
        // What changes while it is read can't be a layer.
        r#"mkdir -p /var/lib/msb-runtime; mount -t tmpfs disks /var/lib/msb-runtime; debian c true; own '.mounts += [{destination: "/data", type: "bind", source: "/root/v", options: ["rbind"]}]
           | .root.readonly = false | .process.capabilities |= map_values(["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER",
             "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETUID"])'"#,
    );
    let ours = lab.runtime() == Runtime::Msb;
    let shared: &[&str] = if ours { &["shared root"] } else { &[] };
    for place in ["volume", "root"].iter().chain(shared) {
        let directory = if *place == "volume" { "/data" } else { "/var/tmp" };
        let annotation =
            if *place == "shared root" { r#".annotations = {"dev.msb.root": "shared"} |"# } else { "" };
        let script = format!(
            r#"name=c; own '{annotation} .process.args = ["python3", "/root/suite.py", "{directory}"]'; $R run --bundle c c 2>&1"#
        );
        let out = lab
            .step_with(place, &script, |command| command.timeout(Duration::from_secs(300)))
            .code(0)
            .stdout();
        // On roots it is `work.rs` that works.
        if *place == "volume" {
            let script = format!(
                r#"name=c; own '.process.args = ["sh", "-c", "cd {directory}; . /root/work.sh"]'; $R run --bundle c c 2>&1"#
            );
            let _ = lab
                .step_with("work on a volume", &script, |command| command.timeout(Duration::from_secs(300)))
                .code(0)
                .out("0\nsecond first wal\nok\n30|165\n660 6300 True\n");
        }
        let expected = |name: &str| ours && FAILS.iter().any(|(at, check, _)| at == place && *check == name);
        let (mut wrong, mut count) = (Vec::new(), 0);
        for line in out.lines() {
            let (verdict, rest) = line.split_once(' ').unwrap_or_default();
            let name = rest.split(':').next().unwrap_or_default();
            count += usize::from(matches!(verdict, "ok" | "FAIL"));
            if (verdict == "ok") == expected(name) {
                wrong.push(line);
            }
        }
        if count != CHECKS || !wrong.is_empty() {
            lab.fail(&format!(
                "{place}: {count} checks, and otherwise than expected:\n  {}",
                wrong.join("\n  ")
            ));
        }
    }
    lab.must("unmounted", "umount c/rootfs c/written /var/lib/msb-runtime");
}
