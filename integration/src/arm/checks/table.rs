//! The checks, in their order: a container's own life first, then the machine's, then what is written, joined and left.

use super::Check;

/// For all scripts. `bundle NAME COMMAND…` makes the bundle /root/NAME with a root of its own; `edit NAME FILTER` changes its
/// configuration; `vmm NAME` is the process that runs its guest, and `status NAME` what is told of it.
pub(super) const PRELUDE: &str = r#"
R=msb-runtime
export MICROSANDBOX_HOME=/root/home MICROSANDBOX_IMAGE=busybox CONTAINERD=/root/containerd.sock CONTAINERD_ADDRESS=/root/containerd.sock
cd /root
eventually() { turn_=0; until eval "$1"; do turn_=$((turn_+1)); [ $turn_ -lt 300 ] || return 1; sleep 0.1; done; }
bundle() {
    name=$1; shift
    mkdir /root/$name && cp -a /opt/busybox/rootfs /root/$name/ && (cd /root/$name && $R spec)
    edit $name ".linux.cgroupsPath = \"/arm/$name\" | .root.readonly = false | .process.terminal = false"
    jq '.process.args = $ARGS.positional' $name/config.json --args -- "$@" > new && mv new $name/config.json
}
edit() { jq "$2" $1/config.json > new && mv new $1/config.json; }
status() { $R state $1 | jq -r .status; }
vmm() { pgrep -x msb-vmm -P $($R state $1 | jq .pid); }
"#;

pub(super) const fn holds(what: &'static str, script: &'static str, out: &'static str) -> Check {
    Check { what, script, code: 0, out }
}

