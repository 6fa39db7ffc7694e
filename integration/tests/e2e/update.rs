//! Limits that change while the container runs: by `update`, and by Docker, podman and containerd. What it uses, by
//! `events`.

use integration::check::{Lab, Runtime};

use super::direct::BUNDLE;

crate::conformance!(both: [direct, callers], ours: []);

/// `at FILE…` prints what files of the container's cgroup on the host say; `inside FILE…` the same of its own.
const AT: &str = r#"
at() { ( cd /sys/fs/cgroup$(cut -d: -f3 /proc/$(cat /root/c/pid)/cgroup) && cat "$@" ); }
inside() { $R exec c sh -c 'cd /sys/fs/cgroup; cat "$@"' x "$@"; }"#;

fn direct(lab: &mut Lab) {
    let msb = lab.runtime() == Runtime::Msb;
    lab.define(BUNDLE);
    lab.define(AT);
    lab.must("the cgroup above all of this test's", "mkdir /sys/fs/cgroup/e2e");
    let before = lab.snapshot();
    lab.must(
        "a container with limits",
        r#"bundle c sh -c 'while :; do sleep 0.1; done'
           jq '.linux.resources = {memory: {limit: 268435456}, pids: {limit: 100}, cpu: {quota: 100000, period: 100000}}' \
               /root/c/config.json > /root/new; mv /root/new /root/c/config.json
           $R run --detach --bundle /root/c --pid-file /root/c/pid c < /dev/null > /root/c/out 2>&1"#,
    );
    lab.step("flags", "$R update --memory 128m --memory-reservation 32m --cpu-quota 50000 --cpu-period 100000 --cpu-share 512 --pids-limit 50 c")
        .code(0)
        .out("")
        .err("");
    lab.step("the host holds it to them", "at cpu.max cpu.weight memory.low")
        .code(0)
        .out("50000 100000\n20\n33554432\n");
    let limit: u64 = lab.read("the host's limit of memory", "at memory.max").parse().unwrap_or(0);
    let expected = if msb { (192 << 20)..(320 << 20) } else { (128 << 20)..(128 << 20) + 1 };
    lab.step("it is the container's and its machine's", &format!("echo {limit}"))
        .out_is(&format!("{expected:?}"), |_| expected.contains(&limit));
    lab.step("so does the container see it", "inside memory.max pids.max cpu.max")
        .code(0)
        .out("134217728\n50\n50000 100000\n");
    lab.step(
        "as containerd calls it, with Docker's zeros",
        r#"echo '{"memory":{"limit":0,"reservation":0,"swap":0,"kernel":0},"cpu":{"shares":0,"quota":0,"period":0,"cpus":"","mems":""},"blockIO":{"weight":0},"pids":{"limit":60}}' |
            $R update --resources=- c; echo '{"cpu":{"quota":-1}}' > /root/file; $R update -r /root/file c; inside memory.max pids.max cpu.max"#,
    )
    .code(0)
    .out("134217728\n60\nmax 100000\n")
    .err("");
    if msb {
        lab.step("more memory than the machine has", "$R update --memory 2g c")
            .code(1)
            .out("")
            .err_has("dev.msb.memory");
        lab.step("realtime groups", "$R update --cpu-rt-period 5 c")
            .code(1)
            .out("")
            .err_has("--cpu-rt-period");
        lab.step(
            "less memory than is used, where it is to be checked",
            r#"echo '{"memory":{"limit":8192,"checkBeforeUpdate":true}}' | $R update -r - c"#,
        )
        .code(1)
        .out("")
        .err_has("8192");
    }
    lab.step("a file that is none", "echo nonsense | $R update -r - c").code(1).out("");
    lab.step("all is as it was", "inside memory.max pids.max").code(0).out("134217728\n60\n");
    lab.step(
        "also of a container that is paused",
        "$R pause c && $R update --pids-limit 70 c && $R resume c && inside pids.max",
    )
    .code(0)
    .out("70\n")
    .err("");

    let shape = r#"[.type, .id, (.data.cpu.usage.total > 0), (.data.memory.usage.limit), (.data.memory.usage.usage > 0),
        (.data.memory.raw.anon > 0), .data.pids.limit, (.data.pids.current > 0), (.data | keys | sort | join(" "))]"#;
    lab.step("what it uses, once", &format!("$R events --stats c | jq -c '{shape}'"))
        .code(0)
        .out(
            "[\"stats\",\"c\",true,134217728,true,true,70,true,\"blkio cpu cpuset hugetlb intel_rdt memory network_interfaces pids\"]\n",
        )
        .err("");
    lab.must(
        "again and again",
        "($R events --interval 200ms c > /root/events 2> /root/events.err; echo $? > /root/events.code) &",
    );
    lab.wait("it is told", "[ $(grep -c '\"stats\"' /root/events) -ge 3 ]");
    lab.step(
        "out of memory",
        "$R exec c sh -c 'x=xxxxxxxx; while :; do x=$x$x; done' > /dev/null 2>&1; echo $?",
    )
    .out("137\n");
    lab.wait("it is told too", "grep -q '\"oom\"' /root/events");
    lab.step("its shape", "grep '\"oom\"' /root/events | head -n 1 | jq -c '[.type, .id]'")
        .code(0)
        .out("[\"oom\",\"c\"]\n");
    lab.must("the end", "$R kill c KILL");
    lab.wait("no more is told", "[ -e /root/events.code ]");
    lab.step("without an error", "cat /root/events.code; $R events --stats c")
        .code(1)
        .out("0\n")
        .err_has("not running");
    lab.step("nor is what has ended changed", "$R update --pids-limit 7 c")
        .code(1)
        .out("")
        .err_has("not running");
    lab.step("delete", "$R delete c").code(0).out("").err("");
    lab.nothing_left("after all", &before);
}

