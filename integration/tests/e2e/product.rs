//! The product's own command, for a person who knows Docker's: sandboxes without any Docker.

use integration::check::Lab;

crate::conformance!(both: [], ours: [by_hand]);

/// A home on the disk, and the test image in it.
const HOME: &str = "export MICROSANDBOX_HOME=/var/lib/home";

fn by_hand(lab: &mut Lab) {
    lab.bring_msb();
    lab.define(HOME);
    lab.step("an image is loaded", "docker save busybox | msb load")
        .code(0)
        .out("Loaded docker.io/library/busybox:latest\n");
    lab.step(
        "a command's output and exit code",
        "msb run --rm --network none busybox sh -c 'echo out; echo err >&2; exit 7'",
    )
    .code(7)
    .out("out\n")
    .err("err\n");
}
