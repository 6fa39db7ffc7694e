//! Pods without Kubernetes: by our own shim, `ctr` with the annotations and namespaces that containerd's CRI gives its
//! containers; by Docker and podman, containers that join another's network. One machine for the first and all of the
//! others, which come and go while it runs.

use std::time::Duration;

use integration::check::Lab;

crate::conformance!(both: [joined], ours: [a_pod, joined_in_vain]);

/// `pod …` and `app ID …` run the sandbox of a pod and one of its containers; `X` is more options.
const FUNCTIONS: &str = r#"
S="--runtime io.containerd.msb.v2"
K=io.kubernetes.cri
pid() { ctr task ls | awk -v i=$1 '$1 == i { print $2 }'; }
run() { kind=$1; id=$2; shift 2; ctr run -d $S --env PATH=/bin --annotation $K.container-type=$kind --annotation $K.sandbox-id=pod $X --rootfs /root/tree $id "$@" < /dev/null; }
pod() { run sandbox pod "$@"; }
app() { ns=/proc/$(pid pod)/ns; X="--with-ns network:$ns/net --with-ns ipc:$ns/ipc --with-ns uts:$ns/uts $X" run container "$@"; }
in_() { id=$1; shift; ctr task exec --exec-id x$$ $id "$@"; }
status() { ctr task ls | awk -v i=$1 '$1 == i { print $3 }'; }
ended() { eventually "[ \"\$(status $1)\" = STOPPED ]" 0.2; ctr task rm $1; ctr container rm $1; }
machines() { ps -eo comm= | grep -cx msb-vmm; }
gone() { eventually '[ $(machines) = 0 ]' 0.2; }"#;

/// Of a step with many containers.
const LONG: Duration = Duration::from_secs(300);

fn a_pod(lab: &mut Lab) {
    lab.must(
        "a root of the test's own",
        "cp -a /opt/busybox/rootfs /root/tree; mkdir -p /root/v; echo kept > /root/v/file",
    );
    lab.define(FUNCTIONS);
    lab.must("Something runs before", "ctr run --rm $S --rootfs /root/tree first /bin/true");
    let before = lab.snapshot();
    together(lab);
    each_its_own(lab);
    many(lab);
    ends(lab);
    lab.step(
        "the same by containerd's own shim",
        "S=\"--runc-binary $P\"; pod sleep 10000; app a sh -c 'sleep 1; exit 3'; in_ pod hostname; machines; ended a; ctr task kill -s KILL pod; ended pod",
    )
    .out_has("\n1\n")
    .err_has("exit code 3")
    .err_has("exit code 137");
    lab.nothing_left("after all", &before);
}

/// What the containers of a pod share, and what they don't.
fn together(lab: &mut Lab) {
    lab.must("a sandbox", "X='--hostname inside --mount type=bind,src=/root/v/file,dst=/etc/resolv.conf,options=rbind:ro' pod sleep 10000");
    lab.must(
        "two containers in it",
        "X='--mount type=bind,src=/root/v,dst=/mnt,options=rbind:rw' app a sh -c 'nc -l -p 80 -e echo over localhost & exec sleep 10000' || exit
         app b sh -c 'sleep 7777 & wait'",
    );
    lab.step("one machine, one shim", "machines; ps -eo args= | grep -c ^containerd-shim-msb").out("1\n1\n");
    lab.step(
        "a network and names together, processes and roots apart",
        "in_ b nc 127.0.0.1 80; in_ b hostname; in_ a touch /only-a; in_ b ls /only-a; in_ b sh -c 'ps | grep -c [s]leep.10000'",
    )
    .out("over localhost\ninside\n0\n")
    .err_has("/only-a: No such file");
    lab.step(
        "IPC together, for those who have it",
        "for i in pod a b; do in_ $i readlink /proc/self/ns/ipc; done | sort -u | wc -l; for i in pod a b; do in_ $i readlink /proc/self/ns/pid; done | sort -u | wc -l",
    )
    .out("1\n3\n");
    lab.step(
        "a volume is live both ways",
        "in_ a cat /mnt/file; in_ a sh -c 'echo new > /mnt/file'; cat /root/v/file",
    )
    .out("kept\nnew\n");
    lab.must(
        "two more: one in the sandbox's pid namespace, one in a container's",
        "X=\"--with-ns pid:/proc/$(pid pod)/ns/pid\" app c sleep 10000 || exit; X=\"--with-ns pid:/proc/$(pid a)/ns/pid\" app d sleep 10000",
    );
    lab.step(
        "which they see",
        "for i in pod c; do in_ $i readlink /proc/self/ns/pid; done | sort -u | wc -l; in_ d readlink /proc/self/ns/pid > x; in_ a readlink /proc/self/ns/pid | cmp - x && echo same
         in_ d sh -c 'ps | grep -c [s]leep.10000'",
    )
    .out("1\nsame\n2\n");
    lab.step("a namespace of nobody's in the pod", "X=--with-ns=pid:/proc/1/ns/pid app e true")
        .code(1)
        .err_has("it stands for no container of this pod");
    lab.must(
        "and nothing of that is left",
        "ctr container rm e; for i in c d; do ctr task kill -s KILL $i; ended $i; done",
    );
}

