//! `process` of `config.json`, field by field: what a process of the container sees of each, and an exec's.

use integration::check::{Lab, Row, Runtime};

crate::conformance!(both: [fields, execs, filters, by_docker], ours: [scheduling, labels]);

/// Fields that leave each other alone.
const SHARED: &[Row] = &[
    Row::new("user", ".process.user += {uid: 5, gid: 6}", "id -u; id -g", "5\n6\n"),
    Row::new("additional groups", ".process.user.additionalGids = [7, 8]", "id -G", "6 7 8\n"),
    Row::new("umask", ".process.user.umask = 63", "umask", "0077\n"),
    Row::new("a name of the user is for Windows", ".process.user.username = \"root\"", "id -u", "5\n"),
    Row::new("environment", ".process.env += [\"A=1\", \"B=x y\"]", "echo \"$A,$B\"", "1,x y\n"),
    Row::new("the last of several counts", ".process.env += [\"C=1\", \"C=2\"]", "env | grep ^C=", "C=2\n"),
    Row::new("no HOME, and nobody of that number", ".", "echo $HOME", "/\n"),
    Row::new("working directory", ".process.cwd = \"/tmp\"", "pwd", "/tmp\n"),
    Row::new(
        "no new privileges",
        ".process.noNewPrivileges = true",
        "grep NoNewPrivs /proc/self/status",
        "NoNewPrivs:\t1\n",
    ),
    Row::new("OOM score", ".process.oomScoreAdj = 555", "cat /proc/self/oom_score_adj", "555\n"),
    Row::new(
        "limits",
        r#".process.rlimits = [
            {type: "RLIMIT_NOFILE", soft: 500, hard: 600}, {type: "RLIMIT_CORE", soft: 0, hard: 18446744073709551615},
            {type: "RLIMIT_STACK", soft: 9000000, hard: 90000000}, {type: "RLIMIT_NPROC", soft: 70, hard: 70},
            {type: "RLIMIT_RTPRIO", soft: 3, hard: 4}, {type: "RLIMIT_NICE", soft: 5, hard: 6}]"#,
        "grep -E 'open files|core|stack|processes|realtime priority|nice' /proc/self/limits | sed 's/  */ /g; s/ $//'",
        "Max stack size 9000000 90000000 bytes\n\
         Max core file size 0 unlimited bytes\n\
         Max processes 70 70 processes\n\
         Max open files 500 600 files\n\
         Max nice priority 5 6\n\
         Max realtime priority 3 4\n",
    ),
];

/// What a process of the host has, with limits and a score that it hands on.
const CALLER: &str = "ulimit -Sn 5000; ulimit -Ss 9000; echo 77 > /proc/self/oom_score_adj";

/// The first process's alone.
const FIRST: &[Row] = &[
    Row::new("a working directory that is made", ".process.cwd = \"/new/one\"", "pwd", "/new/one\n"),
    Row::new(
        "limits that it does not name, and no OOM score: its caller's",
        ".process.rlimits = [{type: \"RLIMIT_CORE\", soft: 512, hard: 1024}]",
        "ulimit -n; ulimit -s; ulimit -Hc; cat /proc/self/oom_score_adj",
        "5000\n9000\n2\n77\n",
    )
    .host(CALLER),
    Row::new(
        "more open files than a kernel allows by itself",
        ".process.rlimits = [{type: \"RLIMIT_NOFILE\", soft: 2000000, hard: 3000000}]",
        "ulimit -n; ulimit -Hn",
        "2000000\n3000000\n",
    ),
];

/// As an exec has them on its own.
const EXEC: &[Row] = &[
    Row::new(
        "user and groups",
        ".process.user = {uid: 5, gid: 6, additionalGids: [7, 8]}",
        "id -u; id -g; id -G; echo $HOME",
        "5\n6\n6 7 8\n/\n",
    ),
    Row::new("environment", ".process.env += [\"A=1\", \"B=x y\"]", "echo \"$A,$B\"", "1,x y\n"),
    Row::new("working directory", ".process.cwd = \"/tmp\"", "pwd", "/tmp\n"),
    Row::new(
        "new privileges",
        ".process.noNewPrivileges = false",
        "grep NoNewPrivs /proc/self/status",
        "NoNewPrivs:\t0\n",
    ),
    Row::new(
        "limits",
        ".process.rlimits = [{type: \"RLIMIT_NOFILE\", soft: 500, hard: 600}]",
        "ulimit -n; ulimit -Hn",
        "500\n600\n",
    ),
    Row::new(
        "the caller's limits where it says none, and no OOM score of its own",
        "del(.process.rlimits) | .process.oomScoreAdj = 300",
        "ulimit -n; ulimit -s; cat /proc/self/oom_score_adj",
        "5000\n9000\n77\n",
    )
    .host(CALLER),
    Row::new(
        "what is left open is the container's",
        "del(.process.capabilities)",
        "grep CapEff /proc/self/status",
        "CapEff:\t0000000020000420\n",
    ),
];

