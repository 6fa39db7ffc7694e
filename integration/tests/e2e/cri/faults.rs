//! What is left of pods when something of one is killed, or containerd, and when the node has no processes any more.

use integration::check::{Lab, Runtime};

/// What stands for a container, for the pod, and the pod's shim.
pub fn of_a_pod(lab: &mut Lab) {
    lab.define(
        r#"
        two() { pod $1 "$2" && for c in a b; do con $1 $c '. + {command: ["sh", "-c", "echo began; sleep 7777"]}' || return; done; }
        pid() { ctr -n k8s.io task ls | awk -v i=$(jq -r '.container_id // .pod_sandbox_id' /root/ids/$1) '$1 == i { print $2 }'; }
        all() { for c in a b; do state $1.$c; done | cut -d' ' -f1,2; ask PodSandboxStatus $1 | jq -r .status.state; }
        over() { eventually "! all $1 | grep -q 'RUNNING\|_READY'" 0.2; all $1; }"#,
    );
    lab.must("a pod of two", "two lost");
    lab.step(
        "a container's process is killed: it alone has ended, and can be had anew",
        r#"kill -KILL $(pid lost.b); eventually '! state lost.b | grep -q RUNNING' 0.2; all lost
        ask RemoveContainer lost.b; con lost b '. + {metadata: {name: "b", attempt: 1}, command: ["sleep", "7777"]}'; all lost"#,
    )
    .out("CONTAINER_RUNNING 0\nCONTAINER_EXITED 137\nSANDBOX_READY\n{}\nCONTAINER_RUNNING 0\nCONTAINER_RUNNING 0\nSANDBOX_READY\n");
    lab.step(
        "the pod's shim is killed: all has ended, and so has what was asked of it",
        r#"sh_in lost.a 'sleep 7777' > /dev/null 2>&1 & pkill -KILL -f "^[^ ]*containerd-shim-.* -id $(jq -r .pod_sandbox_id /root/ids/lost)"
        over lost; wait $!; echo $(($? > 0)); eventually '! pgrep -f "^sleep 7777|^msb-runtime" > /dev/null' 0.3; pgrep -fc '^sleep 7777|^msb-runtime'; cut -d' ' -f2- /root/logs/lost/a.log"#,
    )
    .out("CONTAINER_EXITED 255\nCONTAINER_EXITED 255\nSANDBOX_NOTREADY\n1\n0\nstdout F began\n");
    lab.step(
        "it is stopped and removed, and made anew",
        "gone lost; two lost '.metadata.attempt = 1'; all lost",
    )
    .out("CONTAINER_RUNNING 0\nCONTAINER_RUNNING 0\nSANDBOX_READY\n");
    // With runc that holds its namespaces for others; with ours it is the machine.
    let others = match lab.runtime() {
        Runtime::Runc => "CONTAINER_RUNNING 0\n",
        Runtime::Msb => "CONTAINER_EXITED 137\n",
    };
    let left = format!("{others}{others}SANDBOX_NOTREADY\n");
    let script = format!(
        "kill -KILL $(pid lost); eventually '[ \"$(all lost)\" = \"{}\" ]' 0.2; all lost",
        left.trim_end()
    );
    lab.step("what the pod is, is killed", &script).out(&left);
    lab.step("it is stopped and removed", "stop lost; all lost; gone lost; host-cri ListPodSandbox; host-cri ListContainers")
        .out("{}\nCONTAINER_EXITED 137\nCONTAINER_EXITED 137\nSANDBOX_NOTREADY\n{\"items\": []}\n{\"containers\": []}\n");
}

pub fn of_the_node(lab: &mut Lab) {
    lab.must(
        "two pods",
        r#"for p in one two; do pod $p && con $p c '. + {command: ["sh", "-c", "echo began; sleep 1000; exit 3"]}' || exit 1; done"#,
    );
    lab.step(
        "containerd is killed: the next one has all of it",
        "kill -KILL $(pidof containerd); eventually 'systemctl is-active -q containerd || systemctl start containerd' 0.5; eventually 'host-cri ListContainers' 0.5 > /dev/null 2>&1
         host-cri ListPodSandbox | jq -r '.items[].state'; state one.c; sh_in two.c 'echo in'",
    )
    .out("SANDBOX_READY\nSANDBOX_READY\nCONTAINER_RUNNING 0 \nin\n");
    lab.step(
        "the log goes on",
        "sh_in one.c 'echo more > /proc/1/fd/1'; eventually 'grep more /root/logs/one/c.log' | cut -d' ' -f2-",
    )
    .out("stdout F more\n");
    lab.step(
        "one is stopped",
        "ask StopContainer one.c '. + {timeout: 0}'; state one.c; gone one && echo gone",
    )
    .out("{}\nCONTAINER_EXITED 137 Error\ngone\n");
    lab.must(
        "the node starts anew: no process is left, and nothing of /run",
        r#"systemctl stop containerd; pkill -KILL -f '^/usr/bin/containerd-shim-runc-v2|^containerd-shim-msb-v2'; pkill -KILL -f '^msb-runtime'; pkill -KILL -f '^/bin/sleep 1000000'; pkill -KILL -f 'sleep 1000$'
        eventually '! pgrep -f "^/usr/bin/containerd-shim-runc-v2|^containerd-shim-msb-v2|^msb-runtime|^/bin/sleep 1000000|sleep 1000$" > /dev/null' 0.3
        grep -o ' /run/containerd/[^ ]*' /proc/mounts | sort -r | xargs -r -n1 umount -l; rm -rf /run/containerd/*; ip -o link show type veth | grep -o 'veth[^@]*' | xargs -r -n1 ip link del
        for n in $(ls /var/run/netns); do umount -l /var/run/netns/$n; rm -f /var/run/netns/$n; done
        find /sys/fs/cgroup/kubepods -depth -mindepth 2 -type d -exec rmdir {} +
        systemctl start containerd; eventually 'host-cri Status' 0.5 > /dev/null 2>&1"#,
    );
    lab.step(
        "its pods are not ready, and have ended",
        "host-cri ListPodSandbox | jq -r '.items[].state'; state two.c | cut -d' ' -f1",
    )
    .out("SANDBOX_NOTREADY\nCONTAINER_EXITED\n");
    lab.step("and can be removed", "gone two; host-cri ListPodSandbox; host-cri ListContainers; ls /sys/fs/cgroup/kubepods | grep -v '\\.'")
        .out("{\"items\": []}\n{\"containers\": []}\n");
    lab.must(
        "another pod is made as ever",
        "pod three && con three c '. + {command: [\"true\"]}' && gone three",
    );
}
