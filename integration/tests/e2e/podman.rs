//! The core by podman, which has its own monitor (conmon), its own paths, and no log file.

use integration::check::Lab;

crate::conformance!(both: [core], ours: []);

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
