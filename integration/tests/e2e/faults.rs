//! The runtime's commands are killed at each step that changes anything: the next command puts things right, nothing is
//! left, and nothing that a container wrote is lost.
//!
//! The steps are not known here: a first run under strace tells which system calls there are, and then each run is killed
//! by strace at the next of them, before the call is done.

use std::time::Duration;

use integration::check::Lab;

crate::conformance!(both: [], ours: [delete_is_killed, create_is_killed]);

/// `points LOG` names each call in a log that changes something or talks to somebody: its name, and which one of that name.
/// `killed CALL NUMBER COMMAND…` runs a command that dies there; it is true if it did.
/// `left` prints what must not be there when the container is gone.
const STEPS: &str = r#"
calls=mkdir,mkdirat,open,openat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlinkat,mknodat,write,pwrite64,\
copy_file_range,sendfile,ftruncate,fallocate,fchmod,fchmodat,fchown,fchownat,utimensat,fsync,fdatasync,syncfs,flock,\
clone,clone3,vfork,wait4,socketpair,connect,bind,sendto,sendmsg,recvfrom,recvmsg,kill,exit_group
points() {
    sed -n 's/^\([a-z0-9_]*\)(/\1 (/p' $1 | awk '{ n[$1]++; if ($1 !~ /^open/ || /O_CREAT/) print $1, n[$1] }'
}
killed() {
    call=$1; number=$2; shift 2
    strace -qq -o /dev/null -e trace=$call -e inject=$call:signal=KILL:when=$number "$@" > /root/killed.out 2>&1 < /dev/null
    [ $? = 137 ]
}
left() {
    i=0
    while pgrep msb-runtime > /root/alive && [ $i -lt 600 ]; do i=$((i+1)); sleep 0.05; done
    cat /root/alive
    find /run/msb-runtime /var/lib/msb-runtime -mindepth 1 -path /var/lib/msb-runtime/compositions -prune -o -print
    ls -d /sys/fs/cgroup/e2e/c 2>/dev/null
}
"#;

/// A container that has written and ended, put back as it was before each `delete`. At some steps the host goes down as well,
/// and it is the next `create` that finds the disk.
fn delete_is_killed(lab: &mut Lab) {
    lab.define(crate::direct::BUNDLE);
    lab.define(STEPS);
    lab.define(
        r#"
        again() {
            rm -rf /run/msb-runtime/c $1; cp -a /root/saved/run /run/msb-runtime/c; cp -a --sparse=always /root/saved/disks $1
            find /root/c/rootfs -mindepth 1 -delete; cp -a /root/saved/root/. /root/c/rootfs; mkdir -p /sys/fs/cgroup/e2e/c
        }
        look() {
            (cd /root/c/rootfs; find . -printf '%p %y %m %U:%G %s %n %l %T@\n' | sort; find . -type f | sort | xargs sha256sum)
        }"#,
    );
    lab.must(
        "a small root of its own",
        r#"bundle c sh -c '
            mkdir -p /d/e; for i in 1 2 3; do echo $i > /d/$i; done; echo x > /gone; rm -r /old /both; mkdir /both; echo b > /both/b
            echo new > /etc/file; ln -s x /l; ln /d/1 /h; mkfifo /p; chmod 700 /tmp; head -c 300000 /bin/busybox > /big
            echo ready; read line; rm /gone /d/2; echo again > /d/3; sync'
           mkdir -p /root/c/rootfs; cd /root/c/rootfs
           mkdir bin dev proc sys etc tmp old both; cp /bin/busybox bin; ln -s busybox bin/sh
           for i in mkdir rm ln mkfifo chmod head sync; do ln -s busybox bin/$i; done
           for i in old/1 old/2 both/a etc/file; do echo $i > $i; done; cd /root
           jq '.root.path = "rootfs" | .annotations = {"dev.msb.disk-size": "64M"}' c/config.json > new; mv new c/config.json"#,
    );
    lab.must(
        "it writes, and waits",
        r#"mkdir -p /sys/fs/cgroup/e2e saved; mkfifo in; cp -a c/rootfs saved/before; tail -f /dev/null > in 2> /dev/null &
           $R run --detach --bundle c --pid-file c/pid c < in > out 2>&1; eventually 'grep -q ready out'"#,
    );
    pause_is_killed(lab);
    lab.must(
        "it ends",
        r#"echo > in; eventually '[ "$($R state c | jq -r .status)" = stopped ]'
           [ -e c/rootfs/gone ] && [ -e c/rootfs/d/2 ]
           mv saved/before saved/root; rm -r saved/root; cp -a c/rootfs saved/root; cp -a /run/msb-runtime/c saved/run
           cp -a --sparse=always $(echo /var/lib/msb-runtime/[0-9a-f]*) saved/disks"#,
    );
    lab.must(
        "what delete does when nobody kills it",
        r#"strace -o log -e trace=$calls $R delete c; look > expected; [ -z "$(left)" ]
           ! [ -e c/rootfs/gone ] && ! [ -e c/rootfs/d/2 ] && grep -q again c/rootfs/d/3 && ! [ -e c/rootfs/old ] && [ -p c/rootfs/p ]
           points log | awk '{ print $0, (NR % 16 == 0 || $1 == "unlinkat" && NR % 2) ? "down" : "up" }' > points"#,
    );
    lab.step_with(
        "killed at each step",
        r#"disks=$(jq -r .disks saved/run/lent.json); count=0; ended=0
           while read call number host; do
               again $disks; count=$((count+1))
               killed $call $number $R delete c && ended=$((ended+1))
               if [ "$host" = down ]; then
                   rm -rf /run/msb-runtime/c; $R create --bundle c c > created 2>&1 < /dev/null || { echo "create after $call $number:"; cat created; }
                   $R delete --force c 2>&1
               elif ! $R delete c > second 2>&1; then
                   grep -qE 'does not exist|is not complete' second || { echo "delete after $call $number:"; cat second; }
                   $R delete --force c 2>&1 || echo "delete --force after $call $number: $?"
               fi
               look > found; diff expected found || echo "that is after $call $number"
               [ -z "$(left)" ] || { echo "left after $call $number:"; left; rm -rf /var/lib/msb-runtime/kept; }
           done < points
           echo $count $ended >&2"#,
        |command| command.timeout(Duration::from_secs(600)),
    )
    .code(0)
    .out("")
    .err_is("most of at least fifty deletes were killed", mostly_killed);
}

