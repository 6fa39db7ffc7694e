//! Who serves a container or a sandbox is killed by the host's kernel for want of memory, stands still for a while, or has a
//! client that does: the right state is told, the next command works, no output is lost, nothing that was synced is lost, and
//! nothing is left.
//!
//! With `MSB_SOAK` so many are killed; `MSB_SEED` says which, and when.

use std::{fmt::Write as _, time::Duration};

use integration::{
    check::{Lab, Random, Snapshot},
    host::command::HostCommand,
};

use super::product::{FUNCTIONS, RPC, number};

crate::conformance!(both: [], ours: [killed_for_memory, the_product_killed_for_memory, stopped, time_moves]);

/// `hungry PID MILLISECONDS [COMMAND]` has the host's kernel kill that process after so long, in a cgroup of its own that gets no
/// page more. What asks for none is not killed: the command has it do something.
const UPSET: &str = r#"
FEW=/sys/fs/cgroup/few
kills() { sed -n 's/^oom_kill //p' $FEW/memory.events; }
hungry() {
    mkdir -p $FEW; echo +memory > /sys/fs/cgroup/cgroup.subtree_control; echo max > $FEW/memory.max
    echo $1 > $FEW/cgroup.procs; local kills=$(kills); sleep $(awk "BEGIN { print $2 / 1000 }"); echo 0 > $FEW/memory.max
    eventually "${3:-:}; [ \$(kills) -gt $kills ]" || echo "$1 was not killed"; eventually "! kill -0 $1 2> /dev/null"; echo max > $FEW/memory.max
}
up() { cut -d. -f1 /proc/uptime; }
served() { msb server health > /dev/null 2>&1 || { setsid msb server start --dev >> /root/server.log 2>&1 < /dev/null & eventually 'msb server health > /dev/null 2>&1' 0.2; }; }
"#;

pub(super) fn random() -> Random {
    Random(number("MSB_SEED", 20_261_128))
}

fn long(command: HostCommand<'_>) -> HostCommand<'_> {
    command.timeout(Duration::from_secs(300))
}

/// `round NUMBER WHO MILLISECONDS`, line by line: each of those once, beginning with another one for each seed, and then as many as the soak says.
pub(super) fn rounds(random: &mut Random, victims: &[&str]) -> String {
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

/// The server, what keeps a sandbox, and its VMM, while commands run in it and one looks at it. `waited` tells how those ended.
fn the_product_killed_for_memory(lab: &mut Lab) {
    let before = with_a_server(lab);
    lab.define(
        r#"
        patient() { timeout -s KILL 90 "$@"; }
        begins() {
            msb exec one sh -c "echo $1 > /kept; sync"
            patient msb exec one sh -c 'n=0; while :; do n=$((n+1)); echo $n >> /synced; sync; echo $n; done' > /root/synced 2> /root/exec.err & runs=$!
            patient msb attach --no-stdin one > /dev/null 2> /root/attach.err & looks=$!
            rpc sandbox.command.run '{"sandbox":"one","command":"sleep","args":["4321"],"timeout":80}' > /root/asked 2>&1 & asks=$!
            eventually '[ -s /root/synced ] && msb exec one ps | grep -q "sleep 4321"'
        }
        waited() {
            wait $runs; echo "exec $?"; wait $looks; echo "attach $? $(grep -o 'keeper of one was killed' /root/attach.err)"
            wait $asks; tail -n 1 /root/asked | grep -o '"exit_code": [0-9]*\|reset by peer\|closed connection' | sed 's/^[rc].*/cut off/'
        }
        kept() { [ "$("$@")" = $round ] || echo "round $round: $1 does not find what was kept"; }
        state() { kill -0 $runs && kill -0 $looks && echo 'both wait'; msb inspect one | jq -c '.[0] | [.state, .exit_code]'; }
        round() {
            round=$1; begins $1
            case $2 in
                server)
                    hungry $(cat $MICROSANDBOX_HOME/run/.server.pid) $3 'patient msb server health > /dev/null 2>&1'
                    patient msb server health 2>&1 | grep -o 'Nobody serves'; state; kept msb exec one cat /kept; served; kept asks
                    msb stop -t 1 one ;;
                keeper)
                    hungry $(pgrep -f '^msb keep default one') $3; state; kept msb exec one cat /kept
                    patient msb attach --no-stdin one 2>&1 | grep -o 'keeper was killed'; msb stop -t 1 one ;;
                vmm) hungry $(pgrep -x msb-vmm) $3 ;;
            esac
            waited; state 2> /dev/null; msb exec one true 2>&1 | grep -o 'not running'; msb start one; kept msb exec one cat /kept
            msb exec one cat /synced > /root/found; grep -x '[0-9]*' /root/synced | grep -vxFf /root/found; msb exec one rm -f /synced
        }
        asks() { rpc sandbox.command.run '{"sandbox":"one","command":"cat","args":["/kept"]}' | jq -r '.output[].text'; }"#,
    );
    lab.must(
        "a sandbox whose first process gives its keeper something to do",
        "msb run -d --name one --network none -m 128m busybox sh -c 'while :; do date; sleep 0.1; done'",
    );
    let rounds = rounds(&mut random(), &["server", "keeper", "vmm"]);
    let running = "both wait\n[\"running\",null]\n";
    let expected = rounds.lines().map(|round| {
        let (first, attached, asked, code) = match round.split(' ').nth(2) {
            Some("server") => (format!("Nobody serves\n{running}one\n"), "137 ", "cut off", "137"),
            // Nobody has seen how it ended.
            Some("keeper") => (
                format!("{running}keeper was killed\none\n"),
                "255 keeper of one was killed",
                "\"exit_code\": 137",
                "null",
            ),
            _ => (String::new(), "137 ", "\"exit_code\": 137", "137"),
        };
        format!("{first}exec 137\nattach {attached}\n{asked}\n[\"stopped\",{code}]\nnot running\none\n")
    });
    let (expected, count) = (expected.collect::<String>(), rounds.lines().count() as u64);
    lab.step_with("the server, a sandbox's keeper and its VMM, while one writes", &rounds, |command| {
        command.timeout(Duration::from_secs(200 + 30 * count))
    })
    .out(&expected);
    lab.step(
        "it goes, and nothing is left",
        "msb rm -f one; msb ps -aq; settled; grep -c panicked /root/server.log",
    )
    .out("one\n0\n0\n");
    lab.nothing_left("after all", &before);
}

