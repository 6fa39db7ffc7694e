//! containerd's `ctr`.

use super::Step;

/// As Docker's functions. An input that ends before the container runs is one that `ctr` forgets to close: the steps' is
/// long. `whole` and `apart` run a container to its end and detached.
pub const FUNCTIONS: &str = r#"
whole() { ctr run --rm $C --env PATH=/bin "$@"; }
apart() { ctr run --detach $C --env PATH=/bin "$@" < /dev/null; }
status() { ctr task ls | awk '$1 == "box" { print $3 }'; }
until_status() { eventually "[ \"\$(status)\" = $1 ]" 0.2 || vain "$@"; }
# ctr keeps no events: it only follows them.
events() { :; }
clear() { ctr task rm -f box; ctr container rm box; }
"#;

pub const STEPS: &[Step] = &[
    (
        "ctr: as it is without options",
        "whole --rootfs /root/tree box sh -c 'id; pwd; umask; env | sort; grep -E \"^(Cap|NoNewPrivs|Seccomp:)\" /proc/self/status
            cat /proc/self/oom_score_adj /proc/self/limits; cut -d\" \" -f2 /proc/mounts | grep -vE \"^/(proc|sys)/\" | sort; ls /dev | sort'",
    ),
    (
        "ctr: who it is",
        "whole --user 1000:1001 --cwd /tmp --env A=b --hostname h --cap-add CAP_SYS_TIME --cap-drop CAP_CHOWN --rlimit-nofile 100 --rootfs /root/tree box sh -c '
            id; pwd; echo $A; hostname; ulimit -n; grep ^Cap /proc/self/status'",
    ),
    (
        "ctr: limits",
        "whole --memory-limit 67108864 --cpus 0.5 --rootfs /root/tree box sh -c 'cd /sys/fs/cgroup; cat memory.max cpu.max'",
    ),
    (
        "ctr: mounts and privileges",
        "mkdir -p /root/volume; echo here > /root/volume/file
         whole --read-only --mount type=bind,src=/root/volume,dst=/mnt,options=rbind:ro --mount type=tmpfs,src=tmpfs,dst=/tmp,options=size=1m --rootfs /root/tree box sh -c '
            cat /mnt/file; touch /mnt/x; touch /x; touch /tmp/x; df -k /tmp | tail -n 1 | tr -s \" \" | cut -d\" \" -f2,6'
         whole --privileged --rootfs /root/tree box sh -c 'grep -E \"^(Cap|Seccomp:)\" /proc/self/status; mount -t tmpfs x /tmp; echo $?'
         whole --seccomp --rootfs /root/tree box grep Seccomp: /proc/self/status",
    ),
    (
        "ctr: streams and codes",
        "whole --rootfs /root/tree box sh -c 'echo out; echo err >&2; exit 7'; echo $?; head -c 3000000 /dev/zero | whole --rootfs /root/tree box wc -c
         whole --rootfs /root/tree box sh -c 'sh -c \"kill -9 \\$\\$\"; exit $?'; echo $?",
    ),
    (
        "ctr: exec",
        "apart --env A=b --rootfs /root/tree box sleep 1000
         ctr task exec --exec-id a box sh -c 'pwd; echo $A; id -u; grep -E \"^(Cap|Seccomp:|NoNew)\" /proc/self/status; cat /proc/self/limits; exit 4'; echo $?
         ctr task exec --exec-id b --cwd /tmp --user 1000:1000 box sh -c 'pwd; id'; echo data | ctr task exec --exec-id c box cat
         ctr task exec --exec-id d box nosuch; echo $?; ctr task exec --exec-id e --cwd /nowhere box true; echo $?",
    ),
    (
        "ctr: its life",
        "apart --rootfs /root/tree box sh -c 'trap \"exit 9\" TERM; while :; do sleep 0.1; done'; status; ctr task pause box; status
         ctr task resume box; status; ctr task metrics --format json box | jq -r 'keys | length > 0'; ctr task checkpoint box > /dev/null 2>&1; echo $?
         sleep 1; ctr task kill -s TERM box; until_status STOPPED; ctr task kill box; echo $?; ctr task rm box; ctr container rm box",
    ),
    ("ctr: killed", "apart --rootfs /root/tree box sleep 1000; ctr task kill -s KILL box; until_status STOPPED; ctr task rm box; ctr container rm box"),
    (
        "ctr: what fails",
        "whole --rootfs /root/tree box nosuch; echo $?; clear; whole --rootfs /root/tree box /etc/passwd; echo $?; clear
         (whole --cwd /etc/passwd --rootfs /root/tree box true; echo $?; clear; whole --rootfs /root/nowhere box true; echo $?; clear) 2>/dev/null",
    ),
];
