//! `docker run`: exit codes, streams, terminals.

use std::time::Duration;

use integration::check::Lab;
use integration::host::command::HostCommand;

crate::conformance!(both: [echo_and_exit_codes, streams, terminals], ours: []);

fn echo_and_exit_codes(lab: &mut Lab) {
    let before = lab.snapshot();
    lab.step("a command's output, on Docker's own network", "docker run --rm $D busybox echo hi")
        .code(0)
        .out("hi\n")
        .err("");
    lab.step(
        "standard output and error apart, and the command's exit code",
        "docker run --rm $N $D busybox sh -c 'echo out; echo err >&2; exit 7'",
    )
    .code(7)
    .out("out\n")
    .err("err\n");
    lab.step("a file that may not be executed", "docker run --rm $N $D busybox /etc/passwd")
        .code(126)
        .out("")
        .err_has("exec: \"/etc/passwd\": permission denied");
    lab.step("a directory", "docker run --rm $N $D busybox /etc")
        .code(126)
        .out("")
        .err_has("exec: \"/etc\": is a directory");
    lab.step("a name that is nowhere in PATH", "docker run --rm $N $D busybox nosuchcommand")
        .code(127)
        .out("")
        .err_has("exec: \"nosuchcommand\": executable file not found in $PATH");
    lab.step("a path where nothing is", "docker run --rm $N $D busybox /no/such")
        .code(127)
        .out("")
        .err_has("exec: \"/no/such\": ")
        .err_has("no such file or directory");
    lab.step(
        "the first process is out of reach of its own signals, its children are not",
        "docker run --rm $N $D busybox sh -c '
            kill -9 $$; kill -15 $$
            sh -c \"kill -9 \\$\\$\"; echo $?
            sh -c \"kill -15 \\$\\$\"; echo $?
            exit 137'",
    )
    .code(137)
    .out("137\n143\n");
    lab.step("no container is left, not even of a command that could not start", "docker ps --all --quiet")
        .code(0)
        .out("")
        .err("");
    lab.nothing_left("after commands that ended and commands that could not start", &before);
}

/// Of a step in which an emulated processor has a sum of 64 MiB to make.
fn long(command: HostCommand<'_>) -> HostCommand<'_> {
    command.timeout(Duration::from_secs(300))
}

fn streams(lab: &mut Lab) {
    let sum = lab.read(
        "64 MiB that repeat nowhere",
        "head -c 67108864 /dev/urandom > /root/big && sha256sum < /root/big",
    );
    lab.step_with("64 MiB in", "docker run --rm -i $N $D busybox sha256sum < /root/big", long)
        .code(0)
        .out(&format!("{sum}\n"))
        .err("");
    // Docker's own log of 64 MiB would be most of the time.
    lab.step_with(
        "64 MiB in and out again",
        "docker run --rm -i --log-driver none $N $D busybox cat < /root/big | sha256sum",
        long,
    )
    .code(0)
    .out(&format!("{sum}\n"))
    .err("");
    lab.step("standard input at its end", "docker run --rm -i $N $D busybox cat < /dev/null")
        .code(0)
        .out("")
        .err("");
    lab.step("no standard input at all", "docker run --rm $N $D busybox sh -c 'cat; echo end'")
        .code(0)
        .out("end\n")
        .err("");
    lab.step(
        "a command that does not read all of its input",
        "head -c 1048576 /root/big | docker run --rm -i $N $D busybox sh -c 'head -c 100000 | wc -c; exit 5'",
    )
    .code(5)
    .out("100000\n");
}

fn terminals(lab: &mut Lab) {
    lab.step_with(
        "a terminal of the caller's size, which is read from and written to",
        r#"docker run --rm -it $N $D busybox sh -c '
            test -t 0 && test -t 1 && test -t 2 && echo all three
            i=0; until [ "$(stty size)" = "33 111" ] || [ $i -gt 300 ]; do i=$((i+1)); sleep 0.1; done
            stty size; read line; echo "<$line>"; exit 5'"#,
        |command| command.terminal(33, 111).stdin("hello\n"),
    )
    .code(5)
    .out_has("all three")
    .out_has("33 111")
    .out_has("<hello>\r\n");

    lab.must(
        "a detached container with a terminal",
        r#"docker run -dt --name box1 $N $D busybox sh -c '
            trap "stty size" WINCH; echo ready; i=0; while [ $i -lt 1200 ]; do i=$((i+1)); sleep 0.1; done' >&2"#,
    );
    lab.wait("it runs", "docker logs box1 | grep -q ready");
    lab.define(
        r#"resize() { printf "POST /v1.41/containers/$1/resize?h=$2&w=$3 HTTP/1.0\r\n\r\n" | nc -N -U /run/docker.sock; }"#,
    );
    lab.step("a resize", "resize box1 33 111").code(0).out_has("200 OK");
    lab.wait("the command is told of it", "docker logs box1 | grep -q '^33 111'");
    lab.step("another", "resize box1 20 60").code(0).out_has("200 OK");
    lab.wait("the command is told again", "docker logs box1 | grep -q '^20 60'");
    lab.step("all that it wrote", "docker logs box1").code(0).out("ready\r\n33 111\r\n20 60\r\n").err("");
    lab.step("it goes away while it runs", "docker rm -f box1").code(0).out("box1\n").err("");
}
