//! What may be done in which state, what is told of it, and the flags that only a person gives.

use std::time::Duration;

use integration::check::Lab;

use super::direct::BUNDLE;

crate::conformance!(both: [created_and_stopped], ours: [flags]);

fn created_and_stopped(lab: &mut Lab) {
    lab.define(BUNDLE);
    lab.must(
        "the cgroup above all of this test's, and bundles",
        "mkdir /sys/fs/cgroup/e2e; bundle c sleep 1000; bundle d sleep 1000",
    );
    let before = lab.snapshot();
    let create = "$R create --bundle /root/c --pid-file /root/c/pid c < /dev/null > /root/c/out 2>&1";
    lab.must("a created container", create);
    lab.step("all that its state tells", "$R state c | jq -c 'keys'")
        .code(0)
        .out("[\"bundle\",\"created\",\"id\",\"ociVersion\",\"owner\",\"pid\",\"rootfs\",\"status\"]\n");
    lab.step("which process it is", "$R state c | jq -c '[.status, .pid]'; cat /root/c/pid").code(0).out_is(
        "created, the pid",
        |out| {
            let (state, pid) = out.split_once('\n').unwrap_or_default();
            state == format!("[\"created\",{pid}]")
        },
    );
    lab.step("not resumed", "$R resume c").code(1).out("");
    lab.step("it can be killed", "$R kill c KILL").code(0).out("").err("");
    lab.wait("it has stopped", "[ $($R state c | jq -r .status) = stopped ]");
    lab.step("its state then", "$R state c | jq -c '[.status, .pid]'").code(0).out("[\"stopped\",0]\n");
    lab.step("nothing can be started in it", "$R start c").code(1).out("");
    lab.step("nor run", "$R exec c true").code(255).out("").err_has("cannot exec in a stopped container");
    lab.step("nor paused", "$R pause c").code(1).out("");
    lab.step("it can be deleted", "$R delete c").code(0).out("").err("");
    lab.must("another", create);
    lab.step("told to end", "$R kill c TERM").code(0).out("").err("");
    lab.wait("it does", "[ $($R state c | jq -r .status) = stopped ]");
    lab.must("and is deleted; another", &format!("$R delete c; {create}"));
    lab.step("deleted as it is, without force", "$R delete c; $R list -q").code(0).out("").err("");
    lab.wait("its process is gone", "! kill -0 $(cat /root/c/pid) 2>/dev/null");
    lab.must("annotations", "jq '.annotations = {\"a.b\": \"c d\"}' /root/c/config.json > /root/new; mv /root/new /root/c/config.json");
    let long = "d".repeat(150);
    lab.step(
        "a root that is relative, and one with a long name",
        &format!(
            "cd /root; mkdir {long}
             for root in state {long}/state; do
                 $R --root $root create --bundle /root/c c < /dev/null > /root/c/out 2>&1 && $R --root $root start c
                 (cd /; $R --root /root/$root state c | jq -c '[.status, .annotations[\"a.b\"]]')
                 $R --root /root/$root list -q; $R --root $root exec c echo in; $R --root $root delete --force c
             done; $R list -q"
        ),
    )
    .code(0)
    .out("[\"running\",\"c d\"]\nc\nin\n[\"running\",\"c d\"]\nc\nin\n")
    .err("");
    lab.step(
        "one id under two roots at once",
        "cd /root; for root in one two; do $R --root /root/$root run --detach --bundle /root/d d < /dev/null > /root/d/out 2>&1 ||
            cat /root/d/out; jq '.linux.cgroupsPath = \"/e2e/other\"' /root/d/config.json > /root/new; mv /root/new /root/d/config.json; done
         for root in one two; do $R --root /root/$root state d | jq -r .status; $R --root /root/$root delete --force d; done",
    )
    .code(0)
    .out("running\nrunning\n")
    .err("");
    lab.nothing_left("after all", &before);
}

