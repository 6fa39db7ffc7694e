//! The guest's memory and the host's: a container gets what its limit says, and what it frees is the host's again.

use integration::check::Lab;

crate::conformance!(both: [limit], ours: [freed_and_rested, large]);

/// `holds NAME`: MiB of the host's memory that the container's process (here: its machine) holds.
/// `falls NAME N`: whether it holds less than N MiB within a minute.
const HOLDS: &str = r#"
    holds() { echo $(($(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' \
        /proc/$(machine $(docker inspect -f '{{.State.Pid}}' $1))/status) / 1024)); }
    falls() { i=0; until [ $(holds $1) -lt $2 ]; do i=$((i+1)); [ $i -lt 60 ] || { holds $1; return 1; }; sleep 1; done; }"#;

/// A limit is the container's: the guest's kernel and agent have their own memory on top of it.
fn limit(lab: &mut Lab) {
    lab.step(
        "memory of a process",
        "docker run --rm $N $D -m 64m busybox dd if=/dev/zero of=/dev/null bs=56M count=1",
    )
    .code(0)
    .err("1+0 records in\n1+0 records out\n");
    lab.step(
        "and of files in memory",
        "docker run --rm $N $D -m 64m busybox sh -c 'head -c 58720256 /dev/zero > /dev/shm/x && wc -c < /dev/shm/x'",
    )
    .code(0)
    .out("58720256\n");
}

/// What is freed goes back at once; and what was read and written once leaves the guest when its container, here `rests`, does
/// nothing for half a minute or two, in which the other is looked at.
fn freed_and_rested(lab: &mut Lab) {
    lab.define(HOLDS);
    lab.must(
        "two containers",
        "docker run -d --name rests $N $D --init busybox sleep 100000 > /dev/null
         docker run -d --name frees $N $D --shm-size 400m --init busybox sleep 100000 > /dev/null",
    );
    let mut held = |name: &str| -> u64 {
        lab.read("what its machine holds", &format!("holds {name}")).parse().unwrap_or(u64::MAX >> 1)
    };
    let (rests, frees) = (held("rests"), held("frees"));
    lab.step(
        "200 MiB on its disk",
        "docker exec rests sh -c 'dd if=/dev/zero of=/x bs=1M count=200 2>&1 && sync && cat /x | wc -c'; holds rests",
    )
    .code(0)
    .out_is(&format!("200 more than {rests}"), |out| {
        out.trim().lines().last().is_some_and(|held| held.parse().is_ok_and(|held: u64| held >= rests + 200))
    });

    lab.step("300 MiB in files", "docker exec frees dd if=/dev/zero of=/dev/shm/x bs=1M count=300").code(0);
    lab.step("are the host's to give", "holds frees")
        .out_is(&format!("300 more than {frees}, and little else"), |out| {
            out.trim().parse().is_ok_and(|held: u64| (frees + 300..frees + 400).contains(&held))
        });
    let most = frees + 40;
    lab.must("deleted", "docker exec frees rm /dev/shm/x");
    lab.step("they go back to the host", &format!("falls frees {most}")).code(0).out("");
    lab.step("300 MiB of a process", "docker exec frees dd if=/dev/zero of=/dev/null bs=300M count=1")
        .code(0)
        .err_has("1+0 records out");
    lab.step("go back when it ends", &format!("falls frees {most}")).code(0).out("");

    let most = rests + 80;
    lab.step_with(
        "what was on the disk stays only for a while",
        &format!("falls rests {most} || falls rests {most}"),
        |command| command.timeout(Some(std::time::Duration::from_secs(200))),
    )
    .code(0);
    lab.step("and is read again from the host", "docker exec rests wc -c /x").code(0).out("209715200 /x\n");
}

/// More than the host has: only what is used is taken.
fn large(lab: &mut Lab) {
    lab.define(HOLDS);
    lab.must(
        "a machine with more memory than its host",
        "docker run -d --name box1 $N $D --annotation dev.msb.memory=8G busybox sleep 100000 > /dev/null",
    );
    lab.step(
        "the guest sees it",
        "docker exec box1 sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo",
    )
    .code(0)
    .out_is("nearly 8 GiB", |out| {
        out.trim().parse().is_ok_and(|kib: u64| (7_900 << 10..8 << 20).contains(&kib))
    });
    lab.step("the host holds the guest's page tables", "holds box1")
        .out_is("less than 300 MiB", |out| out.trim().parse().is_ok_and(|mib: u64| mib < 300));
    lab.must("removed", "docker rm -f box1");
}
