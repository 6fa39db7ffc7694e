//! The core by podman, which has its own monitor (conmon), its own paths, and no log file.

use integration::check::Lab;

crate::conformance!(both: [core, written], ours: []);

fn core(lab: &mut Lab) {
    lab.define(r#"pod() { podman --runtime "$P" "$@"; }"#);
    // What podman's first container sets up for good.
    lab.step("a container", "pod run --rm $N busybox echo hi").code(0).out("hi\n").err("");
    let before = lab.snapshot();
    lab.step(
        "streams apart, and the exit code",
        "pod run --rm $N busybox sh -c 'echo out; echo err >&2; exit 7'",
    )
    .code(7)
    .out("out\n")
    .err("err\n");
    lab.step("a file that may not be executed", "pod run --rm $N busybox /etc/passwd")
        .code(126)
        .out("")
        .err_has("permission denied");
    lab.step("a name that is nowhere in PATH", "pod run --rm $N busybox nosuchcommand")
        .code(127)
        .out("")
        .err_has("executable file not found in $PATH");
    lab.step("a path where nothing is", "pod run --rm $N busybox /no/such")
        .code(127)
        .out("")
        .err_has("no such file or directory");
    lab.step(
        "standard input",
        "head -c 3000000 /dev/zero | pod run --rm -i $N busybox sh -c 'wc -c; exit 3'",
    )
    .code(3)
    .out("3000000\n")
    .err("");
    lab.step_with(
        "a terminal",
        r#"pod run --rm -it $N busybox sh -c 'test -t 0 && test -t 1 && echo both; read line; echo "<$line>"; exit 6'"#,
        |command| command.terminal(40, 99).stdin("hello\n"),
    )
    .code(6)
    .out_has("both")
    .out_has("<hello>\r\n");

    lab.must(
        "detached",
        r#"pod run -d --name box1 $N busybox sh -c 'trap "echo usr1" USR1; trap "echo term; exit 9" TERM
            echo ready; while :; do sleep 0.1; done' >&2"#,
    );
    lab.wait("it runs", "pod logs box1 | grep -q ready");
    lab.step(
        "exec",
        "pod exec -e A=b -w /tmp -u 1000 box1 sh -c 'echo $A; pwd; id -u; echo err >&2; exit 4'",
    )
    .code(4)
    .out("b\n/tmp\n1000\n")
    .err("err\n");
    lab.step("standard input of an exec", "echo data | pod exec -i box1 cat").code(0).out("data\n").err("");
    lab.step("exec of nothing", "pod exec box1 nosuchcommand")
        .code(127)
        .out("")
        .err_has("executable file not found in $PATH");
    lab.step("a signal that it handles", "pod kill -s USR1 box1").code(0).out("box1\n").err("");
    lab.wait("it has handled it", "pod logs box1 | grep -q usr1");
    lab.step("stop lets it end by itself", "pod stop box1; pod wait box1").code(0).out("box1\n9\n").err("");
    lab.step("all that it wrote", "pod logs box1").code(0).out("ready\nusr1\nterm\n").err("");
    lab.step("removed", "pod rm box1").code(0).out("box1\n").err("");
    lab.must("another", "pod run -d --name box2 $N busybox sleep 1000 >&2");
    lab.step("removed while it runs", "pod rm -f -t 0 box2").code(0).out("box2\n").err("");
    lab.step("none is left", "pod ps --all --quiet").code(0).out("").err("");
    lab.nothing_left("after all", &before);
}

/// What a container writes is in its root on the host, for podman's own commands and for its next start.
fn written(lab: &mut Lab) {
    lab.define(r#"pod() { podman --runtime "$P" "$@"; }"#);
    lab.must(
        "a container that writes and ends",
        r#"pod run --name box1 $N busybox sh -c '
            mkdir -p /dir/sub; echo $(($(cat /dir/runs 2>/dev/null) + 1)) > /dir/runs; chmod 640 /dir/runs; rm -rf /home; ln -s dir /link'"#,
    );
    // Whoever ran it is told of the end before podman has deleted it in the runtime, which then is in the state `exited`.
    let deleted = "podman inspect -f '{{.State.Status}}' box1 | grep -q exited";
    lab.wait("podman has cleaned up", deleted);
    let changes = "A /dir\nA /dir/runs\nA /dir/sub\nA /link\nD /home\n";
    lab.step("what podman sees", "pod diff box1 | grep -E '/(dir|link|home|one|two)' | sort")
        .code(0)
        .out(changes)
        .err("");
    lab.step("a file copied out", "pod cp box1:/dir/runs runs; cat runs").code(0).out("1\n").err("");
    lab.step("started again", "pod start -a box1").code(0).out("").err("");
    lab.wait("podman has cleaned up", deleted);
    lab.step("it found what it had written", "pod cp box1:/dir/runs runs; cat runs")
        .code(0)
        .out("2\n")
        .err("");
    lab.step("a commit", "pod commit -q box1 next > id").code(0).err("");
    lab.step(
        "what it holds",
        "pod run --rm $N next sh -c 'cat /link/runs; stat -c %a /dir/runs; ls -d /home 2>&1'",
    )
    .code(1)
    .out("2\n640\nls: /home: No such file or directory\n");
    lab.step("removed", "pod rm box1; pod ps --all --quiet").code(0).out("box1\n").err("");
}
