//! Hooks: each at its moment and in its place, with the state on its stdin; and what their failures do.

use integration::check::{Lab, Runtime};

use super::direct::BUNDLE;

crate::conformance!(both: [moments], ours: [failures]);

/// `/root/hook NAME [COMMAND]` is a hook that keeps what it was given, and then runs a command. `hooks NAME FILTER` puts
/// hooks into a bundle's configuration: `hook($name)` makes one.
const HOOKS: &str = r#"
mkdir -p /root/h
cat > /root/hook <<'END'
#!/bin/sh
cat > /root/h/$1.state
cat /proc/self/environ | tr '\0' '\n' | grep -v '^PWD=' > /root/h/$1.env
readlink /proc/self/ns/net > /root/h/$1.net
pwd > /root/h/$1.cwd
echo $1 >> /root/h/order
shift
eval "$@"
END
chmod 755 /root/hook
hooks() {
    jq 'def hook($name; $command): {path: "/root/hook", args: ["hook", $name, $command], env: ["A=b c", "PATH=/usr/bin:/bin"]};
        def hook($name): hook($name; ":");'" .hooks = $2" /root/$1/config.json > /root/new && mv /root/new /root/$1/config.json
    rm -f /root/h/*
}"#;

fn moments(lab: &mut Lab) {
    let msb = lab.runtime() == Runtime::Msb;
    lab.define(BUNDLE);
    lab.define(HOOKS);
    lab.must("the cgroup above all of this test's", "mkdir /sys/fs/cgroup/e2e");
    let before = lab.snapshot();
    lab.must(
        "a bundle with all six",
        r#"bundle c sh -c 'cat /hook.state; tr "\0" "\n" < /hook.env; exec sleep 1000'
           hooks c '{
               prestart: [hook("prestart"), hook("second")], createRuntime: [hook("createRuntime")],
               createContainer: [hook("createContainer")], poststart: [hook("poststart")],
               poststop: [hook("poststop")], startContainer: [{path: "/bin/sh", env: ["A=b c"], args: ["sh", "-c",
                   "cat > /hook.state; cat /proc/$$/environ > /hook.env; id -u >> /hook.env"]}]}'
           jq '.annotations = {"org.example": "x y"}' /root/c/config.json > /root/new; mv /root/new /root/c/config.json"#,
    );
    lab.step(
        "create",
        "$R create --bundle /root/c --pid-file /root/c/pid c < /dev/null > /root/c/out 2> /root/c/err; code=$?; cat /root/c/err; exit $code",
    )
    .code(0)
    .out("");
    lab.step("those of create, in their order", "head -n 4 /root/h/order")
        .code(0)
        .out("prestart\nsecond\ncreateRuntime\ncreateContainer\n");
    lab.step(
        "what they are told",
        "cd /root/h; for name in prestart createRuntime; do
            jq -c --argjson pid $(cat /root/c/pid) '[.id, .status, .bundle, .pid == $pid, .annotations[\"org.example\"],
                (.ociVersion | startswith(\"1.\"))]' $name.state; done
         jq -c '[.id, .status, .bundle]' createContainer.state",
    )
    .code(0)
    .out(
        "[\"c\",\"creating\",\"/root/c\",true,\"x y\",true]\n[\"c\",\"creating\",\"/root/c\",true,\"x y\",true]\n\
         [\"c\",\"creating\",\"/root/c\"]\n",
    );
    lab.step("their whole environment", "cat /root/h/prestart.env /root/h/createContainer.env")
        .code(0)
        .out("A=b c\nPATH=/usr/bin:/bin\nA=b c\nPATH=/usr/bin:/bin\n");
    lab.step(
        "the runtime's network, and the container's",
        "cd /root/h; [ $(cat prestart.net) = $(readlink /proc/self/ns/net) ] && [ $(cat createRuntime.net) = $(cat prestart.net) ] &&
            [ $(cat createContainer.net) = $(readlink /proc/$(cat /root/c/pid)/ns/net) ]",
    )
    .code(0);
    if msb {
        lab.step("nothing after create has run", "cat /root/h/order; cat /root/c/out")
            .code(0)
            .out("prestart\nsecond\ncreateRuntime\ncreateContainer\n");
    }
    lab.step("start", "$R start c").code(0).out("").err("");
    lab.wait("it runs", "grep -q A= /root/c/out");
    lab.step(
        "the hook in the container ran before it",
        "head -n 1 /root/c/out | sed 's/}A=.*/}/' | jq -c '[.id, .status, .bundle, .pid]'",
    )
    .code(0)
    .out("[\"c\",\"created\",\"/root/c\",1]\n");
    lab.step("with its environment, as the container's user", "tail -n 2 /root/c/out | sed 's/.*}//'")
        .code(0)
        .out("A=b c\n0\n");
    lab.wait("the hook after it", "grep -q poststart /root/h/order");
    if msb {
        lab.step(
            "it is told",
            "jq -c --argjson pid $(cat /root/c/pid) '[.status, .pid == $pid]' /root/h/poststart.state",
        )
        .code(0)
        .out("[\"running\",true]\n");
    }
    lab.step("its end", "$R kill c KILL; eventually '[ $($R state c | jq -r .status) = stopped ]'; grep -c poststop /root/h/order")
        .out("0\n");
    lab.step(
        "delete",
        "$R delete c; tail -n 1 /root/h/order; jq -c '[.id, .status, .pid]' /root/h/poststop.state",
    )
    .code(0)
    .out("poststop\n[\"c\",\"stopped\",null]\n")
    .err("");

    lab.must(
        "one that fails",
        r#"bundle d true; hooks d '{prestart: [hook("prestart")], createRuntime: [hook("createRuntime"; "echo no luck >&2; exit 3"),
            hook("never")], poststop: [hook("poststop")]}'"#,
    );
    lab.step("create fails with its words", "$R create --bundle /root/d d < /dev/null")
        .code(1)
        .out("")
        .err_has("no luck");
    lab.step(
        "the rest is not run, but the hooks of the end are",
        "cat /root/h/order; jq -c .status /root/h/poststop.state",
    )
    .code(0)
    .out("prestart\ncreateRuntime\npoststop\n\"stopped\"\n");
    lab.must(
        "one that takes too long",
        r#"bundle d true; hooks d '{prestart: [hook("prestart"; "exec sleep 600") + {timeout: 1}]}'"#,
    );
    lab.step("it is killed, and create fails", "timeout 60 $R create --bundle /root/d d < /dev/null")
        .code(1)
        .out("");
    lab.step("it is gone", "ps -e -o args= | grep -c '^sleep 600'").out("0\n");
    lab.nothing_left("after all", &before);
}

