//! What a container writes is in its root on the host: for `docker diff`, `commit`, `cp`, `export`, and its next start.

use std::time::Duration;

use integration::check::Lab;

crate::conformance!(both: [written, killed, copied_in, every_kind], ours: [crashed, host_crashed, mounted_image, sized, broken]);

/// Writes of many kinds; then `ready`.
const WRITER: &str = r#"
    echo one > /one; mkdir -p /dir/sub; echo two > /dir/two; chmod 640 /dir/two; chown 12:34 /dir/two
    rm -rf /home; ln -s one /link; ln /one /hard; touch -d '2001-02-03 04:05:06' /dir/sub
    chmod 700 /tmp; rmdir /var; echo file > /var; echo ready; sleep 1000"#;

/// What a person sees of all that.
const LOOK: &str = r#"cat /one /dir/two; stat -c '%n %a %u %g %F' /one /dir/two /dir/sub /tmp /var;
    stat -c %Y /dir/sub; readlink /link; ls -d /home /three 2>&1; true"#;

const SEEN: &str = "one\ntwo\n/one 644 0 0 regular file\n/dir/two 640 12 34 regular file\n\
    /dir/sub 755 0 0 directory\n/tmp 700 0 0 directory\n/var 644 0 0 regular file\n981173106\none\n\
    ls: /home: No such file or directory\nls: /three: No such file or directory\n";

const DIFF: &str = "A /dir\nA /dir/sub\nA /dir/two\nA /hard\nA /link\nA /one\nC /tmp\nC /var\nD /home\n";

fn written(lab: &mut Lab) {
    lab.must(
        "a container that writes",
        &format!("docker run -d --name box1 $N $D busybox sh -c {} >&2", quoted(WRITER)),
    );
    lab.wait("it has written", "docker logs box1 | grep -q ready");
    lab.step("a file that comes and goes", "docker exec box1 sh -c 'echo three > /three'").code(0);
    lab.step("a commit while it runs", "docker commit box1 early >/dev/null").code(0).err("");
    lab.step("what it holds", "docker run --rm $N $D early cat /three /one").code(0).out("three\none\n");
    lab.step("it goes", "docker exec box1 rm /three").code(0).err("");
    lab.must("it ends", "docker stop -t 1 box1 >&2");
    lab.step("what Docker sees", "docker diff box1 | sort").code(0).out(DIFF).err("");
    lab.step("a file copied out", "docker cp box1:/dir/two - | tar -x -O").code(0).out("two\n").err("");
    lab.step("a commit", "docker commit box1 late >/dev/null").code(0).err("");
    lab.step("what that holds", &format!("docker run --rm $N $D late sh -c {}", quoted(LOOK)))
        .code(0)
        .out(SEEN);
    lab.step(
        "two names of one file",
        "docker run --rm $N $D late sh -c '[ /one -ef /hard ] && ! [ /one -ef /var ]'",
    )
    .code(0);
    lab.step("an export", "docker export box1 | tar -t | grep -E '^(one|dir/two|home/|three)$' | sort")
        .code(0)
        .out("dir/two\none\n");
    lab.must("started again", "docker start box1 >&2");
    lab.step("all is there", &format!("docker exec box1 sh -c {}", quoted(LOOK))).code(0).out(SEEN);
    lab.must("removed", "docker rm -f box1 >&2");
}

fn killed(lab: &mut Lab) {
    lab.must(
        "a container that writes and syncs",
        "docker run -d --name box1 $N $D busybox sh -c 'echo kept > /kept; sync; echo ready; sleep 1000' >&2",
    );
    lab.wait("it has written", "docker logs box1 | grep -q ready");
    lab.must("killed", "docker kill box1 >&2; docker wait box1 >&2");
    lab.step("what it wrote", "docker cp box1:/kept - | tar -x -O").code(0).out("kept\n").err("");
    lab.must(
        "started, killed and started again",
        "docker start box1 >&2; docker kill box1 >&2; docker start box1 >&2",
    );
    lab.step("it is still there", "docker exec box1 cat /kept").code(0).out("kept\n");
    lab.must("removed", "docker rm -f box1 >&2");
}

