//! A container that turns its directories into links to the host's while it is written back, copied from and copied to.
//!
//! `MSB_RACES` says how often, in hundreds (six rounds without; `cargo dev soak` takes sixty).

use std::time::Duration;

use integration::check::Lab;

crate::conformance!(both: [], ours: [copied_while_it_changes, shared_while_it_changes]);

/// What must stay as it is: `kept` prints all of it.
const CANARY: &str = r#"
kept() { (cd /root/canary; find . -printf '%p %y %m %U:%G %T@ %n\n' | sort; cat f sub/f); }
"#;

/// Rounds, each of which is seconds of an emulated processor.
fn rounds() -> u32 {
    let told = std::env::var("MSB_RACES").ok().and_then(|text| text.parse::<u32>().ok());
    told.map_or(6, |all| (all / 100).max(1))
}

fn canary(lab: &mut Lab) -> String {
    lab.define(CANARY);
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
        |command| command.timeout(Duration::from_secs(240 + 20 * u64::from(rounds()))),
    )
    .code(0)
    .out("f\nsub\n");
    lab.step("the host's files are as they were", "kept").code(0).out(&format!("{before}\n"));
}

/// Of a volume, the container and the host see the same at once.
fn shared_while_it_changes(lab: &mut Lab) {
    let before = canary(lab);
    lab.must(
        "a volume whose directory the host turns into a link and back, as another container of it could",
        r#"mkdir -p /root/v/d/sub; echo inside > /root/v/d/f; ln -s /root/canary /root/v/l
           cat > /root/swap.py <<'PY'
import ctypes, os
libc = ctypes.CDLL(None)
d, l = b"/root/v/d", b"/root/v/l"
while not os.path.exists("/root/end"):
    libc.renameat2(-100, d, -100, l, 2)
PY
           python3 /root/swap.py > /dev/null 2>&1 &"#,
    );
    lab.step_with(
        "read and written from inside",
        r#"docker run --rm $N $D -v /root/v:/v busybox sh -c '
               i=0; while [ $i -lt 100 ]; do
                   i=$((i+1)); cat /v/d/f /v/d/sub/f; echo changed > /v/d/sub/f; mkdir -p /v/d/sub/made; rm -rf /v/d/sub; mkdir /v/d/sub
               done 2> /dev/null | sort | uniq -c' | grep host; touch /root/end; wait; ls -A /root/canary"#,
        |command| command.timeout(Duration::from_secs(240)),
    )
    .code(0)
    .out("f\nsub\n");
    lab.step("the host's files are as they were", "kept").code(0).out(&format!("{before}\n"));
}