/// Exit codes, limits, statistics, streams, and what each wrote.
fn each_its_own(lab: &mut Lab) {
    lab.step(
        "exit codes of containers and execs",
        "app e sh -c 'sleep 1; exit 7'; app f sh -c 'sleep 1; echo wrote > /f; exit 8'; in_ a sh -c 'exit 5'; echo $?; ended e; ended f; cat /root/tree/f; rm /root/tree/f; status a; status b",
    )
    .out("5\nwrote\nRUNNING\nRUNNING\n")
    .err_has("exit code 7")
    .err_has("exit code 8");
    lab.step(
        "processes and use of each",
        "ctr task ps b | tail -n +2 | wc -l; ctr task ps pod | tail -n +2 | wc -l
         for i in a b; do ctr task metrics --format json $i | jq '.memory.usage > 0 and .pids.current >= 1 and .cpu.usage_usec > 0'; done",
    )
    .out("2\n1\ntrue\ntrue\n");
    lab.step(
        "work is told of who did it: the sandbox's is its own, and what the machine cost",
        r#"took() { ctr task metrics --format json $1 | jq .cpu.usage_usec; }
        p=$(took pod); b=$(took b); in_ b sh -c 'i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done'; p=$(($(took pod) - p)); b=$(($(took b) - b)); [ $((p * 2)) -lt $b ] || echo pod $p b $b"#,
    )
    .code(0)
    .out("");
    lab.step(
        "one is out of memory, and the others are not",
        "X='--memory-limit 33554432' app g sh -c 'sleep 1; exec tail /dev/zero'; ended g; status a; status pod",
    )
    .out("RUNNING\nRUNNING\n")
    .err_has("exit code 137");
    lab.step(
        "one is paused, and the others are not",
        "ctr task pause a; status a; in_ b echo on; ctr task resume a; status a",
    )
    .out("PAUSED\non\nRUNNING\n");
    lab.step(
        "one that can't be had leaves the pod as it was",
        "app h nosuch; ctr container rm h; X='--mount type=bind,src=/nowhere,dst=/mnt,options=rbind' app h true; ctr container rm h; in_ b echo on",
    )
    .out("on\n")
    .err_has("executable file not found in $PATH")
    .err_has("/nowhere does not exist");
}

/// One after the other there is no end. Each takes six of the 32 slots: what was taken back is given again.
fn many(lab: &mut Lab) {
    let script = "X='--mount type=bind,src=/root/v,dst=/mnt,options=rbind:ro'; n=0
        for i in 1 2 3 4; do truncate -s 1M i$i; mkfs.ext4 -q -F -O ^has_journal i$i; X=\"$X --mount type=ext4,src=/root/i$i,dst=/i$i,options=ro\"; done
        while [ $n -lt 6 ]; do n=$((n+1)); app n cat /mnt/file || exit; ended n || exit; done; in_ b echo on; rm i?";
    lab.step_with("more than there are slots, one after the other", script, |command| command.timeout(LONG))
        .code(0)
        .out("on\n")
        .err("");
}

/// What ends what.
fn ends(lab: &mut Lab) {
    lab.step(
        "the process of one is killed, and it alone ends",
        "kill -KILL $(pid b); ended b; status a; status pod",
    )
    .out("RUNNING\nRUNNING\n")
    .err_has("exit code 137");
    lab.step("another of the same name", "app b sleep 10000; in_ b echo again").out("again\n");
    lab.step(
        "the machine is killed, and all of it ends",
        "kill -KILL $(pid pod); for i in a b pod; do ended $i; done 2>&1 | grep -c 'exit code 137'; gone; machines",
    )
    .out("3\n0\n");
    lab.must("a second pod", "pod sleep 10000; app a sleep 10000");
    lab.step("its sandbox ends, and all of it", "ctr task kill -s KILL pod; for i in a pod; do ended $i; done 2>&1 | grep -c 'exit code 137'; gone; machines")
        .out("2\n0\n");
    lab.step("a container without its pod", "X='--with-ns network:/proc/1/ns/net' run container a true")
        .code(1)
        .err_has("does not run");
    lab.must("which is gone", "ctr container rm a");
}

