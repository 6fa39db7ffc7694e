//! A detached container under Docker: signals, logs, wait, stop, start again, remove.

use integration::check::Lab;

crate::conformance!(both: [signals_logs_and_wait, pause], ours: []);

fn signals_logs_and_wait(lab: &mut Lab) {
    let before = lab.snapshot();
    lab.step(
        "a detached container gives its id",
        r#"docker run -d --name box1 $N $D busybox sh -c '
            trap "echo usr1" USR1; trap "echo term; exit 143" TERM
            echo ready; echo complaint >&2; while :; do sleep 0.1; done'"#,
    )
    .code(0)
    .out_is("64 hexadecimal digits", |out| {
        out.len() == 65 && out.trim_end().chars().all(|digit| digit.is_ascii_hexdigit())
    })
    .err("");
    lab.wait("it runs", "docker logs box1 2>&1 | grep -q complaint");
    lab.step("its logs, streams apart", "docker logs box1").code(0).out("ready\n").err("complaint\n");
    lab.step("a signal that it handles", "docker kill -s USR1 box1").code(0).out("box1\n").err("");
    lab.wait("it has handled it", "docker logs box1 2>/dev/null | grep -q usr1");
    lab.step("it runs on", "docker inspect -f '{{.State.Status}}' box1").code(0).out("running\n");
    lab.step(
        "stop lets it end by itself",
        "docker wait box1 > /root/waited & docker stop -t 60 box1; wait $!; cat /root/waited",
    )
    .code(0)
    .out("box1\n143\n")
    .err("");
    lab.step("all that it wrote", "docker logs box1 2>/dev/null").code(0).out("ready\nusr1\nterm\n");
    lab.step(
        "what Docker knows of it",
        "docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}} {{.State.Error}}.' box1",
    )
    .code(0)
    .out("exited 143 0 .\n");
    lab.step("started again", "docker start box1").code(0).out("box1\n").err("");
    lab.wait("it runs again", "[ $(docker logs box1 2>&1 | grep -c complaint) = 2 ]");
    lab.step("killed", "docker kill box1; docker wait box1").code(0).out("box1\n137\n").err("");
    lab.step("no kill of what has ended", "docker kill box1").code(1).out("").err_has("is not running");

    lab.must("a process that handles no signal", "docker run -d --name box2 $N $D busybox sleep 1000 >&2");
    lab.step("stop kills it after its time", "docker stop -t 1 box2; docker wait box2")
        .code(0)
        .out("box2\n137\n")
        .err("");
    lab.step("removed", "docker rm box1 box2").code(0).out("box1\nbox2\n").err("");
    lab.must("another", "docker run -d --name box3 $N $D busybox sleep 1000 >&2");
    lab.step("removed while it runs", "docker rm -f box3").code(0).out("box3\n").err("");
    lab.step("none is left", "docker ps --all --quiet").code(0).out("").err("");
    lab.nothing_left("after all", &before);
}

fn pause(lab: &mut Lab) {
    let before = lab.snapshot();
    lab.must(
        "a container that counts",
        r#"docker run -d --name p1 $N $D busybox sh -c 'i=0; while :; do i=$((i + 1)); echo $i; sleep 0.1; done' >&2"#,
    );
    lab.wait("it counts", "[ $(docker logs p1 | wc -l) -gt 2 ]");
    lab.step("paused", "docker pause p1").code(0).out("p1\n").err("");
    lab.step("what Docker says", "docker inspect -f '{{.State.Status}}' p1").code(0).out("paused\n");
    lab.step(
        "it stands still",
        // What it had written before may still be on its way.
        "for turn in 1 2 3 4; do a=$(docker logs p1 | wc -l); sleep 2; b=$(docker logs p1 | wc -l); [ $a != $b ] || break; done; [ $a = $b ]",
    )
    .code(0);
    lab.step("no exec meanwhile", "docker exec p1 true").code(1).out("").err_has("is paused");
    lab.step("not paused twice", "docker pause p1").code(1).out("").err_has("already paused");
    lab.step("resumed", "docker unpause p1").code(0).out("p1\n").err("");
    lab.wait("it counts on", "a=$(docker logs p1 | wc -l); sleep 1; [ $(docker logs p1 | wc -l) -gt $a ]");
    lab.step("not resumed twice", "docker unpause p1").code(1).out("").err_has("is not paused");
    lab.must("paused again", "docker pause p1 >&2");
    lab.step("removed while it is paused", "docker rm -f p1").code(0).out("p1\n").err("");
    lab.nothing_left("after all", &before);
}
