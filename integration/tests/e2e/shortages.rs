//! Hosts that are short of something, or stand still: a command says what is missing or does its work, and nothing is left.

use std::time::Duration;

use integration::check::Lab;

crate::conformance!(both: [], ours: [descriptors, processes, memory, room_for_state, standstill]);

/// `tried WHAT COMMAND…` runs a command in that shortage, as the first process of a container that says "fine"; prints what is
/// wrong with what came of it: neither "fine" and success, nor a failure with a reason, or something left. `undone` removes what
/// a command that failed may leave, `left` prints what nothing may.
pub(crate) const TRIED: &str = r#"
tried() {
    what=$1; shift
    "$@" > /root/tried.out 2> /root/tried.err < /dev/null; code=$?
    if [ $code = 0 ]; then good=$((good+1)); [ "$(cat /root/tried.out)" = fine ] || { echo "$what: no output"; cat /root/tried.err; }
    else bad=$((bad+1)); [ $code -gt 128 ] || [ -s /root/tried.err ] || echo "$what: $code without a reason"
    fi
    grep -E 'panicked|unwrap|RUST_BACKTRACE' /root/tried.err | sed "s|^|$what: |"
    undone > /root/undone 2>&1 || { echo "$what, removed:"; cat /root/undone; }
    found=$(left); [ -z "$found" ] || { echo "$what left:"; echo "$found"; }
}
good=0; bad=0
"#;

/// Of a container that our runtime has made.
const OF_A_BUNDLE: &str = r#"
undone() { $R delete --force c; }
left() {
    i=0
    while pgrep "msb-runtime|msb-vmm" > /root/alive && [ $i -lt 600 ]; do i=$((i+1)); sleep 0.05; done
    cat /root/alive
    find /run/msb-runtime /var/lib/msb-runtime -mindepth 1 -path /var/lib/msb-runtime/compositions -prune -o -print
    ls -d /sys/fs/cgroup/e2e/c 2>/dev/null || :
}
"#;

fn bundle(lab: &mut Lab) {
    lab.define(crate::direct::BUNDLE);
    lab.define(TRIED);
    lab.define(OF_A_BUNDLE);
    lab.must("a bundle", "mkdir -p /sys/fs/cgroup/e2e; bundle c echo fine");
    lab.step("it runs", "$R run --bundle /root/c c; left").code(0).out("fine\n").err("");
}

/// Some shortages are none: whatever the number, most of a range must fail, and its end must not.
fn both_ways(text: &str) -> bool {
    text.trim().split_once(' ').is_some_and(|(good, bad)| {
        let number = |text: &str| text.parse::<u32>().unwrap_or(0);
        number(good) >= 1 && number(bad) >= 3
    })
}

fn descriptors(lab: &mut Lab) {
    bundle(lab);
    lab.step_with(
        "with so many descriptors",
        r#"for n in 3 4 5 6 7 8 9 10 11 12 13 14 16 18 20 24 28 32 40 48 56 64 80 256; do
               tried "$n descriptors" sh -c "ulimit -n $n; exec $R run --bundle /root/c c"
           done
           echo $good $bad >&2"#,
        |command| command.timeout(Duration::from_secs(600)),
    )
    .code(0)
    .out("")
    .err_is("some fail and some run", both_ways);
}

/// The pids of a cgroup, as root has no limit of processes of its own.
fn processes(lab: &mut Lab) {
    few(lab, "pids", "1 2 3 4 5 6 7 8 9 10 12 64", "", "processes");
}

/// The kernel kills whoever asks for too much, at whatever moment that is.
fn memory(lab: &mut Lab) {
    few(lab, "memory", "1 2 3 4 6 8 12 16 24 32 40 48 400", "M", "MiB");
}

