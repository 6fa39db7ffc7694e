//! Docker's.

use super::Step;

/// `look`: all that Docker knows of the container `box`, less what names the runtime, tells of a moment or is a pid. `events`:
/// what Docker told of containers since `$began`, in its order; then, as a set, what comes from tasks of their own: also a
/// `stop`, which is told by who has waited for the end, beside the `die` of who has seen it.
pub const FUNCTIONS: &str = r#"
look() {
    docker inspect box | jq -cS '.[0] | del(.HostConfig.Runtime, .Created, .State.Pid, .State.StartedAt, .State.FinishedAt, .State.Health)'
}
events() {
    sleep 0.3 # What was waited for may be told a moment after.
    docker events --since $began --until $(date +%s.%N) --filter type=container --format '{{.Action}}' > /root/all
    loose='^(exec_|health_status|oom|resize|top|stop$)'; grep -vE "$loose" /root/all; grep -E "$loose" /root/all | sort -u
}
clear() { docker rm -f box other; }
until_log() { eventually "docker logs box 2>&1 | grep -q '$1'" 0.2 || vain "$@"; }
until_state() { eventually "[ \"\$(docker inspect -f '$1' box)\" = '$2' ]" 0.2 || vain "$@"; }
"#;

/// Who the process is, what it may do and what it finds.
pub const PROCESS: &[Step] = &[
    (
        "as it is without options",
        "docker run --rm $N $D busybox sh -c 'id; pwd; umask; env | grep -v HOSTNAME | sort; cat /proc/1/cmdline | tr \"\\0\" \" \";
         grep -E \"^(Cap|NoNewPrivs|Seccomp:)\" /proc/self/status; ls -l /proc/self/fd | wc -l; cat /proc/self/oom_score_adj'",
    ),
    ("limits of which nobody said anything", "docker run --rm $N $D busybox cat /proc/self/limits"),
    (
        "who it is",
        "docker run --rm $N $D --user 1000:1001 --group-add 5 --cap-drop ALL --cap-add NET_BIND_SERVICE --cap-add CHOWN --ulimit nofile=100:200 \
            --ulimit core=0 --oom-score-adj 300 -e A=b -e EMPTY= -w /tmp/new --hostname h --domainname d busybox sh -c '
            id; pwd; stat -c \"%u %g %a\" .; echo $A$EMPTY; hostname; cat /proc/sys/kernel/domainname; ulimit -n; ulimit -Hn; ulimit -c;
            cat /proc/self/oom_score_adj; grep -E \"^Cap\" /proc/self/status'",
    ),
    (
        "capabilities",
        "docker run --rm $N $D --cap-add ALL --security-opt no-new-privileges busybox grep -E '^(Cap|NoNew)' /proc/self/status
         docker run --rm $N $D --cap-drop ALL busybox sh -c 'grep Cap /proc/self/status; chown 1 /tmp; echo $?'",
    ),
    (
        "security options",
        "docker run --rm $N $D --security-opt seccomp=unconfined --security-opt apparmor=unconfined busybox grep Seccomp: /proc/self/status
         docker run --rm $N $D busybox sh -c 'unshare -U true; echo $?; mount -t tmpfs x /tmp; echo $?'",
    ),
    (
        "hidden and read-only paths",
        "docker run --rm $N $D busybox sh -c '
            head -c 1 /proc/kcore | wc -c; ls /proc/acpi /proc/scsi /sys/firmware; head -c 1 /proc/timer_list | wc -c
            for file in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/x /proc/bus/x /sys/x /sys/fs/cgroup/x; do
                (echo x > $file) 2>&1; done; mount | grep -E \" on /(proc|sys)\" | sed \"s/.* on \\([^ ]*\\) .*[(]\\(r.\\).*/\\1 \\2/\" | sort'",
    ),
    (
        "file systems in memory",
        "docker run --rm $N $D --read-only --tmpfs /t:size=1m,mode=700 --tmpfs /u --shm-size 16m busybox sh -c '
            df -k /t /dev/shm | tail -n 2 | tr -s \" \" | cut -d\" \" -f2,6; stat -c \"%a %F\" /t /u /dev/shm; touch /x; touch /t/x /u/x;
            mount | grep -E \" on /(t|u|dev/shm|dev/mqueue|dev/pts|dev) \" | sed \"s/size=[0-9]*k/size/; s/,inode64//; s/^[a-z]* on //\" | sort'",
    ),
    ("devices", "docker run --rm $N $D busybox sh -c 'cd /dev; ls -ln | sed \"s/  */ /g\" | cut -d\" \" -f1,3-6,10- | sort'"),
];

