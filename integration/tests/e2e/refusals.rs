//! Bad input: an error that says what to do, on standard error and in the log, and nothing left behind.

use integration::check::{DOCKERS_WORDS, Lab, Runtime};

use super::direct::BUNDLE;

crate::conformance!(both: [bundles, states], ours: [machines, doctor]);

/// Takes back what [`refused`] looks at. `msb` calls the runtime as its callers do.
const LOGGED: &str = r#"rt() { rm -f /root/log; "$R" --log /root/log --log-format json "$@"; }"#;

/// `script` ends in a call of `rt` that must fail. `hint` is what our runtime says to do about it; runc has its own words.
fn refused(lab: &mut Lab, what: &str, script: &str, hint: &str) {
    let failed = lab.step(what, script).code(1).out("");
    let told = failed.stderr();
    failed.err_is("an error message", |err| !err.trim().is_empty());
    let ours = lab.runtime() == Runtime::Msb;
    let step = lab
        .step(
            &format!("{what}: the log's last line"),
            "tail -n 1 /root/log | jq -r 'select(.level == \"error\") | .msg'",
        )
        .code(0)
        .out_is("a message", |out| !out.trim().is_empty());
    if ours {
        step.out_is("the message of standard error", |out| told.contains(out.trim_end()))
            .out_is(&format!("a hint: {hint}"), |out| out.contains(hint))
            .out_is("none of the words that mean the container's command", |out| {
                DOCKERS_WORDS.iter().all(|words| !out.contains(words))
            });
    }
}

