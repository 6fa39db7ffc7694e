//! Our own shim, `io.containerd.msb.v2`: what runc's has in another way, and what is left when something is killed. That it does
//! otherwise as runc's is in `contract`.

use std::time::Duration;

use integration::check::Lab;

crate::conformance!(both: [], ours: [a_task, on_the_device_mapper]);

/// Of a step with many containers.
const LONG: Duration = Duration::from_secs(300);

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

/// Roots that are thin volumes: what is written is kept from one task to the next, as with runc's shim in the same host; what is
/// only read is the machine's as it is, and is not mounted on the host. No machine has another device of the host's.
fn on_the_device_mapper(lab: &mut Lab) {
    lab.must(
        "a pool, and containerd's snapshotter on it",
        r#"truncate -s 2G data; truncate -s 100M meta; D=$(losetup -f --show data); M=$(losetup -f --show meta)
           dmsetup create pool --table "0 $(($(blockdev --getsz $D))) thin-pool $M $D 128 32768 1 skip_block_zeroing"
           printf '[plugins."io.containerd.snapshotter.v1.devmapper"]\nroot_path = "/root/devmapper"\npool_name = "pool"\nbase_image_size = "256MB"\nfs_type = "ext4"\n' >> /etc/containerd/config.toml
           systemctl restart containerd; eventually 'ctr plugins ls | grep devmapper | grep -q ok' 0.2"#,
    );
    lab.define(
        r#"devices() { for fd in /proc/$(pgrep -x msb-vmm)/fd/*; do [ ! -b $fd ] || readlink $fd; done | sort -u | sed 's,/dev/dm-[0-9]*$,a volume,'; }
           mounted() { grep -c 'runtime.v2.task.*ext4' /proc/mounts; }
           ended() { ctr task kill -s KILL $1; eventually "ctr task ls | grep '^$1 ' | grep -q STOPPED" 0.2; ctr task rm $1 > /dev/null 2>&1; }
           one() {
               ctr run -d --snapshotter devmapper --runtime $1 docker.io/library/busybox:latest a sh -c 'echo kept > /w; sync; sleep 1000' < /dev/null
               eventually "ctr task exec --exec-id x a cat /w" 0.3; devices; ended a
               ctr task start -d a < /dev/null; ctr task exec --exec-id x a cat /w; ended a; ctr container rm a
               ctr run -d --read-only --snapshotter devmapper --runtime $1 docker.io/library/busybox:latest a sleep 1000 < /dev/null
               ctr task exec --exec-id x a sh -c 'touch /w 2>&1'; devices; mounted; ended a; ctr container rm a
           }"#,
    );
    for (shim, device, mounts) in
        [("io.containerd.runc.v2", "", 1), ("io.containerd.msb.v2", "a volume\n", 0)]
    {
        lab.step_with(
            shim,
            &format!("one {shim}; mounted; ls /run/containerd/msb/default 2> /dev/null"),
            |command| command.timeout(LONG),
        )
        .out(&format!("kept\nkept\ntouch: /w: Read-only file system\n{device}{mounts}\n0\n"));
    }
}

