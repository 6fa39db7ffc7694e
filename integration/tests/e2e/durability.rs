//! What a container has synced is on the host afterwards: when its machine is killed under heavy writes, and when the host has
//! no room for it.

use std::time::Duration;

use integration::check::Lab;

crate::conformance!(both: [], ours: [killed_while_it_writes, databases_killed, host_disk_full]);

/// A number is printed when its record is synced. Whatever was printed before the kill must be in the root.
fn killed_while_it_writes(lab: &mut Lab) {
    lab.define(crate::direct::BUNDLE);
    lab.must(
        "a bundle with a root of its own",
        r#"bundle c sh -c '
            (n=0; while :; do n=$((n+1)); head -c $((n % 7 * 40000)) /bin/busybox > /noise$((n % 9)); mkdir -p /t/$n; rm -rf /t/$((n-3)); done) &
            mkdir -p /one; touch /records; i=$(wc -l < /records)
            while :; do
                i=$((i+1)); echo "record $i" | dd of=/records conv=notrunc,fsync oflag=append 2>/dev/null || exit 1
                echo $i | dd of=/one/$i conv=fsync 2>/dev/null || exit 1
                echo $i
            done'
           cp -a /opt/busybox/rootfs c/rootfs
           jq '.root.path = "rootfs"' c/config.json > new; mv new c/config.json"#,
    );
    lab.step_with(
        "four rounds",
        r#"for round in 1 2 3 4; do
               $R run --detach --bundle c --pid-file c/pid c > out.$round 2> err < /dev/null || cat err
               eventually '[ $(wc -l < out.'$round') -gt 24 ]' 0.5 || { echo "round $round is slow:"; cat out.$round; }
               kill -9 $(cat c/pid); eventually '[ "$($R state c | jq -r .status)" = stopped ]'; $R delete c 2>&1
               cat out.* | sort > printed
               sed 's/^record //' c/rootfs/records | sort > found
               comm -23 printed found | sed "s/^/round $round: no record /"
               for i in $(cat printed); do [ "$(cat c/rootfs/one/$i)" = $i ] || echo "round $round: no file $i"; done
           done
           ls -A c/rootfs | grep msb-; find /run/msb-runtime /var/lib/msb-runtime -mindepth 1
           wc -l < printed >&2"#,
        |command| command.timeout(PATIENCE),
    )
    .code(0)
    .out("")
    .err_is("at least a hundred records", |count| count.trim().parse().is_ok_and(|count: u32| count >= 100));
}

/// The root's file system cannot take what was written.
fn host_disk_full(lab: &mut Lab) {
    lab.define(crate::direct::BUNDLE);
    lab.define(
        r#"ended() {
            $R run --detach --bundle c c > out 2> err < /dev/null || cat err; eventually '[ "$($R state c | jq -r .status)" = stopped ]'
            hash=$(cut -d' ' -f1 out)
        }"#,
    );
    lab.must(
        "a root with no room",
        r#"bundle c sh -c 'echo small > /small; rm -f /old; head -c 6000000 /dev/urandom > /big; sync; sha256sum /big'
           mkdir -p room; mount -t tmpfs -o size=5m tmpfs room; mkdir -p room/rootfs/bin room/rootfs/dev room/rootfs/proc room/rootfs/sys
           cd room/rootfs; cp /bin/busybox bin; for i in sh rm head sync sha256sum; do ln -s busybox bin/$i; done; echo old > old; cd /root
           jq '.root.path = "/root/room/rootfs" | .annotations = {"dev.msb.disk-size": "64M"}' c/config.json > new; mv new c/config.json"#,
    );
    lab.must("it writes and ends", "ended; [ -n \"$hash\" ]");
    for again in ["", ", again"] {
        lab.step(&format!("there is no room{again}"), "$R delete c")
            .code(1)
            .out("")
            .err_has("No space left on device")
            .err_has("it is still on its disk /var/lib/msb-runtime/");
        lab.step("the container is still there", "$R list -q").code(0).out("c\n");
    }
    lab.step(
        "with room all comes back",
        "mount -o remount,size=64m room; $R delete c; cut -d' ' -f1 out > expected; sha256sum < room/rootfs/big | cut -d' ' -f1 | cmp - expected
         cat room/rootfs/small; ls -A room/rootfs | grep -E '^old|msb-'; find /run/msb-runtime /var/lib/msb-runtime -mindepth 1",
    )
    .out("small\n")
    .err("");
    lab.must(
        "no room once more, for the next one",
        "rm room/rootfs/big room/rootfs/small; mount -o remount,size=5m room; ended; [ -n \"$hash\" ]",
    );
    lab.step("it is removed by force: the disk is put aside", "$R delete --force c")
        .code(1)
        .out("")
        .err_has("The disk is kept as /var/lib/msb-runtime/kept/")
        .err_has("No space left on device");
    lab.step(
        "all is on that disk, and the container is gone",
        r#"$R list -q; disk=$(echo /var/lib/msb-runtime/kept/*.ext4); debugfs -R 'dump /upper/big big' $disk 2>/dev/null
           cut -d' ' -f1 out > expected; sha256sum < big | cut -d' ' -f1 | cmp - expected; ls /var/lib/msb-runtime"#,
    )
    .code(0)
    .out("kept\n")
    .err("");
    no_room_meanwhile(lab);
}

