//! Pods, as a kubelet makes them by containerd's interface for Kubernetes: with runc's handler and with ours.

mod containers;
mod faults;
mod pods;
mod sandbox_api;

use integration::check::{Lab, Runtime};

crate::conformance!(both: [walk], ours: [walk_by_sandbox_api]);

/// What users run on their nodes, and what it appends to containerd's configuration.
const INSTALLER: &str = include_str!("../../../../shim/kubernetes/install.sh");
const HANDLER: &str = include_str!("../../../../shim/kubernetes/containerd-1.toml");

/// `pod NAME [JQ]` runs one, `con POD NAME JQ` a container in it, each with a configuration that JQ changes; `ask CALL WHO
/// [JQ]` makes a call whose request begins with the id of `POD` or `POD.NAME`; `sh_in WHO SCRIPT [SECONDS]` is ExecSync.
const KUBELET: &str = r#"
    pod() {
        mkdir -p /root/ids /root/logs/$1 /sys/fs/cgroup/kubepods/$1
        jq -nc --arg n $1 '{metadata: {name: $n, uid: $n, namespace: "test"}, hostname: $n, log_directory: "/root/logs/\($n)",
            linux: {cgroup_parent: "/kubepods/\($n)", security_context: {namespace_options: {pid: "CONTAINER"}}}} | '"${2:-.}" > /root/ids/$1.config
        host-cri RunPodSandbox "$(jq -c --arg h $H '{config: ., runtime_handler: $h}' /root/ids/$1.config)" > /root/ids/$1
    }
    con() {
        made=$(jq -nc --slurpfile p /root/ids/$1 --slurpfile s /root/ids/$1.config --arg n $2 '{pod_sandbox_id: $p[0].pod_sandbox_id,
            sandbox_config: $s[0], config: ({metadata: {name: $n}, image: {image: "docker.io/library/busybox:latest"}, log_path: "\($n).log",
            linux: {security_context: {namespace_options: {pid: "CONTAINER"}}}} | '"$3"')}')
        host-cri CreateContainer "$made" > /root/ids/$1.$2 && ask StartContainer $1.$2 > /dev/null
    }
    ask() { host-cri $1 "$(jq -c "${3:-.}" /root/ids/$2)"; }
    sh_in() { host-cri sh /root/ids/$1 ${3:-0} "$2"; }
    state() { ask ContainerStatus $1 | jq -r '.status | "\(.state) \(.exit_code) \(.reason)"'; }
    # A container that ends by itself at this moment fails the first of these with containerd 1.7; a kubelet asks again.
    stop() { ask StopPodSandbox $1 2> /dev/null || { sleep 1; ask StopPodSandbox $1; }; }
    gone() { stop $1 && ask RemovePodSandbox $1 && rmdir /sys/fs/cgroup/kubepods/$1; } > /dev/null
"#;

/// The same of pods that containerd makes by its sandbox API: no image for a container that only waits.
fn walk_by_sandbox_api(lab: &mut Lab) {
    kubelet(lab, "msb");
    network(lab);
    sandbox_api::node(lab);
    ready(lab);
    lab.must("the first pod", "pod first && con first c '. + {command: [\"true\"]}' && gone first");
    let before = lab.snapshot();
    sandbox_api::of_a_sandbox(lab);
    containers::of_a_pod(lab);
    sandbox_api::forget_its_directories(lab);
    lab.nothing_left("after the walk", &before);
    pods::of_kubernetes(lab);
    sandbox_api::forget_its_directories(lab);
    lab.nothing_left("after pods of each kind", &before);
    sandbox_api::faults(lab);
}

fn kubelet(lab: &mut Lab, handler: &str) {
    lab.bring("host-cri");
    lab.define(&format!("H={handler}"));
    lab.define(KUBELET);
}

fn walk(lab: &mut Lab) {
    let handler = match lab.runtime() {
        Runtime::Runc => "runc",
        Runtime::Msb => "msb",
    };
    kubelet(lab, handler);
    network(lab);
    node(lab);
    ready(lab);
    lab.must("the first pod", "pod first && con first c '. + {command: [\"true\"]}' && gone first");
    let before = lab.snapshot();
    containers::of_a_pod(lab);
    lab.nothing_left("after the walk", &before);
    pods::of_kubernetes(lab);
    lab.nothing_left("after pods of each kind", &before);
    faults::of_a_pod(lab);
    // runc's shim that is killed leaves its socket and the file of an exec.
    if lab.runtime() == Runtime::Msb {
        lab.nothing_left("after pods of which something was killed", &before);
    }
    faults::of_the_node(lab);
}

/// Of pods.
fn network(lab: &mut Lab) {
    lab.must(
        "a network",
        r#"mkdir -p /etc/cni/net.d; cat > /etc/cni/net.d/10-pods.conflist <<'JSON'
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
    {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {"type": "host-local",
        "ranges": [[{"subnet": "10.77.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON"#,
    );
}

/// What a node has beside a network: images, and both handlers.
fn node(lab: &mut Lab) {
    lab.must(
        "images: one of busybox, and one that a pod's first container is of",
        r#"mkdir image; tar -C image -xf /opt/busybox/image.tar; cd image; manifest=$(cat manifest.json); name=$(containerd config dump | sed -n 's/ *sandbox_image = "\(.*\)"/\1/p')
        jq -c '.config.Cmd = ["/bin/sleep", "1000000"]' $(echo "$manifest" | jq -r '.[0].Config') > pause
        echo "$manifest" | jq -c --arg n $name '.[0].Config = "pause" | .[0].RepoTags = [$n] | del(.[0].LayerSources)' > manifest.json
        rm -r index.json oci-layout; tar -cf ../pause.tar . ; cd ..; rm -r image
        for i in /opt/busybox/image.tar pause.tar; do ctr -n k8s.io image import $i || exit 1; done >&2"#,
    );
    handler(lab);
}

fn handler(lab: &mut Lab) {
    lab.must(
        "the handler, as it is documented",
        &format!(
            "mkdir kubernetes; cat > kubernetes/install.sh <<'END'\n{INSTALLER}END\ncat > kubernetes/containerd-1.toml <<'END'\n{HANDLER}END
             sh kubernetes/install.sh && sh kubernetes/install.sh"
        ),
    );
}

fn ready(lab: &mut Lab) {
    lab.wait(
        "runtime and network are ready",
        "host-cri Status | jq -e '[.status.conditions[].status] | all' > /dev/null",
    );
}