fn callers(lab: &mut Lab) {
    lab.define(r#"pod() { podman --runtime "$P" "$@"; }"#);
    let before = lab.snapshot();
    lab.must(
        "a container",
        "docker run -d --name box1 $N $D -m 256m --pids-limit 100 --cpus 1 busybox sleep 1000 >&2",
    );
    lab.step(
        "Docker",
        "docker update -m 128m --memory-swap -1 --pids-limit 50 --cpus 0.5 --restart on-failure:2 box1",
    )
    .code(0)
    .out("box1\n")
    .err("");
    let seen = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max";
    lab.step("is obeyed", &format!("docker exec box1 {seen}")).code(0).out("134217728\n50\n50000 100000\n");
    lab.step("when systemd looks again", &format!("systemctl daemon-reload; docker exec box1 {seen}"))
        .code(0)
        .out("134217728\n50\n50000 100000\n");
    lab.step("Docker knows", "docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}' box1")
        .code(0)
        .out("134217728 50 on-failure\n");
    if lab.runtime() == Runtime::Msb {
        lab.step("too much", "docker update -m 4g --memory-swap -1 box1")
            .code(1)
            .out("")
            .err_has("dev.msb.memory");
    }
    lab.step("statistics", "docker stats --no-stream --format '{{.PIDs}} {{.MemUsage}}' box1")
        .code(0)
        .out_is("a process or some, and memory within the limit", |out| {
            let words: Vec<&str> = out.split_whitespace().collect();
            let mib = |word: &str| {
                let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
                let number: Option<f64> = digits.parse().ok();
                number.map(|number| if word.ends_with("KiB") { number / 1024.0 } else { number })
            };
            // The host's limit has the machine's own part on top.
            words.len() == 4
                && words[0].parse::<u32>().is_ok_and(|pids| (1..50).contains(&pids))
                && mib(words[1]).is_some_and(|used| used > 0.1)
                && mib(words[3])
                    .is_some_and(|limit| (128.0..400.0).contains(&limit) && mib(words[1]) < Some(limit))
        });
    lab.must("removed", "docker rm -f box1 >&2");
    lab.must("a container of podman's", "pod run -d --name box2 $N -m 256m busybox sleep 1000 >&2");
    lab.step("podman", "pod update --memory 128m --pids-limit 50 box2 > /dev/null; pod exec box2 cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max")
        .code(0)
        .out("134217728\n50\n");
    lab.must("removed", "pod rm -f -t 0 box2 >&2");
    lab.nothing_left("after all", &before);
}