/// More layers than fit in a page of mount options.
fn layers(lab: &mut Lab) {
    lab.must(
        "an image of sixty layers and more",
        r#"mkdir image; cd image; docker save busybox | tar xf -; mkdir d; cp $(jq -r '.[0].Config' manifest.json) config
           for i in $(seq 60); do echo $i > d/$i; tar cf x$i d/$i; done
           jq -c --arg x "$(sha256sum $(seq -f x%g 60))" '.rootfs.diff_ids += [$x | scan("[0-9a-f]{64}") | "sha256:\(.)"] | del(.history)' config > new; mv new config
           jq -c '.[0].Layers += [range(60) | "x\(. + 1)"] | .[0].Config = "config" | .[0].RepoTags = ["many:latest"]' manifest.json > new; mv new manifest.json
           rm -r index.json oci-layout d; tar cf ../many . && cd .. && rm -r image && ctr image import many >&2"#,
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
        "ctr events > /root/events & echo $! > /root/follower; n=0
         seen() { n=$((n+1)); ctr namespaces label default asked=$n; grep -q /namespaces/ /root/events; }
         eventually seen 0.2; apart c sleep 1000",
    );
    lab.step(
        "no process stands for it but its sandbox's, the VMM and the shim",
        "ps -eo args= | grep -c '^msb-runtime'",
    )
    .code(0)
    .out("2\n");
    lab.step(
        "the guest's own processes",
        "ctr task exec --exec-id x c sh -c 'sleep 500 & sleep 500 & exec sleep 1000' & eventually '[ $(ctr task ps c | wc -l) = 5 ]' 0.2
         ctr task ps c | tail -n +2 | wc -l; ctr task kill --exec-id x -s KILL c; wait",
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
        "eventually 'grep -q /tasks/delete /root/events' 0.2; kill $(cat /root/follower); grep -o '/tasks/[a-z-]*' /root/events | tr '\\n' ' '",
    )
    .code(0)
    // ctr pauses for its checkpoint.
    .out(
        "/tasks/create /tasks/start /tasks/exec-added /tasks/exec-started /tasks/exit /tasks/paused /tasks/resumed \
         /tasks/paused /tasks/resumed /tasks/exit /tasks/delete ",
    );
}

