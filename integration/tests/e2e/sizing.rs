//! How large a machine is: by the container's limits, by annotations, by the host's settings.

use integration::check::Lab;

crate::conformance!(both: [limited], ours: [annotated, rates, settings]);

/// `PROCESSORS MEBIBYTES`, as the guest's kernel counts them. Docker's annotations go in front of the image.
const SIZE: &str = r#"size() { docker run --rm $N $D "$@" busybox sh -c \
    'echo $(nproc) $(($(sed -n "s/^MemTotal: *\([0-9]*\) kB/\1/p" /proc/meminfo) / 1024))'; }"#;

/// Most of a container's limit of memory in files. Processors by a quota are in `container`'s table of limits.
fn limited(lab: &mut Lab) {
    lab.step(
        "the memory of a limit can be used",
        "docker run --rm $N $D -m 64m busybox sh -c 'head -c 55000000 /dev/zero > /dev/shm/x && wc -c < /dev/shm/x'",
    )
    .code(0)
    .out("55000000\n")
    .err("");
}

/// The kernel keeps a part of the memory for itself before it counts: its own size, and one page of 64 for its tables.
fn size(lab: &mut Lab, what: &str, flags: &str, vcpus: u64, mib: u64) {
    lab.step(what, &format!("size {flags}")).code(0).err("").out_is(
        &format!("{vcpus} and some less than {mib}"),
        |out| {
            let numbers: Option<Vec<u64>> = out.split_whitespace().map(|word| word.parse().ok()).collect();
            numbers.is_some_and(|numbers| {
                numbers.len() == 2 && numbers[0] == vcpus && (mib - 24 - mib / 64..mib).contains(&numbers[1])
            })
        },
    );
}

fn annotated(lab: &mut Lab) {
    lab.define(SIZE);
    size(lab, "of a container without limits", "", 1, 1024);
    size(lab, "by an annotation for the memory", "--annotation dev.msb.memory=200M", 1, 200);
    size(lab, "processors, against the limit", "--annotation dev.msb.vcpus=3 --cpus 1 -m 128m", 3, 194);
    for (annotation, hint) in [
        ("vcpus=0", "a number from 1 to 32"),
        ("memory=1M", "a size from 128M to 1T"),
        ("vcpu=1", "There is no annotation"),
        ("kernel-args=debug", "/etc/msb/config.toml"),
    ] {
        lab.step(annotation, &format!("size --annotation dev.msb.{annotation}"))
            .code(125)
            .out("")
            .err_has(hint);
    }
}

/// How long something takes has a least alone: what is limited can take any time on a busy machine.
fn rates(lab: &mut Lab) {
    lab.define(
        r#"took() { docker run --rm $D "$1" "$2" busybox sh -c \
    'read a x < /proc/uptime; sh -c "$1" && read b x < /proc/uptime && echo $a $b' sh "$3" | awk '{ print $2 - $1 }'; }"#,
    );
    let at_least = |lab: &mut Lab, what: &str, flags: &str, script: &str, seconds: f64| {
        lab.step(what, &format!("took {flags} '{script}'"))
            .code(0)
            .err("")
            .out_is(&format!("at least {seconds} seconds"), |out| {
                out.trim().parse().is_ok_and(|took: f64| took >= seconds)
            });
    };
    // A burst, then 4 MiB in each second; a request of at most 1 MiB is begun before it is counted.
    let write = "dd if=/dev/zero of=/written bs=1M count=16 conv=fsync 2> /dev/null";
    let rate = "--annotation dev.msb.disk-rate=bytes=4M,bytes-burst=2M";
    at_least(lab, "bytes of a disk", rate, write, 3.2);
    let rate = "--annotation dev.msb.disk-rate=operations=20,operations-burst=10";
    let sync = "for i in $(seq 20); do dd if=/dev/zero of=/f bs=4k count=1 conv=fsync 2> /dev/null; done";
    at_least(lab, "requests of a disk", rate, sync, 0.5);
    lab.must(
        "a server on the host",
        "mkdir /root/www; head -c 3M /dev/zero > /root/www/long; docker run --rm $D busybox true
         busybox httpd -p 172.17.0.1:8099 -h /root/www",
    );
    let rate = "--annotation dev.msb.network-rate=bytes=1M,bytes-burst=500K";
    let fetch = "wget -q -O /dev/null http://172.17.0.1:8099/long";
    at_least(lab, "bytes of an interface", rate, fetch, 2.3);
    lab.step("what is no rate", "docker run --rm $N $D --annotation dev.msb.disk-rate=20M busybox true")
        .code(125)
        .out("")
        .err_has("bytes=20M, bytes-burst=100M");
}

fn settings(lab: &mut Lab) {
    lab.define(SIZE);
    let before = lab.read("the built-in settings", "$R config");
    lab.step(
        "as a file of one's own",
        "mkdir /etc/msb; $R config --default > /etc/msb/config.toml; $R config",
    )
    .code(0)
    .out(&format!("{before}\n"));
    lab.must(
        "other settings",
        r#"cat > /etc/msb/config.toml <<'FILE'
annotations = ["kernel-args"]
[machine]
vcpus = 2
memory = "256M"
max-memory = "512M"
FILE"#,
    );
    size(lab, "of a container without limits", "", 2, 256);
    lab.step("a limit that goes too far", "size -m 600m").code(125).out("").err_has("machine.max-memory");
    lab.step("an annotation that is not allowed any more", "size --annotation dev.msb.vcpus=1")
        .code(125)
        .err_has("not allowed on this host");
    lab.step(
        "words for the kernel",
        "docker run --rm $N $D --annotation 'dev.msb.kernel-args=one=1 two' busybox grep -o 'one=1 two$' /proc/cmdline",
    )
    .code(0)
    .out("one=1 two\n");
    lab.must("a setting that is misspelt", "echo 'kernal = 1' > /etc/msb/config.toml");
    lab.step("is told to Docker's user", "size").code(125).err_has("kernal");
    lab.step("and by doctor", "$R doctor").code(1).out_has("FAIL  settings: ").out_has("kernal");
}