/// All of them. A later one may use what an earlier one has left.
pub(super) const CHECKS: &[Check] = &[
    holds(
        "the host is an Arm computer with KVM and two processors",
        "uname -m; test -c /dev/kvm && nproc",
        "aarch64\n2\n",
    ),
    Check {
        what: "doctor finds nothing wrong: KVM, walls, volumes, networks, cgroups",
        script: "msb-runtime doctor >&2",
        code: 0,
        out: "",
    },
    holds(
        "a container's output and exit code are its caller's",
        "bundle one sh -c 'echo hello from $(uname -m); echo err >&2; exit 3'
         $R run --bundle one one < /dev/null 2> err; echo code $?; cat err",
        "hello from aarch64\ncode 3\nerr\n",
    ),
    holds(
        "its kernel is its own",
        r#"edit one '.process.args = ["uname", "-r"]'
         [ "$($R run --bundle one one < /dev/null)" != "$(uname -r)" ] && echo another"#,
        "another\n",
    ),
    holds(
        "create and start are two steps, and delete is the last",
        "edit one '.process.args = [\"echo\", \"started\"]'
         $R create --bundle one --pid-file one/pid one < /dev/null > one/out 2>&1; status one; cat one/out
         $R start one; eventually '[ $(status one) = stopped ]'; status one; cat one/out; $R delete one; $R list -q",
        "created\nstopped\nstarted\n",
    ),
    holds(
        "a container in the background, with limits of two processors and 128 MiB",
        "bundle two sh -c 'i=0; while :; do i=$((i+1)); echo $i > /tick; sleep 0.1; done'
         edit two '.linux.resources.cpu = {quota: 200000, period: 100000} | .linux.resources.memory.limit = 134217728'
         $R run --detach --bundle two --pid-file two/pid two < /dev/null > two/out 2>&1 || cat two/out
         $R state two | jq -c \"[.status, .pid == $(cat two/pid)]\"; $R list -q",
        "[\"running\",true]\ntwo\n",
    ),
    holds(
        "ps knows its process on the host, and those of the guest",
        "$R ps --format json two | jq \"index($(cat two/pid)) != null\"; $R ps --guest two | grep -c 'while :'",
        "true\n1\n",
    ),
    holds(
        "exec has streams and an exit code of its own",
        "echo data | $R exec two sh -c 'cat; echo err >&2; exit 7' 2> err; echo code $?; cat err
         $R exec two sh -c 'kill -9 $$'; echo code $?",
        "data\ncode 7\nerr\ncode 137\n",
    ),
    holds("it has two processors", "$R exec two nproc", "2\n"),
    holds(
        "its clock is the host's",
        "before=$(($(date +%s) - 1)); inside=$($R exec two date +%s); after=$(($(date +%s) + 1))
         [ $before -le $inside ] && [ $inside -le $after ] && echo the same",
        "the same\n",
    ),
    holds(
        "what is beyond its memory is killed, and nothing else",
        "$R exec two sh -c 'dd if=/dev/zero of=/dev/null bs=100M count=1 2> /dev/null'; echo code $?
         $R exec two sh -c 'x=xxxxxxxx; while :; do x=$x$x; done'; echo code $?; status two",
        "code 0\ncode 137\nrunning\n",
    ),
    holds(
        "its machine is held by a cgroup of the host",
        "cat /proc/$(cat two/pid)/cgroup; limit=$(cat /sys/fs/cgroup/arm/two/memory.max)
         [ $limit -gt 134217728 ] && [ $limit -lt 268435456 ] && echo and a limit",
        "0::/arm/two\nand a limit\n",
    ),
    holds(
        "paused, it stands still; resumed, it goes on",
        "used() { awk '{ print $14 + $15 }' /proc/$(vmm two)/stat; }
         $R pause two; status two; first=$(used); sleep 2; [ $(used) -le $((first + 2)) ] && echo still
         $R resume two; status two; $R exec two echo alive",
        "paused\nstill\nrunning\nalive\n",
    ),
    holds(
        "events tell what it uses",
        "$R events --stats two | jq -c '[.type, .id, .data.pids.current > 0, .data.cpu.usage.total > 0, .data.memory.usage.usage > 0]'",
        "[\"stats\",\"two\",true,true,true]\n",
    ),
    holds(
        "each thread of its machine is a nobody under a filter",
        r#"for task in /proc/$(vmm two)/task/*; do
             # PF_USER_WORKER: a worker of the kernel's, which never runs a program.
             flags=$(sed 's/.*) //' $task/stat | cut -d' ' -f7); [ $((flags & 0x4000)) = 0 ] || continue
             awk '/^(Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp):/ { printf "%s%s ", $1, $2 }
                  /^Uid:/ { printf "%s ", ($2 > 65536 && $2 == $3 && $3 == $4 && $4 == $5) ? "nobody" : $0 }' $task/status; echo
         done | sort -u
         wc -l < /proc/$(vmm two)/mountinfo; ls -A /proc/$(vmm two)/root | wc -l"#,
        "nobody CapPrm:0000000000000000 CapEff:0000000000000000 CapBnd:0000000000000000 NoNewPrivs:1 Seccomp:2 \n1\n0\n",
    ),
    holds(
        "killed and deleted, it has left on the host what it wrote",
        "$R kill two KILL; eventually '[ $(status two) = stopped ]'; status two; $R delete two
         [ $(cat two/rootfs/tick) -gt 0 ] && echo written",
        "stopped\nwritten\n",
    ),
    holds(
        "the next one begins with what the last one wrote",
        "bundle three sh -c 'cat /kept; echo again >> /kept'
         for turn in 1 2 3; do $R run --bundle three three < /dev/null 2> /dev/null; done; cat three/rootfs/kept",
        "again\nagain\nagain\nagain\nagain\nagain\n",
    ),
    holds(
        "what is synced outlives a machine that is killed",
        "bundle four sh -c 'echo kept | dd of=/synced conv=fsync 2> /dev/null; echo done; sleep 1000'
         $R run --detach --bundle four four < /dev/null > four/out 2>&1; eventually 'grep -q done four/out'
         kill -9 $(vmm four); eventually '[ $(status four) = stopped ]'; $R delete four; cat four/rootfs/synced",
        "kept\n",
    ),
    holds(
        "a volume is live on both sides",
        r#"mkdir v; echo in > v/in; bundle five sh -c 'cat /v/in; echo out > /v/out'
         edit five '.mounts += [{destination: "/v", type: "bind", source: "/root/v", options: ["rbind", "rw"]}]'
         $R run --bundle five five < /dev/null; cat v/out"#,
        "in\nout\n",
    ),
    holds(
        "a network of the host's is the container's",
        r#"ip netns add arm; ip link add arm0 type veth peer name eth0 netns arm
         ip addr add 10.9.0.1/24 dev arm0; ip link set arm0 up; ip -n arm link set lo up
         ip -n arm addr add 10.9.0.2/24 dev eth0; ip -n arm link set eth0 up
         bundle six nc 10.9.0.1 9000
         edit six '(.linux.namespaces[] | select(.type == "network")).path = "/run/netns/arm"'
         echo reached | busybox nc -l -p 9000 & sleep 1; $R run --bundle six six < /dev/null; wait
         ip netns del arm; ip link del arm0 2> /dev/null; umount /run/netns; rmdir /run/netns"#,
        "reached\n",
    ),
    holds("no container is left", "$R list -q; rmdir /sys/fs/cgroup/arm", ""),
];
