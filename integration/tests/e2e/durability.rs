//! What a container has synced is on the host afterwards: when its machine is killed under heavy writes, and when the host has
//! no room for it.

use integration::check::Lab;

crate::conformance!(both: [], ours: [killed_while_it_writes, host_disk_full]);

/// A number is printed when its record is synced. Whatever was printed before the kill must be in the root.
fn killed_while_it_writes(lab: &mut Lab) {
    lab.define(crate::direct::BUNDLE);
    lab.must(
        "a bundle with a root of its own",
        r#"bundle c sh -c '
            (n=0; while :; do n=$((n+1)); head -c $((n % 7 * 40000)) /dev/urandom > /noise$((n % 9)); mkdir -p /t/$n; rm -rf /t/$((n-3)); done) &
            mkdir -p /one; touch /records; i=$(wc -l < /records)
            while :; do
                i=$((i+1)); echo "record $i" | dd of=/records conv=notrunc,fsync oflag=append 2>/dev/null || exit 1
                echo $i | dd of=/one/$i conv=fsync 2>/dev/null || exit 1
                echo $i
            done'
           cp -a /opt/busybox/rootfs c/rootfs
           jq '.root.path = "rootfs"' c/config.json > new; mv new c/config.json"#,
    );
    lab.step(
        "four rounds",
        r#"for round in 1 2 3 4; do
               $R run --detach --bundle c --pid-file c/pid c > out.$round 2> err < /dev/null || cat err
               eventually '[ $(wc -l < out.'$round') -gt 24 ]' || { echo "round $round is slow:"; cat out.$round; }
               kill -9 $(cat c/pid); $R delete c 2>&1 || $R delete --force c 2>&1
               cat out.* | sort > printed
               sed 's/^record //' c/rootfs/records | sort > found
               comm -23 printed found | sed "s/^/round $round: no record /"
               for i in $(cat printed); do [ "$(cat c/rootfs/one/$i)" = $i ] || echo "round $round: no file $i"; done
           done
           ls -A c/rootfs | grep msb-; find /run/msb-runtime /var/lib/msb-runtime -mindepth 1
           wc -l < printed >&2"#,
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
}
