//! A paused container: nothing of it runs, signals wait, and time is right when it goes on.

use integration::check::{Lab, Runtime};

use super::direct::BUNDLE;

crate::conformance!(both: [stands_still], ours: []);

/// `busy PID` prints the processor time that a container's process used in two seconds, in clock ticks, all threads together.
const BUSY: &str = r#"
ticks() { sed 's/.*) //' /proc/$1/stat | awk '{ print $12 + $13 }'; }
busy() { of=$(machine $1); before=$(ticks $of); sleep 2; echo $(( $(ticks $of) - before )); }"#;

fn stands_still(lab: &mut Lab) {
    lab.define(BUNDLE);
    lab.define(BUSY);
    lab.must("the cgroup above all of this test's", "mkdir /sys/fs/cgroup/e2e");
    let before = lab.snapshot();
    lab.must(
        "a container that never rests, with a clock of its own",
        "bundle c sh -c 'trap \"echo usr1\" USR1; while :; do date +%s > /new; mv /new /now; done'
        $R run --detach --bundle /root/c --pid-file /root/c/pid c < /dev/null > /root/c/out 2>&1",
    );
    lab.step("it is busy", "busy $(cat /root/c/pid)").out_is("more than 50 ticks", |out| ticks(out) > 50);
    lab.step("not resumed before it is paused", "$R resume c").code(1).out("");
    lab.step("paused", "$R pause c; $R state c | jq -r .status").code(0).out("paused\n").err("");
    lab.step("it costs nothing", "busy $(cat /root/c/pid)").out_is("2 ticks at most", |out| ticks(out) <= 2);
    lab.step("not paused twice", "$R pause c").code(1).out("");
    lab.step("no exec", "$R exec c true").code(255).out("").err_has("paused");
    lab.step("a signal is taken", "$R kill c USR1; sleep 1; cat /root/c/out").code(0).out("").err("");
    if lab.runtime() == Runtime::Msb {
        lab.step("also one to its pid", "kill -USR1 $(cat /root/c/pid); sleep 1; cat /root/c/out")
            .code(0)
            .out("");
    }
    lab.step("it still costs nothing", "busy $(cat /root/c/pid)")
        .out_is("2 ticks at most", |out| ticks(out) <= 2);
    lab.must(
        "an exec that waits until it goes on",
        "($R exec --ignore-paused c echo late > /root/c/late 2>&1; echo $? >> /root/c/late) < /dev/null &
        sleep 8; [ ! -s /root/c/late ]",
    );
    lab.step("resumed", "$R resume c; $R state c | jq -r .status").code(0).out("running\n").err("");
    lab.step(
        "its time is the host's",
        "sleep 1; here=$(date +%s); there=$($R exec c sh -c 'cat /now; date +%s'); echo $there |
            (read one two; echo $((one - here)) $((two - here)))",
    )
    .code(0)
    .out_is("within some seconds of an exec here", |out| {
        out.split_whitespace()
            .all(|difference| difference.parse().is_ok_and(|seconds: i64| (-1..15).contains(&seconds)))
    });
    lab.wait("the signal arrives", "grep -q usr1 /root/c/out");
    lab.wait("the exec has run", "[ \"$(cat /root/c/late)\" = \"late\n0\" ]");
    lab.step("paused again, and killed as it is", "$R pause c; $R kill c KILL").code(0).out("").err("");
    lab.step("it can't be resumed any more", "$R resume c").code(1).out("").err_has("container not paused");
    lab.wait("it has stopped", "[ $($R state c | jq -r .status) = stopped ]");
    lab.step("deleted", "$R delete c").code(0).out("").err("");
    lab.must(
        "another, paused",
        "$R run --detach --bundle /root/c c < /dev/null > /root/c/out 2>&1; $R pause c",
    );
    lab.step("not deleted without force", "$R delete c").code(1).out("");
    lab.step("deleted by force", "$R delete --force c; $R list -q").code(0).out("").err("");
    lab.nothing_left("after all", &before);
}

fn ticks(text: &str) -> u64 {
    text.trim().parse().unwrap_or(u64::MAX)
}