/// What prints all capability sets.
const CAPS: &str = "grep ^Cap /proc/self/status";

/// Capabilities, and fields that would be in each other's way.
const OWN: &[Row] = &[
    Row::new(
        "each set, for root",
        r#".process.capabilities = {bounding: ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"], permitted: ["CAP_CHOWN", "CAP_KILL"],
            effective: ["CAP_KILL"], inheritable: ["CAP_CHOWN"], ambient: ["CAP_CHOWN"]}"#,
        CAPS,
        // What execve gives root is what was permitted: the plain bundle has no_new_privs.
        "CapInh:\t0000000000000001\nCapPrm:\t0000000000000021\nCapEff:\t0000000000000021\n\
         CapBnd:\t00000000000000a1\nCapAmb:\t0000000000000001\n",
    ),
    Row::new(
        "each set, for a user",
        r#".process.user.uid = 1000 | .process.capabilities = {bounding: ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"],
            permitted: ["CAP_CHOWN", "CAP_KILL"], effective: ["CAP_KILL"], inheritable: ["CAP_CHOWN"], ambient: ["CAP_CHOWN"]}"#,
        CAPS,
        "CapInh:\t0000000000000001\nCapPrm:\t0000000000000001\nCapEff:\t0000000000000001\n\
         CapBnd:\t00000000000000a1\nCapAmb:\t0000000000000001\n",
    ),
    Row::new(
        "what is not inheritable can't be ambient",
        r#".process.user.uid = 1000 | .process.capabilities = {bounding: ["CAP_KILL"], permitted: ["CAP_KILL"],
            effective: ["CAP_KILL"], ambient: ["CAP_KILL"]}"#,
        CAPS,
        "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
         CapBnd:\t0000000000000020\nCapAmb:\t0000000000000000\n",
    ),
    Row::new(
        "a home from the image's passwd, also for an empty one",
        ".process.user.uid = 1000 | .process.env += [\"HOME=\"]",
        "echo $HOME",
        "/home\n",
    ),
    Row::new(
        "a directory that only root may enter, as the working directory of a user",
        ".process.user.uid = 1000 | .process.cwd = \"/root/closed\"",
        "stat -c %a . 2>&1 | grep -c denied",
        "0\n",
    )
    .host("mkdir -p /opt/busybox/rootfs/root/closed; chmod 700 /opt/busybox/rootfs/root"),
    Row::refused("a working directory that is a file", ".process.cwd = \"/etc/passwd\"", "not a directory"),
];

/// A filter that refuses by argument, each comparison with an errno of its own.
const COMPARISONS: &str = r#".linux.seccomp = {defaultAction: "SCMP_ACT_ALLOW", architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    syscalls: [
        {names: ["kill", "no_such_call"], action: "SCMP_ACT_ERRNO", errnoRet: 36, args: [{index: 1, value: 10, op: "SCMP_CMP_EQ"}]},
        {names: ["kill"], action: "SCMP_ACT_ERRNO", errnoRet: 28, args: [{index: 1, value: 62, op: "SCMP_CMP_GT"}]},
        {names: ["chmod"], action: "SCMP_ACT_ERRNO", errnoRet: 27,
            args: [{index: 1, value: 3072, valueTwo: 2048, op: "SCMP_CMP_MASKED_EQ"}]},
        {names: ["kill"], action: "SCMP_ACT_ERRNO", errnoRet: 29,
            args: [{index: 1, value: 12, op: "SCMP_CMP_EQ"}, {index: 0, value: 2, op: "SCMP_CMP_GE"}]},
        {names: ["ftruncate"], action: "SCMP_ACT_ERRNO", errnoRet: 27, args: [{index: 1, value: 5, op: "SCMP_CMP_LT"}]},
        {names: ["ioprio_set"], action: "SCMP_ACT_ERRNO", errnoRet: 28, args: [{index: 2, value: 16390, op: "SCMP_CMP_LE"}]},
        {names: ["mknodat"], action: "SCMP_ACT_ERRNO", errnoRet: 36, args: [{index: 2, value: 4480, op: "SCMP_CMP_NE"}]},
        {names: ["mkdir"], action: "SCMP_ACT_KILL_PROCESS"}, {names: ["rmdir"], action: "SCMP_ACT_TRAP"},
        {names: ["link"], action: "SCMP_ACT_KILL_THREAD"},
        {names: ["symlink"], action: "SCMP_ACT_TRACE"}, {names: ["sync"], action: "SCMP_ACT_LOG"}]}"#;

