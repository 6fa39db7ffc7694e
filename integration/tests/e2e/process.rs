//! `process` of `config.json`, field by field: what a process of the container sees of each, and an exec's.

use integration::check::{Lab, Row};

crate::conformance!(both: [fields, execs], ours: []);

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

/// The first process's alone.
const FIRST: &[Row] =
    &[Row::new("a working directory that is made", ".process.cwd = \"/new/one\"", "pwd", "/new/one\n")];

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
        "what is left open is the container's",
        "del(.process.rlimits, .process.capabilities)",
        "ulimit -n; grep CapEff /proc/self/status",
        "1024\nCapEff:\t0000000020000420\n",
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
    Row::refused("a working directory that is a file", ".process.cwd = \"/etc/passwd\"", "process.cwd"),
];

fn fields(lab: &mut Lab) {
    let before = lab.snapshot();
    lab.together(SHARED);
    lab.apart(FIRST);
    lab.apart(OWN);
    lab.nothing_left("after the table", &before);
}

fn execs(lab: &mut Lab) {
    lab.by_exec(EXEC);
    lab.by_exec(OWN);
}
