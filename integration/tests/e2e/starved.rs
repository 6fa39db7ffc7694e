//! Our own shim and the product on a host that is short of something, before a container or sandbox runs and while it does:
//! what is asked for is done or refused with a reason, what runs goes on, nothing is left, and all works again when there is
//! room.
//!
//! With `MSB_SOAK` each shortage is looked at in steps as fine as [`crate::shortages`] has them.

use std::time::Duration;

use integration::{check::Lab, host::command::HostCommand};

use super::shortages::TRIED;

crate::conformance!(both: [], ours: [the_shim_and_the_product]);

/// `few CONTROLLER LIMIT` holds whoever `joins` to it. `shortages CONTROLLER LIMIT… -- COMMAND…` tries a command with each, and
/// prints how many went well and how many did not. `full FOLDER KIB` leaves so much of a file system; `empty FOLDER` all of it.
const SHORT: &str = r#"
export MICROSANDBOX_HOME=/var/lib/home MICROSANDBOX_IMAGE=busybox
FEW=/sys/fs/cgroup/few
few() { mkdir -p $FEW; echo +$1 > /sys/fs/cgroup/cgroup.subtree_control; echo $2 > $FEW/$1.max; }
joins() { for pid in "$@"; do echo $pid > $FEW/cgroup.procs; done; }
tight() { few pids max; joins $1; few pids $(cat $FEW/pids.current); }
loose() { few pids max; for pid in $(cat $FEW/cgroup.procs); do echo $pid > /sys/fs/cgroup/cgroup.procs; done; }
shortages() {
    controller=$1; shift; limits=
    while [ $1 != -- ]; do limits="$limits $1"; shift; done; shift
    good=0; bad=0
    for limit in $limits; do
        case $controller in
            nofile) echo "ulimit -n $limit" ;;
            *) few $controller $limit; echo "echo \$\$ > $FEW/cgroup.procs" ;;
        esac > /root/shortage
        tried "$controller $limit" "$@"
    done
    rm -f /root/shortage; echo $good $bad >&2
}
full() { rm -f $1/fill; dd if=/dev/zero of=$1/fill bs=1k 2> /dev/null; truncate -s $(($(stat -c %s $1/fill) - $2 * 1024)) $1/fill; }
"#;

fn the_shim_and_the_product(lab: &mut Lab) {
    lab.define(TRIED);
    lab.define(SHORT);
    shim_begins(lab);
    shim_serves(lab);
    product_begins(lab);
    product_serves(lab);
}

/// In short, and for a soak.
fn limits(few: &str, many: &str) -> String {
    if std::env::var_os("MSB_SOAK").is_some() { many } else { few }.to_owned()
}

/// Some shortages are none, and others must be.
fn both_ways(text: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    text.trim().split_once(' ').is_some_and(|(good, bad)| number(good) >= 1 && number(bad) >= 1)
}