/// What else it is given.
pub const OPTIONS: &[Step] = &[
    (
        "devices of its own",
        "docker run --rm $N $D --device /dev/null:/dev/mine:rw --device-cgroup-rule 'c 1:7 rmw' busybox sh -c '
            ls -ln /dev/mine | cut -d\" \" -f1; echo x > /dev/mine; mknod /tmp/full c 1 7; echo x > /tmp/full; mknod /tmp/kmsg c 1 11; head -c 1 /tmp/kmsg'",
    ),
    (
        "limits",
        "docker run --rm $N $D -m 64m --memory-swap 64m --memory-reservation 32m --pids-limit 20 --cpus 0.5 --cpu-shares 512 busybox sh -c '
            cd /sys/fs/cgroup; cat memory.max memory.swap.max memory.low pids.max cpu.max cpu.weight'
         docker run --name box $N $D --cpuset-cpus 0 --device-read-bps /dev/vda:10mb --blkio-weight 300 busybox nproc; look; docker rm box",
    ),
    (
        "an init that reaps",
        "docker run --name box $N $D --init busybox sh -c 'cat /proc/1/comm; (sleep 0 & exec true); sleep 0.2; ps | grep -c \"[Z]\"'; look; docker rm box",
    ),
    (
        "more memory than it may have",
        "docker run --name box $N $D -m 32m --memory-swap 32m busybox tail /dev/zero; echo $?; look; docker rm box",
    ),
    (
        "sysctls",
        "docker run --rm $N $D --sysctl net.ipv4.ip_forward=1 --sysctl kernel.msgmax=65000 busybox sh -c '
            cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range'",
    ),
    (
        "privileged",
        "docker run --rm $N $D --privileged busybox sh -c '
            grep -E \"^(Cap|Seccomp:)\" /proc/self/status; mount -t tmpfs x /tmp; echo $?; echo 1 > /proc/sys/vm/drop_caches; echo $?; ls /proc/acpi >/dev/null 2>&1; ls -d /dev/null /dev/kmsg'",
    ),
    (
        "input, entry point and environment",
        "echo from outside | docker run --rm -i $N $D --entrypoint cat busybox -; printf 'X=1\\nY=two words\\n' > list
         docker run --rm $N $D --env-file list --entrypoint '' busybox sh -c 'echo $X $Y'; echo | docker run --rm -i $N $D busybox sh -c 'read a; echo \"<$a>\"; exit 42'",
    ),
    (
        "a terminal",
        "docker run --name box -t $N $D busybox sh -c 'tty; stty -a | grep -c rows; ls -l /dev/console | cut -c1; echo $TERM'; look; docker rm box",
    ),
    ("labels, names and annotations", "docker run --name box --label a=b --annotation x=y $N $D busybox true; look; docker rm box"),
];

pub const LIFECYCLE: &[Step] = &[
    ("create and start", "docker create --name box $N $D busybox sh -c 'echo out; echo err >&2; exit 3' >/dev/null; look; docker start -a box; echo $?; look; docker rm box"),
    (
        "detached",
        "docker run -d --name box $N $D busybox sh -c 'trap \"echo usr1\" USR1; trap \"echo term; exit 9\" TERM; echo ready; while :; do sleep 0.1; done' >/dev/null
         until_log ready; look; docker kill -s USR1 box; until_log usr1; docker stop -t 20 box; docker logs box; docker wait box; look; docker rm box",
    ),
    (
        "deaf to what stops it",
        "docker run -d --name box $N $D busybox sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.1; done' >/dev/null
         until_log ready; docker stop -t 1 box; look; docker start box; until_state '{{.State.Running}}' true; docker kill box; docker wait box; look; docker rm box",
    ),
    (
        "exec",
        "docker run -d --name box $N $D -e A=b -w /tmp busybox sleep 1000 >/dev/null
         docker exec box sh -c 'pwd; echo $A; id -u; grep -E \"^(Cap|Seccomp:|NoNew)\" /proc/self/status; exit 4'; echo $?
         docker exec -e C=d -w / -u 1000:1000 box sh -c 'pwd; echo $A $C; id; grep ^Cap /proc/self/status'; echo data | docker exec -i box cat
         docker exec --privileged box grep ^Cap /proc/self/status; docker exec -d box touch /started; docker exec -t box tty
         docker exec box nosuch; echo $?; docker exec box /etc/passwd; echo $?; docker exec box sh -c 'kill -9 $$'; echo $?; docker exec -w /nowhere box true; echo $?
         docker rm -f box",
    ),
    (
        "paused",
        "docker run -d --name box $N $D busybox sh -c 'i=0; while :; do i=$((i+1)); echo $i > /tmp/i; sleep 0.1; done' >/dev/null
         docker pause box; look; docker exec box true; echo $?; docker pause box; echo $?; docker unpause box; docker exec box true; echo $?; docker pause box; docker rm -f box",
    ),
    (
        "changed while it runs",
        "docker run -d --name box $N $D -m 128m busybox sleep 1000 >/dev/null; docker update -m 100m --memory-swap 200m --cpus 0.5 --pids-limit 50 --restart no box
         look; docker exec box sh -c 'cd /sys/fs/cgroup; cat memory.max memory.swap.max cpu.max pids.max'
         docker restart -t 0 box; until_state '{{.State.Running}}' true; docker exec box cat /sys/fs/cgroup/memory.max; docker rm -f box",
    ),
];

