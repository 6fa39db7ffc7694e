//! A container that wants more memory than it has: killed, and seen as such wherever its callers look.

use integration::check::{Lab, Runtime};

use super::direct::BUNDLE;

crate::conformance!(both: [seen], ours: [told]);

/// Takes memory until it is killed: a shell whose variable doubles.
const HOG: &str = "sh -c 'x=xxxxxxxx; while :; do x=$x$x; done'";

fn seen(lab: &mut Lab) {
    lab.define(r#"pod() { podman --runtime "$P" "$@"; }"#);
    let before = lab.snapshot();
    lab.step("the first process", &format!("docker run -m 64m --name box1 $N $D busybox {HOG}"))
        .code(137)
        .out("");
    lab.step("Docker knows why", "docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' box1")
        .code(0)
        .out("true 137\n");
    lab.step(
        "and has told",
        "timeout 60 docker events --since 5m --until $(date +%s.%N) --filter event=oom --format '{{.Action}}' | sort -u",
    )
    .code(0)
    .out("oom\n");
    lab.step("the next time it is right again", "docker rm box1; docker run -m 64m --name box1 $N $D busybox true; docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' box1; docker rm box1")
        .code(0)
        .out("box1\nfalse 0\nbox1\n");
    lab.must(
        "a container whose child wants too much",
        &format!(
            "cat > /root/y.sh <<'END'\n{HOG}; echo $? > /code; sleep 1000\nEND\n\
             docker run -d -m 64m --name box2 $N $D busybox sh -c \"$(cat /root/y.sh)\" >&2"
        ),
    );
    lab.wait("only the child is killed", "docker exec box2 grep -q 137 /code");
    lab.step(
        "it runs on, and execs with it",
        "docker exec box2 echo fine; docker inspect -f '{{.State.Running}}' box2",
    )
    .code(0)
    .out("fine\ntrue\n");
    lab.must("removed", "docker rm -f box2 >&2");
    lab.step("podman", &format!("pod run -m 64m --name box3 $N busybox {HOG}")).code(137).out("");
    // podman 5.4 does not see the difference on version 2, whatever the runtime.
    lab.step(
        "podman has its exit code",
        "eventually \"podman inspect -f '{{.State.Status}}' box3 | grep -q exited\"; podman inspect -f '{{.State.ExitCode}}' box3",
    )
    .code(0)
    .out("137\n");
    lab.must("removed", "pod rm box3 >&2");
    lab.nothing_left("after all", &before);
}

fn told(lab: &mut Lab) {
    assert_eq!(lab.runtime(), Runtime::Msb, "runc has no guest that kills");
    lab.define(BUNDLE);
    lab.must("the cgroup above all of this test's", "mkdir /sys/fs/cgroup/e2e");
    let before = lab.snapshot();
    lab.must(
        "a container with a limit",
        r#"bundle c sleep 1000
           jq '.linux.resources = {memory: {limit: 67108864}}' /root/c/config.json > /root/new; mv /root/new /root/c/config.json
           $R --log /root/log --log-format json run --detach --bundle /root/c --pid-file /root/c/pid c < /dev/null > /root/c/out 2>&1"#,
    );
    let group = "/sys/fs/cgroup/e2e/c";
    let limit = lab.read("the host's limit", &format!("cat {group}/memory.max"));
    // Or it would free its own programs and read them again, over and over, before it is killed.
    lab.step(
        "what it reads of its image is not in its account",
        "$R exec c sh -c 'cat /bin/busybox > /dev/null; cd /sys/fs/cgroup; sed -n \"s/^file //p\" memory.stat; cat /bin/busybox | wc -c'",
    )
    .code(0)
    .out_is("less than a fourth of the program", |out| {
        let numbers: Vec<u64> = out.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        matches!(numbers.as_slice(), [account, program] if account * 4 < *program)
    });
    lab.must("execs all the while", "(i=0; while [ $i -lt 12 ]; do $R exec c true < /dev/null || echo failed; i=$((i+1)); done > /root/execs 2>&1; echo done >> /root/execs) &");
    lab.step("a child is killed", &format!("$R exec c {HOG} > /dev/null 2>&1; echo $?")).out("137\n");
    lab.wait("the host's kernel has counted it", &format!("grep -q 'oom_kill [1-9]' {group}/memory.events"));
    lab.wait("the cgroup is as it was", &format!("[ -z \"$(find {group} -mindepth 1 -type d)\" ]"));
    lab.step(
        "its limit too, and the machine is in it",
        &format!("cat {group}/memory.max; grep -c \"^$(cat /root/c/pid)$\" {group}/cgroup.procs"),
    )
    .code(0)
    .out(&format!("{limit}\n1\n"));
    lab.step(
        "the log names who it was",
        "jq -r 'select(.level == \"warning\") | .msg' /root/log | head -n 1",
    )
    .code(0)
    .out_has("out of memory")
    .out_has("sh (");
    lab.wait("execs went on", "grep -q done /root/execs");
    lab.step("all of them", "cat /root/execs").code(0).out("done\n");
    lab.must(
        "a VMM that dies while its processes stand aside",
        &format!("mkdir {group}/aside {group}/short; echo $(cat /root/c/pid) > {group}/aside/cgroup.procs; kill -9 $(cat /root/c/pid)"),
    );
    lab.step("is deleted as ever", "$R delete --force c; $R list -q").code(0).out("").err("");
    lab.nothing_left("after all", &before);
}