/// Without the right to install a filter, so that the runtime has to do it while it has.
const UNPRIVILEGED: &str =
    ".process.noNewPrivileges = false | .process.user.uid = 1000 | .process.capabilities = {}";

/// What [`COMPARISONS`] leaves of calls.
const FILTERED: &[Row] = &[
    Row::new("there is a filter", ".", "grep ^Seccomp: /proc/self/status", "Seccomp:\t2\n"),
    Row::new(
        "an equal argument",
        ".",
        "sh -c 'kill -USR1 $$' 2>&1 | sed 's/.*: //'; sh -c 'kill -WINCH $$' && echo sent",
        "File name too long\nsent\n",
    ),
    Row::new(
        "a greater argument",
        ".",
        "sh -c 'kill -63 $$' 2>&1 | sed 's/.*: //'",
        "No space left on device\n",
    ),
    Row::new(
        "bits of an argument",
        ".",
        "cd /dev/shm; touch f; chmod 4755 f 2>&1 | sed 's/.*: //'; chmod 6755 f && echo changed",
        "File too large\nchanged\n",
    ),
    Row::new(
        "two arguments at once: the first process is not meant",
        ".",
        "sh -c 'kill -USR2 $$' 2>&1 | sed 's/.*: //'; sh -c 'trap : USR2; kill -USR2 1' && echo sent",
        "Illegal seek\nsent\n",
    ),
    Row::new(
        "a smaller argument",
        ".",
        "cd /dev/shm; for n in 4 5; do truncate -s $n t 2>&1 | sed 's/.*: //'; stat -c %s t; done; rm t",
        "File too large\n0\n5\n",
    ),
    Row::new(
        "an argument that is not greater",
        ".",
        "for n in 5 6 7; do ionice -c 2 -n $n -p $$ 2>&1 | sed 's/.*: //'; done; ionice -p $$",
        "No space left on device\nNo space left on device\nbest-effort: prio 7\n",
    ),
    Row::new(
        "another argument than the one that is allowed",
        ".",
        "cd /dev/shm; mkfifo -m 640 p 2>&1 | sed 's/.*: //'; mkfifo -m 600 p && rm p && echo made",
        "File name too long\nmade\n",
    ),
    Row::new(
        "death of a thread",
        ".",
        "exec 2> /dev/null; cd /dev/shm; : > l; ln l m & wait $!; echo $?; rm l; ls m",
        "159\n",
    ),
    Row::new(
        "death, a signal, a tracer that is not there, and a note in the log",
        ".",
        "exec 2> /dev/null; mkdir /dev/shm/d & wait $!; echo $?; rmdir /none & wait $!; echo $?
        ln -s a /dev/shm/b 2>&1 | sed 's/.*: //'; sync && echo synced",
        "159\n159\nFunction not implemented\nsynced\n",
    ),
];

