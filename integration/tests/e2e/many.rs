//! Many containers, several at a time.

use std::time::Duration;

use integration::check::{Lab, Runtime};

crate::conformance!(both: [four_at_a_time], ours: []);

/// Each reads another thing, tells another thing and ends with another code.
fn four_at_a_time(lab: &mut Lab) {
    // That many at once is ours to prove; what the test itself claims, eight show as well.
    let containers = if lab.runtime() == Runtime::Runc { 8 } else { 20 };
    let before = lab.snapshot();
    let mut expected = String::new();
    for number in 1..=containers {
        expected
            .push_str(&format!("{number}: code {number}, out \"I am {number}\", err \"error {number}\"\n"));
    }
    lab.step_with(
        "each container's own output, error and exit code",
        &format!(
            r#"
            one() {{
                out=$(echo "I am $1" | docker run --rm -i $N $D busybox sh -c "cat; echo error $1 >&2; exit $1" 2> /root/error.$1)
                echo "$1: code $?, out \"$out\", err \"$(cat /root/error.$1)\""
            }}
            line() {{ for number in $(seq $1 4 {containers}); do one $number; done; }}
            for first in 1 2 3 4; do line $first & done | sort -n
            "#
        ),
        |command| command.timeout(Duration::from_secs(400)),
    )
    .code(0)
    .out(&expected)
    .err("");
    lab.step("none is left", "docker ps --all --quiet").code(0).out("").err("");
    lab.nothing_left(&format!("after {containers} containers"), &before);
}
