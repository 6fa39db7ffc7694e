//! What shares something with the host or another container: done as far as a machine of its own can, else refused in
//! words that tell why.

use integration::check::Lab;

/// Words by which Docker takes an error for one of the container's command.
const DOCKERS_WORDS: [&str; 4] =
    ["executable file not found", "no such file", "permission denied", "is a directory"];

crate::conformance!(both: [], ours: [shared, privileged]);

fn shared(lab: &mut Lab) {
    let before = lab.snapshot();
    lab.must("another container", "docker run -d --name box1 --ipc shareable $N $D busybox sleep 1000 >&2");
    lab.step("the host's processes are never seen: these are the machine's", 
        "docker run --rm --pid=host $N $D busybox sh -c 'ps | grep -c [d]ockerd; cat /proc/2/comm; [ $$ = 1 ] || echo not the first'")
        .code(0)
        .out("0\nkthreadd\nnot the first\n");
    lab.step("ended with all that it started",
        "docker run -d --name box2 --pid=host $N $D busybox sh -c 'sleep 1000 & sleep 1000' >&2; docker rm -f box2")
        .code(0)
        .out("box2\n");
    lab.step(
        "memory to share is the machine's",
        "docker run --rm --ipc=host $N $D busybox sh -c 'echo x > /dev/shm/x && cat /dev/shm/x' && [ ! -e /dev/shm/x ]",
    )
    .code(0)
    .out("x\n");
    lab.step("the host's name", "docker run --rm --uts=host $N $D busybox hostname; hostname")
        .code(0)
        .out_is("twice the same", |out| {
            let mut lines = out.lines();
            lines.next() == lines.next() && out.lines().count() == 2
        });
    lab.step("the machine's cgroups", "docker run --rm --cgroupns=host $N $D busybox cat /proc/self/cgroup")
        .code(0)
        .out_has("0::/");
    lab.step("users without a mapping", "docker run --rm --userns=host $N $D busybox id -u")
        .code(0)
        .out("0\n");
    for (flag, hint) in [
        ("--pid=container:box1", "pid namespace of another container can't be joined"),
        ("--ipc=container:box1", "ipc namespace of another container can't be joined"),
    ] {
        lab.step(flag, &format!("docker run --rm {flag} $N $D busybox true"))
            .code(125)
            .out("")
            .err_has(hint)
            .err_is("none of the words that mean the container's command", |err| {
                DOCKERS_WORDS.iter().all(|words| !err.contains(words))
            });
    }
    lab.must("removed", "docker rm -f box1 >&2");
    lab.nothing_left("after all", &before);
}

fn privileged(lab: &mut Lab) {
    let before = lab.snapshot();
    lab.step(
        "all rights, and the machine's devices",
        "docker run --rm --privileged $N $D busybox sh -c '
            grep CapEff /proc/self/status | cut -f2; [ -c /dev/kmsg ] && echo kmsg; [ -c /dev/loop-control ] || echo no loop
            mkdir /m; mount -t tmpfs none /m && echo mounted; echo 1 > /proc/sys/vm/drop_caches && echo written
            mkdir /sys/fs/cgroup/x && echo group; sed s/^/disk/ /sys/block/vd*/size; ls /dev/sd? 2> /dev/null; exit 0'
            sed s/^/host/ /sys/block/vda/size",
    )
    .code(0)
    .out_is("all capabilities of this kernel", |out| {
        out.lines().next().and_then(|line| u64::from_str_radix(line, 16).ok()).is_some_and(|caps| caps.count_ones() > 38)
    })
    .out_is("all of its devices work", |out| {
        let lines: Vec<&str> = out.lines().skip(1).take_while(|line| !line.starts_with("disk")).collect();
        lines == ["kmsg", "mounted", "written", "group"]
    })
    .out_is("disks of its own, of which none is the host's", |out| {
        let sizes = |mark| out.lines().filter_map(|line| line.strip_prefix(mark)).collect::<Vec<_>>();
        let (disks, host) = (sizes("disk"), sizes("host"));
        disks.len() >= 2 && host.len() == 1 && !disks.contains(&host[0]) && !out.contains("/dev/sd")
    });
    lab.step("an exec with all rights", "docker run -d --name box1 $N $D busybox sleep 1000 >&2; docker exec --privileged box1 mount -t tmpfs none /tmp; docker rm -f box1")
        .code(0)
        .out("box1\n");
    lab.step(
        "a device that the machine has as well",
        "docker run --rm --device /dev/fuse --device /dev/null:/dev/nothing $N $D busybox sh -c 'echo x > /dev/nothing; ls /dev/fuse'",
    )
    .code(0)
    .out("/dev/fuse\n");
    lab.nothing_left("after all", &before);
}
