//! The wall is real: another kernel, disks of its own, a process on the host that stands for it, and one between walls that
//! runs it.

use std::time::Duration;

use integration::check::Lab;
use integration::dev::Project;
use integration::host::command::HostCommand;

crate::conformance!(both: [], ours: [another_machine, between_walls, hostile_from_its_first_instruction]);

fn another_machine(lab: &mut Lab) {
    let before = lab.snapshot();
    let host = lab.read("the host's kernel", "uname -r");
    lab.step("the container's kernel is another", "docker run --rm $N $D busybox uname -r")
        .code(0)
        .out_is("another kernel than the host's", |out| out.trim() != host && !out.trim().is_empty());
    lab.step(
        "its root is an overlay on three disks of a machine: the container's own layer, the image, what is written",
        "docker run --rm $N $D busybox sh -c '
            grep -q \"^overlay / overlay .*lowerdir=/run/layer0\" /proc/mounts && echo overlay
            ls /sys/block | grep ^vd; cat /sys/block/vda/ro /sys/block/vdb/ro /sys/block/vdc/ro'",
    )
    .code(0)
    .out("overlay\nvda\nvdb\nvdc\n1\n1\n0\n")
    .err("");

    lab.must("a container", "docker run -d --name box1 $N $D busybox sleep 54321 >&2");
    lab.step("the host sees none of its processes", "ps -e -o args= | grep '[s]leep 54321'").code(1).out("");
    let pid = lab.read("the machine's process", "docker inspect -f '{{.State.Pid}}' box1");
    lab.step("it is ours", &format!("basename $(readlink /proc/{pid}/exe)")).code(0).out("msb-runtime\n");
    let id = lab.read("its id", "docker inspect -f '{{.Id}}' box1");
    lab.step("it is in the container's cgroup", &format!("cat /proc/{pid}/cgroup"))
        .code(0)
        .out(&format!("0::/system.slice/docker-{id}.scope\n"));
    lab.step(
        "its death is the container's",
        &format!("docker wait box1 > /root/waited & sleep 1; kill -9 {pid}; wait $!; cat /root/waited"),
    )
    .code(0)
    .out("137\n");
    lab.step("Docker knows", "docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' box1")
        .code(0)
        .out("exited 137\n");
    lab.step("nothing more runs in it", "docker exec box1 true").code(1).err_has("is not running");
    lab.step("it can be started again", "docker start box1").code(0).out("box1\n").err("");
    lab.step("and removed", "docker rm -f box1").code(0).out("box1\n").err("");
    lab.nothing_left("after a machine was killed", &before);
}

