//! Links the kernel as one: no system below it, at the address where it is put.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // 16 MiB: what the machine writes for its kernel is far below, and the smallest machine ends far above.
    for word in [
        "-nostdlib",
        "-nostartfiles",
        "-static",
        "-no-pie",
        "-Wl,--image-base=0x1000000",
        "-Wl,--build-id=none",
    ] {
        println!("cargo::rustc-link-arg-bins={word}");
    }
}
