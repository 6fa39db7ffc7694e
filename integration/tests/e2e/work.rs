//! Containers that do real work, on a root with Debian in it: the virtual host's own, as the lower layer of an overlay.

use std::time::Duration;

use integration::check::{Lab, Runtime};

crate::conformance!(both: [programs], ours: [quick_execs, much_output, an_init]);

/// `debian NAME COMMAND…` is `bundle` with such a root, mounted at /root/NAME/rootfs.
pub const DEBIAN: &str = r#"
debian() {
    bundle "$@"
    mkdir -p /root/$name/rootfs /root/$name/written
    mount -t tmpfs tmpfs /root/$name/written; mkdir /root/$name/written/upper /root/$name/written/work
    (cd /root/$name/written; mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay ../rootfs)
    own '.root.path = "rootfs" | .process.env += ["HOME=/root"]'
}
own() { jq "$1" /root/$name/config.json > /root/new; mv /root/new /root/$name/config.json; }
"#;

fn lab_of(lab: &mut Lab) {
    lab.define(crate::direct::BUNDLE);
    lab.define(DEBIAN);
    lab.must("the cgroup above all of this test's", "mkdir -p /sys/fs/cgroup/e2e");
}

fn programs(lab: &mut Lab) {
    lab_of(lab);
    let before = lab.snapshot();
    lab.must(
        "a container of Debian that waits, with room for a database",
        r#"debian c sleep 100000
           own '.linux.resources.memory.limit = 536870912 | .annotations = {"dev.msb.vcpus": "1"}'
           $R run --detach --bundle c --pid-file c/pid c > c/out 2>&1 < /dev/null"#,
    );
    let within = |lab: &mut Lab, what: &str, script: &str, expected: &str| {
        lab.step_with(what, &format!("$R exec c sh -c '{script}'"), |command| {
            command.timeout(Duration::from_secs(300))
        })
        .code(0)
        .out(expected);
    };
    within(
        lab,
        "a program is compiled and runs",
        r##"cd /tmp; printf "#include <stdio.h>\nint main(void) { for (int i = 0; i < 3; i++) printf(\"%%d \", i * i); puts(\"\"); }" > a.c;
           tcc -o a a.c && ./a; python3 -c "print(sum(i * i for i in range(100000)))""##,
        "0 1 4 \n333328333350000\n",
    );
    within(
        lab,
        "a repository and its clone",
        r#"cd /tmp; git init -q one; cd one; git config user.email a@b; git config user.name n
           for i in $(seq 200); do echo $i > f$i; done; git add .; git commit -qm first; git clone -q . ../two
           cd ../two; git status --porcelain | wc -l; ls | wc -l; git log --format=%s"#,
        "0\n200\nfirst\n",
    );
    within(
        lab,
        "a database in a file, through a crash of nothing",
        r#"cd /tmp; sqlite3 db "create table t (n integer, s text); begin; with recursive c(x) as (select 1 union all select x + 1
             from c where x < 5000) insert into t select x, hex(x) from c; commit; pragma integrity_check; select count(*), sum(n) from t""#,
        "ok\n5000|12502500\n",
    );
    within(
        lab,
        "a web server and forty clients, ten at a time",
        r#"mkdir -p /tmp/web; cd /tmp/web; head -c 100000 /dev/zero > page; python3 -m http.server 8000 > /tmp/web.log 2>&1 & server=$!
           i=0; until busybox wget -q -O /dev/null http://127.0.0.1:8000/page 2> /dev/null; do i=$((i+1)); [ $i -lt 300 ] || exit 1; sleep 0.1; done
           for turn in 1 2 3 4; do
               for client in 0 1 2 3 4 5 6 7 8 9; do (busybox wget -q -O - http://127.0.0.1:8000/page | wc -c) & pids="$pids $!"; done
               wait $pids; pids=
           done | sort | uniq -c | tr -s " "; kill $server"#,
        " 40 100000\n",
    );
    lab.step_with(
        "Redis under its own benchmark, and its data on the disk",
        r#"$R exec c sh -c 'cd /tmp; redis-server --port 7000 --dir /tmp --daemonize yes --save "" --appendonly yes > /dev/null
            i=0; until redis-cli -p 7000 ping > /dev/null 2>&1; do i=$((i+1)); [ $i -lt 200 ] || exit 1; sleep 0.1; done
            redis-benchmark -p 7000 -n 2000 -c 20 -q -t set,get,incr,lpush 2>/dev/null | tr "\r" "\n" | grep -c "requests per second"
            redis-cli -p 7000 set kept yes; redis-cli -p 7000 shutdown; ls /tmp/appendonlydir | wc -l'"#,
        |command| command.timeout(Duration::from_secs(300)),
    )
    .code(0)
    .out_is("four measured commands, and a journal", |out| {
        let mut lines = out.lines();
        lines.next().and_then(|count| count.parse().ok()).is_some_and(|count: u32| count >= 4)
            && lines.next() == Some("OK")
            && lines.next().and_then(|count| count.parse().ok()).is_some_and(|count: u32| count >= 2)
    });
    lab.step_with("a shell session through a terminal", "$R exec -t c bash --norc", |command| {
        command.terminal(30, 90).stdin("echo $((6*7)); tty\nfalse || echo no\nexit 3\n")
    })
    .code(3)
    .out_has("42\r")
    .out_has("/dev/pts/")
    .out_has("no\r");
    lab.must(
        "it ends",
        "$R kill c KILL; eventually '[ \"$($R state c | jq -r .status)\" = stopped ]'; $R delete c",
    );
    lab.step(
        "what was written is on the host",
        "cat c/rootfs/tmp/two/f200; ls c/written/upper/tmp | sort | tr '\\n' ' '",
    )
    .code(0)
    .out("200\na a.c appendonlydir db one two web web.log ");
    lab.must("unmounted", "umount c/rootfs c/written");
    lab.nothing_left("after real work", &before);
}