fn copied_in(lab: &mut Lab) {
    lab.must("a container that was not started", "docker create --name box1 $N $D busybox cat /etc/mine >&2");
    lab.must("a file for it", "echo mine > /root/mine; docker cp /root/mine box1:/etc/mine >&2");
    lab.step("it finds the file", "docker start -a box1").code(0).out("mine\n").err("");
    lab.must("another file", "echo other > /root/mine; docker cp /root/mine box1:/etc/mine >&2");
    lab.step("it finds that", "docker start -a box1").code(0).out("other\n").err("");
    lab.must("removed", "docker rm box1 >&2");
}

/// Directories that are replaced, files over directories, whiteouts over what an earlier run wrote.
fn every_kind(lab: &mut Lab) {
    lab.must(
        "a first run",
        r#"docker run --name box1 $N $D busybox sh -c '
            mkdir -p /a/b/c; echo 1 > /a/b/c/1; echo 2 > /a/2; mkfifo /pipe; mknod /null c 1 3; head -c 3000000 /dev/zero > /zeros' >&2
           docker commit box1 base >&2; docker rm box1 >&2"#,
    );
    lab.must(
        "a second, of the image that it became",
        r#"docker run --name box1 $N $D base sh -c '
            rm -r /a; mkdir /a; echo new > /a/new; rm /pipe; mkdir /pipe; echo f > /pipe/f; mv /zeros /moved; rm /null; echo x > /null' >&2"#,
    );
    lab.step("what it changed", "docker diff box1 | sort")
        .code(0)
        .out("A /a/new\nA /moved\nA /pipe/f\nC /a\nC /null\nC /pipe\nD /a/2\nD /a/b\nD /zeros\n");
    lab.step(
        "what is there",
        "docker commit box1 next >/dev/null; docker run --rm $N $D next sh -c 'find /a /pipe /null | sort; wc -c < /moved; cat /null'",
    )
    .code(0)
    .out("/a\n/a/new\n/null\n/pipe\n/pipe/f\n3000000\nx\n");
    lab.must("removed", "docker rm box1 >&2");
}

/// The VMM is killed without a word to anybody.
fn crashed(lab: &mut Lab) {
    lab.must(
        "a container that writes and syncs, and goes on writing",
        r#"docker run -d --name box1 $D busybox sh -c '
            echo kept > /kept; sync; echo ready; i=0; while :; do i=$((i + 1)); echo $i > /n$((i % 50)); done' >&2"#,
    );
    lab.wait("it has written", "docker logs box1 | grep -q ready");
    lab.must(
        "its VMM is killed",
        "sleep 1; kill -9 $(docker inspect -f '{{.State.Pid}}' box1); docker wait box1 >&2",
    );
    lab.step("what it had synced", "docker cp box1:/kept - | tar -x -O").code(0).out("kept\n").err("");
    lab.must("started again", "docker start box1 >&2");
    lab.step("it is still there", "docker exec box1 cat /kept").code(0).out("kept\n");
    lab.must("removed", "docker rm -f box1 >&2");
}