/// Filters that nobody can have.
const NO_FILTERS: &[Row] = &[
    Row::refused(
        "a listener",
        ".linux.seccomp = {defaultAction: \"SCMP_ACT_ALLOW\", syscalls: [{names: [\"mkdir\"], action: \"SCMP_ACT_NOTIFY\"}]}",
        "SCMP_ACT_NOTIFY is not supported",
    ),
    Row::new(
        "the path of a listener, and nothing to tell it",
        ".linux.seccomp = {defaultAction: \"SCMP_ACT_ALLOW\", listenerPath: \"/root/none\", syscalls: []}",
        "true",
        "",
    )
    .ours_refuses("listenerPath is not supported"),
    Row::refused(
        "a flag for listeners",
        ".linux.seccomp = {defaultAction: \"SCMP_ACT_ALLOW\", flags: [\"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV\"], syscalls: []}",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is not supported",
    ),
    Row::refused(
        "a seventh argument",
        r#".linux.seccomp = {defaultAction: "SCMP_ACT_ALLOW", syscalls: [{names: ["mkdir"], action: "SCMP_ACT_ERRNO",
            args: [{index: 6, value: 0, op: "SCMP_CMP_EQ"}]}]}"#,
        "mkdir has no argument 6",
    ),
];

/// Of the guest's own kernel. The runc of this host knows them not.
const SCHEDULING: &[Row] = &[
    Row::new(
        "flags of a filter",
        r#".linux.seccomp = {defaultAction: "SCMP_ACT_ALLOW", syscalls: [{names: ["mkdir"], action: "SCMP_ACT_ERRNO"}],
            flags: ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}"#,
        "mkdir /x 2>&1 | sed 's/.*: //'",
        "Operation not permitted\n",
    ),
    Row::new(
        "I/O priority",
        ".process.ioPriority = {class: \"IOPRIO_CLASS_BE\", priority: 3}",
        "ionice -p $$",
        "best-effort: prio 3\n",
    ),
    Row::new(
        "realtime",
        ".process.scheduler = {policy: \"SCHED_RR\", priority: 7, flags: [\"SCHED_FLAG_RESET_ON_FORK\"]}",
        "cut -d' ' -f40,41 /proc/1/stat",
        "7 2\n",
    ),
];

fn fields(lab: &mut Lab) {
    let before = lab.snapshot();
    lab.together(SHARED);
    lab.apart(FIRST);
    lab.apart(OWN);
    lab.nothing_left("after the table", &before);
}

fn execs(lab: &mut Lab) {
    lab.by_exec(".", EXEC);
    lab.by_exec(".", OWN);
}

/// Filters of system calls: as the bundle says, and where nobody but the runtime could install one.
fn filters(lab: &mut Lab) {
    let first = Row::new("the filter", COMPARISONS, "true", "");
    lab.together(&[&[first], FILTERED].concat());
    let user = Row::new(
        "a user with nothing",
        UNPRIVILEGED,
        "grep -E '^(NoNewPrivs|CapEff|CapPrm):' /proc/self/status",
        "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nNoNewPrivs:\t0\n",
    );
    lab.together(&[&[first, user], FILTERED].concat());
    lab.by_exec(COMPARISONS, FILTERED);
    lab.apart(NO_FILTERS);
}

fn scheduling(lab: &mut Lab) {
    lab.together(SCHEDULING);
    let rows = [
        SCHEDULING[1],
        Row::new(
            "a niceness that goes down",
            ".process.scheduler = {policy: \"SCHED_OTHER\", nice: -5}",
            "cut -d' ' -f19 /proc/self/stat",
            "-5\n",
        ),
        Row::new(
            "processors",
            ".process.execCPUAffinity = {initial: \"3\", final: \"0\"}",
            "taskset -p $$ | sed 's/.*: //'",
            "1\n",
        ),
        Row::refused(
            "processors that are not there",
            ".process.execCPUAffinity.final = \"9\"",
            "execCPUAffinity",
        ),
        Row::refused(
            "a level beyond the last",
            ".process.ioPriority = {class: \"IOPRIO_CLASS_RT\", priority: 8}",
            "0 to 7",
        ),
        Row::refused("a scheduler of no Linux", ".process.scheduler.policy = \"SCHED_ISO\"", "SCHED_ISO"),
    ];
    lab.by_exec(".", &rows);
}