/// As often as `MSB_EXECS` says; sixty times without (`cargo dev soak`: 500).
fn quick_execs(lab: &mut Lab) {
    let execs: u32 = std::env::var("MSB_EXECS").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    lab_of(lab);
    lab.must(
        "a container",
        "bundle c sleep 100000; $R run --detach --bundle c --pid-file c/pid c > c/out 2>&1 < /dev/null",
    );
    lab.define(
        "holds() { for p in $(cat /root/c/pid) $(machine $(cat /root/c/pid)); do ls /proc/$p/fd | wc -l; ls /proc/$p/task | wc -l; done; }",
    );
    lab.must("what its VMM holds", "holds > /root/before");
    lab.step_with(
        "execs one after the other, and four at a time",
        &format!(
            r#"one() {{ out=$(echo $1 | $R exec c sh -c 'read n; echo "<$n>"; exit $((n % 200))'); [ "$?$out" = "$(($1 % 200))<$1>" ] || echo "$1: $out"; }}
               line() {{ for n in $(seq $1 4 {execs}); do one $n; done; }}
               for n in $(seq $(({execs} / 2))); do one $n; done; for first in 1 2 3 4; do line $first & done; wait; echo done"#
        ),
        |command| command.timeout(Duration::from_secs(120 + u64::from(execs) * 3)),
    )
    .code(0)
    .out("done\n")
    .err("");
    // Threads of the last ones take their time to end.
    lab.step(
        "its VMM holds no more than before",
        r#"no_more() { holds > /root/now; paste /root/before /root/now | awk '$2 == "" || $2 > $1 { more = 1 } END { exit more }'; }
           eventually no_more 0.3 || paste /root/before /root/now"#,
    )
    .code(0)
    .out("");
    lab.step(
        "and no process is left inside",
        "$R exec c sh -c 'ps | grep -c sleep; ls -d /proc/[0-9]* | wc -l'",
    )
    .code(0)
    .out_is("the first process and what looks", |out| {
        out.lines().nth(1).and_then(|count| count.parse().ok()).is_some_and(|count: u32| count <= 6)
    });
    lab.must("removed", "$R delete --force c");
}

/// So many MiB as `MSB_OUTPUT` says, 320 without (`cargo dev soak`: 1024), to a reader who begins late: nothing is lost, and
/// nobody keeps it in memory meanwhile.
fn much_output(lab: &mut Lab) {
    let mib: u64 = std::env::var("MSB_OUTPUT").ok().and_then(|count| count.parse().ok()).unwrap_or(320);
    let bytes = mib << 20;
    lab_of(lab);
    assert_eq!(lab.runtime(), Runtime::Msb);
    lab.step_with(
        "much output",
        &format!(
            r#"bundle c sh -c 'head -c {bytes} /dev/zero; echo end >&2'
               $R run --bundle c --pid-file c/pid c 2> c/err | {{
                   eventually '[ -s c/pid ]' 0.5; sleep 8; pid=$(cat c/pid)
                   grep -E '^(Rss|Pss_Anon)' /proc/$pid/smaps_rollup | tr -s ' ' | cut -d' ' -f2 > c/memory
                   $R ps c | wc -l > c/ps; wc -c
               }}; cat c/err
               head -n 1 c/memory >&2"#
        ),
        |command| command.timeout(Duration::from_secs(120 + mib)),
    )
    .code(0)
    .out(&format!("{bytes}\nend\n"))
    .err_is("VMM and guest hold less than 200 MiB while nobody reads", |kib| {
        kib.trim().parse().is_ok_and(|kib: u64| kib > 0 && kib < 200 << 10)
    });
}