/// The product's server runs, and a container has been: what there is before all else.
fn with_a_server(lab: &mut Lab) -> Snapshot {
    lab.bring_msb();
    lab.define(FUNCTIONS);
    lab.define(RPC);
    lab.define(UPSET);
    lab.must(
        "a home with an image, and the first of its kind",
        "mkdir $FEW; loaded; served; docker run --rm $N --runtime io.containerd.msb.v2 busybox true",
    );
    lab.snapshot()
}

fn stopped(lab: &mut Lab) {
    let before = with_a_server(lab);
    lab.must(
        "a container, and a sandbox whose first process tells numbers",
        r#"docker run -d --name box $N --runtime io.containerd.msb.v2 busybox sleep 100000 > /dev/null
           msb run -d --name one --network none busybox sh -c 'n=0; while :; do n=$((n+1)); echo "number $n of many that are written here, each with some more words behind it so that together they fill what is between"; [ $((n % 50)) != 0 ] || sleep 0.1; done'"#,
    );
    who_serves_stops(lab);
    who_reads_stops(lab);
    lab.step(
        "all of it goes, and nothing is left",
        "docker rm -f box; msb rm -f one; msb ps -aq; settled; grep -c panicked /root/server.log",
    )
    .out("box\none\n0\n0\n");
    lab.nothing_left("after all", &before);
}

/// A suspend of those who serve: who waits has its answer when they go on, and who gave up leaves nothing.
fn who_serves_stops(lab: &mut Lab) {
    lab.define(
        r#"
        during() { kill -STOP $1; eval "$2" & local waits=$!; sleep 3; kill -0 $waits || [ "$3" ] || echo 'it did not wait'; kill -CONT $1; wait $waits; }"#,
    );
    lab.step_with(
        "a shim, a server, a keeper, and all of a sandbox and of a container",
        r#"machine=$(docker inspect -f '{{.State.Pid}}' box); keeper=$(pgrep -f '^msb keep default one'); own=$(pgrep -P $keeper)
           numbers() { timeout 30 msb attach --no-stdin one 2> /dev/null | sed -n '2{s/ .*//;p;q}'; }
           ask() { rpc sandbox.command.run '{"sandbox":"one","command":"echo","args":["server"]}' | jq -r '.output[].text'; }
           during "$(pgrep -f '^containerd-shim-msb-v2 -namespace moby')" 'docker exec box echo shim'
           during "$(cat $MICROSANDBOX_HOME/run/.server.pid)" ask
           during "$keeper" 'msb exec one echo beside; numbers'
           during "$machine $(machine $machine)" 'docker exec box echo machine'
           during "$keeper $own $(pgrep -P $own)" 'msb exec one echo whole'
           docker inspect -f '{{.State.Status}}' box; msb ps -q"#,
        long,
    )
    .code(0)
    .out("shim\nserver\nbeside\nnumber\nmachine\nwhole\nrunning\none\n");
}