fn flags(lab: &mut Lab) {
    lab.define(BUNDLE);
    lab.must(
        "the cgroup above all of this test's",
        "mkdir /sys/fs/cgroup/e2e; bundle c sh -c 'sleep 1000 & sleep 1000; true'",
    );
    let before = lab.snapshot();
    for (what, script, hint) in [
        ("open files", "$R create --preserve-fds 1 --bundle /root/c c", "leave it out"),
        ("open files for an exec", "$R exec --preserve-fds 1 c true", "leave it out"),
        (
            "sockets of systemd's",
            "sh -c 'LISTEN_FDS=1 LISTEN_PID=$$ exec '$P' create --bundle /root/c c'",
            "LISTEN_FDS",
        ),
        ("without root", "$R --rootless=true create --bundle /root/c c", "run as root"),
        ("a checkpoint", "$R checkpoint --image-path /root/i --leave-running c", "pause and resume"),
        ("its restore", "$R restore --detach --bundle /root/c --image-path /root/i c", "pause and resume"),
        ("another cgroup", "$R exec --cgroup /deeper c true", "cgroup.procs"),
    ] {
        lab.step(what, &format!("{script} < /dev/null")).out("").err_has(hint).err_is(
            "none of the words that mean the container's command",
            |err| {
                !["no such file", "permission denied", "is a directory"]
                    .iter()
                    .any(|words| err.contains(words))
            },
        );
    }
    lab.step("none of it made a container", "$R list -q").code(0).out("");
    lab.step(
        "a descriptor of the process, for whoever waits for it",
        "nc -lU /root/one > /root/one.out & nc -lU /root/two > /root/two.out & eventually '[ -S /root/one ] && [ -S /root/two ]'
         $R --rootless=false --debug run --detach --no-subreaper --pidfd-socket /root/one --bundle /root/c c < /dev/null > /root/c/out 2>&1
         $R exec --pidfd-socket /root/two --cgroup / c true < /dev/null; wait; cat /root/one.out; echo; cat /root/two.out",
    )
    .code(0)
    .out("standard\nsetns");
    lab.step("groups are added, a user keeps its group", "$R exec --user 7 -g 8 -g 9 c id < /dev/null")
        .code(0)
        .out_has("uid=7 gid=0")
        .out_has("8")
        .out_has("9");
    lab.step("a capability more", "$R exec --cap CAP_SYS_TIME --no-new-privs c grep -E 'CapEff|NoNewPrivs' /proc/self/status < /dev/null")
        .code(0)
        .out_is("bit 25, and no new privileges", |out| {
            let value = |name: &str| out.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            value("CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok()).is_some_and(|caps| caps >> 25 & 1 == 1)
                && value("NoNewPrivs:") == Some("1")
        });
    lab.step(
        "labels: those of callers are the machine's to replace, others are refused",
        "$R exec --process-label system_u:system_r:container_t:s0:c1,c2 --apparmor docker-default c echo ran < /dev/null
         $R exec --process-label u:r:mine_t:s0 c echo ran < /dev/null; $R exec --apparmor mine c echo ran < /dev/null",
    )
    .code(255)
    .out("ran\n")
    .err_has("process.selinuxLabel")
    .err_has("apparmor=unconfined");
    lab.step(
        "its own processes",
        "$R ps --guest c | sed 1d | wc -l; $R ps --guest --format json c | jq -c '[.[].name] | sort'",
    )
    .code(0)
    .out("3\n[\"sh\",\"sleep\",\"sleep\"]\n")
    .err("");
    lab.step("features that it has", "$R features | jq -c '.hooks | sort'")
        .code(0)
        .out("[\"createContainer\",\"createRuntime\",\"poststart\",\"poststop\",\"prestart\",\"startContainer\"]\n");
    lab.step_with(
        "a fork bomb is held, and the runtime answers",
        "$R update --pids-limit 40 c
         $R exec --detach c sh -c 'exec 2> /dev/null; b() { b | b & }; while :; do b; done' < /dev/null > /dev/null 2>&1
         eventually \"$R exec c sh -c 'read a n < /sys/fs/cgroup/pids.events; [ \\$n -gt 0 ]' < /dev/null 2> /dev/null\"
         eventually '$R exec c echo answers < /dev/null 2> /dev/null'
         $R state c | jq -r .status; [ $($R ps --guest c | sed 1d | wc -l) -le 41 ] && echo held",
        |command| command.timeout(Duration::from_secs(300)),
    )
    .code(0)
    .out("answers\nrunning\nheld\n");
    lab.must("deleted", "$R delete --force c; rm -f /root/one /root/two");
    lab.step("kept when it has ended", "bundle d true; $R run --keep --bundle /root/d d < /dev/null; $R state d | jq -r .status; $R delete d")
        .code(0)
        .out("stopped\n");
    lab.nothing_left("after all", &before);
}
