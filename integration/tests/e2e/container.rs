//! `mounts`, `linux` and the names of `config.json`, field by field: what a container has around it.

use integration::check::{Lab, Row, Runtime};

crate::conformance!(both: [around, limits_and_devices, whole], ours: []);

/// A row for a tmpfs at `$at` with the options in `$options`, and what `/proc/self/mounts` then says.
macro_rules! tmpfs {
    ($at:literal, $options:literal, $shown:literal) => {
        Row::new(
            concat!("tmpfs with ", $options),
            concat!(
                ".mounts += [{destination: \"",
                $at,
                "\", type: \"tmpfs\", source: \"tmpfs\", options: ",
                $options,
                "}]"
            ),
            concat!("grep ' ", $at, " ' /proc/self/mounts | cut -d' ' -f3,4 | sed 's/,inode64//'"),
            concat!("tmpfs ", $shown, "\n"),
        )
    };
}

const MOUNTS: &[Row] = &[
    tmpfs!("/m/plain", "[]", "rw,relatime"),
    tmpfs!("/m/hard", "[\"nosuid\", \"nodev\", \"noexec\"]", "rw,nosuid,nodev,noexec,relatime"),
    tmpfs!("/m/ro", "[\"ro\"]", "ro,relatime"),
    tmpfs!("/m/noatime", "[\"noatime\", \"nodiratime\"]", "rw,noatime,nodiratime"),
    tmpfs!("/m/strict", "[\"strictatime\"]", "rw"),
    tmpfs!("/m/sync", "[\"sync\", \"dirsync\"]", "rw,sync,dirsync,relatime"),
    tmpfs!("/m/lazy", "[\"lazytime\"]", "rw,lazytime,relatime"),
    tmpfs!("/m/data", "[\"size=1m\", \"mode=700\", \"uid=5\", \"gid=6\"]", "rw,relatime,size=1024k,mode=700,uid=5,gid=6"),
    tmpfs!("/m/later", "[\"ro\", \"nosuid\", \"rw\", \"suid\"]", "rw,relatime"),
    Row::new(
        "flags of everything beneath",
        ".mounts += [{destination: \"/new/deep\", type: \"bind\", source: \"/root/table/deep\",
            options: [\"rbind\", \"rro\", \"rnosuid\"]}]",
        "echo x 2>&1 >/new/deep; grep ' /new/deep ' /proc/self/mounts | grep -c nosuid",
        "sh: can't create /new/deep: Read-only file system\n1\n",
    )
    .host("echo content > /root/table/deep"),
    Row::new(
        "what the image has, copied up",
        ".mounts += [{destination: \"/etc\", type: \"tmpfs\", source: \"tmpfs\", options: \
         [\"tmpcopyup\"]}]",
        "grep -c root /etc/passwd; touch /etc/new && echo written",
        "1\nwritten\n",
    ),
    Row::new(
        "a destination that is a link",
        ".mounts += [{destination: \"/link-to-dir\", type: \"tmpfs\", source: \"tmpfs\"}]",
        "grep -c ' /linked tmpfs ' /proc/self/mounts",
        "1\n",
    )
    .host("mkdir -p /opt/busybox/rootfs/linked; ln -sfn /linked /opt/busybox/rootfs/link-to-dir"),
    Row::new(
        "a destination that is made",
        ".mounts += [{destination: \"/made/on/the/way\", type: \"tmpfs\", source: \"tmpfs\"}]",
        "grep -c ' /made/on/the/way tmpfs ' /proc/self/mounts; stat -c %a:%u /made/on",
        "1\n755:0\n",
    ),
    Row::new(
        "a file of the host on a file that is made",
        ".mounts += [{destination: \"/new/file\", type: \"bind\", source: \
         \"/root/table/file\", options: [\"bind\", \"ro\"]}]",
        "cat /new/file; echo x 2>&1 >/new/file",
        "content\nsh: can't create /new/file: Read-only file system\n",
    )
    .host("echo content > /root/table/file"),
    Row::new(
        "a file of the host on another file",
        ".mounts += [{destination: \"/etc/group\", type: \"bind\", source: \
         \"/root/table/group\", options: [\"rbind\"]}]",
        "cat /etc/group",
        "gruppe:x:0:\n",
    )
    .host("echo gruppe:x:0: > /root/table/group"),
    Row::new(
        "shared memory of a size",
        ".mounts |= map(if .destination == \"/dev/shm\" then .options = [\"nosuid\", \
         \"mode=1777\", \"size=8m\"] else . end)",
        "df -k /dev/shm | tail -1 | awk '{print $2}'; stat -c %a /dev/shm",
        "8192\n1777\n",
    ),
    Row::new("a message queue", ".", "grep -c ' /dev/mqueue mqueue ' /proc/self/mounts", "1\n"),
    Row::new("terminals of its own", ".", "ls /dev/pts; readlink /dev/ptmx", "ptmx\npts/ptmx\n"),
    Row::new("its processes alone", ".", "ls -d /proc/[0-9]* | head -1; echo $$", "/proc/1\n1\n"),
    Row::new(
        "a kernel's tree that can't be written",
        ".",
        "grep ' /sys sysfs ' /proc/self/mounts | cut -d' ' -f4",
        "ro,nosuid,nodev,noexec,relatime\n",
    ),
    Row::new(
        "a cgroup that can't be written",
        ".",
        "mkdir /sys/fs/cgroup/sub 2>&1; cat /proc/self/cgroup",
        "mkdir: can't create directory '/sys/fs/cgroup/sub': Read-only file system\n0::/\n",
    ),
    Row::new(
        "huge pages",
        ".mounts += [{destination: \"/huge\", type: \"hugetlbfs\", source: \"hugetlbfs\", \
         options: [\"pagesize=2M\"]}]",
        "grep -c ' /huge hugetlbfs ' /proc/self/mounts",
        "1\n",
    ),
    Row::new(
        "propagation of one mount",
        ".mounts += [{destination: \"/m/shared\", type: \"tmpfs\", source: \"tmpfs\", options: [\"rshared\"]},
            {destination: \"/m/unbindable\", type: \"tmpfs\", source: \"tmpfs\", options: [\"unbindable\"]}]",
        "grep -E ' /m/(shared|unbindable) ' /proc/self/mountinfo | cut -d' ' -f7 | sed \
         's/:.*//'",
        "shared\nunbindable\n",
    ),
];

const NAMES: &[Row] = &[
    Row::new("host name", ".hostname = \"inside\"", "hostname", "inside\n"),
    Row::new(
        "sysctl of the network",
        ".linux.sysctl[\"net.ipv4.ip_unprivileged_port_start\"] = \"77\"",
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
        "77\n",
    ),
    Row::new(
        "sysctl with slashes",
        ".linux.sysctl[\"net/ipv4/ip_default_ttl\"] = \"77\"",
        "cat /proc/sys/net/ipv4/ip_default_ttl",
        "77\n",
    ),
    Row::new(
        "sysctl of System V IPC",
        ".linux.sysctl[\"kernel.msgmax\"] = \"4242\"",
        "cat /proc/sys/kernel/msgmax",
        "4242\n",
    ),
    Row::new(
        "sysctl of message queues",
        ".linux.sysctl[\"fs.mqueue.msg_max\"] = \"77\"",
        "cat /proc/sys/fs/mqueue/msg_max",
        "77\n",
    ),
    Row::new(
        "a masked file",
        ".linux.maskedPaths += [\"/etc/shadow-of-table\", \"/nothing/there\"]",
        "wc -c < /etc/shadow-of-table",
        "0\n",
    )
    .host("echo secret > /opt/busybox/rootfs/etc/shadow-of-table"),
    Row::new(
        "a masked directory",
        ".linux.maskedPaths += [\"/hidden\"]",
        "ls /hidden; touch /hidden/x 2>&1",
        "touch: /hidden/x: Read-only file system\n",
    )
    .host("mkdir -p /opt/busybox/rootfs/hidden; echo x > /opt/busybox/rootfs/hidden/file"),
    Row::new(
        "a masked file behind a link",
        ".linux.maskedPaths += [\"/link-to-file\"]",
        "wc -c < /linked-file",
        "0\n",
    )
    .host(
        "echo x > /opt/busybox/rootfs/linked-file; ln -sfn /linked-file \
         /opt/busybox/rootfs/link-to-file",
    ),
    Row::new(
        "the usual masks",
        ".",
        "wc -c < /proc/keys; ls /proc/scsi 2>/dev/null | wc -l; ls /sys/firmware | wc -l",
        "0\n0\n0\n",
    ),
    Row::new(
        "a read-only directory",
        ".linux.readonlyPaths += [\"/frozen\", \"/nothing/there\"]",
        "cat /frozen/file; touch /frozen/x 2>&1",
        "x\ntouch: /frozen/x: Read-only file system\n",
    )
    .host("mkdir -p /opt/busybox/rootfs/frozen; echo x > /opt/busybox/rootfs/frozen/file"),
    Row::new(
        "the usual read-only paths",
        ".",
        "echo 1 2>&1 >/proc/sys/vm/swappiness; grep -cE '^proc /proc/(bus|fs|irq|sys) proc ro,' /proc/self/mounts",
        "sh: can't create /proc/sys/vm/swappiness: Read-only file system\n4\n",
    ),
    Row::new(
        "a root mount of its own",
        ".linux.rootfsPropagation = \"private\"",
        "awk '$5 == \"/\" {print $7}' /proc/self/mountinfo",
        "-\n",
    ),
];

const LIMITS: &[Row] = &[
    Row::new("processes", ".linux.resources.pids = {limit: 40}", "cat /sys/fs/cgroup/pids.max", "40\n"),
    Row::new(
        "memory",
        ".linux.resources.memory = {limit: 67108864, swap: 67108864, reservation: 33554432, checkBeforeUpdate: true}",
        "cd /sys/fs/cgroup; cat memory.max memory.low memory.swap.max",
        "67108864\n33554432\n0\n",
    ),
    // As many processors as the quota keeps busy; this runc knows no bursts.
    Row::new(
        "processor time",
        ".linux.resources.cpu = {quota: 250000, period: 100000, shares: 512, burst: 20000}",
        "cd /sys/fs/cgroup; cat cpu.max cpu.weight cpu.max.burst; nproc",
        "250000 100000\n20\n0\n1\n",
    )
    .ours_shows("250000 100000\n20\n20000\n3\n"),
    Row::new(
        "huge pages",
        ".linux.resources.hugepageLimits = [{pageSize: \"2MB\", limit: 4194304}]",
        "cat /sys/fs/cgroup/hugetlb.2MB.max",
        "4194304\n",
    ),
    Row::new(
        "files of version 2",
        ".linux.resources.unified = {\"memory.high\": \"60817408\", \"memory.oom.group\": \
         \"0\"}",
        "cat /sys/fs/cgroup/memory.high",
        "60817408\n",
    ),
    Row::new(
        "a memory hog is killed, and others live",
        ".",
        "sleep 100 & dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null; echo $?; kill -0 $! && echo lives; \
         grep '^oom_kill ' /sys/fs/cgroup/memory.events",
        "137\nlives\noom_kill 1\n",
    ),
    Row::new(
        "a fork bomb is held",
        ".",
        "(i=0; while [ $i -lt 60 ]; do sleep 100 & i=$((i+1)); done) 2>&1 | head -1; cat \
         /sys/fs/cgroup/pids.max",
        "sh: can't fork: Resource temporarily unavailable\n40\n",
    ),
];

/// Capabilities to make nodes, and to read the kernel's log.
const MAKER: &str = ".process.capabilities |= map_values(. + [\"CAP_MKNOD\", \"CAP_SYSLOG\"])";

const DEVICES: &[Row] = &[
    Row::new("who may make nodes", MAKER, "true", ""),
    // This runc knows no idle groups.
    Row::new(
        "processors and memory of a list, only when nothing else runs",
        ".linux.resources.cpu = {idle: 1, cpus: \"0\", mems: \"0\"}",
        "nproc; cat /sys/fs/cgroup/cpu.idle",
        "1\n0\n",
    )
    .ours_shows("1\n1\n"),
    Row::new(
        "nodes of every kind",
        r#".linux.devices += [
            {path: "/dev/own", type: "c", major: 1, minor: 7, fileMode: 432, uid: 5, gid: 6},
            {path: "/dev/un", type: "u", major: 1, minor: 3},
            {path: "/dev/sub/block", type: "b", major: 7, minor: 0, fileMode: 384},
            {path: "/dev/pipe", type: "p", major: 0, minor: 0, fileMode: 420}]"#,
        "cd /dev; stat -c '%n %F %a %u:%g' own un sub/block pipe; stat -c %t:%T own sub/block",
        "own character special file 660 5:6\nun character special file 666 0:0\n\
         sub/block block special file 600 0:0\npipe fifo 644 0:0\n1:7\n7:0\n",
    ),
    Row::new(
        "the usual nodes and links",
        ".",
        "cd /dev; stat -c '%n %a %t:%T' null zero full random urandom tty; \
         for n in fd stdin stdout stderr core; do readlink $n; done",
        "null 666 1:3\nzero 666 1:5\nfull 666 1:7\nrandom 666 1:8\nurandom 666 1:9\ntty 666 5:0\n\
         /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n/proc/kcore\n",
    ),
    Row::new(
        "what no rule allows",
        ".",
        "mknod /dev/mem c 1 1 && echo made; cat /dev/mem 2>&1",
        "made\ncat: can't open '/dev/mem': Operation not permitted\n",
    ),
    Row::new(
        "what a rule allows, for reading",
        r#".linux.resources.devices +=
            [{allow: true, type: "c", major: 1, minor: 11, access: "r"}]"#,
        "mknod /dev/kmsg c 1 11; dd if=/dev/kmsg of=/dev/null bs=9000 count=1 2>/dev/null \
         && echo read; echo x 2>&1 >/dev/kmsg",
        "read\nsh: can't create /dev/kmsg: Operation not permitted\n",
    ),
    Row::new(
        "of two rules the later counts",
        r#".linux.resources.devices += [{allow: true, type: "c", major: 10, minor: 183, access: "rwm"},
            {allow: true, type: "c", major: 10, minor: 237, access: "rwm"},
            {allow: false, type: "c", major: 10, minor: 183, access: "rw"}]"#,
        "mknod /dev/none c 10 183; cat /dev/none 2>&1; mknod /dev/loops c 10 237; : \
         </dev/loops && echo opened",
        "cat: can't open '/dev/none': Operation not permitted\nopened\n",
    )
    .host("modprobe loop"),
];

