//! The core by containerd's `ctr run --rootfs`, which gives no image's environment and a namespace of its own.

use integration::check::Lab;

crate::conformance!(both: [core, written], ours: []);

/// A terminal, and its size, which is told when there is a process already; `run` runs a command with it.
pub fn terminal(lab: &mut Lab, run: &str) {
    let script = format!(
        r#"{run} sh -c '
            i=0; until [ "$(stty size)" = "33 111" ] || [ $i -gt 300 ]; do i=$((i+1)); sleep 0.1; done
            stty size; test -t 0 && test -t 1 && echo both; exit 6'"#
    );
    lab.step_with("a terminal, and its size", &script, |command| command.terminal(33, 111))
        .code(6)
        .out_has("33 111\r")
        .out_has("both\r");
}

fn core(lab: &mut Lab) {
    lab.define(
        r#"
        run() { ctr run --rm --runc-binary "$P" --env PATH=/bin --rootfs "$@"; }
        detached() { ctr run --detach --runc-binary "$P" --env PATH=/bin --rootfs "$@"; }"#,
    );
    lab.must("a root of the test's own", "cp -a /opt/busybox/rootfs /root/tree");
    lab.step("a container", "run /root/tree a echo hi").code(0).out("hi\n").err("");
    let before = lab.snapshot();
    lab.step("streams apart, and the exit code", "run /root/tree b sh -c 'echo out; echo err >&2; exit 7'")
        .code(7)
        .out("out\n")
        .err("err\n");
    lab.step("a file that may not be executed", "run /root/tree c /etc/passwd")
        .code(1)
        .out("")
        .err_has("exec: \"/etc/passwd\": permission denied");
    lab.step("a name that is nowhere in PATH", "run /root/tree d nosuchcommand")
        .code(1)
        .out("")
        .err_has("exec: \"nosuchcommand\": executable file not found in $PATH");
    lab.step("a path where nothing is", "run /root/tree e /no/such")
        .code(1)
        .out("")
        .err_has("no such file or directory");
    lab.step("standard input", "head -c 3000000 /dev/zero | run /root/tree f sh -c 'wc -c; exit 3'")
        .code(3)
        .out("3000000\n")
        .err("");
    terminal(lab, r#"ctr run --rm -t --runc-binary "$P" --env PATH=/bin --rootfs /root/tree g"#);

    lab.step(
        "detached",
        r#"detached /root/tree h sh -c 'trap "exit 9" TERM; while :; do sleep 0.1; done' < /dev/null"#,
    )
    .code(0)
    .out("")
    .err("");
    lab.step(
        "exec",
        "ctr task exec --exec-id x --cwd /tmp --user 1000:1000 h sh -c 'id -u; pwd; echo err >&2; exit 4'",
    )
    .code(4)
    .out("1000\n/tmp\n")
    .err("err\n");
    lab.step("standard input of an exec", "echo data | ctr task exec --exec-id y h cat")
        .code(0)
        .out("data\n");
    lab.step("it runs", "ctr task ls | grep '^h ' | tr -s ' ' | cut -d' ' -f3").code(0).out("RUNNING\n");
    lab.step("a signal ends it", "ctr task kill -s TERM h").code(0).out("").err("");
    lab.wait("it has stopped", "ctr task ls | grep '^h ' | grep -q STOPPED");
    lab.step("its exit code", "ctr task rm h").code(0).out("").err_has("exit code 9");
    lab.step("removed", "ctr container rm h").code(0).out("").err("");
    lab.step("another", "detached /root/tree i sleep 1000 < /dev/null").code(0).out("").err("");
    lab.step("removed while it runs", "ctr task rm -f i; ctr container rm i").code(0).out("");
    lab.step("none is left", "ctr container ls -q; ctr task ls -q").code(0).out("").err("");
    lab.nothing_left("after all", &before);
}

/// What a container writes is in its snapshot, for containerd and for its next task.
fn written(lab: &mut Lab) {
    lab.step(
        "a container that writes and ends",
        r#"ctr run --runc-binary "$P" docker.io/library/busybox:latest box1 sh -c '
            echo $(($(cat /runs 2>/dev/null) + 1)) > /runs; chmod 640 /runs; rm -rf /home; cat /runs'"#,
    )
    .code(0)
    .out("1\n")
    .err("");
    lab.step("another task of the same container", "ctr task start box1").code(0).out("2\n").err("");
    lab.must("its snapshot", "mkdir see; eval \"$(ctr snapshots mounts /root/see box1)\"");
    lab.step("holds all of that", "cat see/runs; stat -c %a see/runs; ls -d see/home; umount see")
        .out("2\n640\n")
        .err_has("see/home");
    lab.step("removed", "ctr container rm box1; ctr snapshots ls | grep -c box1").code(1).out("0\n").err("");
}
