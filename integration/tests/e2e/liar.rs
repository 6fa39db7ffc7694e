//! Machines whose agent lies (`integration/guests/src/bin/guest-liar.rs`): each is told of in words that a person understands,
//! hurts its own container alone, costs the host no more than was set aside for it, and can be ended.

use integration::check::Lab;
use integration::dev::Project;

crate::conformance!(both: [], ours: [before_there_is_a_container, of_a_container_that_never_was]);

/// Lies in place of a container, and what Docker's user is told of each.
const BEFORE: [(&str, &str); 9] = [
    ("noise", "A message of 2779096485 bytes is longer than the 2097152 allowed"),
    ("long", "A message of 4294967295 bytes is longer than the 2097152 allowed"),
    ("version", "speaks version 4 and this runtime 3: install the initramfs that came with it"),
    ("unasked", "The guest's agent did not say hello"),
    ("gone", "The guest's agent can't be reached"),
    ("events", "The guest's agent floods the host with events"),
    ("kind", "The guest's agent answered something else than was asked"),
    ("other", "The guest's agent answered something else than was asked"),
    ("early", "OCI runtime start failed"),
];

const FUNCTIONS: &str = r#"
liar() { timeout 90 docker run --name $1 $N $D --annotation dev.msb.kernel-args=LIE=$1 $2 busybox true < /dev/null; }
asked() { $R --root /run/docker/runtime-runc/moby ps --guest $(docker inspect -f '{{.Id}}' $1) 2>&1; }
state() { docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' $1; }
"#;

/// A neighbour of the same image, and from then on a liar in each machine that starts.
fn among_liars(lab: &mut Lab) {
    lab.define(FUNCTIONS);
    let liar = Project::here().guest_liar().expect("the test's own program can be built");
    lab.write("/root/liar", std::fs::read(liar).expect("it was built just now"));
    lab.must(
        "a neighbour of the same image, and from now on liars",
        r#"docker run -d --name neighbour $N $D busybox sleep 1000 >&2; dmesg -C; mkdir -p /etc/msb
           printf 'initramfs = "/root/liar"\nannotations = ["kernel-args"]\n' > /etc/msb/config.toml"#,
    );
}

/// What holds after all of them.
fn nobody_is_hurt(lab: &mut Lab) {
    lab.step(
        "no process was killed for it, neither by a filter nor by the kernel",
        "dmesg | grep -iE 'segfault|general protection|sig=|BUG|WARNING'",
    )
    .code(1)
    .out("");
    lab.must("the agent of ours is back", "rm -r /etc/msb /root/liar");
    lab.step("the neighbour has noticed nothing", "docker exec neighbour echo here").code(0).out("here\n");
    lab.must("it goes", "docker rm -f neighbour >&2");
}

fn before_there_is_a_container(lab: &mut Lab) {
    let before = lab.snapshot();
    among_liars(lab);
    for some in BEFORE.chunks(3) {
        let names: Vec<&str> = some.iter().map(|(lie, _)| *lie).collect();
        lab.must(
            &format!("liars: {}", names.join(", ")),
            &format!(
                "for lie in {}; do (liar $lie > /root/$lie.told 2>&1; echo $? > /root/$lie.code) & done; wait",
                names.join(" ")
            ),
        );
        for (lie, words) in some {
            lab.step(
                &format!("{lie}: an error in words, and nothing ever ran"),
                &format!("cat /root/{lie}.code /root/{lie}.told; state {lie} | grep -v created"),
            )
            .code(1)
            .out_is(words, |out| out.starts_with("125\n") && out.contains(words));
        }
    }
    lab.step(
        "a signal that there is none: as a shell has it, cut to a byte",
        "liar signal; echo $?; state signal",
    )
    .out("255\nexited 255\n");
    lab.must(
        "all are removed",
        "docker rm -f $(docker ps -aq --filter name='^(noise|long|version|unasked|gone|events|kind|other|early|signal)$') >&2; rm /root/*.told /root/*.code",
    );
    nobody_is_hurt(lab);
    lab.nothing_left("after liars", &before);
}

fn of_a_container_that_never_was(lab: &mut Lab) {
    let before = lab.snapshot();
    among_liars(lab);
    lab.must(
        "they say that they run something",
        "for lie in stays processes names; do liar $lie -d >&2 || exit 1; done",
    );
    lab.step("too many processes: no answer", "asked processes")
        .code(1)
        .out_has("The sandbox does not answer");
    lab.step("names that steer a terminal: shown as what they are", "asked names")
        .code(0)
        .out_has("owned")
        .out_is("nothing that steers", |out| !out.contains(['\x1b', '\x07', '\u{9b}']));
    lab.step("no exec in what is none", "docker exec stays true")
        .code(126)
        .out_has("The guest's agent can't be reached");
    // As if it obeyed; it is given a minute for what was written, and then ended.
    lab.must("one is to be killed, and says that it did", "docker kill stays >&2");
    lab.must("another tells of want of memory, without an end", "liar memory -d >&2 && sleep 5");
    lab.step(
        "in the log nothing that steers, and each line bounded",
        "log=$(docker inspect -f '/run/containerd/io.containerd.runtime.v2.task/moby/{{.Id}}/log.json' memory)
         grep -c 'out of memory' $log; grep -c '[[:cntrl:]]' $log; awk 'length > 1000' $log | wc -l",
    )
    .out_is("some, none, none", |out| {
        let counts: Vec<u32> = out.lines().filter_map(|line| line.parse().ok()).collect();
        matches!(counts.as_slice(), [1..=100, 0, 0])
    });
    lab.step(
        "it can be asked, and ended",
        "timeout 30 docker stats --no-stream --format '{{.Name}}' memory; docker rm -f memory",
    )
    .code(0)
    .out("memory\nmemory\n");
    lab.must("a third opens streams, as many as it can", "liar dials -d >&2");
    lab.wait(
        "it has all that it can have",
        "now=$(ls /proc/$(docker inspect -f '{{.State.Pid}}' dials)/fd | wc -l); sleep 2; [ $now -gt 40 ] && [ $now = $(ls /proc/$(docker inspect -f '{{.State.Pid}}' dials)/fd | wc -l) ]",
    );
    lab.step(
        "of neither process too many descriptors, threads or bytes",
        r#"first=$(docker inspect -f '{{.State.Pid}}' dials); for pid in $first $(pgrep -x msb-vmm -P $first); do
             ls /proc/$pid/fd | wc -l; ls /proc/$pid/task | wc -l; sed -n 's/^RssAnon:[^0-9]*\([0-9]*\) kB/\1/p' /proc/$pid/status; done"#,
    )
    .code(0)
    .out_is("at most 128 descriptors, 72 threads, 16 MiB; 1200, 8 and what the machine has", |out| {
        let counts: Vec<u64> = out.lines().filter_map(|line| line.parse().ok()).collect();
        matches!(counts.as_slice(), [..=128, ..=72, ..=16_384, ..=1200, ..=8, _])
    });
    lab.step("it can be ended", "docker rm -f dials").code(0).out("dials\n");
    lab.step("so was the one that was killed, and did not die", "timeout 90 docker wait stays; state stays")
        .code(0)
        .out("137\nexited 137\n");
    lab.must("all are removed", "docker rm -f stays processes names >&2");
    nobody_is_hurt(lab);
    lab.nothing_left("after liars", &before);
}
