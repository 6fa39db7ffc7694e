//! `docker exec`: what a second process in a container gets, and gives back.

use integration::check::Lab;

crate::conformance!(both: [exec], ours: []);

fn exec(lab: &mut Lab) {
    let before = lab.snapshot();
    lab.step("a container", "docker run -d --name box1 -e FROM=image $N $D busybox sleep 1000")
        .code(0)
        .err("");
    lab.step("streams apart, and the exit code", "docker exec box1 sh -c 'echo out; echo err >&2; exit 7'")
        .code(7)
        .out("out\n")
        .err("err\n");
    lab.step("death by a signal", "docker exec box1 sh -c 'kill -9 $$'").code(137).out("");
    lab.step(
        "variables, user, folder",
        "docker exec -e A=b -u 1000:1001 -w /tmp box1 sh -c 'echo $A $FROM; id -u; id -g; pwd'",
    )
    .code(0)
    .out("b image\n1000\n1001\n/tmp\n")
    .err("");
    lab.step(
        "a user by name, with all its groups",
        "docker exec -u user box1 sh -c 'id -u; id -G; echo $HOME'",
    )
    .code(0)
    .out("1000\n1000 1001\n/home\n")
    .err("");
    lab.step("the container's processes", "docker exec box1 sh -c 'tr \"\\0\" \" \" < /proc/1/cmdline'")
        .code(0)
        .out("sleep 1000 ")
        .err("");
    lab.step("standard input", "head -c 300000 /dev/zero | docker exec -i box1 sh -c 'wc -c; exit 3'")
        .code(3)
        .out("300000\n")
        .err("");
    lab.step("no standard input", "docker exec box1 cat").code(0).out("").err("");
    lab.step("detached", "docker exec -d box1 sh -c 'echo from behind > /tmp/file'").code(0).out("").err("");
    lab.wait("it ran, in the same root", "docker exec box1 cat /tmp/file | grep -q 'from behind'");
    lab.step("a name that is nowhere in PATH", "docker exec box1 nosuchcommand 2>&1")
        .code(NOT_RUN)
        .out_has("exec: \"nosuchcommand\": executable file not found in $PATH");
    lab.step("a path where nothing is", "docker exec box1 /no/such 2>&1")
        .code(NOT_RUN)
        .out_has("exec: \"/no/such\": ")
        .out_has("no such file or directory");
    lab.step("a file that may not be executed", "docker exec box1 /etc/passwd 2>&1")
        .code(NOT_RUN)
        .out_has("exec: \"/etc/passwd\": permission denied");
    lab.step_with(
        "a terminal",
        r#"docker exec -it box1 sh -c '
            i=0; until [ "$(stty size)" = "40 99" ] || [ $i -gt 300 ]; do i=$((i+1)); sleep 0.1; done
            stty size; test -t 0 && test -t 1 && test -t 2 && tty; read line; echo "<$line>"; exit 6'"#,
        |command| command.terminal(40, 99).stdin("hello\n"),
    )
    .code(6)
    // The terminal echoes the input whenever it comes, in the middle of a line of output perhaps.
    .out_has("40 99")
    .out_has("/dev/pts/")
    .out_has("<hello>\r\n");
    lab.step("docker top", "docker top box1").code(0).out_has("PID").err("");
    lab.step("the container runs on through all this", "docker inspect -f '{{.State.Status}}' box1")
        .code(0)
        .out("running\n");
    lab.step(
        "an exec ends with its container",
        "docker exec box1 sleep 999 & one=$!; eventually 'docker exec box1 ps | grep -q \"sleep 999\"' 0.2; docker kill box1; wait $one",
    )
    .code(137)
    .out("box1\n");
    lab.step("no exec in what has ended", "docker exec box1 true").code(1).out("").err_has("is not running");
    lab.step("removed", "docker rm box1").code(0).out("box1\n").err("");
    lab.nothing_left("after the execs", &before);
}

/// What Docker makes of an exec that could not start, whatever the reason.
const NOT_RUN: i32 = 126;
