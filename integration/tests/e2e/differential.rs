//! The same random changes in a container of runc and in one of ours leave the same: for `docker diff`, for `docker export`,
//! and after another start on top.

use integration::check::{Lab, Random};

crate::conformance!(both: [], ours: [random_changes]);

/// One script each. A failure names its own; a new one is only to be added here.
const SEEDS: [u64; 3] = [1, 20_261_124, 0x9e37_79b9_7f4a_7c15];

/// Changes in one run of a container.
const CHANGES: usize = 70;

/// What is changed: names of the image, names beneath each other, and names that are odd.
const NAMES: [&str; 14] = [
    "/w",
    "/w/a",
    "/w/a/b",
    "/w/a/b/c",
    "/w/é ü",
    "/w/-x",
    "/v",
    "/v/d",
    "/v/d/e",
    "/home",
    "/var",
    "/etc/passwd",
    "/etc/new",
    "/tmp/t",
];

fn random_changes(lab: &mut Lab) {
    lab.define(
        r#"
        same() {
            for which in runc msb; do
                docker diff $which | sort > $which.diff
                docker export $which > $which.tar
                tar --numeric-owner -tvf $which.tar | sed 's/ [0-9-]\{10\} [0-9:]\{5\} / /' | sort > $which.list
                rm -rf tree; mkdir tree; tar -C tree -xf $which.tar
                (cd tree; find . -type f -print0 | sort -z | xargs -0 sha256sum) > $which.hashes
            done
            for what in diff list hashes; do diff -u runc.$what msb.$what; done
            wc -l < msb.diff >&2
        }"#,
    );
    for seed in SEEDS {
        let mut random = Random(seed);
        // A name of a file that another start writes to parts from its other names: that is told in the README.
        let scripts = [script(&mut random, false), script(&mut random, true)];
        for (start, script) in scripts.iter().enumerate() {
            let command = if start == 0 {
                "docker run -i --name $which --runtime=$which $N busybox sh"
            } else {
                "docker start -ai $which"
            };
            lab.must(
                &format!("seed {seed}, start {start}"),
                &format!(
                    "cat > script << 'THE END'\n{script}\nTHE END\nfor which in runc msb; do {command} < script > $which.out; done; cmp runc.out msb.out"
                ),
            );
            let what = format!("seed {seed}, start {start}: the same is there after\n{script}\n");
            lab.step(&what, "same").code(0).out("").err_is("more than five changes", |count| {
                count.trim().parse().is_ok_and(|count: u32| count > 5)
            });
        }
        lab.must("removed", "docker rm runc msb >&2");
    }
}

/// A shell script. What cannot be done is no matter, it must only be the same everywhere.
fn script(random: &mut Random, links: bool) -> String {
    // No reader or writer of a fifo, nor of a device.
    let mut lines = vec!["plain() { [ -f \"$1\" ] || ! [ -e \"$1\" ]; }; exec 2> /dev/null".to_owned()];
    for number in 0..CHANGES {
        let (name, other) = (random.of(&NAMES), random.of(&NAMES));
        let change = match random.below(if links { 15 } else { 14 }) {
            0 | 1 => format!("plain \"{name}\" && echo {number} > \"{name}\""),
            2 => format!("plain \"{name}\" && echo {number} >> \"{name}\""),
            3 | 4 => format!("mkdir -p \"{name}\""),
            5 => format!("rm -rf \"{name}\""),
            6 => format!("mv -f \"{name}\" \"{other}\""),
            7 => format!("ln -sf \"{other}\" \"{name}\""),
            8 => format!("chmod {:o} \"{name}\"", random.below(0o7777)),
            9 => format!("chown {}:{} \"{name}\"", random.below(70_000), random.below(70_000)),
            10 => {
                format!(
                    "plain \"{name}\" && dd if=/dev/zero of=\"{name}\" bs=1 count=1 seek={} conv=notrunc",
                    random.below(3_000_000)
                )
            }
            11 => format!("mkfifo \"{name}\""),
            12 => format!("mknod \"{name}\" c 1 {}", random.of(&["3", "5"])),
            13 => format!("rm -f \"{name}\"; mkdir \"{name}\" && echo {number} > \"{name}/in it\""),
            _ => format!("ln \"{name}\" \"{other}\""),
        };
        lines.push(change);
    }
    lines.push(
        "find / -xdev \\( -path /proc -o -path /sys -o -path /dev \\) -prune -o -print | sort | sha256sum"
            .to_owned(),
    );
    lines.join("\n")
}