/// The disk's own file can't grow any more while its container runs and writes.
fn no_room_meanwhile(lab: &mut Lab) {
    lab.must(
        "a place for disks that is small, and a root with room",
        r#"mount -t tmpfs -o size=24m tmpfs /var/lib/msb-runtime; mount -o remount,size=64m room; rm -f room/rootfs/old room/rootfs/big
           bundle c sh -c 'busybox mkdir /d; i=0; while [ $i -lt 20 ]; do i=$((i+1)); echo $i > /d/$i; done; sync; echo synced
               busybox dd if=/dev/urandom of=/big bs=1M count=40 conv=fsync 2> /dev/null || echo told; echo ended'
           jq '.root.path = "/root/room/rootfs" | .annotations = {"dev.msb.disk-size": "100M"}' c/config.json > new; mv new c/config.json"#,
    );
    lab.step_with(
        "the container is told, and goes on",
        r#"$R run --detach --bundle c c > out 2> err < /dev/null || cat err; eventually '[ "$($R state c | jq -r .status)" = stopped ]' 0.3; cat out"#,
        |command| command.timeout(PATIENCE),
    )
    .code(0)
    .out("synced\ntold\nended\n");
    lab.step_with(
        "what it had synced comes back, and what can't is told",
        r#"$R delete c 2> err || [ -s err ] || echo silent; mount -o remount,size=200m /var/lib/msb-runtime
           [ -z "$($R list -q)" ] || $R delete c 2> again || $R delete --force c 2> again; cat err again >&2 2> /dev/null
           i=0; while [ $i -lt 20 ]; do i=$((i+1)); [ "$(cat room/rootfs/d/$i)" = $i ] || echo "no $i"; done; $R list -q; umount /var/lib/msb-runtime"#,
        |command| command.timeout(PATIENCE),
    )
    .code(0)
    .out("");
}

/// Of a step with several containers, or with databases: two servers and their clients on one emulated processor.
const PATIENCE: Duration = Duration::from_secs(400);

