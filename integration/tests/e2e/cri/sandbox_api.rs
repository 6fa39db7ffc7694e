//! Pods by containerd's sandbox API, as the handler asks for it.

use integration::check::Lab;

/// No image but the containers'; the handler with the mode, and a containerd (1.7) that knows of it.
pub fn node(lab: &mut Lab) {
    lab.must("an image", "ctr -n k8s.io image import /opt/busybox/image.tar >&2");
    super::handler(lab);
    lab.must(
        "pods by the sandbox API, as it is documented",
        r#"sed -i '/runtime_type = "io.containerd.msb.v2"/a sandbox_mode = "shim"' /etc/containerd/config.toml
        mkdir -p /etc/systemd/system/containerd.service.d
        printf '[Service]\nEnvironment=ENABLE_CRI_SANDBOXES=1\n' > /etc/systemd/system/containerd.service.d/sandboxes.conf
        systemctl daemon-reload; systemctl restart containerd"#,
    );
}

/// What containerd 1.7 makes for a container's mounts where it has no files of the pod, and leaves there.
pub fn forget_its_directories(lab: &mut Lab) {
    lab.must(
        "empty directories of containerd's",
        "find /run/containerd/io.containerd.grpc.v1.cri/sandboxes -mindepth 1 -depth -exec rmdir {} +",
    );
}

/// What is the sandbox's own.
pub fn of_a_sandbox(lab: &mut Lab) {
    lab.define("sandbox() { ctr -n k8s.io task ls | awk -v i=$(jq -r .pod_sandbox_id /root/ids/$1) '$1 == i { print $3 }'; }");
    lab.must(
        "a pod that says what it is to have",
        r#"pod own '.dns_config = {servers: ["10.9.8.7"], searches: ["a.example", "b.example"], options: ["ndots:3"]} | .annotations = {"dev.msb.vcpus": "2"}
            | .linux.sysctls = {"net.core.somaxconn": "77"} | .linux.resources = {memory_limit_in_bytes: 100000000}'
        con own c '. + {command: ["sleep", "7777"]}'"#,
    );
    lab.step(
        "it has them, and a containerd without an image or a container for it",
        "sh_in own.c 'cat /etc/resolv.conf /etc/hostname /proc/sys/net/core/somaxconn; nproc; id > /dev/shm/x && df /dev/shm | tail -n1 | tr -s \" \" | cut -d\" \" -f2'
         ctr -n k8s.io image ls -q | grep -v ^sha256; ctr -n k8s.io container ls -q | wc -l; sandbox own",
    )
    .out("search a.example b.example\nnameserver 10.9.8.7\noptions ndots:3\nown\n77\n2\n65536\ndocker.io/library/busybox:latest\n1\nRUNNING\n");
    lab.step(
        "a machine for the limits of all its containers",
        "sh_in own.c 'free -m' | awk '$1 == \"Mem:\" { print ($2 > 90 && $2 < 400) }'",
    )
    .out("1\n");
    lab.step(
        "what the host has no namespace for is refused, and nothing stays",
        "pod host '.linux.security_context.namespace_options.network = \"NODE\"'; host-cri ListPodSandbox | jq '.items | length'; ls /run/containerd/io.containerd.runtime.v2.task/k8s.io | wc -l",
    )
    .out("1\n2\n")
    .err_has("network");
    lab.must("gone", "gone own; rmdir /sys/fs/cgroup/kubepods/host");
}

/// What is left when something of a pod is killed, or containerd.
pub fn faults(lab: &mut Lab) {
    lab.define(
        r#"
        two() { pod $1 "$2" && for c in a b; do con $1 $c '. + {command: ["sh", "-c", "echo began; sleep 7777"]}' || return; done; }
        pid() { ctr -n k8s.io task ls | awk -v i=$(jq -r '.container_id // .pod_sandbox_id' /root/ids/$1) '$1 == i { print $2 }'; }
        all() { for c in a b; do state $1.$c; done | cut -d' ' -f1,2; ask PodSandboxStatus $1 | jq -r .status.state; }
        over() { eventually "! all $1 | grep -q 'RUNNING\|_READY'" 0.2; all $1; }"#,
    );
    lab.must("a pod of two", "two lost");
    lab.step("what the pod is, is killed", "kill -KILL $(pid lost); over lost")
        .out("CONTAINER_EXITED 137\nCONTAINER_EXITED 137\nSANDBOX_NOTREADY\n");
    lab.must("it is removed, and made anew", "gone lost; two lost '.metadata.attempt = 1'");
    lab.step(
        "the pod's shim is killed: all has ended, and no machine stays",
        r#"pkill -KILL -f "^[^ ]*containerd-shim-.* -id $(jq -r .pod_sandbox_id /root/ids/lost)"
        over lost; eventually '[ -z "$(ls /run/containerd/msb/k8s.io)" ] && ! pgrep -f "^sleep 7777|^msb-runtime" > /dev/null' 0.3; pgrep -fc '^sleep 7777|^msb-runtime'; ls /run/containerd/msb/k8s.io"#,
    )
    .out("CONTAINER_EXITED 255\nCONTAINER_EXITED 255\nSANDBOX_NOTREADY\n0\n");
    lab.step("it is removed, and made anew", "gone lost; two lost '.metadata.attempt = 2'; all lost")
        .out("CONTAINER_RUNNING 0\nCONTAINER_RUNNING 0\nSANDBOX_READY\n");
    lab.step(
        "containerd is killed: the next one has all of it",
        "kill -KILL $(pidof containerd); eventually 'systemctl is-active -q containerd || systemctl start containerd' 0.5; eventually 'host-cri ListContainers' 0.5 > /dev/null 2>&1
         all lost; sh_in lost.b 'echo in'; con lost c '. + {command: [\"sh\", \"-c\", \"cat /etc/hostname; exit 3\"]}'; eventually 'state lost.c | grep EXITED' 0.2; cut -d' ' -f2- /root/logs/lost/c.log",
    )
    .out("CONTAINER_RUNNING 0\nCONTAINER_RUNNING 0\nSANDBOX_READY\nin\nCONTAINER_EXITED 3 Error\nstdout F lost\n");
    lab.step("stopped and removed", "gone lost; host-cri ListPodSandbox; host-cri ListContainers; eventually '! pgrep -f ^msb-runtime > /dev/null' 0.3; pgrep -fc '^msb-runtime'; ls /run/containerd/msb/k8s.io")
        .out("{\"items\": []}\n{\"containers\": []}\n0\n");
}
