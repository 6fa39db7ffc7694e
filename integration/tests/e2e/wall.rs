//! The wall is real: another kernel, disks of its own, and one process on the host that is all of it.

use integration::check::Lab;

crate::conformance!(both: [], ours: [another_machine]);

fn another_machine(lab: &mut Lab) {
    let before = lab.snapshot();
    let host = lab.read("the host's kernel", "uname -r");
    lab.step("the container's kernel is another", "docker run --rm $N $D busybox uname -r")
        .code(0)
        .out_is("another kernel than the host's", |out| out.trim() != host && !out.trim().is_empty());
    lab.step(
        "its root is an overlay on three disks of a machine: the container's own layer, the image, what is written",
        "docker run --rm $N $D busybox sh -c '
            grep -q \"^overlay / overlay .*lowerdir=/run/layer0\" /proc/mounts && echo overlay
            ls /sys/block | grep ^vd; cat /sys/block/vda/ro /sys/block/vdb/ro /sys/block/vdc/ro'",
    )
    .code(0)
    .out("overlay\nvda\nvdb\nvdc\n1\n1\n0\n")
    .err("");

    lab.must("a container", "docker run -d --name box1 $N $D busybox sleep 54321 >&2");
    lab.step("the host sees none of its processes", "ps -e -o args= | grep '[s]leep 54321'").code(1).out("");
    let pid = lab.read("the machine's process", "docker inspect -f '{{.State.Pid}}' box1");
    lab.step("it is ours", &format!("basename $(readlink /proc/{pid}/exe)")).code(0).out("msb-runtime\n");
    let id = lab.read("its id", "docker inspect -f '{{.Id}}' box1");
    lab.step("it is in the container's cgroup", &format!("cat /proc/{pid}/cgroup"))
        .code(0)
        .out(&format!("0::/system.slice/docker-{id}.scope\n"));
    lab.step(
        "its death is the container's",
        &format!("docker wait box1 > /root/waited & sleep 1; kill -9 {pid}; wait $!; cat /root/waited"),
    )
    .code(0)
    .out("137\n");
    lab.step("Docker knows", "docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' box1")
        .code(0)
        .out("exited 137\n");
    lab.step("nothing more runs in it", "docker exec box1 true").code(1).err_has("is not running");
    lab.step("it can be started again", "docker start box1").code(0).out("box1\n").err("");
    lab.step("and removed", "docker rm -f box1").code(0).out("box1\n").err("");
    lab.nothing_left("after a machine was killed", &before);
}