/// Namespaces and what can't share a container.
const APART: &[Row] = &[
    Row::new(
        "a cgroup that can be written",
        ".mounts |= map(if .destination == \"/sys/fs/cgroup\" then .options = [\"rw\", \
         \"nosuid\"] else . end)",
        "mkdir /sys/fs/cgroup/sub && echo 0 > /sys/fs/cgroup/sub/cgroup.procs && cat \
         /proc/self/cgroup",
        "0::/sub\n",
    ),
    Row::new(
        "a read-only root",
        ".root.readonly = true",
        "touch /x 2>&1; touch /dev/shm/x && echo written",
        "touch: /x: Read-only file system\nwritten\n",
    ),
    // runc 1.1 leaves the root mount as it is.
    Row::new(
        "a shared root mount",
        ".linux.rootfsPropagation = \"shared\"",
        "awk '$5 == \"/\" {print $7}' /proc/self/mountinfo | sed 's/:.*//'",
        "-\n",
    )
    .ours_shows("shared\n"),
    Row::new(
        "a root mount that can't be bound",
        ".linux.rootfsPropagation = \"unbindable\"",
        "awk '$5 == \"/\" {print $7}' /proc/self/mountinfo",
        "-\n",
    )
    .ours_shows("unbindable\n"),
    Row::new("domain name", ".domainname = \"domain\"", "cat /proc/sys/kernel/domainname", "(none)\n")
        .ours_shows("domain\n"),
    Row::new("a 32-bit machine", ".linux.personality = {domain: \"LINUX32\"}", "uname -m", "x86_64\n")
        .ours_shows("i686\n"),
    Row::new(
        "other clocks",
        ".linux.namespaces += [{type: \"time\"}] | .linux.timeOffsets = {monotonic: {secs: \
         1000, nanosecs: 7}, boottime: {secs: 100000000}}",
        "sed 's/  */ /g' /proc/self/timens_offsets; test $(cut -d. -f1 /proc/uptime) -ge \
         100000000 && echo late",
        "",
    )
    .runc_refuses()
    .ours_shows("monotonic 1000 7\nboottime 100000000 0\nlate\n"),
    Row::new(
        "other users",
        r#".root.path = "/opt/shifted" | .linux.namespaces += [{type: "user"}]
            | .linux.uidMappings = [{containerID: 0, hostID: 100000, size: 65536}]
            | .linux.gidMappings = [{containerID: 0, hostID: 200000, size: 65536}]
            | .process.user = {uid: 33, gid: 34, additionalGids: [7]}"#,
        "id -u; id -G; sed 's/  */ /g' /proc/self/uid_map /proc/self/gid_map; stat -c %u:%g / /etc /proc/1; \
         touch /tmp/x && stat -c %u:%g /tmp/x; touch /x 2>&1; echo x >/dev/null && echo written",
        "33\n34 7\n 0 100000 65536\n 0 200000 65536\n0:0\n0:0\n33:34\n33:34\ntouch: /x: \
         Permission denied\nwritten\n",
    )
    .host(
        "[ -d /opt/shifted ] || { cp -a /opt/busybox/rootfs /opt/shifted; chown -hR \
         100000:200000 /opt/shifted; chmod 1777 /opt/shifted/tmp; }",
    ),
    Row::refused("users without mappings", ".linux.namespaces += [{type: \"user\"}]", "linux.uidMappings"),
    Row::new(
        "mappings without users",
        ".linux.uidMappings = [{containerID: 0, hostID: 1, size: 1}]",
        "id -u",
        "0\n",
    ),
    Row::refused(
        "a name without a namespace for it",
        ".hostname = \"a\" | .linux.namespaces |= map(select(.type != \"uts\"))",
        "uts namespace",
    ),
    Row::refused(
        "a sysctl of the whole kernel",
        ".linux.sysctl = {\"vm.max_map_count\": \"70000\"}",
        "vm.max_map_count",
    ),
    Row::refused(
        "the host name as a sysctl",
        ".linux.sysctl = {\"kernel.hostname\": \"a\"}",
        "kernel.hostname",
    ),
    Row::refused(
        "a sysctl without its namespace",
        ".linux.sysctl = {\"kernel.msgmax\": \"1\"} | .linux.namespaces |= map(select(.type \
         != \"ipc\"))",
        "ipc namespace",
    ),
    Row::refused(
        "a file system that is none",
        ".mounts += [{destination: \"/x\", type: \"nosuchfs\", source: \"none\"}]",
        "nosuchfs",
    ),
    Row::refused(
        "clocks that can't be moved",
        ".linux.namespaces += [{type: \"time\"}] | .linux.timeOffsets = {realtime: {secs: 1}}",
        "monotonic",
    ),
    Row::refused("a propagation that is none", ".linux.rootfsPropagation = \"open\"", "rootfsPropagation"),
    Row::refused(
        "cache and memory bandwidth",
        ".linux.intelRdt = {closID: \"a\", l3CacheSchema: \"L3:0=f\"}",
        "intelRdt",
    ),
    Row::refused(
        "a limit that the kernel does not have",
        ".linux.resources.unified = {\"memory.nonsense\": \"1\"}",
        "memory.nonsense",
    ),
    Row::refused("swap below memory", ".linux.resources.memory = {limit: 67108864, swap: 33554432}", "swap"),
    Row::new(
        "a disk of the host",
        r#".linux.devices += [{path: "/dev/disk", type: "b", major: 8, minor: 0}]"#,
        "test -b /dev/disk && echo made",
        "made\n",
    )
    .ours_refuses("/dev/disk"),
];