/// An image `machine` with the virtual host's systemd as its init, a unit of its own, and no more than both need: units whose
/// programs it does not have are masked.
const MACHINE: &str = r#"
R=/root/tree; L=/usr/lib/systemd
mkdir -p $R/usr/bin $R/usr/lib64 $R/etc/systemd/system/multi-user.target.wants $R/proc $R/sys $R/dev $R/run $R/tmp $R/var/log $R/var/lib $R/root
for d in bin lib sbin lib64; do ln -s usr/$d $R/$d; done; ln -s bin $R/usr/sbin
cp /usr/bin/busybox $R/usr/bin/; chroot $R /bin/busybox --install -s /bin; rm $R/usr/bin/init
set -- $L/systemd $L/systemd-executor $L/systemd-journald $L/systemd-shutdown /usr/bin/systemctl /usr/bin/journalctl \
    /usr/bin/systemd-notify /usr/bin/systemd-tmpfiles /usr/bin/mount /usr/bin/umount
for file in "$@"; do rm -f $R$file; cp --parents -L $file $R; done
ldd "$@" | awk '{for (i = 1; i <= NF; i++) if ($i ~ /^\// && $i !~ /:$/) print $i}' | sort -u | while read -r file; do cp --parents -L $file $R; done
cp -a --parents $L/system /usr/lib/tmpfiles.d $R; ln -s ../lib/systemd/systemd $R/usr/bin/init
cp /opt/busybox/rootfs/etc/passwd /opt/busybox/rootfs/etc/group /etc/os-release $R/etc; : > $R/etc/machine-id
ln -s $L/system/multi-user.target $R/etc/systemd/system/default.target
cat > $R/etc/systemd/system/ours.service <<'UNIT'
[Service]
Type=notify
NotifyAccess=all
MemoryMax=20M
ExecStart=sh -c "systemd-notify --ready; exec sleep 1000"
ExecStop=sh -c "echo stopped > /stopped"
UNIT
ln -s ../ours.service $R/etc/systemd/system/multi-user.target.wants/
for unit in dbus.service dbus.socket ldconfig.service systemd-hwdb-update.service systemd-sysctl.service systemd-sysusers.service \
    systemd-udev-load-credentials.service systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
    systemd-update-done.service systemd-user-sessions.service; do ln -s /dev/null $R/etc/systemd/system/$unit; done
tar -C $R -c . | docker import --change 'STOPSIGNAL SIGRTMIN+3' - machine
"#;

/// systemd as the first process: it has the guest's cgroups to itself, its units run, `systemctl` works, and it ends well;
/// likewise with every privilege, and Docker's own cgroup namespace.
fn an_init(lab: &mut Lab) {
    assert_eq!(lab.runtime(), Runtime::Msb, "its cgroups are the guest's");
    lab.must("an image with systemd", MACHINE);
    for (name, flags, group, code) in [
        (
            "the host's",
            "--tmpfs /run/lock -v /sys/fs/cgroup:/sys/fs/cgroup:rw --cgroupns=host",
            "/sys/fs/cgroup/container",
            0,
        ),
        // Who may, halts: the kernel ends the first process of a namespace that does by SIGINT.
        ("its own, privileged", "--privileged", "/sys/fs/cgroup", 130),
    ] {
        lab.must(
            &format!("it is started with cgroups that are {name}"),
            &format!("docker run -d --name box $N $D --tmpfs /run --tmpfs /tmp {flags} machine /sbin/init"),
        );
        lab.step_with(
            "it comes up",
            "timeout 200 docker exec box sh -c 'until systemctl is-system-running --wait > /tmp/state 2> /dev/null || grep -q degraded /tmp/state; do sleep 0.5; done; cat /tmp/state; systemctl --failed --no-legend --plain'",
            |command| command.timeout(Duration::from_secs(240)),
        )
        .code(0)
        .out("running\n");
        lab.step(
            "its unit has told that it is ready, and has a limit",
            &format!(
                "docker exec box sh -c 'systemctl is-active ours; cd {group}/system.slice/ours.service; cat memory.max; grep -c . cgroup.procs'"
            ),
        )
        .code(0)
        .out("active\n20971520\n1\n");
        lab.step(
            "a unit is restarted, and all is in the journal",
            "docker exec box sh -c 'systemctl restart ours; systemctl is-active ours; journalctl --no-pager -u ours | grep -c \"Started ours\"'",
        )
        .code(0)
        .out("active\n2\n")
        .err("");
        lab.step("it is stopped, and stops its units", "docker stop -t 60 box; docker inspect -f '{{.State.ExitCode}}' box; docker cp box:/stopped - | tar -xO")
            .code(0)
            .out(&format!("box\n{code}\nstopped\n"));
        lab.must("removed", "docker rm box");
    }
}