/// All that the runtime knew is gone, as after a power cut; what the guest had on its disk is not.
fn host_crashed(lab: &mut Lab) {
    lab.define(crate::direct::BUNDLE);
    lab.define(r#"own() { jq "$1" /root/c/config.json > /root/c/new; mv /root/c/new /root/c/config.json; }"#);
    lab.must(
        "a bundle with a root of its own",
        r#"bundle c sh -c 'echo kept > /kept; sync; echo ready; sleep 1000'
           cp -a /opt/busybox/rootfs /root/c/rootfs; own '.root.path = "rootfs"'"#,
    );
    lab.must(
        "it runs, and everything ends at once",
        "$R run --detach --bundle /root/c --pid-file /root/c/pid c > /root/c/out 2>&1 < /dev/null
         eventually 'grep -q ready /root/c/out'; kill -9 $(cat /root/c/pid); eventually '! pgrep \"msb-runtime|msb-vmm\" > /dev/null' 0.3; rm -r /run/msb-runtime",
    );
    lab.must(
        "the same container, as its engine starts it anew",
        "own '.process.args = [\"cat\", \"/kept\"]'",
    );
    lab.step("what it wrote is there", "$R run --bundle /root/c c").code(0).out("kept\n").err("");
    lab.step("and on the host", "cat /root/c/rootfs/kept; ls /var/lib/msb-runtime").code(0).out("kept\n");
}

/// An image that is mounted as the root is attached as it is.
fn mounted_image(lab: &mut Lab) {
    lab.define(crate::direct::BUNDLE);
    lab.must(
        "a read-only ext4 as a root",
        r#"bundle c sh -c 'cat /sys/block/vda/size /sys/block/vda/ro; ls -d /bin; echo x > /x'
           mke2fs -q -t ext4 -d /opt/busybox/rootfs /root/image 64M; mkdir /root/c/rootfs
           mount -o ro,loop /root/image /root/c/rootfs
           jq '.root.path = "rootfs"' /root/c/config.json > /root/new; mv /root/new /root/c/config.json"#,
    );
    lab.step("it is the disk, and nobody can write to it", "$R run --bundle /root/c c")
        .code(1)
        .out("131072\n1\n/bin\n")
        .err_has("Read-only file system");
    lab.step("nothing is left", "$R list -q; ls /var/lib/msb-runtime; umount /root/c/rootfs; losetup -a")
        .code(0)
        .out("");
}

fn sized(lab: &mut Lab) {
    let run = "docker run --rm --annotation dev.msb.disk-size=128M $D busybox sh -c";
    lab.step(
        "a full disk is the container's own problem",
        &format!(
            "{run} 'dd if=/dev/zero of=/big bs=1M count=200; echo $?; rm /big; echo after > /f && cat /f'"
        ),
    )
    .code(0)
    .out_has("1\nafter\n")
    .err_has("No space left on device");
    lab.step_with(
        "what is deleted gives its space back",
        r#"docker run -d --name box1 $D busybox sh -c 'head -c 100000000 /dev/urandom > /big; sync; echo big; until [ -e /enough ]; do sleep 0.2; done
            rm /big; sync; sleep 2; sync; echo gone; sleep 1000' >&2
           until docker logs box1 | grep -q big; do sleep 0.2; done; sleep 1
           a=$(du -sk /var/lib/msb-runtime | cut -f1); docker exec box1 touch /enough
           until docker logs box1 | grep -q gone; do sleep 0.2; done
           eventually 'b=$(du -sk /var/lib/msb-runtime | cut -f1); [ $b -lt $((a - 80000)) ]' 0.2; docker rm -f box1 >&2
           [ $a -gt 90000 ] && [ $b -lt $((a - 80000)) ] || echo $a $b"#,
        |command| command.timeout(Duration::from_secs(240)),
    )
    .code(0)
    .out("");
    lab.step("no size", "docker run --rm --annotation dev.msb.disk-size=big $D busybox true")
        .code(125)
        .err_has("like 20G");
}

/// The guest is root on its disk: nothing that it leaves there can do harm.
fn broken(lab: &mut Lab) {
    lab.step(
        "a guest that overwrites its disk",
        r#"docker run --name box1 --device-cgroup-rule 'b *:* rwm' $D busybox sh -c '
            for d in a b c; do mknod /tmp/$d b 254 $(( ($(printf %d "'"'"'"$d") - 97) * 16 )); done
            echo garbage > /f; sync; for d in b c; do head -c 8000000 /dev/urandom > /tmp/$d; done; sync; echo done' 2>&1 | tail -n 1
           docker rm -f box1 2>&1 | head -c 300 >&2; ls /var/lib/msb-runtime"#,
    )
    .code(0)
    .out_has("compositions");
    lab.step("the next container runs", "docker run --rm $D busybox echo fine").code(0).out("fine\n");
}

/// For a shell, as one word.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