pub const LATER: &[Step] = &[
    (
        "started again by Docker",
        "docker run -d --name box --restart on-failure:2 $N $D busybox sh -c 'echo run; exit 9' >/dev/null
         until_state '{{.RestartCount}} {{.State.Status}}' '2 exited'; docker logs box; look; docker rm box",
    ),
    (
        "restarted",
        "docker run -d --name box $N $D busybox sh -c 'echo run >> /runs; wc -l < /runs; trap \"exit 0\" TERM; while :; do sleep 0.1; done' >/dev/null
         until_log 1; docker restart -t 5 box; until_log 2; docker logs box; docker rm -f box",
    ),
    (
        "healthy",
        "docker run -d --name box $N $D --health-cmd 'test -e /tmp/well' --health-interval 1s --health-retries 2 busybox sleep 1000 >/dev/null
         until_state '{{.State.Health.Status}}' unhealthy; echo $?; docker exec box touch /tmp/well; until_state '{{.State.Health.Status}}' healthy; echo $?; docker rm -f box",
    ),
    (
        "looked at",
        "docker run -d --name box $N $D busybox sh -c 'echo ready; sleep 1000' >/dev/null; until_log ready; docker top box | wc -l; docker top box | grep -c 'sleep 1000'
         docker stats --no-stream --format '{{.Name}} {{.MemUsage}} {{.PIDs}}' box | sed -E 's/[0-9.]+[KMG]iB/SIZE/g; s/ [0-9]+$/ COUNT/'; docker rm -f box",
    ),
    (
        "renamed, committed and compared",
        "docker run --name first $N $D busybox sh -c 'echo x > /x; rm /etc/group' ; docker rename first box; docker diff box | sort; docker commit box changed >/dev/null
         docker run --rm $N $D changed sh -c 'cat /x; ls /etc/group'; docker cp box:/x - | tar -tv | cut -c1-10
         echo new > /root/new; docker cp /root/new box:/new; docker start -a box; docker cp box:/new - | tar -xO; docker rm box; docker rmi changed >/dev/null",
    ),
    (
        "committed while it runs",
        "docker run -d --name box $N $D busybox sh -c 'echo x > /x; echo ready; sleep 1000' >/dev/null; until_log ready; docker commit box changed >/dev/null
         docker exec box cat /x; docker run --rm $N $D changed cat /x; docker rm -f box; docker rmi changed >/dev/null",
    ),
];

pub const FAILURES: &[Step] = &[
    ("no such command", "docker run --name box $N $D busybox nosuch; echo $?; look; docker rm box"),
    ("no such file", "docker run --name box $N $D busybox /no/such; echo $?; look; docker rm box"),
    ("not to be executed", "docker run --name box $N $D busybox /etc/passwd; echo $?; look; docker rm box"),
    ("a directory", "docker run --rm $N $D busybox /etc; echo $?"),
    ("a working directory that is a file", "docker run --rm $N $D -w /etc/passwd busybox true; echo $?"),
    ("no such user", "docker run --rm $N $D --user nosuch busybox true; echo $?"),
    (
        "a signal that nobody knows",
        "docker run -d --name box $N $D busybox sleep 1000 >/dev/null; docker kill -s NOSUCH box; echo $?; docker rm -f box",
    ),
    (
        "an end by a signal",
        "docker run --rm $N $D busybox sh -c 'sh -c \"kill -9 \\$\\$\"; exit $?'; echo $?",
    ),
    (
        "a second name",
        "docker run -d --name box $N $D busybox sleep 1000 >/dev/null; docker run --name box $N $D busybox true; echo $?; docker rm -f box; docker rm box",
    ),
    (
        "gone while it is attached",
        "docker run -d --name box $N $D busybox sleep 1000 >/dev/null
         (eventually 'docker events --since $began --until $(date +%s.%N) --filter event=attach --format told | grep -q told' 0.2; docker rm -f box > /dev/null) &
         docker attach box; echo $?; wait",
    ),
];