fn bundles(lab: &mut Lab) {
    lab.define(BUNDLE);
    lab.define(LOGGED);
    lab.define(r#"change() { bundle x true; jq "$1" /root/x/config.json > /root/new; mv /root/new /root/x/config.json; }"#);
    lab.step(
        "one container first, for what is made once",
        "mkdir /sys/fs/cgroup/e2e; bundle x true; $R run --bundle /root/x x",
    )
    .code(0)
    .out("")
    .err("");
    let before = lab.snapshot();
    let create = "rt create --bundle /root/x x < /dev/null";
    for (what, script, hint) in [
        ("no bundle", "rm -rf /root/x;", "--bundle"),
        ("no config.json", "rm -rf /root/x; mkdir /root/x;", "has no config.json"),
        ("broken JSON", "bundle x true; echo '{\"ociVersion\": ' > /root/x/config.json;", "line 2 column 0"),
        ("a root that is missing", "change '.root.path = \"/nowhere\"';", "correct root.path"),
        ("no command", "change '.process.args = []';", "process.args is empty"),
        ("a relative folder to work in", "change '.process.cwd = \"tmp\"';", "process.cwd"),
    ] {
        refused(lab, what, &format!("{script} {create}"), hint);
    }
    refused(
        lab,
        "an id that is no file name",
        "bundle x true; rt create --bundle /root/x a/b",
        "invalid container ID format",
    );
    refused(
        lab,
        "an empty id",
        "bundle x true; rt create --bundle /root/x ''",
        "invalid container ID format",
    );
    if lab.runtime() == Runtime::Msb {
        refused(lab, "a verb that is none", "rt nonsense", "--help");
        // runc takes any version.
        refused(
            lab,
            "another version",
            &format!("change '.ociVersion = \"2.0.0\"'; {create}"),
            "ociVersion \"2.0.0\"",
        );
        refused(lab, "no version", &format!("change 'del(.ociVersion)'; {create}"), "ociVersion is missing");
    }
    lab.step("no container came of it", "$R list -q").code(0).out("").err("");
    lab.nothing_left("after bad bundles", &before);
}

fn states(lab: &mut Lab) {
    lab.define(BUNDLE);
    lab.define(LOGGED);
    lab.must("a bundle", "mkdir /sys/fs/cgroup/e2e; bundle x sleep 1000; bundle y true");
    let clean = lab.snapshot();
    lab.must("a container", "$R run -d --bundle /root/x x < /dev/null > /root/out 2>&1");
    let before = lab.snapshot();
    for (what, verb, hint) in [
        (
            "create with an id that is taken",
            "create --bundle /root/y x",
            "container with given ID already exists",
        ),
        ("run with an id that is taken", "run --bundle /root/y x", "container with given ID already exists"),
        ("start of a running container", "start x", "cannot start"),
        ("delete of a running container", "delete x", "cannot delete container x that is not stopped"),
        ("start of an unknown id", "start nosuch", "container does not exist"),
        ("state of an unknown id", "state nosuch", "container does not exist"),
        ("kill of an unknown id", "kill nosuch 9", "container does not exist"),
        ("delete of an unknown id", "delete nosuch", "container does not exist"),
        ("ps of an unknown id", "ps --format json nosuch", "container does not exist"),
        ("a signal that is none", "kill x NOSUCH", "NOSUCH"),
    ] {
        refused(lab, what, &format!("rt {verb} < /dev/null"), hint);
    }
    lab.nothing_left("after refusals", &before);
    lab.step("the container is as it was", "$R state x | jq -r .status").code(0).out("running\n");
    lab.step("its end", "$R kill x KILL").code(0).out("").err("");
    lab.wait("it has stopped", "[ $($R state x | jq -r .status) = stopped ]");
    refused(lab, "kill of a stopped container", "rt kill x 9", "container not running");
    refused(lab, "start of a stopped container", "rt start x", "cannot start");
    lab.step("delete", "$R delete x").code(0).out("").err("");
    lab.nothing_left("after delete", &clean);
}

/// A host that lacks something, or has something wrong.
fn machines(lab: &mut Lab) {
    lab.define(BUNDLE);
    lab.define(LOGGED);
    lab.step("a container first", "mkdir /sys/fs/cgroup/e2e; bundle x true; $R run --bundle /root/x x")
        .code(0)
        .out("")
        .err("");
    let before = lab.snapshot();
    let create = "rt create --bundle /root/x x < /dev/null";
    for (what, script, hint) in [
        (
            "a kernel cut short",
            "head -c 1000000 /usr/lib/msb/vmlinux > /root/k; export MSB_KERNEL=/root/k;",
            "/root/k",
        ),
        ("a kernel that is none", "echo text > /root/k; export MSB_KERNEL=/root/k;", "/root/k"),
        ("no kernel", "export MSB_KERNEL=/root/none;", "/root/none"),
        ("no initramfs", "export MSB_INITRAMFS=/root/none;", "/root/none"),
    ] {
        refused(lab, what, &format!("{script} {create}"), hint);
    }
    let undo = "; code=$?; mv /dev/away /dev/kvm; exit $code";
    refused(lab, "no /dev/kvm", &format!("mv /dev/kvm /dev/away; {create}{undo}"), "/dev/kvm");
    refused(
        lab,
        "a /dev/kvm that is none",
        &format!(
            "mv /dev/kvm /dev/away; mknod /dev/kvm c 1 3; {create}; code=$?; rm /dev/kvm; mv /dev/away /dev/kvm; exit $code"
        ),
        "/dev/kvm",
    );
    refused(
        lab,
        "a user who may not",
        "rm -f /tmp/log; cp -r /root/x /tmp/x; setpriv --reuid 1000 --regid 1000 --clear-groups \
            $R --log /tmp/log --log-format json create --bundle /tmp/x x < /dev/null; code=$?
        mv /tmp/log /root/log; rm -rf /tmp/x; exit $code",
        "root",
    );
    lab.step("under Docker, a machine that can't be had is no fault of the command", 
        "mv /dev/kvm /dev/away; docker run --rm $N $D busybox true; code=$?; mv /dev/away /dev/kvm; exit $code")
        .code(125)
        .out("")
        .err_has("/dev/kvm");
    lab.step("no container came of it", "$R list -q; docker ps --all --quiet").code(0).out("").err("");
    lab.nothing_left("after hosts that would not do", &before);
}

fn doctor(lab: &mut Lab) {
    lab.step(
        "all is well",
        "$R doctor; echo code $?; ls /sys/class/net | grep msb; lsmod | grep -o '^cls_u32'",
    )
    .code(0)
    .out_is("no complaint, virtiofsd's version, all modules tried, and no tap left", |out| {
        !out.contains("FAIL")
            && out.contains("ok    virtiofsd: /usr/libexec/virtiofsd is version 1.")
            && out.contains("ok    network: /dev/net/tun ")
            && out.ends_with("\ncode 0\ncls_u32\n")
    })
    .err("");
    lab.step(
        "no taps, and what is only missed",
        "mv /dev/net/tun /dev/away; $R doctor; code=$?; mv /dev/away /dev/net/tun
         mv /dev/vhost-net /dev/away; $R doctor | grep network; mv /dev/away /dev/vhost-net; exit $code",
    )
    .code(1)
    .out_has("FAIL  network: /dev/net/tun can't be opened (ENOENT): load the kernel's module `tun`")
    .out_has("ok    network: /dev/net/tun gives a container its links; `modprobe vhost_net`")
    .err("");
    lab.step("no /dev/kvm", "mv /dev/kvm /dev/away; $R doctor; code=$?; mv /dev/away /dev/kvm; exit $code")
        .code(1)
        .out_has("FAIL  kvm: This host has no /dev/kvm")
        .err("");
    lab.step("no kernel", "MSB_KERNEL=/root/none $R doctor")
        .code(1)
        .out_has("FAIL  kernel: /root/none is not there")
        .err("");
    lab.step(
        "a virtiofsd that is too old, and one that is another program",
        "printf '#!/bin/sh\necho virtiofsd backend 1.6.1\n' > /root/old; chmod 755 /root/old
         for program in /root/old /bin/true; do
             mount --bind $program /usr/libexec/virtiofsd; $R doctor | grep virtiofsd; umount /usr/libexec/virtiofsd
         done",
    )
    .code(0)
    .out_has("FAIL  virtiofsd: /usr/libexec/virtiofsd is version 1.6.1, and 1.10 is the oldest")
    .out_has("FAIL  virtiofsd: /usr/libexec/virtiofsd does not say what version")
    .err("");
    lab.step(
        "a process that may not change its user",
        "setpriv --bounding-set -setuid --inh-caps -setuid $R doctor",
    )
    .code(1)
    .out_has("FAIL  walls: The VMM can't be confined (give up its user)")
    .err("");
    lab.step("not root", "setpriv --reuid 1000 --regid 1000 --clear-groups $R doctor")
        .code(1)
        .out_has("FAIL  user: ")
        .err("");
}
