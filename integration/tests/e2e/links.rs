//! A container that turns its directories into links to the host's while it is written back, copied from and copied to; and
//! somebody on the host who does so with its root and its mounts.
//!
//! `MSB_RACES` says how often, in hundreds (six rounds without; `cargo dev soak` takes sixty).

use std::time::Duration;

use integration::check::Lab;

crate::conformance!(both: [], ours: [copied_while_it_changes, shared_while_it_changes]);

/// What must stay as it is: `kept` prints all of it. `swapping PATH PATH` exchanges two names all the time, until `end`.
const CANARY: &str = r#"
kept() { (cd /root/canary; find . -printf '%p %y %m %U:%G %T@ %n\n' | sort; cat f sub/f); }
swapping() { rm -f /root/end; python3 /root/swap.py $1 $2 > /dev/null 2>&1 & }
end() { touch /root/end; wait; }
"#;
const SWAP: &str = "import ctypes, os, sys
libc = ctypes.CDLL(None)
one, other = (path.encode() for path in sys.argv[1:])
while not os.path.exists('/root/end'):
    libc.renameat2(-100, one, -100, other, 2)
";

/// Rounds, each of which is seconds of an emulated processor.
fn rounds() -> u32 {
    let told = std::env::var("MSB_RACES").ok().and_then(|text| text.parse::<u32>().ok());
    told.map_or(6, |all| (all / 100).max(1))
}

/// Of a step of so many rounds.
fn patience() -> Duration {
    Duration::from_secs(240 + 20 * u64::from(rounds()))
}

fn canary(lab: &mut Lab) -> String {
    lab.define(CANARY);
    lab.write("/root/swap.py", SWAP.into());
    lab.must(
        "files of the host",
        "mkdir -p /root/canary/sub; echo host > /root/canary/f; echo host > /root/canary/sub/f",
    );
    lab.read("as they are", "kept")
}

fn copied_while_it_changes(lab: &mut Lab) {
    let before = canary(lab);
    lab.must(
        "a container that never stops changing",
        r#"docker run -d --name box1 $N $D busybox sh -c '
               while :; do
                   mkdir -p /d/sub; echo inside > /d/f; echo inside > /d/sub/f; ln -s /root/canary /e
                   rm -rf /d /e; ln -s /root/canary /d; ln -s ../../../../root/canary /e; rm -f /d /e
               done' >&2; mkdir /root/in; echo new > /root/in/new; echo new > /root/in/f"#,
    );
    lab.step_with(
        "paused, copied from, copied to, and so on",
        &r#"for i in $(seq ROUNDS); do
               docker pause box1 > /dev/null || echo "not paused"
               for from in d e d/f e/f d/sub; do
                   docker cp box1:/$from - 2> /dev/null | tar -xO 2> /dev/null | grep host
               done
               for to in d e d/sub; do docker cp /root/in/. box1:/$to > /dev/null 2>&1; docker cp /root/in/f box1:/$to/f > /dev/null 2>&1; done
               docker unpause box1 > /dev/null
           done; docker rm -f box1 > /dev/null; ls -A /root/canary"#
            .replace("ROUNDS", &rounds().to_string()),
        |command| command.timeout(patience()),
    )
    .code(0)
    .out("f\nsub\n");
    lab.step("the host's files are as they were", "kept").code(0).out(&format!("{before}\n"));
    copied_by_msb(lab);
    lab.step("the host's files are as they were", "kept").code(0).out(&format!("{before}\n"));
}

/// The same by the product's own command.
fn copied_by_msb(lab: &mut Lab) {
    lab.bring_msb();
    lab.define(crate::product::FUNCTIONS);
    lab.must(
        "a sandbox that never stops changing",
        r#"loaded; msb run -d --name race --network none busybox sh -c '
               while :; do
                   mkdir -p /d/sub; echo inside > /d/f; echo inside > /d/sub/f; ln -s /root/canary /e
                   rm -rf /d /e; ln -s /root/canary /d; ln -s ../../../../root/canary /e; rm -f /d /e
               done' >&2"#,
    );
    lab.step_with(
        "copied from, copied to",
        &r#"for i in $(seq ROUNDS); do
               for from in d e d/f e/f d/sub; do
                   rm -rf /tmp/got; msb cp race:/$from /tmp/got > /dev/null 2>&1; find /tmp/got -type f -exec grep -h host {} + 2> /dev/null
               done
               for to in d e d/sub; do msb cp /root/in race:/$to > /dev/null 2>&1; msb cp /root/in/f race:/$to/f > /dev/null 2>&1; done
           done; msb exec race echo alive; msb rm -f race"#
            .replace("ROUNDS", &rounds().div_ceil(3).to_string()),
        |command| command.timeout(patience()),
    )
    .code(0)
    .out("alive\nrace\n");
}

