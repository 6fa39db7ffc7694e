//! What POSIX and Linux promise of a file system (`posix/suite.py`), on a volume and on the root, and what differs.

use std::time::Duration;

use integration::check::{Lab, Runtime};

crate::conformance!(both: [promises], ours: []);

/// The checks, run by Python in a container of Debian.
const SUITE: &str = include_str!("posix/suite.py");
/// How many they are.
const CHECKS: usize = 28;

/// Where a check fails with our runtime, and why. With runc none does.
const FAILS: &[(&str, &str, &str)] = &[
    ("volume", "tmpfile", NO_TMPFILE),
    ("shared root", "tmpfile", NO_TMPFILE),
    ("volume", "access_lists", NO_LISTS),
    ("shared root", "access_lists", NO_LISTS),
];
/// EOPNOTSUPP, on which programs make a file with a name.
const NO_TMPFILE: &str = "virtiofsd does not know FUSE_TMPFILE";
/// EOPNOTSUPP. Access is judged by the mode, of which the group's bits are the list's mask.
const NO_LISTS: &str =
    "Linux gives a virtiofs mounted beneath another (`fuse_fill_super_submount`) no SB_POSIXACL";

fn promises(lab: &mut Lab) {
    lab.define(crate::direct::BUNDLE);
    lab.define(crate::work::DEBIAN);
    let copied =
        lab.step_with("the checks", "mkdir -p /sys/fs/cgroup/e2e /root/v; cat > /root/suite.py", |command| {
            command.stdin(SUITE)
        });
    let _ = copied.code(0);
    lab.must(
        "a container with Docker's capabilities, a volume and a root that can be written",
        // What changes while it is read can't be a layer.
        r#"mkdir -p /var/lib/msb-runtime; mount -t tmpfs disks /var/lib/msb-runtime; debian c true; own '.mounts += [{destination: "/data", type: "bind", source: "/root/v", options: ["rbind"]}]
           | .root.readonly = false | .process.capabilities |= map_values(["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER",
             "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETUID"])'"#,
    );
    let shared: &[&str] = if lab.runtime() == Runtime::Msb { &["shared root"] } else { &[] };
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
        let expected = |name: &str| {
            lab.runtime() == Runtime::Msb && FAILS.iter().any(|(at, check, _)| at == place && *check == name)
        };
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
