//! Volumes: what a container sees of the host's directories and files, and what the host sees of the container's.

use std::time::Duration;

use integration::check::{Lab, Runtime};

use super::direct::BUNDLE;

crate::conformance!(
    both: [directories_and_files, dockers_volumes, live, other_callers, usual_files, shared_root],
    ours: [walls, lost_daemon, stuck_daemon, refused, images]
);

fn directories_and_files(lab: &mut Lab) {
    lab.must(
        "directories and files",
        "mkdir -p /root/v/sub /root/w /root/e; echo host > /root/v/f; echo inner > /root/w/i
         ln -s /etc/hostname /root/v/link; echo own > /root/own",
    );
    let before = lab.snapshot();
    lab.step(
        "a directory, both ways, and links that stay in the container",
        "docker run --rm $N $D --hostname inside -v /root/v:/data busybox sh -c '
            cat /data/f /data/link; echo guest > /data/g; mkdir /data/d; ls /data; cat /proc/mounts | grep -c \" /data \"'
         cat /root/v/g; ls -d /root/v/d",
    )
    .code(0)
    .out("host\ninside\nd\nf\ng\nlink\nsub\n1\nguest\n/root/v/d\n")
    .err("");
    lab.step(
        "read-only: no writing, no making, no removing, also for root with all capabilities who mounts it anew",
        "docker run --rm $N $D --privileged -v /root/v:/data:ro busybox sh -c '
            cat /data/f; for c in \"touch /data/x\" \"rm /data/f\" \"chmod 600 /data/f\" \"mkdir /data/y\"; do
                $c 2>&1 | grep -o \"Read-only file system\"; done'; ls -l /root/v/f | cut -c1-10",
    )
    .code(0)
    .out(
        "host\nRead-only file system\nRead-only file system\nRead-only file system\nRead-only file system\n-rw-r--r--\n",
    )
    .err("");
    lab.step(
        "files: over one of the image, at a new place, within a volume; a mount in a mount, in whatever order",
        "docker run --rm $N $D -v /root/own:/etc/passwd -v /root/own:/new/dir/file:ro -v /root/w:/data/sub \
            -v /root/v:/data -v /root/own:/data/sub/i:ro busybox sh -c 'exec 2>&1
            cat /etc/passwd /new/dir/file /data/f /data/sub/i; echo changed > /etc/passwd; ls /data/sub
            echo no > /new/dir/file'; cat /root/own /root/w/i",
    )
    .code(0)
    .out_is("what was mounted last at each place", |out| {
        out.starts_with("own\nown\nhost\nown\ni\n")
            && out.contains("Read-only file system")
            && out.ends_with("changed\ninner\n")
    });
    lab.step(
        "a directory upon a file, and a file upon a directory",
        "docker run --rm $N $D -v /root/w:/etc/passwd busybox true 2>&1 | grep -o 'onto a file (or vice-versa)'
         docker run --rm $N $D -v /root/own:/bin busybox true 2>&1 | grep -o 'onto a file (or vice-versa)'",
    )
    .out("onto a file (or vice-versa)\nonto a file (or vice-versa)\n");
    lab.step(
        "two dozen volumes",
        "set --; for i in $(seq 24); do mkdir -p /root/many/$i; echo $i > /root/many/$i/n; set -- \"$@\" -v /root/many/$i:/m/$i; done
         docker run --rm $N $D \"$@\" busybox sh -c 'cat /m/*/n | sort -n | tr \"\\n\" \" \"; for i in /m/*; do echo x > $i/x; done'
         ls /root/many/*/x | wc -l",
    )
    .code(0)
    .out("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 24\n")
    .err("");
    lab.step(
        "mounts on the host beneath: with rbind they are seen, each a file system of its own",
        "mount -t tmpfs inner /root/e; echo deep > /root/e/deep; mkdir /root/b; mount --bind /root/v /root/b
         mount --rbind /root/e /root/b/sub
         docker run --rm $N $D -v /root/b:/data busybox sh -c 'cat /data/f /data/sub/deep; echo x > /data/sub/x
            [ $(stat -c %d /data) != $(stat -c %d /data/sub) ] && echo two'
         docker run --rm $N $D --mount type=bind,src=/root/b,dst=/data,bind-recursive=disabled busybox ls /data/sub
         cat /root/e/x; umount /root/b/sub /root/b /root/e; rmdir /root/b",
    )
    .code(0)
    .out("host\ndeep\ntwo\nx\n")
    .err("");
    lab.step(
        "with ro none of them can be written to, and with rslave later ones are seen as well",
        "mkdir -p /root/e/sub /root/w/sub; mount -t tmpfs nested /root/w/sub; echo nested > /root/w/sub/f
         docker run -d $N $D --name box1 -v /root/w:/ro:ro -v /root/e:/data:rslave busybox sleep 1000 >&2
         docker exec box1 sh -c 'cat /ro/sub/f; echo x 2>&1 > /ro/sub/f' | grep -o -e nested -e 'Read-only file system'
         mount -t tmpfs later /root/e/sub; echo later > /root/e/sub/f; docker exec box1 cat /data/sub/f
         docker exec box1 sh -c 'echo back > /data/sub/g'; cat /root/e/sub/g; docker rm -f box1 >&2
         umount /root/w/sub /root/e/sub",
    )
    .code(0)
    .out("nested\nRead-only file system\nlater\nback\n");
    lab.nothing_left("after volumes", &before);
}

fn dockers_volumes(lab: &mut Lab) {
    lab.step(
        "a named volume begins with what the image has there, and stays",
        "docker run --rm $N $D -v named:/home -v other:/bin/sub busybox sh -c 'echo 1 > /home/one'
         docker run --rm $N $D -v named:/etc busybox sh -c 'ls /etc | grep -v -e ^host -e ^resolv -e mtab'
         docker run --rm $N $D -v filled:/etc busybox sh -c 'cat /etc/group | head -n 1; echo mine > /etc/mine'
         docker run --rm $N $D -v filled:/x:ro busybox sh -c 'cat /x/mine; ls /x/passwd; stat -c %a%u%g /x/passwd'",
    )
    .code(0)
    .out("one\nroot:x:0:\nmine\n/x/passwd\n64400\n")
    .err("");
    lab.step(
        "an anonymous one ends with its container, and is lent to another meanwhile",
        "docker run -d $N $D --name giver -v /anon -v named:/named:ro busybox sh -c 'echo a > /anon/a; sleep 1000' >&2
         i=0; until docker exec giver cat /anon/a 2>/dev/null; do i=$((i+1)); [ $i -lt 150 ] || break; sleep 0.2; done
         docker run --rm $N $D --volumes-from giver busybox sh -c 'cat /anon/a /named/one; echo b > /anon/b; touch /named/no 2>&1' |
            sed s/.*:.//
         docker exec giver cat /anon/b; docker rm -fv giver >&2; docker volume ls -q | wc -l",
    )
    .code(0)
    .out("a\na\n1\nRead-only file system\nb\n3\n");
    lab.step(
        "a folder of a volume; a container that is started again; tmpfs over a volume",
        "mkdir -p /var/lib/docker/volumes/named/_data/deep/er; echo sub > /var/lib/docker/volumes/named/_data/deep/er/s
         docker run --rm $N $D --mount type=volume,src=named,dst=/x,volume-subpath=deep/er busybox cat /x/s
         docker run $N $D --name again -v named:/n --tmpfs /n/deep busybox sh -c 'echo x >> /n/count; ls /n/deep; wc -l < /n/count'
         docker start -a again; docker rm again >&2",
    )
    .code(0)
    .out("sub\n1\n2\n");
    lab.must("removed", "docker volume rm named other filled >&2");
}

/// Both sides work on the same files while the container runs.
fn live(lab: &mut Lab) {
    lab.must(
        "a container",
        "mkdir /root/v; echo 1 > /root/v/f; echo one > /root/single
         docker run -d $N $D --name box1 -v /root/v:/data -v /root/single:/single busybox sleep 10000 >&2",
    );
    lab.step(
        "what the host makes, changes and removes",
        "docker exec box1 cat /data/f /single; echo two > /root/single; echo 22 > /root/v/f; echo new > /root/v/new
         docker exec box1 sh -c 'cat /data/new; sleep 1.1; cat /data/f /single'
         rm /root/v/new; docker exec box1 sh -c 'sleep 1.1; ls /data'",
    )
    .code(0)
    .out("1\none\nnew\n22\ntwo\nf\n")
    .err("");
    lab.step(
        "what the container makes, changes and removes is there when its command has ended",
        "docker exec box1 sh -c 'echo g > /data/g; mv /data/f /data/h; mkdir -p /data/a/b; echo >> /data/a/b/c'
         ls /root/v; cat /root/v/g; stat -c %s /root/v/a/b/c
         docker exec box1 sh -c 'rm -r /data/a; truncate -s 5 /data/g'; ls /root/v; stat -c %s /root/v/g",
    )
    .code(0)
    .out("a\ng\nh\ng\n1\ng\nh\n5\n")
    .err("");
    lab.step(
        "paused for a commit, and stopped",
        "docker commit box1 img >&2; docker exec box1 cat /data/h; docker stop -t 1 box1 >&2; docker rm box1 >&2; docker rmi img >&2",
    )
    .code(0)
    .out("22\n");
}

/// Docker rewrites these while the container runs, whether it has other volumes or not.
fn usual_files(lab: &mut Lab) {
    lab.must(
        "two containers, one with a volume",
        "mkdir /root/v; docker network create net1 >&2; docker network create net2 >&2
         docker run -d $D --network net1 --name box1 busybox sleep 10000 >&2
         docker run -d $D --network net1 --name box2 -v /root/v:/v busybox sleep 10000 >&2",
    );
    for name in ["box1", "box2"] {
        lab.step(
            &format!("{name}: a network more, and one less"),
            &format!(
                "id=$(docker inspect -f '{{{{.Id}}}}' {name} | cut -c1-12); has() {{ docker exec {name} grep -c $id /etc/hosts; }}
                 has; docker network connect net2 {name}; eventually '[ $(has) = 2 ]' 0.3; has
                 docker network disconnect net2 {name}; eventually '[ $(has) = 0 ]' 0.3; has; docker exec {name} cat /etc/hostname | grep -c $id
                 docker exec {name} sh -c 'echo 1.2.3.4 mine >> /etc/hosts; grep -c mine /etc/hosts'"
            ),
        )
        .code(0)
        // On a disconnect Docker takes all lines of the name.
        .out("1\n2\n0\n1\n1\n")
        .err("");
    }
    lab.step(
        "the servers of names, of both",
        "for name in box1 box2; do echo '# later' >> $(docker inspect -f '{{.ResolvConfPath}}' $name); done
         for name in box1 box2; do eventually 'docker exec $name tail -n 1 /etc/resolv.conf | grep -q later' 0.3; done
         for name in box1 box2; do docker exec $name tail -n 1 /etc/resolv.conf; done",
    )
    .code(0)
    .out("# later\n# later\n");
    lab.step(
        "written while it is paused",
        "docker pause box1 >&2; f=$(docker inspect -f '{{.HostsPath}}' box1); echo 5.6.7.8 late >> $f; sleep 1
         docker unpause box1 >&2; eventually 'docker exec box1 grep late /etc/hosts' 0.3; docker rm -f box1 box2 >&2",
    )
    .code(0)
    .out("5.6.7.8 late\n");
}

/// File systems in images and on block devices, by the type of the mount.
fn images(lab: &mut Lab) {
    lab.define(BUNDLE);
    lab.define(
        r#"with() {
            bundle c sh -c "exec 2>&1; $2"
            jq --argjson mount "$1" '.mounts += [$mount]' /root/c/config.json > /root/new; mv /root/new /root/c/config.json
            $R run --bundle /root/c c 2>&1
        }"#,
    );
    lab.must(
        "images",
        "mkdir /sys/fs/cgroup/e2e; mkdir /root/t; echo in > /root/t/f; mke2fs -q -t ext4 -d /root/t /root/image 64M
         mkfs.erofs /root/erofs /root/t > /dev/null; mknod /root/null c 1 3",
    );
    lab.step(
        "an ext4 in a file: what is written is there when the container has ended",
        r#"with '{"destination": "/d", "type": "ext4", "source": "/root/image", "options": ["loop", "noexec"]}'                'cat /d/f; echo out > /d/new; grep " /d " /proc/mounts | cut -d" " -f1-4'
           debugfs -R 'cat /new' /root/image 2>/dev/null; e2fsck -fn /root/image > /dev/null 2>&1; echo $?"#,
    )
    .code(0)
    .out_is("its content, and a clean disk", |out| {
        out.starts_with("in
/dev/vdc /d ext4 rw,noexec,") && out.ends_with("out
0
")
    });
    lab.step(
        "a block device, and read-only after each end: its own, a kill's, and that of one that never began",
        r#"loop=$(losetup -f --show /root/image)
           with '{"destination": "/d", "type": "ext4", "source": "'$loop'"}' 'cat /d/new; echo 2 > /d/new; exec 3> /d/gone; rm /d/gone; sleep 1000 &'
           with '{"destination": "/d", "type": "ext4", "source": "'$loop'", "options": ["ro"]}' 'cat /d/new; touch /d/x'
           e2fsck -fn $loop > /dev/null 2>&1; echo clean $?
           with '{"destination": "/d", "type": "ext4", "source": "'$loop'"}' 'echo 3 > /d/new; kill -9 $$'
           with '{"destination": "/d", "type": "ext4", "source": "'$loop'", "options": ["ro"]}' 'cat /d/new'
           jq '.mounts |= map(if .destination == "/d" then .options = [] else . end)' /root/c/config.json > /root/new
           mv /root/new /root/c/config.json
           $R create --bundle /root/c c > /dev/null 2>&1 < /dev/null; $R delete c; e2fsck -fn $loop > /dev/null 2>&1; echo clean $?
           mount $loop /mnt; with '{"destination": "/d", "type": "ext4", "source": "'$loop'"}' true; umount /mnt
           losetup -d $loop
           with '{"destination": "/d", "type": "erofs", "source": "/root/erofs"}' 'cat /d/f; touch /d/x'"#,
    )
    // The last one's touch.
    .code(1)
    .out_is("its content, or why not", |out| {
        let lines: Vec<&str> = out.lines().collect();
        lines.starts_with(&["out", "2"])
            && lines.iter().filter(|line| **line == "clean 0").count() == 2
            && lines.contains(&"3")
            && out.matches("touch: /d/x: Read-only file system").count() == 2
            && out.contains("in use elsewhere")
    });
    lab.step(
        "after a crash: what to do, and it helps",
        r#"with '{"destination": "/d", "type": "ext4", "source": "/root/image"}' 'echo 4 > /d/new; sync; echo ready; sleep 1000' > /root/out &
           eventually 'grep -q ready /root/out' 0.5; kill -9 $($R state c | jq .pid); wait; $R delete --force c
           with '{"destination": "/d", "type": "ext4", "source": "/root/image", "options": ["ro"]}' true
           with '{"destination": "/d", "type": "ext4", "source": "/root/image", "options": ["ro", "noload"]}' 'ls -d /d'
           e2fsck -p /root/image > /dev/null
           with '{"destination": "/d", "type": "ext4", "source": "/root/image", "options": ["ro"]}' 'cat /d/new'"#,
    )
    .code(0)
    .out_is("the error, the directory, the content", |out| {
        out.contains("mount ext4 at /d: it was not unmounted when it was last in use")
            && out.contains("run e2fsck -p on it")
            && out.ends_with("/d\n4\n")
    });
    lab.step(
        "what is no image",
        r#"with '{"destination": "/d", "type": "ext4", "source": "/root/null"}' true
           with '{"destination": "/d", "type": "ext4", "source": "/root/t"}' true; $R list -q"#,
    )
    .code(0)
    .out_is("said twice", |out| out.matches("neither an image file nor a block device").count() == 2);
}

/// `dev.msb.root=shared`: the root is the host's own, as with runc.
fn shared_root(lab: &mut Lab) {
    lab.define("S='--annotation dev.msb.root=shared'; merged() { docker inspect -f '{{.GraphDriver.Data.MergedDir}}' box1; }");
    lab.must("a volume", "mkdir /root/v; echo volume > /root/v/f");
    let before = lab.snapshot();
    lab.must("a container", "docker run -d $N $D $S --name box1 -v /root/v:/data busybox sleep 10000 >&2");
    if lab.runtime() == Runtime::Msb {
        lab.step(
            "its root is a share, and there is no disk",
            "docker exec box1 sh -c 'grep \" / \" /proc/mounts; ls /dev/vda' 2>&1",
        )
        .out_has(" / virtiofs rw")
        .out_has("No such file");
    }
    lab.step(
        "what it writes is on the host at once, as it is",
        "docker exec box1 sh -c 'echo in > /f; chown 5:6 /f; chmod 4750 /f; mkdir -p /d/e; ln /f /d/hard; ln -s f /d/soft; mkfifo /d/p
            echo mine >> /etc/group; rm /bin/uname; cat /data/f; setfattr -n user.a -v b /f 2> /dev/null'
         cd $(merged); cat f; stat -c '%u %g %a %h %F' f d/p; readlink d/soft; tail -n 1 etc/group; ls bin/uname 2>&1 | cut -d: -f3
         docker diff box1 | grep -v -e /etc$ -e /root -e /bin$ -e /data$ | sort; docker cp box1:/f - | tar xO",
    )
    .code(0)
    .out(
        "volume\nin\n5 6 4750 2 regular file\n0 0 644 1 fifo\nf\nmine\n No such file or directory\n\
         A /d\nA /d/e\nA /d/hard\nA /d/p\nA /d/soft\nA /f\nC /etc/group\nD /bin/uname\nin\n",
    )
    .err("");
    lab.step(
        "what the host puts there while it runs is in the container",
        "echo one > /root/new; docker cp -q /root/new box1:/new; docker exec box1 cat /new
         echo another > /root/new; docker cp -q /root/new box1:/new; docker cp -q /root/v box1:/d/v; sleep 1.1
         docker exec box1 sh -c 'cat /new /d/v/f; rm -r /d/v /new'; ls $(merged)/d",
    )
    .code(0)
    .out("one\nanother\nvolume\ne\nhard\np\nsoft\n");
    lab.step(
        "a program that is written, run and removed, and memory that is shared with a file",
        "docker exec box1 sh -c 'cp /bin/busybox /d/echo; /d/echo runs; rm /d/echo; dd if=/dev/zero of=/big bs=1M count=20 2> /dev/null
            sed -i s/./x/ /f; cat /f; stat -c %s /big'; stat -c %s $(merged)/big",
    )
    .code(0)
    .out("runs\nxn\n20971520\n20971520\n");
    lab.step(
        "a commit of the running container",
        "docker commit box1 img >&2; docker run --rm $N busybox true; docker run --rm $N img sh -c 'cat /f; ls /big'; docker rmi img >&2",
    )
    .code(0)
    .out("xn\n/big\n");
    lab.step(
        "killed, started, stopped, started: all is there",
        "docker exec box1 sh -c 'echo last > /last'; kill -9 $(docker inspect -f '{{.State.Pid}}' box1)
         i=0; until [ $(docker inspect -f '{{.State.Running}}' box1) = false ]; do i=$((i+1)); [ $i -lt 150 ] || break; sleep 0.2; done
         docker start box1 >&2; docker exec box1 sh -c 'cat /last; echo more >> /last'
         docker restart -t 1 box1 >&2; docker exec box1 cat /last; docker rm -f box1 >&2",
    )
    .code(0)
    .out("last\nlast\nmore\n");
    lab.step(
        "read-only, with mount points that the image does not have",
        "docker run --rm $N $D $S --read-only --tmpfs /t -v /root/v:/new/place busybox sh -c '
            cat /new/place/f; echo x > /t/x; for c in \"touch /x\" \"rm /bin/sh\" \"mkdir /new/dir\"; do
                $c 2>&1 | grep -o \"Read-only file system\"; done; echo w > /new/place/w'; cat /root/v/w",
    )
    .code(0)
    .out("volume\nRead-only file system\nRead-only file system\nRead-only file system\nw\n")
    .err("");
    if lab.runtime() == Runtime::Msb {
        lab.step(
            "also for one who mounts it anew: the wall is on the host",
            "docker run -d $N $D $S --read-only --privileged --tmpfs /t --name box1 busybox sleep 10000 >&2
             docker exec box1 sh -c 'exec 2>&1; mount -o remount,rw /; touch /x; mount -t virtiofs volumes /t
                 for i in /t/*; do touch $i/x && echo made; done
                 grep \" / \" /proc/mounts | cut -d\" \" -f4 | cut -c1-2'; ls $(merged)/x; docker rm -f box1 >&2",
        )
        .out_is("nothing made", |out| {
            out.starts_with("touch: /x: Read-only file system\n") && !out.contains("made") && out.ends_with("\nrw\n")
        });
        lab.step(
            "with the size of a disk that there is none of",
            "docker run --rm $N $D $S --annotation dev.msb.disk-size=1G busybox true",
        )
        .code(125)
        .err_has("dev.msb.disk-size");
    }
    lab.nothing_left("after shared roots", &before);
}

/// podman and containerd.
fn other_callers(lab: &mut Lab) {
    lab.must("directories", "mkdir -p /root/v; echo host > /root/v/f");
    lab.step(
        "podman",
        "podman --runtime $P run --rm --network none -v /root/v:/data -v named:/home:ro busybox sh -c '
            cat /data/f; echo pod > /data/p; touch /home/no 2>&1 | grep -o Read-only' ; cat /root/v/p
         podman volume rm named >&2",
    )
    .code(0)
    .out("host\nRead-only\npod\n");
    lab.step(
        "containerd",
        "ctr run --rm --runc-binary $P --mount type=bind,src=/root/v,dst=/data,options=rbind:ro \
            docker.io/library/busybox:latest c1 sh -c 'cat /data/f; touch /data/x 2>&1 | grep -o Read-only'",
    )
    .code(0)
    .out("host\nRead-only\n");
}

/// `served NAME` sets `pids` to the processes that serve the volumes of Docker's container NAME.
const SERVED: &str = r#"
served() {
    pids=$(ps -o pid=,comm= --ppid "$(docker inspect -f '{{.State.Pid}}' "$1")" | sed -n 's/ *\([0-9]*\) virtiofsd$/\1/p')
    pids="$pids $(ps -o pid= --ppid $pids)"
}
"#;

fn walls(lab: &mut Lab) {
    lab.define(BUNDLE);
    lab.define(SERVED);
    lab.must("a directory", "mkdir -p /root/v /root/w; echo host > /root/v/f; echo w > /root/w/f");
    lab.must(
        "a container",
        "docker run -d $N $D --cap-drop MKNOD --name box1 -v /root/v:/data -v /root/w/f:/file:ro busybox sleep 10000 >&2",
    );
    lab.step(
        "what serves them sees nothing else, has no network, few rights, a filter, and the container's cgroup",
        r#"served box1; set -- $pids; vmm=$(docker inspect -f '{{.State.Pid}}' box1); in=$2
           echo $(ls /proc/$in/root) . $(cut -d' ' -f5 /proc/$in/mountinfo | sort)
           grep -h -e ^CapEff -e ^Seccomp: -e ^NoNewPrivs /proc/$in/status
           cmp /proc/$in/cgroup /proc/$vmm/cgroup; cmp /proc/$1/cgroup /proc/$vmm/cgroup
           grep -o 'Max core file size *0 *0 ' /proc/$in/limits | tr -s ' '
           for n in ipc mnt net pid uts; do [ $(readlink /proc/$in/ns/$n) != $(readlink /proc/$vmm/ns/$n) ] && echo own $n; done
           ls -l /proc/$in/fd | sed -n 's/.*-> //p' | grep / | grep -v -e ^/dev/null -e '^/#[0-9]* (deleted)$' -e '/mountinfo$' -e '^/[0-9]*$'"#,
    )
    .out(
        "0 1 2 3 4 . / /0 /1 /2 /3 /4\nCapEff:\t00000000800000db\nNoNewPrivs:\t1\nSeccomp:\t2\nMax core file size 0 0 \n\
         own ipc\nown mnt\nown net\nown pid\nown uts\n",
    )
    .err("");
    lab.must("removed", "docker rm -f box1 >&2");
    lab.step(
        "read-only, whatever a container with all rights does",
        "docker run --rm $N $D --privileged -v /root/v:/data:ro busybox sh -c 'exec 2>&1
            mount -o remount,rw /data; mount -o remount,bind,rw /data; umount /data; echo x > /data/f; mkdir /m
            mount -t virtiofs volumes /m && echo x > /m/0/f; cat /m/0/f; ls /m'; cat /root/v/f",
    )
    .code(0)
    .out_is("nothing written, and nothing but the three usual files shared beside it", |out| {
        out.contains("Read-only file system") && out.ends_with("host\n0\n1\n2\n3\nhost\n")
    });
    lab.step(
        "a source that is replaced by a link after create",
        r#"mkdir /sys/fs/cgroup/e2e; bundle c sh -c 'exec 2>&1; cat /data/f; ls /data/passwd'
           jq '.mounts += [{destination: "/data", type: "bind", source: "/root/v", options: ["rbind"]}]' \
               /root/c/config.json > /root/new; mv /root/new /root/c/config.json
           $R create --bundle /root/c --pid-file /root/c/pid c > /root/c/out 2>&1 < /dev/null
           mv /root/v /root/moved; ln -s /etc /root/v; $R start c; eventually "[ \$($R state c | jq -r .status) = stopped ]"
           cat /root/c/out; $R delete c"#,
    )
    .code(0)
    .out_is("that of before", |out| out.starts_with("host\n") && out.contains("No such file"));
}

/// Who serves the volumes is killed.
fn lost_daemon(lab: &mut Lab) {
    lab.define(SERVED);
    let before = lab.snapshot();
    lab.must(
        "a container that reads and writes all the time",
        "mkdir -p /root/v; echo host > /root/v/f
         docker run -d $N $D --name box1 -v /root/v:/data busybox sh -c '
            (while cat /data/f; do :; done; echo reader ended) > /read 2>&1 &
            (while dd if=/dev/zero of=/data/w bs=1M count=4; do :; done; echo writer ended) > /wrote 2>&1 & sleep 10000' >&2
         sleep 3",
    );
    lab.must("its daemon is killed", "served box1; kill -9 $pids; sleep 1");
    lab.step(
        "everybody gets an error, nobody hangs, and the container goes on",
        "eventually 'docker exec box1 tail -n 1 /read | grep -q ended' 0.3; eventually 'docker exec box1 tail -n 1 /wrote | grep -q ended' 0.3
         docker exec box1 sh -c 'tail -n 2 /read | cut -c1-200; tail -n 1 /wrote; ls /data; echo here'",
    )
    .code(0)
    .out_is("ends and an error", |out| {
        out.contains("reader ended") && out.contains("writer ended") && out.ends_with("here\n")
    })
    .err_has("/data");
    lab.step("it is stopped as any other", "docker stop -t 1 box1 >&2; docker rm box1; cat /root/v/f")
        .code(0)
        .out("box1\nhost\n");
    lab.must(
        "one that may do what it likes to its kernel, and reads all the time",
        "docker run -d $N $D --privileged --name box1 -v /root/v:/data busybox sh -c '
            (while cat /data/f; do :; done; echo reader ended) > /read 2>&1 & sleep 10000' >&2",
    );
    lab.step(
        "it takes its file system's device from the driver in the midst of that: errors, and it goes on",
        r#"docker exec box1 sh -c 'cd /sys/bus/virtio/drivers/virtio*fs; for device in virtio*; do echo $device > unbind; done
               i=0; until grep -q "reader ended" /read || [ $i = 300 ]; do i=$((i+1)); sleep 0.2; done
               tail -n 1 /read; cat /data/f 2> /dev/null || echo error; for device in virtio*; do echo $device; done; echo here'"#,
    )
    .code(0)
    .out("reader ended\nerror\nvirtio*\nhere\n");
    lab.step("it is stopped as any other", "docker stop -t 1 box1 >&2; docker rm box1; cat /root/v/f")
        .code(0)
        .out("box1\nhost\n");
    lab.nothing_left("after a lost daemon and a lost device", &before);
}

/// A SIGKILL is carried out, says the guest; but who waits for an answer of its file system does not die of it.
fn stuck_daemon(lab: &mut Lab) {
    lab.define(BUNDLE);
    lab.must(
        "a container that reads all the time",
        r#"mkdir -p /root/v /sys/fs/cgroup/e2e; echo host > /root/v/f; bundle c sh -c 'while cat /data/f; do :; done'
           jq '.mounts += [{destination: "/data", type: "bind", source: "/root/v", options: ["bind", "rw"]}]' \
              /root/c/config.json > /root/new; mv /root/new /root/c/config.json"#,
    );
    let before = lab.snapshot();
    lab.must(
        "it runs",
        "$R run --detach --bundle /root/c --pid-file /root/c/pid c < /dev/null > /root/out 2>&1
         eventually 'grep -q host /root/out'",
    );
    lab.must(
        "its daemon stands still",
        "first=$(ps -o pid=,comm= --ppid $(cat /root/c/pid) | sed -n 's/ *\\([0-9]*\\) virtiofsd$/\\1/p')
         kill -STOP $first $(ps -o pid= --ppid $first); sleep 1",
    );
    lab.step("a kill is no error", "$R kill c KILL").code(0).out("").err("");
    lab.step_with(
        "and ends it, with its machine where the guest can't",
        "for i in $(seq 100); do [ $($R state c | jq -r .status) != stopped ] || break; sleep 1; done; $R state c | jq -r .status",
        |command| command.timeout(Duration::from_secs(150)),
    )
    .code(0)
    .out("stopped\n");
    lab.must("it is deleted", "$R delete c");
    lab.nothing_left("after a daemon that stands still", &before);
}

fn refused(lab: &mut Lab) {
    lab.must("things that are no volumes", "mkfifo /root/fifo; mkdir -p /root/v");
    let before = lab.snapshot();
    for (what, source, hint) in [
        ("Docker's own socket", "/var/run/docker.sock", "is a socket of the host"),
        ("a fifo", "/root/fifo", "is a fifo of the host"),
        ("a device", "/dev/vda", "is a device of the host"),
        ("the host's /proc", "/proc/sys", "the host's /proc"),
        ("some of the host's cgroups", "/sys/fs/cgroup/system.slice", "the host's cgroups"),
    ] {
        lab.step(what, &format!("docker run --rm $N $D -v {source}:/x busybox true"))
            .code(125)
            .out("")
            .err_has(hint);
    }
    let away = "mv /usr/libexec/virtiofsd /root/away; trap 'mv /root/away /usr/libexec/virtiofsd' EXIT;";
    lab.step("no virtiofsd", &format!("{away} docker run --rm $N $D -v /root/v:/x busybox true"))
        .code(125)
        .out("")
        .err_has("install Debian's package virtiofsd");
    lab.step("who has no volumes needs none", &format!("{away} docker run --rm $N $D busybox echo fine"))
        .code(0)
        .out("fine\n")
        .err("");
    lab.step("doctor", &format!("{away} $R doctor")).code(1).out_has("FAIL  virtiofsd: ").err("");
    lab.step(
        "one that ends at once",
        "cp /bin/false /root/fails; mount --bind /root/fails /usr/libexec/virtiofsd
         docker run --rm $N $D -v /root/v:/x busybox true; code=$?; umount /usr/libexec/virtiofsd; rm /root/fails; exit $code",
    )
    .code(125)
    .err_has("/usr/libexec/virtiofsd, which serves the container's volumes, has ended (exit status: 1) and said: nothing")
    .err_has("install Debian's package virtiofsd anew");
    lab.step(
        "one that says why",
        "printf '#!/bin/sh\necho no memory >&2; sleep 0.5; exit 3\n' > /root/fails; chmod 755 /root/fails
         mount --bind /root/fails /usr/libexec/virtiofsd
         docker run --rm $N $D -v /root/v:/x busybox true; code=$?; umount /usr/libexec/virtiofsd; rm /root/fails; exit $code",
    )
    .code(125)
    .err_has("/usr/libexec/virtiofsd, which serves the container's volumes, has ended (exit status: 3) and said: no memory");
    lab.nothing_left("after refusals", &before);
}
