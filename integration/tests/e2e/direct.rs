//! The runtime's own command line: each verb of runc's, its output, its exit code and its files.

use integration::check::{Lab, Runtime};

crate::conformance!(both: [a_container_step_by_step, run, what_it_tells], ours: []);

/// `bundle NAME COMMAND…` makes the bundle /root/NAME, whose container sits in the cgroup /e2e/NAME.
pub const BUNDLE: &str = r#"
bundle() {
    name=$1; shift
    mkdir -p /root/$name
    jq --arg cgroup /e2e/$name '.linux.cgroupsPath = $cgroup | .root.path = "/opt/busybox/rootfs" |
        .process.args = $ARGS.positional' /opt/busybox/bundle/config.json --args -- "$@" > /root/$name/config.json
}
"#;

fn a_container_step_by_step(lab: &mut Lab) {
    lab.define(BUNDLE);
    lab.must("the cgroup above all of this test's", "mkdir /sys/fs/cgroup/e2e");
    let before = lab.snapshot();
    lab.must(
        "a bundle",
        "bundle c sh -c 'echo started; trap \"echo usr1\" USR1; trap \"exit 9\" TERM; while :; do sleep 0.1; done'",
    );
    lab.step(
        "create, with a pipe inherited as descriptor 9",
        "cd /root/c; mkfifo held; (cat held; echo closed > end) &
        $R create --bundle /root/c --pid-file /root/c/pid c < /dev/null > out 2> err 9> held",
    )
    .code(0)
    .out("")
    .err("");
    lab.step("nothing runs yet, and create was silent", "cat /root/c/out /root/c/err")
        .code(0)
        .out("")
        .err("");
    if lab.runtime() == Runtime::Msb {
        // runc's waiting process still holds it.
        lab.wait("no descriptor of the caller's is held", "[ -e /root/c/end ]");
    }
    lab.step(
        "the pid file is a number and nothing else",
        "grep -c '^[1-9][0-9]*$' /root/c/pid; wc -l < /root/c/pid",
    )
    .code(0)
    .out("1\n0\n");
    lab.step(
        "state",
        "$R state c | jq -c '[.id, .status, .bundle, .pid, (.ociVersion | startswith(\"1.\")), .rootfs, (.created | length > 18)]'; cat /root/c/pid",
    )
    .code(0)
    .out_is("id, created, bundle, the pid file's pid, version, root, a time", |out| {
        let (state, pid) = out.split_once('\n').unwrap_or_default();
        state == format!(r#"["c","created","/root/c",{pid},true,"/opt/busybox/rootfs",true]"#)
    })
    .err("");
    lab.step("it sits in cgroupsPath", "cat /proc/$(cat /root/c/pid)/cgroup").code(0).out("0::/e2e/c\n");
    lab.step("start", "$R start c").code(0).out("").err("");
    lab.wait("it runs, on the descriptors that create had", "grep -q started /root/c/out");
    lab.wait("no descriptor of the caller's is held by a running container", "[ -e /root/c/end ]");
    lab.step("state tells it", "$R state c | jq -r .status").code(0).out("running\n");
    lab.step("delete of what is not stopped", "$R delete c").code(1).out("").err_has("that is not stopped");
    lab.step("start once only", "$R start c").code(1).out("");
    lab.step("list", "$R list").code(0).out_is("a header and one line of the container", |out| {
        let mut lines = out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let header = lines.next().unwrap_or_default();
        let line = lines.next().unwrap_or_default();
        header == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
            && line.first() == Some(&"c")
            && line.get(2) == Some(&"running")
            && line.get(3) == Some(&"/root/c")
            && lines.next().is_none()
    });
    lab.step("list of ids", "$R list -q").code(0).out("c\n").err("");
    lab.step("list as JSON", "$R list --format json | jq -c '[.[] | .id, .status]'")
        .code(0)
        .out("[\"c\",\"running\"]\n");
    lab.step(
        "ps as JSON holds the container's pid",
        "$R ps --format json c | jq \"index($(cat /root/c/pid)) != null\"",
    )
    .code(0)
    .out("true\n")
    .err("");
    lab.step("ps as a table", "$R ps c | head -n 1").code(0).out_has("PID");
    exec(lab);
    lab.step(
        "kill --all reaches every process: three execs end, the first one hears of it",
        "for i in 1 2 3; do $R exec --detach c sleep 77$i < /dev/null > /dev/null 2>&1; done
         eventually '[ $($R exec c ps | grep -c \"sleep 77\") = 3 ]'; $R kill --all c USR1
         eventually 'grep -q usr1 /root/c/out' && eventually '[ $($R exec c ps | grep -c \"sleep 77\") = 0 ]' && $R state c | jq -r .status",
    )
    .code(0)
    .out("running\n")
    .err("");
    lab.step("kill with a name", "$R kill c USR1").code(0).out("").err("");
    lab.wait("the signal arrives", "[ $(grep -c usr1 /root/c/out) = 2 ]");
    lab.step("kill with a number, the default signal's", "$R kill c 15").code(0).out("").err("");
    lab.wait("it ends", "[ $($R state c | jq -r .status) = stopped ]");
    lab.step("kill of what has ended", "$R kill c 9").code(1).out("").err_has("container not running");
    lab.step("delete", "$R delete c").code(0).out("").err("");
    lab.step("delete once only", "$R delete c").code(1).out("").err_has("container does not exist");
    lab.step("delete --force is content", "$R delete --force c; $R delete c --force").code(0).out("").err("");
    lab.step("all that it wrote, and all that verbs wrote there", "cat /root/c/out /root/c/err")
        .code(0)
        .out_is("two signals, and what the shell says of a child that had one", |out| {
            out.lines().filter(|line| *line != "User defined signal 1").eq(["started", "usr1", "usr1"])
        });
    lab.nothing_left("after delete", &before);
}

fn exec(lab: &mut Lab) {
    lab.step("exec", "echo data | $R exec c sh -c 'cat; echo err >&2; exit 5'")
        .code(5)
        .out("data\n")
        .err("err\n");
    lab.step(
        "exec with flags",
        "$R exec --env A=b --cwd /tmp --user 1000:1000 c sh -c 'echo $A; pwd; id -u'",
    )
    .code(0)
    .out("b\n/tmp\n1000\n");
    lab.step(
        "exec as containerd calls it",
        "jq '.process | .args = [\"sh\", \"-c\", \"echo detached; exit 6\"]' /root/c/config.json > /root/c/process
        $R exec --process /root/c/process --detach --pid-file /root/c/exec.pid c < /dev/null > /root/c/exec.out 2>&1
        echo $?; eventually 'grep -q detached /root/c/exec.out'; cat /root/c/exec.out; grep -c '^[1-9][0-9]*$' /root/c/exec.pid",
    )
    .code(0)
    .out("0\ndetached\n1\n")
    .err("");
    lab.step("exec of nothing", "$R exec c nosuchcommand")
        .code(255)
        .out("")
        .err_has("executable file not found in $PATH");
}

fn run(lab: &mut Lab) {
    lab.define(BUNDLE);
    lab.must("the cgroup above all of this test's", "mkdir /sys/fs/cgroup/e2e");
    let before = lab.snapshot();
    lab.step(
        "in the foreground",
        "bundle a sh -c 'cat; echo err >&2; exit 7'; echo data | $R run --bundle /root/a a",
    )
    .code(7)
    .out("data\n")
    .err("err\n");
    lab.step("it is gone", "$R list -q").code(0).out("").err("");
    lab.step(
        "in the background, flags after the id",
        "bundle b sh -c 'echo up; exec sleep 1000'
        $R run b --detach --pid-file /root/b/pid --bundle /root/b < /dev/null > /root/b/out 2>&1; echo $?
        eventually 'grep -q up /root/b/out'; $R state b | jq -r .status",
    )
    .code(0)
    .out("0\nrunning\n")
    .err("");
    lab.must("the pid file's process lives", "kill -0 $(cat /root/b/pid)");
    lab.step("delete --force of what runs", "$R delete --force b; $R list -q; cat /root/b/out")
        .code(0)
        .out("up\n")
        .err("");
    lab.wait("its process is gone", "! kill -0 $(cat /root/b/pid) 2>/dev/null");
    lab.step("the current folder is the bundle", "cd /root/a; $R run c < /dev/null 2>/dev/null").code(7);
    lab.step_with(
        "a terminal in the foreground",
        "bundle d sh -c 'test -t 0 && test -t 1 && stty size; read line; echo \"<$line>\"; exit 3'
        jq .process.terminal=true /root/d/config.json > /root/d/new; mv /root/d/new /root/d/config.json
        $R run --bundle /root/d d",
        |command| command.terminal(33, 111).stdin("hello\n"),
    )
    .code(3)
    .out_has("33 111")
    .out_has("<hello>\r\n");
    lab.step("a terminal needs a socket where nobody waits", "$R create --bundle /root/d d").code(1).out("");
    lab.step(
        "a socket needs a terminal",
        "bundle e true; $R create --bundle /root/e --console-socket /root/none e < /dev/null",
    )
    .code(1)
    .out("");
    lab.step("the configuration of `spec` works", 
        "mkdir /root/f; cd /root/f; cp -a /opt/busybox/rootfs .; $R spec
        jq '.process.terminal = false | .process.args = [\"hostname\"]' config.json > new; mv new config.json; $R run f")
        .code(0)
        .out_is("a host name", |out| out.trim().len() > 1)
        .err("");
    lab.step("spec overwrites nothing", "cd /root/f; $R spec").code(1).out("");
    lab.nothing_left("after all", &before);
}

fn what_it_tells(lab: &mut Lab) {
    lab.step("its version", "$R --version").code(0).out_has(" version ").out_has("spec: 1.").err("");
    lab.step(
        "its features",
        "$R features | jq -r '.ociVersionMin, (.linux.namespaces | index(\"pid\") != null)'",
    )
    .code(0)
    .out_has("1.0.")
    .out_has("true\n")
    .err("");
    lab.step("its help names every verb", "$R --help")
        .code(0)
        .out_is("all verbs", |out| {
            ["create", "start", "state", "kill", "delete", "run", "exec", "list", "ps", "spec", "features"]
                .iter()
                .all(|verb| out.contains(verb))
        })
        .err("");
    lab.step("no container yet", "$R list -q; $R list --format json")
        .code(0)
        .out_is("null or []", |out| ["null", "[]", "null\n", "[]\n"].contains(&out));
}
