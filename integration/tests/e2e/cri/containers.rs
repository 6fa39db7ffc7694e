//! One pod of two containers: what can be asked of each, from its start to its end.

use integration::check::Lab;

pub fn of_a_pod(lab: &mut Lab) {
    made(lab);
    execs(lab);
    logs(lab);
    stats(lab);
    updates(lab);
    ends(lab);
}

/// The first serves files and the second writes them. Its lines come from whoever writes to its fifo.
fn made(lab: &mut Lab) {
    lab.must("a directory of the pod's", "mkdir -p /root/share");
    lab.must("a pod", "pod web");
    lab.step(
        "it is ready, and has an address",
        "ask PodSandboxStatus web | jq -r '.status | .state, .network.ip, .runtime_handler'",
    )
    .code(0)
    .out_is("ready, with an address of the network", |out| out.starts_with("SANDBOX_READY\n10.77.0."));
    lab.must(
        "a container that serves",
        r#"con web server '. + {command: ["httpd", "-f", "-p", "127.0.0.1:8080", "-h", "/www"],
            mounts: [{container_path: "/www", host_path: "/root/share"}]}'"#,
    );
    lab.must(
        "a container that writes",
        r#"con web writer '. + {command: ["sh", "-c", "echo out; echo err >&2; mkfifo /f; while :; do read l < /f && echo \"$l\"; done"],
            envs: [{key: "WHO", value: "writer"}], working_dir: "/tmp",
            mounts: [{container_path: "/share", host_path: "/root/share"}]}'"#,
    );
    lab.step("both run", "state web.server; state web.writer")
        .out("CONTAINER_RUNNING 0 \nCONTAINER_RUNNING 0 \n");
    lab.step(
        "over localhost, and by the directory that they share",
        "sh_in web.writer 'echo $WHO > /share/f; wget -qO- http://127.0.0.1:8080/f'",
    )
    .code(0)
    .out("writer\n");
    lab.step(
        "one host to themselves: its name, its memory to share, not its processes",
        "sh_in web.writer 'hostname; echo mine > /dev/shm/x; pwd'; sh_in web.server 'hostname; cat /dev/shm/x; ps | grep -c \"read [l]\"'",
    )
    .out("web\n/tmp\nweb\nmine\n0\n");
    lab.step(
        "a process of the host finds it",
        "ping -c 1 -W 20 $(ask PodSandboxStatus web | jq -r .status.network.ip) | grep -c ' 0% packet loss'",
    )
    .out("1\n");
}

fn execs(lab: &mut Lab) {
    lab.step("an exec's code and streams", "sh_in web.writer 'echo out; echo err >&2; exit 7'")
        .code(7)
        .out("out\n")
        .err("err\n");
    lab.step("one that takes too long", "sh_in web.writer 'sleep 100' 2").code(1).err_has("code 4");
    lab.step("what is not there", r#"ask ExecSync web.writer '. + {cmd: ["nonsense"]}'"#)
        .code(1)
        .err_has("executable file not found in $PATH");
    lab.step(
        "a stream, with input",
        r#"url=$(ask Exec web.writer '. + {cmd: ["sh", "-c", "read a; echo got $a; echo err >&2; exit 5"], stdin: true, stdout: true, stderr: true}' | jq -r .url)
        echo some | host-cri stream $url"#,
    )
    .code(5)
    .out("got some\n")
    .err("err\n");
    lab.step(
        "a megabyte each way",
        r#"url=$(ask Exec web.writer '. + {cmd: ["head", "-c", "1000000"], stdin: true, stdout: true}' | jq -r .url)
        yes | head -c 1000000 | host-cri stream $url | md5sum; yes | head -c 1000000 | md5sum"#,
    )
    .code(0)
    .out_is("the same sum twice", |out| {
        let mut lines = out.lines();
        lines.next().is_some_and(|first| Some(first) == lines.next())
    });
    lab.step(
        "a terminal, and its size",
        r#"url=$(ask Exec web.writer '. + {cmd: ["sh", "-c", "i=0; until [ \"$(stty size 2> /dev/null)\" = \"33 111\" ] || [ $i -gt 300 ]; do i=$((i+1)); sleep 0.1; done; stty size; test -t 1 && echo both; exit 6"],
            tty: true, stdin: true, stdout: true}' | jq -r .url)
        host-cri stream $url 111x33"#,
    )
    .code(6)
    .out("33 111\r\nboth\r\n");
}

fn logs(lab: &mut Lab) {
    lab.step(
        "what it wrote, in the form of such logs",
        "cut -d' ' -f2- /root/logs/web/writer.log | sort; head -n1 /root/logs/web/writer.log | grep -cE '^2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]+Z '",
    )
    .out("stderr F err\nstdout F out\n1\n");
    lab.step(
        "the log is turned over",
        "mv /root/logs/web/writer.log /root/logs/web/old; ask ReopenContainerLog web.writer; sh_in web.writer 'echo anew > /f'; eventually 'grep -q anew /root/logs/web/writer.log'; cut -d' ' -f2- /root/logs/web/writer.log",
    )
    .out("{}\nstdout F anew\n");
    lab.step(
        "attached: what comes from then on",
        r#"url=$(ask Attach web.writer '. + {stdout: true, stderr: true}' | jq -r .url)
        host-cri watch $url & w=$!; while kill -0 $w 2> /dev/null; do sh_in web.writer 'echo later > /f'; done"#,
    )
    .out("later\n");
}

