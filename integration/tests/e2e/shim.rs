//! Our own shim, `io.containerd.msb.v2`, as ctr and Docker use it: where it should do as runc's does, it does; and when it is
//! killed, nothing is left.

use integration::check::Lab;

use crate::contract::{self, SHIM, Step};

crate::conformance!(both: [], ours: [by_ctr, by_docker_and_killed]);

fn by_ctr(lab: &mut Lab) {
    lab.must("a root of the test's own", "cp -a /opt/busybox/rootfs /root/tree");
    lab.define(
        r#"
        S="--runtime io.containerd.msb.v2"
        run() { ctr run --rm $S --env PATH=/bin "$@"; }"#,
    );
    lab.step(
        "a container of an image, and its root goes with it",
        "run docker.io/library/busybox:latest a echo hi",
    )
    .code(0)
    .out("hi\n")
    .err("");
    let before = lab.snapshot();
    contract::compare(lab, SHIM, contract::ctr::FUNCTIONS, contract::ctr::STEPS);
    lab.step_with(
        "a terminal, and its size",
        r#"run -t --rootfs /root/tree b sh -c '
            i=0; until [ "$(stty size)" = "33 111" ] || [ $i -gt 50 ]; do i=$((i+1)); sleep 0.1; done
            stty size; test -t 0 && test -t 1 && echo both; exit 6'"#,
        |command| command.terminal(33, 111),
    )
    .code(6)
    .out_has("33 111\r")
    .out_has("both\r");
    lab.must(
        "events are followed",
        "ctr events > /root/events & echo $! > /root/follower; sleep 1; ctr run -d $S --env PATH=/bin --rootfs /root/tree c sleep 1000",
    );
    lab.step("no process stands for it but the VMM and the shim", "ps -eo args= | grep -c '^msb-runtime'")
        .out("1\n");
    lab.step(
        "the guest's own processes",
        "ctr task exec --exec-id x c sh -c 'sleep 500 & sleep 500 & exec sleep 2' & sleep 1; ctr task ps c | tail -n +2 | wc -l; wait",
    )
    .code(0)
    .out("4\n");
    lab.step("what the guest uses", "ctr task metrics --format json c | jq '.memory.usage > 0 and .memory.usage < 20000000 and .pids.current >= 1'")
        .code(0)
        .out("true\n");
    lab.step("another limit", "ctr task pause c; ctr task resume c; ctr task kill -s KILL c; eventually 'ctr task ls | grep -q STOPPED' 0.2; ctr task rm c; ctr container rm c")
        .code(0)
        .err_has("exit code 137");
    lab.step(
        "all events, in their order",
        "sleep 1; kill $(cat /root/follower); grep -o '/tasks/[a-z-]*' /root/events | tr '\\n' ' '",
    )
    .out(
        "/tasks/create /tasks/start /tasks/exec-added /tasks/exec-started /tasks/exit /tasks/paused /tasks/resumed /tasks/exit /tasks/delete ",
    );
    lab.nothing_left("after ctr", &before);
}

/// Of Docker's steps those that pass through the shim in a way of their own.
const DOCKER: &[&str] = &["create and start", "detached", "exec", "paused", "more memory than it may have"];

fn by_docker_and_killed(lab: &mut Lab) {
    lab.must("the first container", "docker run --rm --runtime io.containerd.msb.v2 busybox true");
    let before = lab.snapshot();
    let all = contract::docker::LIFECYCLE.iter().chain(contract::docker::OPTIONS);
    let steps: Vec<Step> = all.filter(|(name, _)| DOCKER.contains(name)).copied().collect();
    assert_eq!(steps.len(), DOCKER.len(), "each of them is still there");
    contract::compare(lab, SHIM, contract::docker::FUNCTIONS, &steps);

    lab.must(
        "a container that writes",
        "docker run -d --name box $N --runtime io.containerd.msb.v2 busybox sh -c 'echo kept > /kept; echo ready; sleep 1000'; until_log ready",
    );
    lab.must("its shim is killed", "pkill -KILL -f '^containerd-shim-msb-v2 -namespace moby'");
    lab.wait("Docker sees its end", "[ $(docker inspect -f '{{.State.Running}}' box) = false ]");
    lab.step(
        "its VMM is gone with it, and its state",
        "ps -eo args= | grep '^msb-runtime'; ls /run/containerd/msb/moby",
    )
    .out("");
    lab.step("what it wrote is not lost", "docker cp box:/kept - | tar -xO; docker rm box >&2").out("kept\n");
    lab.nothing_left("after Docker", &before);
}
