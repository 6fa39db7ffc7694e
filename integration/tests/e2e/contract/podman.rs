//! Podman's.

use super::Step;

/// As Docker's functions. Ends are told by a process of their own, which comes early or late: events are a set without them.
pub const FUNCTIONS: &str = r#"
pod() { podman --runtime "$P" "$@"; }
look() {
    podman inspect box | jq -cS '.[0] | {State: (.State | del(.Pid, .ConmonPid, .StartedAt, .FinishedAt, .CheckpointedAt, .RestoredAt, .Health)),
        Path, Args, RestartCount, EffectiveCaps, BoundingCaps, Mounts: ([.Mounts[]?.Destination] | sort), Config: (.Config | del(.CreateCommand, .Hostname) | .Env |= sort)}'
}
events() { podman events --stream=false --since $began --filter type=container --format '{{.Status}}' | grep -vxE 'stop|died|cleanup' | sort -u; }
clear() { podman rm -f -t 0 box; }
until_log() { eventually "podman logs box 2>&1 | grep -q '$1'" 0.2 || vain "$@"; }
until_exited() { eventually "[ \"\$(podman inspect -f '{{.State.Status}}' box)\" = exited ]" 0.2 || vain exited; }
"#;

pub const STEPS: &[Step] = &[
    (
        "podman: as it is without options",
        "pod run --rm $N busybox sh -c 'id; pwd; umask; env | grep -v HOSTNAME | sort; grep -E \"^(Cap|NoNewPrivs|Seccomp:)\" /proc/self/status
            cat /proc/self/oom_score_adj /proc/self/limits; cat /proc/mounts | cut -d\" \" -f2 | grep -vE \"^/(proc|sys)\" | sort'",
    ),
    (
        "podman: who it is",
        "pod run --rm $N --user 1000:1001 --group-add 5 --cap-drop ALL --cap-add NET_BIND_SERVICE --ulimit nofile=100:200 --oom-score-adj 300 \
            -e A=b -w /tmp --hostname h --umask 0077 busybox sh -c 'id; pwd; umask; echo $A; hostname; ulimit -n; ulimit -Hn
            cat /proc/self/oom_score_adj; grep -E \"^(Cap|NoNew)\" /proc/self/status'",
    ),
    (
        "podman: file systems in memory, and what is hidden",
        "pod run --rm $N --read-only --tmpfs /t:size=1m,mode=700 --shm-size 16m busybox sh -c '
            df -k /t /dev/shm | tail -n 2 | tr -s \" \" | cut -d\" \" -f2,6; stat -c \"%a %F\" /t /dev/shm; touch /x; touch /t/x /tmp/x
            ls /sys/firmware; (echo x > /proc/sys/kernel/hostname) 2>&1'",
    ),
    (
        "podman: limits",
        "pod run --rm $N -m 64m --memory-swap 64m --memory-reservation 32m --pids-limit 20 --cpus 0.5 --cpu-shares 512 busybox sh -c '
            cd /sys/fs/cgroup; cat memory.max memory.swap.max memory.low pids.max cpu.max cpu.weight'",
    ),
    (
        "podman: sysctls, devices and privileges",
        "pod run --rm $N --sysctl kernel.msgmax=65000 busybox cat /proc/sys/kernel/msgmax
         pod run --rm $N --security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status
         pod run --rm $N --device /dev/null:/dev/mine:rw busybox sh -c 'ls -ln /dev/mine | cut -d\" \" -f1; echo x > /dev/mine'
         pod run --rm $N --privileged busybox grep -E '^(Cap|Seccomp:)' /proc/self/status",
    ),
    (
        "podman: input, entry point and environment",
        "echo from outside | pod run --rm -i $N --entrypoint cat busybox -; printf 'X=1\\nY=two words\\n' > list
         pod run --rm $N --env-file list --entrypoint '' busybox sh -c 'echo $X $Y'; echo | pod run --rm -i $N busybox sh -c 'read a; echo \"<$a>\"; exit 42'",
    ),
    (
        "podman: volumes",
        "mkdir -p /root/pods; echo in > /root/pods/in; pod run --name box $N -v /root/pods:/dir -v /root/pods/in:/file:ro -v kept:/kept busybox sh -c '
            cat /dir/in /file; echo out > /dir/out; echo x > /kept/x; (echo no > /file) 2>&1'; until_exited; look; cat /root/pods/out
         pod run --rm $N --volumes-from box busybox cat /kept/x; pod rm box; podman volume rm kept; rm -r /root/pods",
    ),
    (
        "podman: a terminal",
        "pod run --name box -t $N busybox sh -c 'tty; ls -l /dev/console | cut -c1; echo $TERM'; until_exited; look; pod rm box",
    ),
    (
        "podman: create and start",
        "pod create --name box $N busybox sh -c 'echo out; echo err >&2; exit 3' >/dev/null; look; pod start -a box; echo $?; until_exited; look; pod rm box",
    ),
    (
        "podman: detached",
        "pod run -d --name box $N busybox sh -c 'trap \"echo usr1\" USR1; trap \"echo term; exit 9\" TERM; echo ready; while :; do sleep 0.1; done' >/dev/null
         until_log ready; look; pod kill -s USR1 box; until_log usr1; pod stop -t 20 box; pod logs box; pod wait box; look; pod rm box",
    ),
    (
        "podman: exec",
        "pod run -d --name box $N -e A=b -w /tmp busybox sleep 1000 >/dev/null
         pod exec box sh -c 'pwd; echo $A; id -u; grep -E \"^(Cap|Seccomp:|NoNew)\" /proc/self/status; cat /proc/self/limits; exit 4'; echo $?
         pod exec -e C=d -w / -u 1000:1000 box sh -c 'pwd; echo $A $C; id; grep ^Cap /proc/self/status'; echo data | pod exec -i box cat
         pod exec --privileged box grep ^Cap /proc/self/status; pod exec -t box tty
         pod exec box nosuch; echo $?; pod exec box /etc/passwd; echo $?; pod exec box sh -c 'kill -9 $$'; echo $?; pod exec -w /nowhere box true; echo $?
         pod rm -f -t 0 box",
    ),
    (
        "podman: paused and changed while it runs",
        "pod run -d --name box $N -m 128m busybox sleep 1000 >/dev/null; pod pause box; look; pod exec box true; echo $?; pod unpause box; pod exec box true; echo $?
         pod update --memory 100m --cpus 0.5 --pids-limit 50 box; pod exec box sh -c 'cd /sys/fs/cgroup; cat memory.max cpu.max pids.max'; pod rm -f -t 0 box",
    ),
    (
        "podman: what fails",
        "pod run --name box $N busybox nosuch; echo $?; pod rm box; pod run --rm $N busybox /no/such; echo $?; pod run --rm $N busybox /etc/passwd; echo $?
         pod run --rm $N -w /nowhere busybox true; echo $?; pod run --rm $N busybox sh -c 'sh -c \"kill -9 \\$\\$\"; exit $?'; echo $?",
    ),
];
