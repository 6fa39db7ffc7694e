//! Our own shim, `io.containerd.msb.v2`: what runc's has in another way, and what is left when something is killed. That it does
//! otherwise as runc's is in `contract`.

use integration::check::Lab;

crate::conformance!(both: [], ours: [a_task]);

fn a_task(lab: &mut Lab) {
    lab.must("a root of the test's own", "cp -a /opt/busybox/rootfs /root/tree");
    lab.define(
        r#"
        S="--runtime io.containerd.msb.v2"
        run() { ctr run --rm $S --env PATH=/bin "$@"; }
        apart() { ctr run -d $S --env PATH=/bin --rootfs /root/tree "$@" < /dev/null; }
        ended() { eventually "ctr task ls | grep '^$1 ' | grep -q STOPPED" 0.2; ctr task rm $1; ctr container rm $1; }
        docked() { docker run --name box $N $S "$@"; }"#,
    );
    lab.step(
        "a container of an image, and its root goes with it",
        "run docker.io/library/busybox:latest a echo hi",
    )
    .code(0)
    .out("hi\n")
    .err("");
    layers(lab);
    lab.step(
        "a program takes its output",
        r#"printf '#!/bin/sh\nexec 5>&-\n{ echo $CONTAINER_NAMESPACE/$CONTAINER_ID; cat <&3; cat <&4; echo end; } > /root/logged\n' > logger; chmod 755 logger
           run --log-uri binary:///root/logger --rootfs /root/tree a sh -c 'echo out; echo err >&2'; eventually 'grep -q end logged'; cat logged"#,
    )
    .code(0)
    .out("default/a\nout\nerr\nend\n");
    lab.must("Docker's first", "docked --rm busybox true");
    let before = lab.snapshot();
    by_ctr(lab);
    by_docker(lab);
    // Docker takes its time to find a containerd that has come back.
    killed(lab);
    lab.nothing_left("after all", &before);
}

/// More layers than fit in a page of mount options.
fn layers(lab: &mut Lab) {
    lab.must(
        "an image of sixty layers and more",
        r#"mkdir image; cd image; docker save busybox | tar xf -; cp manifest.json manifest; jq -r '.[0].Config' manifest | xargs cat > config; mkdir d
           for i in $(seq 60); do
               echo $i > d/$i; tar cf x$i d; rm d/$i
               jq -c ".[0].Layers += [\"x$i\"]" manifest > new; mv new manifest
               jq -c ".rootfs.diff_ids += [\"sha256:$(sha256sum x$i | cut -d' ' -f1)\"] | del(.history)" config > new; mv new config
           done
           jq -c '.[0].Config = "config" | .[0].RepoTags = ["many:latest"]' manifest > manifest.json; rm -r index.json oci-layout d
           tar cf ../many . && cd .. && rm -r image && ctr image import many >&2"#,
    );
    lab.step("all are there", "run docker.io/library/many:latest a sh -c 'ls /d | wc -l; cat /d/1 /d/60'")
        .code(0)
        .out("60\n1\n60\n")
        .err("");
}

fn by_ctr(lab: &mut Lab) {
    crate::containerd::terminal(lab, "run -t --rootfs /root/tree b");
    lab.must(
        "events are followed",
        "ctr events > /root/events & echo $! > /root/follower; sleep 1; apart c sleep 1000",
    );
    lab.step("no process stands for it but the VMM and the shim", "ps -eo args= | grep -c '^msb-runtime'")
        .code(0)
        .out("1\n");
    lab.step(
        "the guest's own processes",
        "ctr task exec --exec-id x c sh -c 'sleep 500 & sleep 500 & exec sleep 2' & sleep 1; ctr task ps c | tail -n +2 | wc -l; wait",
    )
    .code(0)
    .out("4\n");
    lab.step(
        "what the guest uses",
        "ctr task metrics --format json c | jq '.memory.usage > 0 and .memory.usage < 20000000 and .pids.current >= 1'",
    )
    .code(0)
    .out("true\n");
    lab.step("checkpoint is refused", "ctr task checkpoint c").code(1).err_has("not implemented");
    lab.step(
        "paused, resumed and killed",
        "ctr task pause c; ctr task resume c; ctr task kill -s KILL c; ended c",
    )
    .code(0)
    .err_has("exit code 137");
    lab.step(
        "all events, in their order",
        "sleep 1; kill $(cat /root/follower); grep -o '/tasks/[a-z-]*' /root/events | tr '\\n' ' '",
    )
    .code(0)
    // ctr pauses for its checkpoint.
    .out(
        "/tasks/create /tasks/start /tasks/exec-added /tasks/exec-started /tasks/exit /tasks/paused /tasks/resumed \
         /tasks/paused /tasks/resumed /tasks/exit /tasks/delete ",
    );
}

fn killed(lab: &mut Lab) {
    lab.must(
        "a snapshotter whose roots are files, for the next containerd",
        r#"truncate -s 100M scratch; mkfs.ext4 -q -F scratch
           printf '[plugins."io.containerd.snapshotter.v1.blockfile"]\nroot_path = "/root/blocks"\nscratch_file = "/root/scratch"\nrecreate_scratch = true\nfs_type = "ext4"\n' >> /etc/containerd/config.toml"#,
    );
    lab.must("another", "apart c sleep 1000");
    lab.step(
        "containerd is killed: its next finds the task",
        "kill -KILL $(pidof containerd); eventually 'systemctl is-active -q containerd || systemctl start containerd' 0.5
         eventually 'ctr version' 0.2 > /dev/null 2>&1; ctr task exec --exec-id x c echo in",
    )
    .code(0)
    .out("in\n");
    lab.step(
        "a root in a file",
        "run --snapshotter blockfile docker.io/library/busybox:latest a sh -c 'echo kept > /w; cat /w'; losetup -a",
    )
    .code(0)
    .out("kept\n");
    lab.step("the VMM is killed", "pkill -KILL -f '^msb-runtime vmm'; ended c")
        .code(0)
        .err_has("exit code 137");
    lab.step(
        "containerd is away while a task ends",
        "apart c sh -c 'sleep 3; exit 5'; systemctl stop containerd; eventually '! pgrep -f \"^msb-runtime vmm\"' 0.2 > /dev/null
         systemctl start containerd; ended c",
    )
    .code(0)
    .err_has("exit code 5");
}

fn by_docker(lab: &mut Lab) {
    lab.step(
        "out of memory",
        "docked -m 32m --memory-swap 32m busybox tail /dev/zero; docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' box; docker rm box",
    )
    .code(0)
    .out("true 137\nbox\n");
    lab.must(
        "a container that writes",
        "docked -d busybox sh -c 'echo kept > /kept; echo ready; sleep 1000'; eventually 'docker logs box | grep -q ready' 0.2",
    );
    lab.must("its shim is killed", "pkill -KILL -f '^containerd-shim-msb-v2 -namespace moby'");
    lab.wait("Docker sees its end", "[ $(docker inspect -f '{{.State.Running}}' box) = false ]");
    lab.step(
        "its VMM is gone with it, and its state",
        "ps -eo args= | grep '^msb-runtime'; ls /run/containerd/msb/moby",
    )
    .out("");
    lab.step("what it wrote is not lost", "docker cp box:/kept - | tar -xO; docker rm box >&2")
        .code(0)
        .out("kept\n");
}
