//! What is left of pods when containerd is killed, and when the node has no processes any more.

use integration::check::Lab;

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
        sleep 1; grep -o ' /run/containerd/[^ ]*' /proc/mounts | sort -r | xargs -r -n1 umount -l; rm -rf /run/containerd/*; ip -o link show type veth | grep -o 'veth[^@]*' | xargs -r -n1 ip link del
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