/// What the kernel says of the process that runs the guest, and what becomes of the container when it ends.
fn between_walls(lab: &mut Lab) {
    lab.define(
        r#"vmm() { pgrep -x msb-vmm -P $(docker inspect -f '{{.State.Pid}}' $1); }
# Who waits for the one that serves the container's volumes, and that one.
servers() { waits=$(pgrep -x virtiofsd -P $(docker inspect -f '{{.State.Pid}}' $1)); echo $waits $(pgrep -P $waits); }
passed_on() { for fd in /proc/$1/fd/*; do readlink $fd; done | grep -e ^socket: -e ^pipe: | sort -u; }
in_force() {
    for task in /proc/$1/task/*; do
        # PF_USER_WORKER: a worker of the kernel's (KVM, vhost, io_uring), which never runs a program.
        flags=$(sed 's/.*) //' $task/stat | cut -d' ' -f7); [ $((flags & 0x4000)) = 0 ] || continue
        awk '/^(Cap...|NoNewPrivs|Seccomp):/ { printf "%s%s ", $1, $2 }
             /^Uid:/ { printf "%s ", ($2 >= 1879048192 && $2 == $3 && $3 == $4 && $4 == $5) ? "nobody" : $0 }' $task/status; echo
    done | sort -u
}"#,
    );
    let before = lab.snapshot();
    lab.must(
        "two containers, one with a volume and a network",
        "mkdir /root/v; docker run -d --name box1 $N $D busybox sleep 600 >&2
         docker run -d --name box2 -v /root/v:/v $D busybox sleep 600 >&2",
    );
    lab.step("each thread of both is a nobody under a filter", "in_force $(vmm box1); in_force $(vmm box2)")
        .code(0)
        .out(&"nobody CapInh:0000000000000000 CapPrm:0000000000000000 CapEff:0000000000000000 CapBnd:0000000000000000 \
               CapAmb:0000000000000000 NoNewPrivs:1 Seccomp:2 \n".repeat(2));
    lab.step(
        "two nobodies are not the same",
        "for box in box1 box2; do awk '/^Uid:/ { print $2 }' /proc/$(vmm $box)/status; done | sort -u | wc -l",
    )
    .code(0)
    .out("2\n");
    lab.step(
        "they see one mount, in which there is nothing, and no process but themselves",
        "for box in box1 box2; do v=$(vmm $box); wc -l </proc/$v/mountinfo; ls -A /proc/$v/root | wc -l
             awk '/^NSpid:/ { print $NF }' /proc/$v/status; done",
    )
    .code(0)
    .out("1\n0\n1\n1\n0\n1\n");
    lab.step(
        "what they have open is what a machine needs",
        r"for box in box1 box2; do for fd in /proc/$(vmm $box)/fd/*; do readlink $fd; done; done |
             sed -e 's,^/.*/\(scratch.ext4\)$,\1,' -e 's,^/.*(deleted)$,memory,' \
                 -e 's,^/var/lib/msb-runtime/.*\(/top\|[.]composed\)$,composition,' -e 's/^\(anon_inode\|pipe\|socket\):.*/\1/' \
                 -e 's,^/var/lib/docker/overlay2/[0-9a-f]*/diff/[^ ]*$,file of a layer,' | sort -u",
    )
    .code(0)
    .out("/dev/net/tun\n/dev/null\n/dev/vhost-net\nanon_inode\ncomposition\nfile of a layer\nmemory\npipe\nscratch.ext4\nsocket\n");
    lab.step(
        "no directory, and of the layers and disks nothing to write to but what is the container's",
        "for box in box1 box2; do v=$(vmm $box); for fd in /proc/$v/fd/*; do
             test -d $fd && echo directory; n=${fd##*/}
             case $(readlink $fd) in *overlay2*|*.composed|*/top) grep -q '^flags:.*0$' /proc/$v/fdinfo/$n || echo written;; esac
         done; done; echo looked",
    )
    .code(0)
    .out("looked\n");
    lab.step("none of their sockets listens", "ss -xlp | grep -c msb-vmm; ss -tulp | grep -c msb-vmm")
        .code(1)
        .out("0\n0\n");
    lab.step(
        "they do what they are for",
        "docker exec box2 sh -c 'echo written >/v/file; sync'; cat /root/v/file",
    )
    .code(0)
    .out("written\n");
    lab.step(
        "who serves the volume is bounded but for the length of files, can get no new right, and had one pipe to begin with",
        r#"passed_on $(docker inspect -f '{{.State.Pid}}' box2) >/root/above
           for pid in $(servers box2); do
               awk '/^Max (file size|core file size|open files)/ { print $(NF-2), $(NF-1) }' /proc/$pid/limits
               awk '/^NoNewPrivs:/ { print $2 }' /proc/$pid/status
               passed_on $pid | comm -12 - /root/above | sed 's/:.*//'
           done; rm /root/above"#,
    )
    .code(0)
    .out(&"unlimited unlimited\n0 0\n1000000 1000000\n1\npipe\n".repeat(2))
    .err("");
    lab.step(
        "a file that gets too long for it is an error, and not its end",
        r#"for pid in $(servers box2); do prlimit --fsize=4096 --pid $pid; done
           docker exec box2 sh -c 'dd if=/dev/zero of=/v/long bs=4096 count=2 2>&1 | grep -o "File too large"; cat /v/file'
           stat -c %s /root/v/long"#,
    )
    .code(0)
    .out("File too large\nwritten\n4096\n")
    .err("");
    lab.step(
        "when one is killed its container is as if it had been",
        "docker wait box1 >/root/waited & kill -9 $(vmm box1); wait $!; cat /root/waited",
    )
    .code(0)
    .out("137\n");
    lab.step("it can be started again", "docker start box1").code(0).out("box1\n").err("");
    lab.step(
        "it ends with the process that stands for its container",
        "v=$(vmm box1); kill -9 $(docker inspect -f '{{.State.Pid}}' box1); eventually \"! [ -e /proc/$v ]\" && echo gone",
    )
    .code(0)
    .out("gone\n");
    lab.step(
        "so do those who serve its volumes",
        r#"set -- $(servers box2); kill -9 $(docker inspect -f '{{.State.Pid}}' box2)
           eventually "! [ -e /proc/$1 ] && ! [ -e /proc/$2 ]" && echo $# gone"#,
    )
    .code(0)
    .out("2 gone\n");
    lab.must("nothing stays", "docker rm -f box1 box2 >&2; rm -r /root/v");
    lab.nothing_left("after machines between walls", &before);

    lab.step("doctor tries it", "$R doctor | grep '^[^ ]* *walls'").code(0).out_is(
        "what is in force",
        |out| {
            [
                "without a capability",
                "empty root",
                "mnt, pid, ipc, uts",
                "8192 descriptors",
                "3 kinds of threads",
            ]
            .iter()
            .all(|part| out.contains(part))
        },
    );
    lab.step("and what of a disk's work goes to the kernel", "$R doctor | grep io_uring")
        .code(0)
        .out_has("ok    io_uring: io_uring, held to reading");
    lab.must("settings without walls", "printf '[machine]\\nconfinement = \"off\"\\n' >/root/off.toml");
    lab.step("doctor warns of settings that relax it", "MSB_CONFIG=/root/off.toml $R doctor")
        .code(1)
        .out_has("is root here");
    lab.must("the same for all", "mkdir -p /etc/msb; cp -a /opt/busybox/rootfs /root/tree");
    for (word, told) in [("logged", "any system call"), ("off", "the VMM is root")] {
        lab.step(
            "each container's caller is warned, by msb-runtime in --log and by the shim in containerd's",
            &format!(
                r#"printf '[machine]\nconfinement = "{word}"\n' > /etc/msb/config.toml
                id=$(docker run -d $N $D busybox sleep 1000); grep -c '{told}' /run/containerd/io.containerd.runtime.v2.task/moby/$id/log.json; docker rm -f $id > /dev/null
                ctr run --rm --runtime io.containerd.msb.v2 --env PATH=/bin --rootfs /root/tree relaxed echo ran
                eventually 'journalctl -u containerd --no-pager | grep -q "{told}"' 0.2 && echo told"#
            ),
        )
        .out("1\nran\ntold\n");
    }
    lab.must("they are as before", "rm -r /etc/msb /root/tree");
}

/// A guest whose kernel is the attacker's from its first instruction: what it does is in `integration/guests/hostile`. Behind
/// walls and filters with the real virtiofsd; and, since a network is plugged in only when an agent has answered, once more
/// in a machine alone, with the real vhost-net and without.
fn hostile_from_its_first_instruction(lab: &mut Lab) {
    let project = Project::here();
    for (target, program) in
        [("/root/guest-hostile", project.guest_hostile()), ("/root/machine", project.machine_program())]
    {
        let program = program.expect("the test's own program can be built");
        lab.write(target, std::fs::read(program).expect("it was built just now"));
    }
    let before = lab.snapshot();
    lab.must(
        "a neighbour of the same image, with a volume of its own",
        "mkdir /root/mine /root/theirs; echo mine >/root/mine/file; chmod 755 /root/machine
         docker run -d --name neighbour -v /root/mine:/v $D busybox sleep 600 >&2; dmesg -C",
    );
    lab.must(
        "each machine that starts from now on has that kernel",
        "mv /usr/lib/msb/vmlinux /usr/lib/msb/vmlinux.ours; cp /root/guest-hostile /usr/lib/msb/vmlinux",
    );
    lab.step_with(
        "it drives every device and ends, and no container ever ran in it",
        "docker run --name hostile -v /root/theirs:/v $D busybox true 2>&1 >/root/out | tee /root/told | tail -n 1 >&2
         cat /root/out; docker inspect -f '{{.State.Status}}' hostile",
        long,
    )
    .out("created\n")
    .err_has("guest-hostile: done");
    // A volume's daemon ends with the first queue that is none, and is not started again.
    lab.step(
        "disks, entropy, sockets and balloon still do what they are for, or can be reset",
        &devices("/root/told"),
    )
    .code(0)
    .out("19 Reset\n2 Right\n26\n4 Right\n5 Reset\n");
    for vhost in ["--vhost", ""] {
        let alone = format!(
            "/root/machine --kernel /root/guest-hostile --initramfs /usr/lib/msb/initramfs --network {vhost} >/root/told; {}",
            devices("/root/told")
        );
        lab.step_with("so does a network", &alone, long).code(0).out("1 Reset\n19 Reset\n4 Right\n5 Reset\n");
    }
    lab.step(
        "no process was killed for it, neither by a filter nor by the kernel",
        "dmesg | grep -iE 'segfault|general protection|sig=|oom|BUG|WARNING'",
    )
    .code(1)
    .out("");
    lab.must("the kernel of ours is back", "mv /usr/lib/msb/vmlinux.ours /usr/lib/msb/vmlinux");
    lab.step("the neighbour has noticed nothing", "docker exec neighbour sh -c 'ls /v; cat /v/file'")
        .code(0)
        .out("file\nmine\n");
    lab.step("the image is as it was", "docker run --rm $N $D busybox sha256sum /bin/busybox; docker run --rm $N --runtime=runc busybox sha256sum /bin/busybox")
        .code(0)
        .out_is("the same twice", |out| {
            let mut lines = out.lines();
            let first = lines.next();
            first.is_some_and(|line| line.ends_with("/bin/busybox")) && first == lines.next()
        });
    lab.must(
        "all are removed",
        "docker rm -f hostile neighbour >&2; rm -r /root/mine /root/theirs /root/told /root/out",
    );
    lab.nothing_left("after a hostile kernel", &before);
}

/// Of a step in which a guest tries all that there is.
fn long(command: HostCommand<'_>) -> HostCommand<'_> {
    command.timeout(Duration::from_secs(300))
}

/// Kind and outcome of each device that the hostile kernel tells of, each once.
fn devices(told: &str) -> String {
    format!(
        r"grep -q 'guest-hostile: done' {told} && sed -nE '/^device 26: 40 rounds/s/.*/26/p; s/^device ([0-9]+): 40 rounds, .* chains used, (\w+)$/\1 \2/p' {told} | LC_ALL=C sort -u"
    )
}