/// Names of profiles that callers use by themselves are the machine's to replace, and all others are refused.
fn labels(lab: &mut Lab) {
    lab.together(&[
        Row::new(
            "podman's profile",
            ".process.apparmorProfile = \"containers-default-0.62.2\"",
            "echo ran",
            "ran\n",
        ),
        Row::new(
            "container_t",
            ".process.selinuxLabel = \"system_u:system_r:container_t:s0:c1,c2\"",
            "true",
            "",
        ),
        Row::new(
            "its files",
            ".linux.mountLabel = \"system_u:object_r:container_file_t:s0:c1,c2\"",
            "true",
            "",
        ),
    ]);
    lab.apart(&[
        Row::refused(
            "a profile of one's own",
            ".process.apparmorProfile = \"nosuch\"",
            "apparmor=unconfined",
        ),
        Row::refused(
            "a type of one's own",
            ".process.selinuxLabel = \"u:r:mine_t:s0\"",
            "process.selinuxLabel",
        ),
        Row::refused("likewise of files", ".linux.mountLabel = \"u:r:mine_t:s0\"", "linux.mountLabel"),
    ]);
    lab.by_exec(
        ".",
        &[Row::refused("of an exec", ".process.apparmorProfile = \"nosuch\"", "apparmor=unconfined")],
    );
}

/// Docker's options for what a process may do.
fn by_docker(lab: &mut Lab) {
    let status = "grep -E '^(Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp):' /proc/self/status";
    lab.step(
        "its own profile and capabilities, which keep out of namespaces and clocks",
        &format!("docker run --rm $N $D busybox sh -c \"{status}; unshare -n true; date -s 2000-01-01 > /dev/null; ls -di /proc/1/ns/net | wc -l\""),
    )
    .code(0)
    .out("CapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t0\nSeccomp:\t2\n1\n")
    .err_has("Operation not permitted");
    lab.step(
        "a user, a group, a limit, no new privileges and one capability of all",
        &format!("docker run --rm $N $D --user 1000:1000 --group-add 5 --ulimit nofile=500:600 --cap-drop ALL --cap-add NET_ADMIN \
            --security-opt no-new-privileges busybox sh -c \"{status}; id -u; id -G; ulimit -n; ulimit -Hn; echo \\$HOME\""),
    )
    .code(0)
    .out("CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000001000\nNoNewPrivs:\t1\nSeccomp:\t2\n\
          1000\n1000 5\n500\n600\n/home\n")
    .err("");
    lab.step(
        "all capabilities, no profile of either kind",
        &format!("docker run --rm $N $D --cap-add ALL --security-opt seccomp=unconfined --security-opt apparmor=unconfined busybox \
            sh -c \"{status}; unshare -n true && echo unshared\""),
    )
    .code(0)
    .out("CapPrm:\t000001ffffffffff\nCapEff:\t000001ffffffffff\nCapBnd:\t000001ffffffffff\nNoNewPrivs:\t0\nSeccomp:\t0\nunshared\n")
    .err("");
    lab.must(
        "a profile of one's own",
        // All calls but those that make directories; these are left to the default.
        r#"grep -o '__NR_[a-z0-9_]*' /usr/include/x86_64-linux-gnu/asm/unistd_64.h | cut -c 6- | grep -v '^mkdir' |
            jq -Rn '{defaultAction: "SCMP_ACT_ERRNO", defaultErrnoRet: 28, syscalls: [{names: [inputs], action: "SCMP_ACT_ALLOW"}]}' > /root/profile"#,
    );
    lab.must(
        "a container with it",
        "docker run -d --name box1 $N $D --security-opt seccomp=/root/profile busybox sleep 1000 >&2",
    );
    lab.step("holds for an exec too", "docker exec box1 mkdir /tmp/x 2>&1 | sed 's/.*: //'")
        .code(0)
        .out("No space left on device\n");
    lab.step("a privileged exec has all capabilities, and the filter", &format!("docker exec --privileged box1 sh -c \"{status}\""))
        .code(0)
        .out("CapPrm:\t000001ffffffffff\nCapEff:\t000001ffffffffff\nCapBnd:\t000001ffffffffff\nNoNewPrivs:\t0\nSeccomp:\t2\n")
        .err("");
    lab.step("removed", "docker rm -f box1").code(0).out("box1\n");
    let runtime = lab.runtime();
    let refused = lab
        .step(
            "a profile that is nowhere",
            "docker run --rm $N $D --security-opt apparmor=nosuch busybox true",
        )
        .out("")
        .err_has("apparmor");
    // runc's own words make Docker blame the command.
    if runtime == Runtime::Msb {
        let _ = refused.code(125).err_has("apparmor=unconfined");
    }
}
