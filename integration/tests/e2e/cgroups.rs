//! The container's cgroup on the host: where it is, what it is held to, and that systemd knows of it.

use integration::check::{Lab, Runtime};

crate::conformance!(both: [scope, directory], ours: []);

/// `at FILE…` prints what the files of the container's cgroup say; `unit` is its name with systemd.
const AT: &str = r#"
    unit() { echo docker-$(docker inspect -f '{{.Id}}' box1).scope; }
    at() { ( cd /sys/fs/cgroup$(cut -d: -f3 /proc/$(docker inspect -f '{{.State.Pid}}' box1)/cgroup) && tail -n +1 -- "$@" | grep . ); }"#;

const FLAGS: &str = "--cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 --cpuset-mems 0 -m 64m --memory-reservation 32m --blkio-weight 300";

const FILES: &str = "cpu.max cpu.weight cpuset.cpus cpuset.mems memory.low";

const VALUES: &str = "==> cpu.max <==\n50000 100000\n==> cpu.weight <==\n20\n==> cpuset.cpus <==\n0\n\
    ==> cpuset.mems <==\n0\n==> memory.low <==\n33554432\n";

/// With Docker as it is installed: version 2, and systemd in charge.
fn scope(lab: &mut Lab) {
    lab.define(AT);
    lab.define(crate::direct::BUNDLE);
    let before = lab.snapshot();
    lab.must(
        "a container with limits",
        &format!("docker run -d --name box1 $N $D {FLAGS} busybox sleep 1000 >&2"),
    );
    lab.step("what the scope is held to", &format!("at {FILES}")).code(0).out(VALUES);
    lab.step("systemd knows it", "systemctl show -P ActiveState -P Slice $(unit)")
        .code(0)
        .out("system.slice\nactive\n");
    let limit: u64 = lab.read("the limit of memory", "at memory.max").parse().unwrap_or(0);
    let machine =
        if lab.runtime() == Runtime::Msb { (128 << 20)..(200 << 20) } else { (64 << 20)..(64 << 20) + 1 };
    lab.step("it is the container's and its machine's", &format!("echo {limit}"))
        .out_is(&format!("{machine:?}"), |_| machine.contains(&limit));
    lab.step("when systemd looks again", &format!("systemctl daemon-reload; at {FILES}; at memory.max"))
        .code(0)
        .out(&format!("{VALUES}{limit}\n"));
    lab.step(
        "an exec is in it as well",
        "docker exec -d box1 sleep 500; eventually '[ $(at cgroup.procs | wc -l) -ge 2 ]'",
    )
    .code(0);
    lab.must(
        "killed from outside and started again",
        "kill -9 $(docker inspect -f '{{.State.Pid}}' box1); docker wait box1 >&2; docker start box1 >&2",
    );
    lab.step("it is held to the same", &format!("at {FILES}")).code(0).out(VALUES);
    lab.must("removed", "docker rm -f box1 >&2");
    // It hears from the kernel that nobody is in it any more.
    lab.wait(
        "systemd has forgotten it",
        "[ -z \"$(systemctl list-units --all --no-legend 'docker-*.scope')\" ]",
    );
    lab.nothing_left("after a container with limits", &before);
}

/// Without systemd: a directory, made with its parents.
fn directory(lab: &mut Lab) {
    lab.define(crate::direct::BUNDLE);
    lab.must(
        "a bundle with limits of every kind",
        r#"bundle c sleep 1000
           jq --argjson major $(stat -c %Hr /dev/vda) '.linux.cgroupsPath = "/e2e/a/c" | .linux.resources = {
                 blockIO: {throttleReadBpsDevice: [{major: $major, minor: 0, rate: 1048576}],
                    throttleWriteIOPSDevice: [{major: $major, minor: 0, rate: 100}]},
                 cpu: {shares: 1024, quota: 25000, period: 50000, cpus: "0"},
                 unified: {"cpu.weight.nice": "0", "memory.high": "100000000"} }' /root/c/config.json > /root/new
           mv /root/new /root/c/config.json; mkdir /sys/fs/cgroup/e2e"#,
    );
    lab.must(
        "it runs",
        "$R run --detach --bundle /root/c --pid-file /root/c/pid c < /dev/null > /dev/null 2>&1",
    );
    lab.step(
        "what it is held to",
        "cd /sys/fs/cgroup/e2e/a/c; cat cpu.max cpu.weight cpuset.cpus; cut -d' ' -f 2- io.max",
    )
    .code(0)
    .out("25000 50000\n100\n0\nrbps=1048576 wbps=max riops=max wiops=100\n");
    // With msb the process that callers know has a child, which is the machine.
    lab.step(
        "with all its processes",
        r"cd /sys/fs/cgroup/e2e/a/c; first=$(cat /root/c/pid); children=$(cat /proc/$first/task/*/children)
          for pid in $first $children; do grep -x $pid cgroup.procs > /dev/null && echo within; done | sort -u
          [ $(set -- $children; echo $#) = $(grep -vcx $first cgroup.procs) ] && echo and no other",
    )
    .code(0)
    .out("within\nand no other\n");
    lab.must("removed", "$R delete --force c");
    lab.step("nothing is left of it", "find /sys/fs/cgroup/e2e -name c").code(0).out("");
    lab.must("a limit that this kernel does not have", r#"jq '.linux.resources = {unified: {"cpu.nonsense": "1"}}' /root/c/config.json > /root/new; mv /root/new /root/c/config.json"#);
    lab.step("is told by its name", "$R run --bundle /root/c c < /dev/null")
        .code(1)
        .out("")
        .err_has("cpu.nonsense");
    lab.step("and nothing is left", "$R list -q; find /sys/fs/cgroup/e2e -name c").code(0).out("");
}
