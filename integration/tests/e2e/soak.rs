//! Containers go through their lives in random order, while commands, VMMs and shims are killed at random: at the end every
//! state is right and nothing is left.
//!
//! `MSB_SOAK` says how many containers (twelve without; `cargo dev soak` takes a hundred) and `MSB_SEED` which lives; a failure tells the seed.

use std::time::Duration;

use integration::check::{Lab, Random};

crate::conformance!(both: [], ours: [by_hand, by_docker]);

/// `hurt COMMAND…` runs a command that is killed after a random time, or not at all; `$RANDOM_MS` is that time.
const FUNCTIONS: &str = r#"
hurt() { ms=$1; shift; if [ $ms = 0 ]; then "$@"; else timeout -s KILL $(echo $ms | awk '{print $1/1000}') "$@"; fi > /dev/null 2>&1 < /dev/null; }
status() { $R state $1 2> /dev/null | jq -r .status; }
"#;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// How long a command may live, in milliseconds; mostly for ever (0).
fn patience(random: &mut Random) -> u64 {
    if random.below(3) == 0 { 1 + random.below(900) } else { 0 }
}

fn by_hand(lab: &mut Lab) {
    let (containers, seed) = (number("MSB_SOAK", 12), number("MSB_SEED", 20_261_125));
    let mut random = Random(seed);
    lab.define(crate::direct::BUNDLE);
    lab.define(FUNCTIONS);
    lab.must("the cgroup above all of this test's", "mkdir -p /sys/fs/cgroup/e2e");
    lab.must("the first, which leaves what all share", "bundle c true; $R run --bundle c c");
    let before = lab.snapshot();
    for first in (0..containers).step_by(4) {
        let lives: String = (first..(first + 4).min(containers)).map(|id| life(&mut random, id)).collect();
        lab.step_with(
            &format!("seed {seed}, containers from {first} on"),
            &format!("{lives}wait; echo all"),
            |command| command.timeout(Duration::from_secs(280)),
        )
        .code(0)
        .out("all\n")
        .err("");
    }
    lab.step("no container is known", "$R list -q").code(0).out("").err("");
    lab.nothing_left(&format!("seed {seed}"), &before);
}

/// A background job: one container's life, which ends with a delete that must succeed.
fn life(random: &mut Random, id: u64) -> String {
    let mut script = format!(
        "(bundle s{id} sh -c 'trap \"exit 7\" TERM; echo x > /x; while :; do sleep 0.05; done'\nhurt {} $R create --bundle /root/s{id} --pid-file /root/s{id}/pid s{id}\n",
        patience(random)
    );
    for _ in 0..3 + random.below(5) {
        let patience = patience(random);
        script.push_str(&match random.below(8) {
            0 | 1 => format!("hurt {patience} $R start s{id}\n"),
            2 | 3 => format!("hurt {patience} $R exec s{id} sh -c 'echo hi'\n"),
            4 => format!("hurt {patience} $R kill s{id} TERM\n"),
            5 => format!("hurt {patience} $R pause s{id}; hurt 0 $R resume s{id}\n"),
            6 => format!("hurt {patience} $R delete s{id}\n"),
            _ => format!("kill -9 $(cat /root/s{id}/pid 2>/dev/null) 2>/dev/null\n"),
        });
    }
    // What is told must be one of the states, or that there is none.
    script.push_str(&format!(
        "case $(status s{id}) in created|running|stopped|paused|creating|'') ;; *) echo \"s{id} is $(status s{id})\" ;; esac\n\
         $R delete --force s{id} 2>&1 || echo \"s{id}: $?\"; [ -z \"$(status s{id})\" ] || echo \"s{id} is still there\") &\n"
    ));
    script
}

fn by_docker(lab: &mut Lab) {
    let (containers, seed) = (number("MSB_SOAK", 12).div_ceil(2), number("MSB_SEED", 20_261_125));
    let mut random = Random(seed);
    lab.must("the first, which leaves what all share", "docker run --rm $N $D busybox true");
    let before = lab.snapshot();
    for id in 0..containers {
        let victim = match random.below(4) {
            0 => "kill -9 $(docker inspect -f '{{.State.Pid}}' box)",
            1 => {
                "kill -9 $(cat /proc/$(docker inspect -f '{{.State.Pid}}' box)/stat | sed 's/.*) . //' | cut -d' ' -f1)"
            }
            2 => "kill -9 $(machine $(docker inspect -f '{{.State.Pid}}' box))",
            _ => "docker kill box > /dev/null",
        };
        let wait = random.below(1000);
        lab.step(
            &format!("seed {seed}, container {id}: {victim}"),
            &format!(
                "docker run -d --name box $N $D busybox sh -c 'echo x > /x; while :; do sleep 0.1; done' > /dev/null
                 sleep {}.{:03}; {victim}
                 i=0; until [ \"$(docker inspect -f '{{{{.State.Running}}}}' box)\" = false ]; do i=$((i+1)); [ $i -lt 150 ] || break; sleep 0.2; done
                 docker inspect -f '{{{{.State.Status}}}} {{{{.State.ExitCode}}}}' box; docker rm -f box > /dev/null",
                wait / 1000,
                wait % 1000
            ),
        )
        .code(0)
        .out("exited 137\n")
        .err("");
    }
    // A shim that is killed leaves its socket, with runc as well: containerd does not remove it.
    lab.must(
        "sockets that nobody listens on",
        "for socket in /run/containerd/s/*; do ss -xl | grep -q \"$socket\" || rm -f \"$socket\"; done",
    );
    lab.nothing_left(&format!("seed {seed}"), &before);
}