/// A network that a hook makes in the namespace that the runtime has made, as nerdctl's does. Without vhost-net, so that
/// packets go by the machine's own device.
fn network(lab: &mut Lab) {
    lab.must(
        "a hook that makes a network",
        r#"cat > /root/wire <<'END'
pid=$(jq .pid); inside() { nsenter -t $pid -n ip "$@"; }
ip link add over type veth peer name eth0 netns $pid; ip addr add 10.66.0.1/24 dev over; ip link set over up
inside addr add 10.66.0.2/24 dev eth0; inside link set eth0 up; inside route add default via 10.66.0.1
inside route add 10.98.0.0/16 via 10.66.0.9; inside neigh add 10.66.0.9 lladdr 02:00:00:00:00:09 nud permanent dev eth0
END
           bundle c sh -c 'ip -4 -o addr show eth0 | grep -o 10.66.0.2/24; ip route | cut -d" " -f 1-3; ip neigh | grep PERMANENT | cut -d" " -f 1-5
               ping -c 2 -W 20 10.66.0.1 | grep -o ", 0% packet loss"'
           hooks c '{createRuntime: [{path: "/bin/sh", args: ["sh", "/root/wire"], env: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}]}'
           jq '.process.capabilities |= map_values(. + ["CAP_NET_RAW"])' /root/c/config.json > /root/new; mv /root/new /root/c/config.json"#,
    );
    lab.step(
        "is the container's from the start, with routes and permanent neighbours, and carries without vhost-net",
        "mv /dev/vhost-net /dev/away; $R run --bundle /root/c c < /dev/null; code=$?; mv /dev/away /dev/vhost-net; exit $code",
    )
    .code(0)
    .out("10.66.0.2/24\ndefault via 10.66.0.1\n10.66.0.0/24 dev eth0\n10.98.0.0/16 via 10.66.0.9\n\
          10.66.0.9 dev eth0 lladdr 02:00:00:00:00:09\n, 0% packet loss\n")
    .err("");
}