/// In a cgroup in which both the caller and the container live, and of which `controller` has each of these limits once.
fn few(lab: &mut Lab, controller: &str, limits: &str, suffix: &str, unit: &str) {
    bundle(lab);
    lab.step_with(
        &format!("with so many {unit}"),
        &format!(
            r#"jq '.linux.cgroupsPath = "/few/e2e/c"' /root/c/config.json > /root/new; mv /root/new /root/c/config.json
           echo +{controller} > /sys/fs/cgroup/cgroup.subtree_control 2> /dev/null
           mkdir -p /sys/fs/cgroup/few/e2e /sys/fs/cgroup/few/callers; echo +{controller} > /sys/fs/cgroup/few/cgroup.subtree_control
           for n in {limits}; do
               echo ${{n}}{suffix} > /sys/fs/cgroup/few/{controller}.max
               tried "$n {unit}" sh -c "echo \$\$ > /sys/fs/cgroup/few/callers/cgroup.procs; exec $R run --bundle /root/c c"
               # Who could not begin its work says that, and is not waited for; a disk does its own without a thread.
               [ {controller} != pids ] || grep -e "did not say hello" -e "I/O error" /root/tried.err
           done
           echo $good $bad >&2; [ $good != 0 ] || cat /root/tried.err /sys/fs/cgroup/few/*.events >&2; find /sys/fs/cgroup/few -mindepth 1 -depth -type d -exec rmdir {{}} +; rmdir /sys/fs/cgroup/few"#
        ),
        |command| command.timeout(Duration::from_secs(600)),
    )
    .code(0)
    .out("")
    .err_is("some fail and some run", both_ways);
}

/// Where states and disks are kept.
fn room_for_state(lab: &mut Lab) {
    bundle(lab);
    for folder in ["/run/msb-runtime", "/var/lib/msb-runtime"] {
        lab.step_with(
            folder,
            &format!(
                r#"for room in size=4k size=8k size=16k size=64k size=16m nr_inodes=2 nr_inodes=3 nr_inodes=4 nr_inodes=6 nr_inodes=50; do
                   mount -t tmpfs -o $room tmpfs {folder}
                   tried "$room in {folder}" $R run --bundle /root/c c
                   umount {folder}
               done
               echo $good $bad >&2"#
            ),
            |command| command.timeout(Duration::from_secs(600)),
        )
        .code(0)
        .out("")
        .err_is("some fail and some run", both_ways);
    }
}

/// All of a container's processes on the host are stopped, as when the machine that they are on is suspended.
fn standstill(lab: &mut Lab) {
    let before = lab.snapshot();
    lab.must(
        "a container that counts, with a volume",
        r#"mkdir /root/v; docker run -d --name box1 $N $D -v /root/v:/v busybox sh -c '
               i=0; while :; do i=$((i+1)); echo $i > /v/new; mv /v/new /v/count; echo $i; sleep 0.1; done' >&2
           eventually '[ -e /root/v/count ]' 0.3"#,
    );
    lab.step(
        "stopped for a while, with the clock set meanwhile; then it goes on, at the right time",
        r#"pids=$(pgrep -d ' ' 'msb-runtime|msb-vmm|virtiofsd'); kill -STOP $pids; sleep 1
           one=$(cat /root/v/count); date -s @$(($(date +%s) + 5000)) > /dev/null; sleep 2; two=$(cat /root/v/count); [ $one = $two ] || echo "it went on: $one $two"
           kill -CONT $pids
           eventually "[ \$(cat /root/v/count) -gt $two ]" 0.3 || echo "it does not go on"
           same() { before=$(date +%s); inside=$(docker exec box1 date +%s); after=$(date +%s)
               [ $inside -ge $((before - 1)) ] && [ $inside -le $((after + 1)) ]; }
           eventually same || echo "the time is wrong: $(docker exec box1 date +%s) for $(date +%s)"
           docker exec box1 echo alive; docker inspect -f '{{.State.Status}}' box1"#,
    )
    .code(0)
    .out("alive\nrunning\n");
    lab.step(
        "a command that is asked meanwhile waits, and is answered then",
        r#"pids=$(pgrep -d ' ' 'msb-runtime|msb-vmm|virtiofsd'); kill -STOP $pids; docker exec box1 echo late > /root/late 2>&1 & sleep 2
           cat /root/late; kill -CONT $pids; wait $!; cat /root/late"#,
    )
    .code(0)
    .out("late\n");
    lab.step("it ends as ever", "docker rm -f box1").code(0).out("box1\n").err("");
    lab.nothing_left("after a standstill", &before);
}