/// Ten at once, in each state, while containerd is killed and away; then the same while it is there.
fn killed(lab: &mut Lab) {
    lab.define(
        r#"
        task() { awk -v i=$1 '$1 == i { print $2 }' /root/tasks; }
        unshim() { pkill -KILL -f "^containerd-shim-msb-v2 -namespace default .*-id $1\$"; }
        by_hand() { cd /run/containerd/io.containerd.runtime.v2.task/default/$1 && containerd-shim-msb-v2 -namespace default -address /run/containerd/containerd.sock \
            -publish-binary /usr/bin/containerd -id $1 $2; cd; }
        states() { ctr task ls | awk '/^n/ { print $1, $3 }' | sort; }
        over() { eventually "! kill -0 $(task $1) 2> /dev/null" 0.2; }"#,
    );
    lab.must(
        "a snapshotter whose roots are files, for the next containerd",
        r#"truncate -s 100M scratch; mkfs.ext4 -q -F scratch
           printf '[plugins."io.containerd.snapshotter.v1.blockfile"]\nroot_path = "/root/blocks"\nscratch_file = "/root/scratch"\nrecreate_scratch = true\nfs_type = "ext4"\n' >> /etc/containerd/config.toml"#,
    );
    lab.step_with(
        "ten containers: eight run, one is paused, and one is not started for its hook",
        r#"for i in $(seq 0 8); do apart n$i sh -c "trap 'exit 4$i' TERM; sleep 1000 & wait"; done
           ctr oci spec | jq '.root.path = "/root/tree" | .linux.cgroupsPath = "/default/n9" | .process.terminal = false | .process.args = ["/bin/true"] | .hooks = {startContainer: [{path: "/bin/sleep", args: ["sleep", "1000"]}]}' > created.json
           ctr run -d $S --config created.json n9 < /dev/null > started 2>&1 &
           ctr task pause n7; eventually 'states | grep -q "n9 CREATED"' 0.2; states; ctr task ls > tasks"#,
        |command| command.timeout(LONG),
    )
    .code(0)
    .out("n0 RUNNING\nn1 RUNNING\nn2 RUNNING\nn3 RUNNING\nn4 RUNNING\nn5 RUNNING\nn6 RUNNING\nn7 PAUSED\nn8 RUNNING\nn9 CREATED\n");
    lab.must("containerd is killed, and away", "kill -KILL $(pidof containerd); systemctl stop containerd");
    lab.step(
        "meanwhile a VMM is killed; shims are killed, and their containers run on or end; a container ends",
        "kill -KILL $(task n0); for i in 1 2 3 6; do unshim n$i; done; for i in 2 6 8; do kill -TERM $(task n$i); done; for i in 0 2 6 8; do over n$i; done; kill -0 $(task n1) $(task n3)",
    )
    .code(0);
    lab.step(
        "what removes a task without its shim knows how it ended",
        "by_hand n2 delete | od -An -v -tu1 | tr -s ' \\n' ' ' | grep -o ' 16 42 '",
    )
    .out(" 16 42 \n");
    lab.step(
        "another shim takes over what runs, and what has ended",
        "for i in 3 6; do by_hand n$i start | grep -c ^unix:///run/containerd/s/; done",
    )
    .out("1\n1\n");
    lab.step_with(
        "containerd is back: each is what has become of it, and what nobody serves is removed",
        "systemctl start containerd; eventually 'ctr version' 0.2 > /dev/null 2>&1; states; eventually \"! kill -0 $(task n1)\" 0.2 2> /dev/null",
        |command| command.timeout(LONG),
    )
    .code(0)
    .out("n0 STOPPED\nn3 RUNNING\nn4 RUNNING\nn5 RUNNING\nn6 STOPPED\nn7 PAUSED\nn8 STOPPED\nn9 CREATED\n");
    lab.step(
        "those that run are of use, also to the other shim",
        "for i in 3 4; do ctr task exec --exec-id x n$i echo in n$i; done; ctr task ps n3 | tail -n +2 | wc -l",
    )
    .code(0)
    .out("in n3\nin n4\n2\n");
    lab.step(
        "no exit code is lost",
        "ctr task kill -s TERM n3; kill -KILL $(task n7) $(task n9); for i in 3 6 7 8 9; do ended n$i; done 2>&1 | grep -o 'exit code [0-9]*'",
    )
    .out("exit code 43\nexit code 46\nexit code 137\nexit code 48\nexit code 137\n");
    lab.step(
        "the shims of one that has ended, of one that is paused and of one that runs are killed: nothing of them is left",
        "ctr task pause n4; for i in 0 4 5; do unshim n$i; done; for i in 4 5; do over n$i; done; eventually '[ -z \"$(states)\" ]' 0.2; for i in 0 1 2 4 5; do ctr container rm n$i; done; rm -r /run/containerd/fifo/*
         ps -eo args= | grep '^msb-runtime\\|^containerd-shim'; ls /run/containerd/msb/default",
    )
    .out("");
    lab.step(
        "a root in a file",
        "run --snapshotter blockfile docker.io/library/busybox:latest a sh -c 'echo kept > /w; cat /w'; losetup -a",
    )
    .code(0)
    .out("kept\n");
    lab.step(
        "one that is only read is the machine's disk as it is, and not mounted on the host",
        "ctr run -d $S --read-only --snapshotter blockfile docker.io/library/busybox:latest a sh -c 'echo in > /w; sleep 1000' < /dev/null
         ctr task exec --exec-id x a sh -c 'cat /sys/block/vda/size; grep -c root /etc/passwd; touch /w 2>&1'; losetup -a; grep -c io.containerd.runtime.v2.task /proc/mounts
         stat -c %s $(ls -t /root/blocks/snapshots/* | head -1) | awk '{print $1 / 512}'; ctr task kill -s KILL a; ended a",
    )
    .out_is("the disk's size, twice, and no mount", |out| {
        let lines: Vec<&str> = out.lines().collect();
        lines.len() == 5 && lines[0] == lines[4] && lines[2].contains("Read-only file system") && lines[3] == "0"
    });
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
        "eventually '! pgrep -f ^msb-runtime > /dev/null && [ -z \"$(ls /run/containerd/msb/moby)\" ]' 0.2
         ps -eo args= | grep '^msb-runtime'; ls /run/containerd/msb/moby",
    )
    .out("");
    lab.step("what it wrote is not lost", "docker cp box:/kept - | tar -xO; docker rm box >&2")
        .code(0)
        .out("kept\n");
}