/// Where the specification leaves no choice and runc 1.1 does otherwise.
fn failures(lab: &mut Lab) {
    lab.define(BUNDLE);
    lab.define(HOOKS);
    lab.must("the cgroup above all of this test's", "mkdir /sys/fs/cgroup/e2e");
    let before = lab.snapshot();
    lab.must(
        "a hook of the start that fails, and one that would take too long",
        r#"bundle c true; bundle d true
           hooks c '{startContainer: [{path: "/bin/sh", args: ["sh", "-c", "echo no luck >&2; exit 3"]}], poststop: [hook("poststop")]}'
           hooks d '{startContainer: [{path: "/bin/sleep", args: ["sleep", "600"], timeout: 1}]}'
           $R create --bundle /root/c c < /dev/null > /root/c/out 2>&1; $R create --bundle /root/d d < /dev/null > /root/d/out 2>&1"#,
    );
    lab.step("start says so", "$R start c").code(1).out("").err_has("no luck").err_has("/bin/sh");
    lab.step("start says so too", "$R start d").code(1).out("").err_has("longer than its 1 s");
    lab.wait(
        "both have ended",
        "[ $($R state c | jq -r .status)$($R state d | jq -r .status) = stoppedstopped ]",
    );
    lab.step("they are deleted as ever", "$R delete c; $R delete d; cat /root/h/order")
        .code(0)
        .out("poststop\n")
        .err("");
    lab.must(
        "one in the container's network that fails, and some that would take too long",
        r#"bundle e true; hooks e '{createContainer: [hook("createContainer"; "echo no luck >&2; exit 3"), hook("never")],
               poststop: [hook("poststop")]}'
           bundle f true; hooks f '{createRuntime: [hook("createRuntime"; "exec sleep 600") + {timeout: 1}]}'
           bundle g true; hooks g '{createContainer: [hook("createContainer"; "exec sleep 600") + {timeout: 1}]}'"#,
    );
    lab.step(
        "create fails with its words",
        "$R create --bundle /root/e e < /dev/null 2>&1 > /root/e/out; cat /root/h/order",
    )
    .code(0)
    .out_has("no luck")
    .out_is("the rest is not run, but the hooks of the end are", |out| {
        out.ends_with("createContainer\npoststop\n")
    });
    for name in ["f", "g"] {
        lab.step(
            "create fails in time",
            &format!("timeout 60 $R create --bundle /root/{name} {name} < /dev/null"),
        )
        .code(1)
        .out("")
        .err_has("longer than its 1 s");
    }
    lab.step("nothing is left of them", "$R list -q; ps -e -o args= | grep -c '^sleep 600'").out("0\n");
    network(lab);
    lab.must(
        "hooks whose failure changes nothing",
        r#"bundle c sleep 1000; hooks c '{poststart: [hook("one"; "echo no luck >&2; exit 3"), hook("slow"; "exec sleep 600") + {timeout: 1}, hook("two")],
            poststop: [hook("three"; "exit 4"), hook("slow"; "exec sleep 600") + {timeout: 1}, hook("four")]}'"#,
    );
    lab.step(
        "the container runs",
        "$R --log /root/log --log-format json run --detach --bundle /root/c c < /dev/null > /root/c/out 2>&1; $R state c | jq -r .status",
    )
    .code(0)
    .out("running\n");
    lab.step("the log has it as a warning", "jq -r '[.level, .msg] | join(\" \")' /root/log")
        .code(0)
        .out_has("warning ")
        .out_has("no luck")
        .out_has("longer than its 1 s");
    lab.step("it is deleted", "rm /root/log; $R --log /root/log delete --force c; cat /root/h/order; grep -c level=warning /root/log")
        .code(0)
        .out("one\nslow\ntwo\nthree\nslow\nfour\n2\n")
        .err("");
    lab.nothing_left("after all", &before);
}