/// A pause writes back what a container that runs has written so far. One that is killed leaves a container that runs or is
/// told to be paused, and that goes on with the next resume or is paused with the next pause; and all is in the root then.
fn pause_is_killed(lab: &mut Lab) {
    // The whole sweep is for a soak: each step is seconds of an emulated processor.
    let every = if std::env::var_os("MSB_SOAK").is_some() { 1 } else { 12 };
    lab.step_with(
        "pause, killed at its steps",
        &r#"write() { $R exec c sh -c "echo $1 > /n; echo $1 > /n$1; rm -f /n$(($1-1))" < /dev/null; }
           write 1; strace -o log -e trace=$calls $R pause c; $R resume c; points log | awk 'NR % EVERY == 0' > points
           i=1; ended=0
           while read call number; do
               i=$((i+1)); write $i; killed $call $number $R pause c && ended=$((ended+1))
               case $($R state c | jq -r .status) in
                   running) ;;
                   paused) [ $((i % 2)) = 0 ] || $R resume c 2>&1 || echo "resume after $call $number" ;;
                   *) $R state c ;;
               esac
               [ $(jq -r .stage /run/msb-runtime/c/state.json) = paused ] || $R pause c 2>&1 || echo "pause after $call $number"
               [ "$(cat c/rootfs/n) $(cd c/rootfs; echo n[0-9]*)" = "$i n$i" ] || { echo "after $call $number, not $i:"; cat c/rootfs/n; ls c/rootfs; }
               $R resume c 2>&1 || echo "resume after the pause after $call $number"
           done < points
           echo $((i-1)) $ended >&2"#
            .replace("EVERY", &every.to_string()),
        |command| command.timeout(Duration::from_secs(600)),
    )
    .code(0)
    .out("")
    .err_is("most of at least five pauses were killed", |text| {
        text.trim().split_once(' ').is_some_and(|(all, killed)| {
            let (all, killed) = (number(all), number(killed));
            all >= 5 && killed * 10 >= all * 8
        })
    });
}

/// Of an image that nobody has composed yet, in an overlay; with what `start` does at the end.
fn create_is_killed(lab: &mut Lab) {
    lab.define(crate::direct::BUNDLE);
    lab.define(STEPS);
    lab.must(
        "a bundle on an overlay",
        r#"bundle c sh -c 'read line; echo $line > /line; sync'
           mkdir -p /root/c/rootfs upper work lower/bin lower/dev lower/proc lower/sys /sys/fs/cgroup/e2e
           cp /bin/busybox lower/bin; ln -s busybox lower/bin/sh; ln -s busybox lower/bin/sync
           mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay c/rootfs
           jq '.root.path = "rootfs"' c/config.json > new; mv new c/config.json"#,
    );
    let before = lab.snapshot();
    lab.must(
        "what run does when nobody kills it",
        "strace -o log -e trace=$calls $R run --detach --bundle c c > out 2>&1 < /dev/null
         $R delete --force c; [ -z \"$(left)\" ]; points log > points; rm -rf upper/*",
    );
    lab.step_with(
        "killed at each step",
        r#"count=0; ended=0
           while read call number; do
               rm -rf /var/lib/msb-runtime/compositions; count=$((count+1))
               killed $call $number $R run --detach --bundle c c && ended=$((ended+1))
               $R delete --force c 2>&1 || echo "delete --force after $call $number: $?"
               [ -z "$(left)" ] || { echo "left after $call $number:"; left; }
           done < points
           echo $count $ended >&2"#,
        |command| command.timeout(Duration::from_secs(600)),
    )
    .code(0)
    .out("")
    .err_is("most of at least thirty creates were killed", |text| {
        mostly_killed(text)
            || text
                .trim()
                .split_once(' ')
                .is_some_and(|(all, killed)| number(killed) >= 30 && number(all) < 50)
    });
    lab.step(
        "the next one runs, and what it writes comes back",
        "echo fine | $R run --bundle c c; cat upper/line",
    )
    .code(0)
    .out("fine\n");
    lab.step(
        "nothing half-made is in the cache",
        "ls -A /var/lib/msb-runtime/compositions | grep -vE '^(lock[.].|[0-9a-f]*[.]composed)$'",
    )
    .code(1)
    .out("");
    lab.nothing_left("after all", &before);
}

/// Calls that a run does not come to by chance are few.
fn mostly_killed(text: &str) -> bool {
    text.trim().split_once(' ').is_some_and(|(all, killed)| {
        let (all, killed) = (number(all), number(killed));
        all >= 50 && killed * 10 >= all * 9
    })
}

fn number(text: &str) -> u32 {
    text.parse().unwrap_or(0)
}