/// A client that is stopped while output flows, or a reader that takes its time: all of it comes.
fn who_reads_stops(lab: &mut Lab) {
    lab.step_with(
        "output waits for its reader, also when who wrote it has ended long since",
        r#"seq 300000 > /root/all
           slow() { "$@" | { sleep 34; cmp - /root/most && echo "all of $1"; }; }
           head -c 100000 /root/all > /root/most; most='seq 300000 | head -c 100000'
           slow msb exec one sh -c "$most" & a=$!
           slow msb run --rm --network none busybox sh -c "$most" > /root/run & b=$!
           for client in 'msb exec one' 'docker exec box'; do
               $client seq 300000 > /root/out & p=$!; sleep 0.7; kill -STOP $p; sleep 3; kill -CONT $p; wait $p && cmp /root/out /root/all && echo "all by $client"
           done
           wait $a $b; cat /root/run"#,
        long,
    )
    .code(0)
    .out("all by msb exec one\nall by docker exec box\nall of msb\nall of msb\n");
    lab.step_with(
        "who attached misses nothing for a while, and is told when it does",
        r#"gaps() { sed '1d;$d' $1 | awk 'NR == 1 { first = $2 } $2 != first + NR - 1 { print "no number", first + NR - 1, "but", $2; exit }'; }
           msb attach --no-stdin one > /root/a 2> /root/a.err & p=$!; eventually '[ -s /root/a ]' 0.2; kill -STOP $p; sleep 3; kill -CONT $p; eventually '[ $(wc -l < /root/a) -gt 2000 ]' 0.5
           gaps /root/a; kill -STOP $p; sleep 40; kill -CONT $p; wait $p; echo $?; gaps /root/a
           grep -c 'cut off.*msb logs one' /root/a.err; msb ps -q"#,
        long,
    )
    .code(0)
    .out("125\n1\none\n");
}

/// What lasts so long lasts so long, whatever the clock says.
fn time_moves(lab: &mut Lab) {
    let before = with_a_server(lab);
    lab.must(
        "a container and a sandbox",
        "docker run -d --name box $N --runtime io.containerd.msb.v2 busybox sleep 100000; msb run -d --name one --network none busybox sleep 100000",
    );
    lab.define(
        r#"
        lasts() { local what=$1 least=$2 began=$(up); shift 2; "$@" > /root/of.$what 2>&1; echo "$what $? $(cat /root/of.$what | tr '\n' ' ')" > /root/lasted.$what; local took=$(($(up) - began)); [ $took -ge $least ] && [ $took -lt 90 ] || echo "$what took $took seconds"; }
        idle() { eventually '! msb ps -q | grep -q idle' 0.5; }"#,
    );
    lab.must(
        "one that is to end when it is idle",
        "msb run -d --name idle --network none --idle-timeout 14s busybox sleep 10000",
    );
    for (what, seconds) in [("two hours later", 7_200), ("four hours earlier", -14_400)] {
        lab.step_with(
            what,
            &format!(
                r#"msb start idle > /dev/null; msb exec idle true
                   lasts limit 6 msb run --rm --name limit --network none --timeout 6s busybox sh -c 'trap "exit 9" TERM; while :; do sleep 0.1; done' & a=$!
                   lasts idle 9 idle & b=$!
                   lasts command 6 rpc sandbox.command.run '{{"sandbox":"one","command":"sleep","args":["1000"],"timeout":6}}' & c=$!
                   lasts docker 6 docker exec box sleep 6 & d=$!
                   sleep 3; date -s @$(($(date +%s) + {seconds})) > /dev/null
                   msb ps | grep -c 'Up [0-9]* \(second\|minute\)'; msb server health; wait $a $b $c $d
                   cat /root/lasted.*; used() {{ for p in $(pgrep '^msb$|containerd-shim'); do awk '{{ print $14 + $15 }}' /proc/$p/stat; done | awk '{{ n += $1 }} END {{ print n }}'; }}
                   began=$(used); sleep 2; [ $(($(used) - began)) -lt 150 ] || echo spins"#
            ),
            long,
        )
        .out_is("each ended in its time", |out| {
            let wanted = ["healthy", "command 0", "timed out after 6 seconds", "docker 0", "idle 0", "limit 9"];
            wanted.iter().all(|text| out.contains(text)) && !out.contains("took") && !out.contains("spins")
        });
    }
    lab.step(
        "it goes, and nothing is left",
        "docker rm -f box; msb rm -f one idle; msb ps -aq; settled; grep -c panicked /root/server.log",
    )
    .out("box\none\nidle\n0\n0\n");
    lab.nothing_left("after all", &before);
}