/// Of a volume, the container and the host see the same at once.
fn shared_while_it_changes(lab: &mut Lab) {
    let before = canary(lab);
    lab.must(
        "a volume whose directory the host turns into a link and back, as another container of it could",
        r#"mkdir -p /root/v/d/sub; echo inside > /root/v/d/f; ln -s /root/canary /root/v/l
           swapping /root/v/d /root/v/l"#,
    );
    lab.step_with(
        "read and written from inside",
        r#"docker run --rm $N $D -v /root/v:/v busybox sh -c '
               i=0; while [ $i -lt 100 ]; do
                   i=$((i+1)); cat /v/d/f /v/d/sub/f; echo changed > /v/d/sub/f; mkdir -p /v/d/sub/made; rm -rf /v/d/sub; mkdir /v/d/sub
               done 2> /dev/null | sort | uniq -c' | grep host; end; ls -A /root/canary"#,
        |command| command.timeout(Duration::from_secs(240)),
    )
    .code(0)
    .out("f\nsub\n");
    lab.step("the host's files are as they were", "kept").code(0).out(&format!("{before}\n"));
    made_while_it_changes(lab);
    lab.step("the host's files are as they were", "kept").code(0).out(&format!("{before}\n"));
}

/// Containers are made and deleted while the source of a mount, and then a directory of their root, is a link now and then.
fn made_while_it_changes(lab: &mut Lab) {
    lab.define(crate::direct::BUNDLE);
    // Each may be refused: one that runs is waited for a little longer.
    lab.define(&format!(
        "enough() {{ [ $i -ge {0} ] && {{ [ $ran -gt 0 ] || [ $i -ge $((4 * {0})) ]; }}; }}",
        rounds()
    ));
    lab.define(
        r#"made() {
               $R run --bundle /root/c c > /root/out 2> /root/err < /dev/null; code=$?
               [ $code = 0 ] || [ -s /root/err ] || echo "$code without a reason"
               $R delete --force c > deleted 2>&1 || { [ -s deleted ] || echo "not deleted, without a reason"; rm -rf /var/lib/msb-runtime/kept; }
               find /run/msb-runtime /var/lib/msb-runtime -mindepth 1 -path /var/lib/msb-runtime/compositions -prune -o -print
           }"#,
    );
    lab.step_with(
        "a mount is of the one or of the other, and read-only in either case",
        r#"mkdir -p /sys/fs/cgroup/e2e
           [ ! -L /root/v/d ] || { mv -T /root/v/d /root/v/x; mv -T /root/v/l /root/v/d; mv -T /root/v/x /root/v/l; }
           echo inside > /root/v/d/f
           bundle c sh -c 'cat /v/f; { echo lost > /v/f; } 2> /dev/null; :'
           jq '.mounts += [{destination: "/v", type: "bind", source: "/root/v/d", options: ["rbind", "ro"]}]' c/config.json > new; mv new c/config.json
           swapping /root/v/d /root/v/l; ran=0; i=0
           until enough; do
               i=$((i+1)); made; case "$code $(cat out)" in "0 inside"|"0 host") ran=$((ran+1)) ;; 0*) echo "seen: $(cat out)" ;; esac
           done
           end; cat /root/v/d/f /root/v/l/f | sort; [ $ran -gt 0 ] || cat err"#,
        |command| command.timeout(patience()),
    )
    .code(0)
    .out("host\ninside\n");
    lab.step_with(
        "what is written to a root goes into it or nowhere",
        r#"bundle c sh -c 'cat /d/f /d/sub/f 2> /dev/null; mkdir -p /d/sub; echo lost > /d/f; echo lost > /d/sub/new; rm -rf /d/sub/f; :'
           cp -a /opt/busybox/rootfs c/rootfs; jq '.root.path = "rootfs"' c/config.json > new; mv new c/config.json
           rm -rf c/rootfs/d link; mkdir -p c/rootfs/d/sub; ln -s /root/canary link; swapping /root/c/rootfs/d /root/link; ran=0; i=0
           until enough; do i=$((i+1)); made; grep host out; [ $code != 0 ] || ran=$((ran+1)); done
           end; [ $ran -gt 0 ] || cat err"#,
        |command| command.timeout(patience()),
    )
    .code(0)
    .out("");
}