/// Docker's `--network container:…` and podman's pods: with runc the same, but for who ends with whom.
fn joined(lab: &mut Lab) {
    lab.must("a file", "mkdir -p /root/v; echo kept > /root/v/file");
    lab.must("Docker runs something before", "docker run --rm $D busybox true");
    let before = lab.snapshot();
    lab.must(
        "a server that is not seen from outside",
        "docker run -d --name first --annotation dev.msb.pod=true --ipc shareable -p 8080:80 $D busybox sh -c 'echo in > /dev/shm/seen; while :; do nc -l -p 81 -e echo over localhost; done & exec sleep 7777'",
    );
    lab.define("beside() { docker run --rm --network container:first $D \"$@\"; }");
    lab.step(
        "another finds it on the machine's own loopback",
        "eventually \"beside busybox nc 127.0.0.1 81 < /dev/null\" 0.2",
    )
    .code(0)
    .out("over localhost\n");
    lab.step(
        "its host name and hosts, with a volume, a limit, an exit code and processes of its own",
        "beside -v /root/v:/mnt -m 64m busybox sh -c 'hostname | grep -cx $(tail -1 /etc/hosts | cut -f2); cat /mnt/file; echo new > /mnt/file; pidof sleep | wc -w; cat /sys/fs/cgroup/memory.max; exit 7'; echo $?; cat /root/v/file",
    )
    .out("1\nkept\n0\n67108864\n7\nnew\n");
    lab.step(
        "its processes and its shared memory",
        "beside --pid container:first --ipc container:first busybox sh -c 'pidof sleep | wc -w; cat /dev/shm/seen'",
    )
    .out("1\nin\n");
    lab.must(
        "one that serves the first one's port",
        "docker run -d --name second --network container:first $D busybox sh -c 'while :; do nc -l -p 80 -e echo from the second; done' >&2",
    );
    lab.step(
        "from the host, and from within",
        "eventually 'nc -w 2 127.0.0.1 8080 < /dev/null | grep second' 0.2; eventually 'docker exec first nc 127.0.0.1 80 < /dev/null' 0.2; docker exec second sh -c 'hostname; exit 5' | grep -cx $(docker exec first hostname); docker inspect -f '{{.State.Status}}' first second",
    )
    .out("from the second\nfrom the second\n1\nrunning\nrunning\n");
    lab.step(
        "the second ends, and the first does not",
        "docker kill second; docker wait second; docker start second; docker stop -t 1 second; docker rm second; docker exec first echo on",
    )
    .out("second\n137\nsecond\nsecond\nsecond\non\n");
    lab.must("they go", "docker rm -f first >&2");
    lab.nothing_left("after all", &before);
    lab.must(
        "on a host where all may be joined, podman's pods",
        "mkdir -p /etc/msb; printf '[machine]\\npods = true\\n' > /etc/msb/config.toml",
    );
    lab.step(
        "two in one, which find each other",
        "M=\"podman --runtime $P\"; $M pod create --name pod >&2 || exit
         $M run -d --pod pod --name a busybox sh -c 'while :; do nc -l -p 81 -e echo in the pod; done' >&2 || exit
         eventually \"$M run --rm --pod pod busybox nc 127.0.0.1 81 < /dev/null\" 0.2; $M run --rm --pod pod busybox hostname; $M exec a hostname; $M pod rm -f -t 0 pod >&2",
    )
    .code(0)
    .out("in the pod\npod\npod\n");
}

/// It is a pod no longer.
fn joined_in_vain(lab: &mut Lab) {
    lab.must(
        "one that others may join",
        "docker run -d --name first --annotation dev.msb.pod=true $D busybox sleep 1000 >&2",
    );
    lab.step(
        "the machine ends with its first container, and all in it",
        "docker run -d --name second --network container:first $D busybox sleep 1000 >&2; docker kill first; docker wait second; docker rm -f first second >&2; eventually '[ -z \"$(ls /run/docker/runtime-runc/moby)\" ]' 0.2; ls /run/docker/runtime-runc/moby",
    )
    .out("first\n137\n");
}
