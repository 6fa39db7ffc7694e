//! Many containers, several at a time.

use std::time::Duration;

use integration::check::{Lab, Runtime};

crate::conformance!(both: [four_at_a_time], ours: [again_and_again]);

/// Each reads another thing, tells another thing and ends with another code.
fn four_at_a_time(lab: &mut Lab) {
    // That many at once is ours to prove; what the test itself claims, eight show as well.
    let containers = if lab.runtime() == Runtime::Runc { 8 } else { 20 };
    let before = lab.snapshot();
    let mut expected = String::new();
    for number in 1..=containers {
        expected
            .push_str(&format!("{number}: code {number}, out \"I am {number}\", err \"error {number}\"\n"));
    }
    lab.step_with(
        "each container's own output, error and exit code",
        &format!(
            r#"
            one() {{
                out=$(echo "I am $1" | docker run --rm -i $N $D busybox sh -c "cat; echo error $1 >&2; exit $1" 2> /root/error.$1)
                echo "$1: code $?, out \"$out\", err \"$(cat /root/error.$1)\""
            }}
            line() {{ for number in $(seq $1 4 {containers}); do one $number; done; }}
            for first in 1 2 3 4; do line $first & done | sort -n
            "#
        ),
        |command| command.timeout(Duration::from_secs(400)),
    )
    .code(0)
    .out(&expected)
    .err("");
    lab.step("none is left", "docker ps --all --quiet").code(0).out("").err("");
    lab.nothing_left(&format!("after {containers} containers"), &before);
}

/// As often as `MSB_STARTS` says; twelve times without. A container that is started again with what it wrote, by Docker and
/// without.
fn again_and_again(lab: &mut Lab) {
    let starts: u32 = std::env::var("MSB_STARTS").ok().and_then(|count| count.parse().ok()).unwrap_or(12);
    let docker = starts.div_ceil(2);
    lab.define(crate::direct::BUNDLE);
    lab.must(
        "a bundle with a root of its own, and a container of Docker's",
        r#"bundle c sh -c 'n=$(($(cat /n 2>/dev/null) + 1)); echo $n > /n; echo $n'
           cp -a /opt/busybox/rootfs c/rootfs; mkdir -p /sys/fs/cgroup/e2e
           jq '.root.path = "rootfs"' c/config.json > new; mv new c/config.json; $R run --bundle c c
           docker run --name box1 $N $D busybox sh -c 'echo x >> /n; wc -l < /n'"#,
    );
    let before = lab.snapshot();
    let open = "ls /proc/$(pidof dockerd)/fd /proc/$(pidof containerd)/fd | wc -l";
    let descriptors = lab.read("descriptors of the daemons", open);
    let expected: String = (2..=starts + 1).chain(2..=docker + 1).map(|count| format!("{count}\n")).collect();
    lab.step_with(
        "each start finds what the one before wrote",
        &format!(
            "for i in $(seq {starts}); do $R run --bundle c c; done; for i in $(seq {docker}); do docker start -a box1; done"
        ),
        |command| command.timeout(Duration::from_secs(60 + u64::from(starts) * 15)),
    )
    .code(0)
    .out(&expected)
    .err("");
    lab.nothing_left("after all starts", &before);
    // Connections come and go; one that is left by each start would be more than that.
    lab.wait(
        "the daemons do not hold more for each start",
        &format!("[ $({open}) -lt $(({descriptors} + {docker})) ]"),
    );
    lab.step("one composition for one image", "ls /var/lib/msb-runtime/compositions | grep -c composed")
        .out("1\n");
}