/// A root with PostgreSQL and SQLite, and no more of Debian than they need. `up` starts the container and PostgreSQL on its
/// volume and on its root; `inserts NAME ECHO COMMAND` gives a program that takes one statement a line insertions without
/// end, and after each ECHO, which prints its number to NAME when it was committed; `told NAME` has those that came whole.
/// SQLite's own wish, without "extra", is that what it has committed last may be lost with the machine.
const DATABASES: &str = r#"
PG=/usr/lib/postgresql/17
LITE="sqlite3 -bail -cmd 'pragma synchronous = extra'"
told() { while read -r number; do echo $number; done < $1 | sort; }
root() {
    mkdir -p c; cp -a /opt/busybox/rootfs c/rootfs; mkdir c/rootfs/volume
    set -- $PG/bin/postgres $PG/bin/psql $PG/bin/pgbench $PG/lib/*.so /usr/bin/sqlite3 /usr/bin/stdbuf /usr/libexec/coreutils/libstdbuf.so
    ldd "$@" | awk '{for (i = 1; i <= NF; i++) if ($i ~ /^\// && $i !~ /:$/) print $i}' | sort -u | xargs cp -L --parents -t c/rootfs "$@"
    cp -a --parents /usr/share/postgresql/17 /usr/share/zoneinfo/Etc/UTC c/rootfs
    cp -a /opt/postgres/data c/rootfs/postgres; mkdir volume; chmod 777 volume; cp -a /opt/postgres/data volume/postgres
}
inside() { $R exec --user $(id -u postgres):$(id -g postgres) --env PGUSER=postgres --env PGHOST=/tmp "$@"; }
sql() { inside c $PG/bin/psql -qAt -p $1 -v ON_ERROR_STOP=1 -c "$2"; }
serve() {
    inside --detach c sh -c "rm -f $2/postmaster.pid; exec $PG/bin/postgres -D $2 -p $1 -k /tmp -c listen_addresses= -c recovery_init_sync_method=syncfs > /tmp/$1.log 2>&1"
}
up() {
    $R run --detach --bundle c --pid-file c/pid c > c/out 2>&1 < /dev/null || cat c/out
    serve 5001 /volume/postgres; serve 5002 /postgres
    for port in 5001 5002; do eventually "sql $port 'select 1' > /dev/null 2>&1" 0.3 || inside c cat /tmp/$port.log; done
}
inserts() {
    inside c sh -c "i=0; while :; do i=\$((i+1)); echo \"insert into kept values (\$i);\"; echo \"$2 \$i\"; done | stdbuf -oL $3" \
        > $1 2> $1.errors < /dev/null &
}
"#;

/// PostgreSQL under its own benchmark, and SQLite: the machine is killed in the middle, and all that was committed is there
/// afterwards.
fn databases_killed(lab: &mut Lab) {
    lab.define(crate::direct::BUNDLE);
    lab.define(DATABASES);
    lab.step_with(
        "databases on a volume and on the root, and the benchmark's tables (without accounts, which take long to make)",
        r#"root; bundle c sleep 100000
           jq '.root.path = "rootfs" | .linux.resources.memory.limit = 402653184 |
               .mounts += [{destination: "/volume", type: "bind", source: "/root/volume", options: ["rbind"]}]' c/config.json > new
           mv new c/config.json; up
           for port in 5001 5002; do
               inside c $PG/bin/pgbench -q -i -I tp -p $port postgres > init 2>&1 || cat init
               sql $port 'create table kept (n integer primary key); insert into pgbench_branches values (1, 0);
                   insert into pgbench_tellers select n, 1, 0 from generate_series(1, 10) n'
           done
           for file in /volume/lite /tmp/lite; do inside c sqlite3 $file 'create table kept (n integer primary key)'; done"#,
        |command| command.timeout(PATIENCE),
    )
    .code(0)
    .out("");
    lab.step_with(
        "the machine is killed while all of them write",
        r#"for port in 5001 5002; do
               inside --detach c sh -c "exec $PG/bin/pgbench -n -c 2 -T 1000 -p $port postgres > /dev/null 2>&1"
               inserts postgres.$port '\\echo' "$PG/bin/psql -q -p $port -v ON_ERROR_STOP=1"
           done
           inserts sqlite.1 .print "$LITE /volume/lite"; inserts sqlite.2 .print "$LITE /tmp/lite"
           enough() { for file in postgres.5001 postgres.5002 sqlite.1 sqlite.2; do [ $(wc -l < $file) -gt 20 ] || return 1; done; }
           eventually enough 1.5 || { echo slow; wc -l *.[0-9]*; cat *.errors; }
           kill -9 $(cat c/pid); wait; eventually '[ "$($R state c | jq -r .status)" = stopped ]'; $R delete c 2>&1"#,
        |command| command.timeout(PATIENCE),
    )
    .code(0)
    .out("");
    lab.step_with(
        "all that was committed is there, and nothing by halves",
        r#"up
           for port in 5001 5002; do
               sql $port 'select n from kept' | sort > found; told postgres.$port | comm -23 - found
               inside c grep -c 'automatic recovery in progress' /tmp/$port.log
               sql $port 'select sum(tbalance) = (select bbalance from pgbench_branches), sum(tbalance) = (select sum(delta)
                   from pgbench_history), (select count(*) from pgbench_history) > 0 from pgbench_tellers'
           done
           for lite in volume/lite.1 tmp/lite.2; do
               inside c sqlite3 /${lite%.*} 'pragma integrity_check; select n from kept' > found; head -n 1 found
               sort found > sorted; told sqlite.${lite#*.} | comm -23 - sorted
           done
           $R delete --force c; cat postgres.5001 postgres.5002 sqlite.1 sqlite.2 | wc -l >&2"#,
        |command| command.timeout(PATIENCE),
    )
    .code(0)
    .out("1\nt|t|t\n1\nt|t|t\nok\nok\n")
    .err_is("so many records", |count| count.trim().parse().is_ok_and(|count: u32| count > 80));
}
