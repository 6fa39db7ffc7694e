//! Who serves a container is killed by the host's kernel for want of memory: the right state is told, the next command works,
//! nothing that was synced is lost, and nothing is left.
//!
//! With `MSB_SOAK` so many are killed; `MSB_SEED` says which, and when.

use std::{fmt::Write as _, time::Duration};

use integration::check::{Lab, Random};

crate::conformance!(both: [], ours: [killed_for_memory]);

/// `hungry PID MILLISECONDS` has the host's kernel kill that process after so long, in a cgroup of its own that gets no page more.
const UPSET: &str = r#"
FEW=/sys/fs/cgroup/few
kills() { sed -n 's/^oom_kill //p' $FEW/memory.events; }
hungry() {
    mkdir -p $FEW; echo +memory > /sys/fs/cgroup/cgroup.subtree_control; echo max > $FEW/memory.max
    echo $1 > $FEW/cgroup.procs; local kills=$(kills); sleep $(awk "BEGIN { print $2 / 1000 }"); echo 0 > $FEW/memory.max
    eventually "[ \$(kills) -gt $kills ]" || echo "$1 was not killed"; eventually "! kill -0 $1 2> /dev/null"; echo max > $FEW/memory.max
}
"#;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn random() -> Random {
    Random(number("MSB_SEED", 20_261_128))
}

/// Each of those that serve once, beginning with another one for each seed, and then as many as the soak says.
fn rounds(random: &mut Random, victims: &[&str]) -> String {
    let mut each = victims.to_vec();
    let first = random.of(victims);
    each.rotate_left(victims.iter().position(|victim| *victim == first).unwrap_or(0));
    for _ in victims.len() as u64..number("MSB_SOAK", 0) {
        each.push(random.of(victims));
    }
    each.iter().zip(1..).fold(String::new(), |mut lines, (victim, round)| {
        let _ = writeln!(lines, "round {round} {victim} {}", random.below(1500));
        lines
    })
}

fn killed_for_memory(lab: &mut Lab) {
    lab.define(UPSET);
    lab.must(
        "the first of its kind",
        "mkdir $FEW; docker run --rm $N --runtime io.containerd.msb.v2 busybox true",
    );
    let before = lab.snapshot();
    by_docker(lab, &mut random());
    lab.nothing_left("after all", &before);
}

/// Our shim, and the machine of a container in the container's own cgroup.
fn by_docker(lab: &mut Lab, random: &mut Random) {
    lab.define(
        r#"
        S="--runtime io.containerd.msb.v2"
        writes() { docker exec box sh -c "echo $1 > /kept; sync"; docker exec box sh -c 'n=0; while :; do n=$((n+1)); echo $n >> /synced; sync; echo $n; done' > /root/synced 2> /root/synced.err & one=$!; }
        ended() { eventually '[ $(docker inspect -f "{{.State.Running}}" box) = false ]' 0.3; wait $one; [ -z "$(docker exec box true 2>&1 | grep -v 'is not running')" ] || echo 'no reason'; docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' box; }
        again() { docker start box; [ "$(docker exec box cat /kept)" = $1 ] || echo "round $1: it is lost"; docker exec box cat /synced > /root/found; grep -x '[0-9]*' /root/synced | grep -vxFf /root/found; docker exec box rm -f /synced; }
        round() {
            writes $1
            case $2 in
                shim) hungry $(pgrep -f '^containerd-shim-msb-v2 -namespace moby') $3; ended ;;
                machine)
                    group=/sys/fs/cgroup$(cut -d: -f3 /proc/$(docker inspect -f '{{.State.Pid}}' box)/cgroup); sleep $(awk "BEGIN { print $3 / 1000 }")
                    echo 4M > $group/memory.max; ended; docker inspect -f '{{.State.OOMKilled}}' box ;;
            esac
            again $1
        }"#,
    );
    lab.must("a container", "docker run -d --name box $N $S -m 128m busybox sleep 100000 > /dev/null");
    let rounds = rounds(random, &["shim", "machine"]);
    let expected: String = rounds
        .lines()
        .map(|round| if round.contains(" shim ") { "exited 137\nbox\n" } else { "exited 137\ntrue\nbox\n" })
        .collect();
    let count = rounds.lines().count() as u64;
    lab.step_with("our shim and a container's machine, while one writes", &rounds, |command| {
        command.timeout(Duration::from_secs(200 + 30 * count))
    })
    .out(&expected);
    lab.must("it goes", "docker rm -f box > /dev/null");
}