fn long(command: HostCommand<'_>) -> HostCommand<'_> {
    command.timeout(Duration::from_secs(600))
}

/// Its program is begun by containerd with each shortage. What removes it has room: it is asked again by nobody.
fn shim_begins(lab: &mut Lab) {
    lab.define(
        r#"
        undone() { ctr task rm -f c; ctr container rm c; :; }
        left() {
            eventually '! pgrep "containerd-shim|msb-runtime|msb-vmm" > /dev/null' 0.3; pgrep -a "containerd-shim|msb-runtime|msb-vmm"
            find /run/containerd/msb/default /run/containerd/s /var/lib/msb-runtime -mindepth 1 -path /var/lib/msb-runtime/compositions -prune -o -print 2> /dev/null
            ctr task ls -q; ctr container ls -q; mount | grep runtime.v2.task
        }
        of_shim() { ctr run --rm --runtime /root/few/containerd-shim-msb-v2 --env PATH=/bin --rootfs /root/tree c echo fine; }"#,
    );
    lab.must(
        "a root, and a shim that has little",
        r#"cp -a /opt/busybox/rootfs /root/tree; mkdir -p /root/few
           printf '#!/bin/sh\ncase "$*" in *" delete") ;; *) [ ! -e /root/shortage ] || . /root/shortage ;; esac\nexec /usr/local/bin/containerd-shim-msb-v2 "$@"\n' > /root/few/containerd-shim-msb-v2
           chmod 755 /root/few/containerd-shim-msb-v2; tried room of_shim >&2"#,
    );
    for (controller, limits) in [
        ("nofile", limits("6 12 20 64", "3 4 5 6 7 8 9 10 11 12 13 14 16 18 20 22 24 28 32 40 64")),
        ("pids", limits("1 3 5 64", "1 2 3 4 5 6 7 8 9 10 12 16 64")),
        ("memory", limits("2M 6M 12M 400M", "1M 2M 3M 4M 6M 8M 10M 12M 16M 24M 400M")),
    ] {
        lab.step_with(
            &format!("a shim with few {controller}"),
            &format!("shortages {controller} {limits} -- of_shim"),
            long,
        )
        .code(0)
        .out("")
        .err_is("some fail and some run", both_ways);
    }
    lab.step_with(
        "a shim whose place for states is small",
        r#"good=0; bad=0
           for room in size=4k nr_inodes=3 size=16m; do
               mount -t tmpfs -o $room tmpfs /run/containerd/msb; tried "$room" of_shim; umount /run/containerd/msb
           done; echo $good $bad >&2"#,
        long,
    )
    .code(0)
    .out("")
    .err_is("some fail and some run", both_ways);
}

/// A request that can't be carried out is refused, and its container lives.
fn shim_serves(lab: &mut Lab) {
    lab.must(
        "a container",
        "ctr run -d --runtime io.containerd.msb.v2 --env PATH=/bin --rootfs /root/tree c sleep 1000 < /dev/null; ctr task exec --exec-id x c true",
    );
    lab.step(
        "no thread and no descriptor can be had for a while",
        r#"shim=$(pgrep -f '^containerd-shim-msb-v2 .*-id c'); n=0; inside() { n=$((n+1)); ctr task exec --exec-id x$n c echo inside; }
           tight $shim; inside 2>&1; ctr task kill c 2>&1; loose; inside
           for more in 0 3 8; do
               prlimit --pid $shim --nofile=$(($(ls /proc/$shim/fd | wc -l) + more)):4096
               inside > out 2> err || { [ -s err ] || echo "$more: no reason"; }
           done
           prlimit --pid $shim --nofile=4096:4096; inside; [ $shim = "$(pgrep -f '^containerd-shim-msb-v2 .*-id c')" ] && ctr task ls | grep -c RUNNING
           ctr task rm -f c > /dev/null 2>&1; ctr container rm c; left"#,
    )
    .out_is("two refusals with the reason, and it is as before after each", |out| {
        let lines: Vec<&str> = out.lines().collect();
        lines.len() == 5
            && lines[..2].iter().all(|line| line.contains("No thread can be started"))
            && lines[2..] == ["inside", "inside", "1"]
    });
}

fn product_begins(lab: &mut Lab) {
    lab.bring_msb();
    lab.define(
        r#"
        undone() { [ -z "$(msb ps -aq)" ] || { [ $code -gt 128 ] || echo "$what: a sandbox is left"; msb rm -f t; }; }
        left() {
            eventually '! pgrep "msb|msb-runtime|msb-vmm" > /dev/null' 0.3; pgrep -a "msb|msb-runtime|msb-vmm"
            msb ps -aq; mount | grep /var/lib/home/; ls $MICROSANDBOX_HOME/run /run/user/0/msb 2> /dev/null | grep -v -e : -e '^$'
            find /var/lib/msb-runtime -mindepth 1 -path /var/lib/msb-runtime/compositions -prune -o -print; find $MICROSANDBOX_HOME -name '*.tmp*' -o -name '.tmp*'
        }
        of_product() { sh -c '[ ! -e /root/shortage ] || . /root/shortage; exec msb run --rm --name t --network none busybox echo fine'; }"#,
    );
    lab.must(
        "a home with an image",
        "mkdir -p /var/lib/home; mount -t tmpfs -o size=100m tmpfs /var/lib/home; docker save busybox | msb load >&2; tried room of_product >&2",
    );
    for (controller, limits) in [
        ("nofile", limits("6 20 40 256", "3 4 5 6 7 8 9 10 11 12 13 14 16 18 20 22 24 28 32 40 64 256")),
        ("pids", limits("1 3 5 64", "1 2 3 4 5 6 7 8 9 10 12 16 64")),
        ("memory", limits("2M 6M 12M 400M", "1M 2M 3M 4M 6M 8M 10M 12M 16M 24M 400M")),
    ] {
        lab.step_with(
            &format!("a sandbox with few {controller}"),
            &format!("shortages {controller} {limits} -- of_product"),
            long,
        )
        .code(0)
        .out("")
        .err_is("some fail and some run", both_ways);
    }
    lab.step_with(
        "no thread to look up a name: who asks for an image is told",
        "good=0; bad=0; shortages pids 1 2 3 64 -- msb pull localhost:5999/nothing",
        long,
    )
    .code(0)
    .out("")
    .err("0 4\n");
    lab.step_with(
        "a home that is full",
        r#"good=0; bad=0; for free in 0 4 12 20000; do full $MICROSANDBOX_HOME $free; tried "$free KiB" of_product; done
           docker save busybox > image; rm $MICROSANDBOX_HOME/fill; msb rmi busybox > /dev/null; full $MICROSANDBOX_HOME 100; msb load -i image 2>&1 > /dev/null | grep -c 'No space left'
           rm $MICROSANDBOX_HOME/fill; msb images -q; msb load -i image > /dev/null; tried room of_product; echo $good $bad >&2"#,
        long,
    )
    .code(0)
    .out("1\n")
    .err_is("some fail and some run", both_ways);
}

/// The server and a keeper are short of something while they serve.
fn product_serves(lab: &mut Lab) {
    lab.define(crate::product::FUNCTIONS);
    lab.define(crate::product::RPC);
    lab.must(
        "a server with a sandbox",
        r#"msb server start --dev > /tmp/server.log 2>&1 < /dev/null & eventually 'msb server health' 0.2 > /dev/null
           rpc sandbox.start '{"sandbox":"one","config":{"image":"busybox","memory":128}}' >&2"#,
    );
    lab.define(
        r#"
        one() { rpc sandbox.command.run '{"sandbox":"one","command":"sh","args":["-c","'"$1"'"]}' | jq -r '.message // .output[0].text // "done"'; }
        another() { rpc sandbox.start '{"sandbox":"two","config":{"image":"busybox","memory":128}}' | jq -r '.message? // .'; }"#,
    );
    lab.step_with(
        "no thread and no descriptor can be had for a while",
        r#"server=$(cat $MICROSANDBOX_HOME/run/.server.pid)
           tight $server; one 'echo a'; another; loose; one 'echo b'
           for more in 1 4 10; do
               prlimit --pid $server --nofile=$(($(ls /proc/$server/fd | wc -l) + more)):4096
               for what in 'one true' another; do said=$($what 2>&1); [ -n "$said" ] || echo "$more, $what: nothing said"; done
               prlimit --pid $server --nofile=4096:4096; rpc sandbox.stop '{"sandbox":"two"}' > /dev/null
           done
           one 'echo c'; another; kill -0 $server; msb rm -f two"#,
        long,
    )
    .code(0)
    .out_is("two refusals with the reason, and it is as before after each", |out| {
        let lines: Vec<&str> = out.lines().collect();
        lines.len() == 6
            && lines[..2].iter().all(|line| line.contains("No thread can be started"))
            && lines[2..] == ["b", "c", "Sandbox two started successfully", "two"]
    });
    lab.step_with(
        "what a keeper can't bring to rest comes to it with the next command, and nothing that was synced is lost",
        r#"n=0
           for short in nofile pids disk; do
               n=$((n+1)); one "echo $n > /kept; sync"; keeper=$(pgrep -f '^msb keep default one')
               case $short in
                   nofile) prlimit --pid $keeper --nofile=$(ls /proc/$keeper/fd | wc -l):4096 ;;
                   pids) tight $keeper ;;
                   disk) full $MICROSANDBOX_HOME 0 ;;
               esac
               msb stop -t 1 one > out 2> err || [ -s err ] || echo "$short: no reason"
               loose; rm -f $MICROSANDBOX_HOME/fill
               msb start one; one 'cat /kept'
           done"#,
        long,
    )
    .code(0)
    .out("done\none\n1\ndone\none\n2\ndone\none\n3\n");
    lab.step(
        "what it wrote finds no room, and it is removed all the same",
        "one 'head -c 3000000 /dev/urandom > /big; sync'; full $MICROSANDBOX_HOME 0; msb rm -f one; rm $MICROSANDBOX_HOME/fill",
    )
    .code(0)
    .out("done\none\n");
    lab.step("the server ends, and nothing is left", "msb server stop; left").out("");
}
