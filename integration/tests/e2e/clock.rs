//! The container's clock is the host's, also when that is set while the container runs.

use integration::check::Lab;

crate::conformance!(both: [set], ours: []);

/// Whether the container's clock says the same as the host's, but for the time that asking takes.
const SAME: &str = r#"
    same() { before=$(date +%s); inside=$(docker exec box1 date +%s); after=$(date +%s)
        [ $inside -ge $((before - 1)) ] && [ $inside -le $((after + 1)) ]; }"#;

fn set(lab: &mut Lab) {
    lab.define(SAME);
    lab.must("a container", "docker run -d --name box1 $N $D --init busybox sleep 100000 > /dev/null");
    lab.step("has the host's time", "same").code(0);
    for (what, seconds) in [("an hour later", 3600), ("two hours earlier", -7200)] {
        lab.must("the host's clock is set", &format!("date -s @$(($(date +%s) + {seconds})) > /dev/null"));
        lab.wait(what, "same");
    }
}
