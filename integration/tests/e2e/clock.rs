//! The container's clock is the host's, also when that is set while the container runs.

use integration::check::Lab;

crate::conformance!(both: [set], ours: [set_on_an_unsteady_host]);

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

/// A kernel that has found its processors' counter unsteady keeps its time by another clock, and can't say it to a guest by a
/// call: the guest asks.
fn set_on_an_unsteady_host(lab: &mut Lab) {
    lab.define(SAME);
    lab.must(
        "another clock",
        "cd /sys/devices/system/clocksource/clocksource0; echo hpet > current_clocksource; grep -x hpet current_clocksource",
    );
    lab.must("a container", "docker run -d --name box1 $N $D --init busybox sleep 100000 > /dev/null");
    lab.step("there is no such call", "docker exec box1 ls /dev/ptp0").code(1).out("");
    lab.must("the host's clock is set", "date -s @$(($(date +%s) - 7200)) > /dev/null");
    lab.wait("two hours earlier", "same");
}
