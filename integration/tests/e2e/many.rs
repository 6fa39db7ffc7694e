//! Many containers, several at a time.

use std::ops::RangeInclusive;
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

/// As often as `MSB_STARTS` says; sixteen times without (`cargo dev soak`: 200). A container that is started again
/// with what it wrote, by Docker and without.
fn again_and_again(lab: &mut Lab) {
    let starts: u32 = std::env::var("MSB_STARTS").ok().and_then(|count| count.parse().ok()).unwrap_or(16);
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
    let open = "ls -l /proc/$(pidof dockerd)/fd /proc/$(pidof containerd)/fd | sed 's/.* -> //; s/[0-9]\\{2,\\}/N/g' | grep -v socket | sort";
    let starts_of = |lab: &mut Lab, ours: RangeInclusive<u32>, dockers: RangeInclusive<u32>| {
        let (direct, by_docker) = (ours.clone().count(), dockers.clone().count());
        let expected: String = ours.chain(dockers).map(|count| format!("{count}\n")).collect();
        lab.step_with(
            "each start finds what the one before wrote",
            &format!(
                "for i in $(seq {direct}); do $R run --bundle c c; done; for i in $(seq {by_docker}); do docker start -a box1; done"
            ),
            |command| command.timeout(Duration::from_secs(60 + u64::from(starts) * 15)),
        )
        .code(0)
        .out(&expected)
        .err("");
    };
    // The daemons open some things once, when first needed: what each start leaves open shows in the second half of the
    // starts. Not in their sockets: these they close when their collector of memory runs, with runc as well.
    starts_of(lab, 2..=starts / 2 + 1, 2..=docker / 2 + 1);
    lab.must("what the daemons hold after the first half", &format!("{open} > /root/half"));
    starts_of(lab, starts / 2 + 2..=starts + 1, docker / 2 + 2..=docker + 1);
    lab.nothing_left("after all starts", &before);
    lab.wait(
        "the daemons do not hold more for each start",
        &format!("{{ {open} > /root/all; [ $(wc -l < /root/all) -lt $(($(wc -l < /root/half) + {})) ]; }} || {{ diff /root/half /root/all; false; }}", docker - docker / 2),
    );
    lab.step("one composition for one image", "ls /var/lib/msb-runtime/compositions | grep -c composed")
        .out("1\n");
}