/// In the terms of Kubernetes' metrics.
fn stats(lab: &mut Lab) {
    lab.define(
        r#"
        uses() { ask ContainerStats $1 | jq -r ".stats | $2"; }
        pod_uses() { ask PodSandboxStats $1 | jq -r ".stats.linux | $2"; }"#,
    );
    lab.must("one of them holds memory, and works", "sh_in web.writer 'head -c 30000000 /dev/zero > /dev/shm/held; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done'");
    let mebibytes = |out: &str| out.trim().parse::<f64>().map_or(-1.0, |bytes| bytes / f64::from(1 << 20));
    lab.step("what it holds is its own", "uses web.writer .memory.usage_bytes.value")
        .out_is("30 to 50 MB", |out| (28.0..50.0).contains(&mebibytes(out)));
    lab.step("of which it can do without some", "uses web.writer .memory.working_set_bytes.value")
        .out_is("1 to 50 MB", |out| (0.1..50.0).contains(&mebibytes(out)));
    lab.step("not the other's", "uses web.server .memory.usage_bytes.value")
        .out_is("less than 20 MB", |out| (0.0..20.0).contains(&mebibytes(out)));
    lab.step(
        "the work is its own",
        "echo $(($(uses web.writer .cpu.usage_core_nano_seconds.value) > 3 * $(uses web.server .cpu.usage_core_nano_seconds.value)))",
    )
    .out("1\n");
    lab.step(
        "the pod has at least what both have, and its network's bytes",
        r#"a=$(uses web.writer .cpu.usage_core_nano_seconds.value); b=$(pod_uses web .cpu.usage_core_nano_seconds.value); m=$(pod_uses web .memory.usage_bytes.value)
        echo $((b >= a)) $((m >= 30000000)) $(pod_uses web '.containers | length') $(($(pod_uses web .network.default_interface.rx_bytes.value) > 0))"#,
    )
    .out("1 1 2 1\n");
    lab.must("given back", "sh_in web.writer 'rm /dev/shm/held'");
}

fn updates(lab: &mut Lab) {
    lab.step(
        "other limits, while it runs",
        "ask UpdateContainerResources web.writer '. + {linux: {memory_limit_in_bytes: 67108864, cpu_quota: 20000, cpu_period: 100000, cpu_shares: 512}}'
         sh_in web.writer 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max'; ask ContainerStatus web.writer | jq -r .status.resources.linux.memory_limit_in_bytes",
    )
    .code(0)
    .out("{}\n67108864\n20000 100000\n67108864\n");
    lab.step("and not the other's", "sh_in web.server 'cat /sys/fs/cgroup/memory.max'").out("max\n");
}

fn ends(lab: &mut Lab) {
    lab.must(
        "one that ends when it is told to",
        r#"con web polite '. + {command: ["sh", "-c", "trap \"exit 9\" TERM; echo ready; while :; do sleep 0.1; done"]}'
        eventually 'grep -q ready /root/logs/web/polite.log'"#,
    );
    lab.step("it is told to", "ask StopContainer web.polite '. + {timeout: 30}'; state web.polite")
        .out("{}\nCONTAINER_EXITED 9 Error\n");
    lab.step("one that is not", "ask StopContainer web.writer '. + {timeout: 1}'; state web.writer")
        .out("{}\nCONTAINER_EXITED 137 Error\n");
    lab.step("the other one runs on", "sh_in web.server 'cat /www/f'").out("writer\n");
    lab.step(
        "one after the other is removed",
        "ask RemoveContainer web.polite; ask RemoveContainer web.writer; host-cri ListContainers | jq -r '.containers[].metadata.name'",
    )
    .out("{}\n{}\nserver\n");
    lab.must(
        "anew, in the pod that runs",
        r#"con web writer '. + {metadata: {name: "writer", attempt: 1}, command: ["sh", "-c", "cat /share/f; exit 3"],
            mounts: [{container_path: "/share", host_path: "/root/share"}]}'"#,
    );
    lab.wait("it has ended", "state web.writer | grep -q 'EXITED 3'");
    lab.step(
        "the pod is stopped, and its containers with it",
        "ask StopPodSandbox web; state web.server; ask PodSandboxStatus web | jq -r .status.state",
    )
    .out("{}\nCONTAINER_EXITED 137 Error\nSANDBOX_NOTREADY\n");
    lab.step("removed", "gone web; host-cri ListPodSandbox; host-cri ListContainers; ip link show type veth")
        .out("{\"items\": []}\n{\"containers\": []}\n");
    lab.must("its files", "rm -r /root/share");
}