/// What this runc does not know or look at, and ours says that it can't.
const REFUSED: &[Row] = &[
    Row::refused(
        "mapped owners of a mount",
        r#".mounts += [{destination: "/d", type: "bind", source: "/root/table", options: ["rbind"],
            uidMappings: [{containerID: 0, hostID: 1, size: 1}], gidMappings: [{containerID: 0, hostID: 1, size: 1}]}]"#,
        "id-mapped mounts are not supported",
    ),
    Row::refused(
        "the same by a word",
        r#".mounts += [{destination: "/d", type: "bind", source: "/root/table", options: ["rbind", "ridmap"]}]"#,
        "id-mapped mounts are not supported",
    ),
    Row::refused(
        "flags of a personality",
        r#".linux.personality = {domain: "LINUX", flags: ["ADDR_NO_RANDOMIZE"]}"#,
        "linux.personality",
    ),
    Row::refused(
        "a memory policy",
        r#".linux.memoryPolicy = {mode: "MPOL_BIND", nodes: "0", flags: []}"#,
        "linux.memoryPolicy",
    ),
    Row::refused("devices of the host's network", ".linux.netDevices = {eth0: {}}", "linux.netDevices"),
    Row::refused(
        "time for realtime",
        ".linux.resources.cpu = {realtimeRuntime: 1000, realtimePeriod: 100000}",
        "no realtime groups",
    ),
];

fn around(lab: &mut Lab) {
    let before = lab.snapshot();
    lab.together(MOUNTS);
    lab.together(NAMES);
    lab.nothing_left("after the table", &before);
}

fn limits_and_devices(lab: &mut Lab) {
    let before = lab.snapshot();
    lab.together(LIMITS);
    lab.together(DEVICES);
    lab.nothing_left("after the table", &before);
}

fn whole(lab: &mut Lab) {
    let before = lab.snapshot();
    lab.apart(APART);
    if lab.runtime() == Runtime::Msb {
        lab.apart(REFUSED);
    }
    lab.nothing_left("after the table", &before);
}
