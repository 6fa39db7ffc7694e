//! Docker's: volumes, networks, and whose namespaces a container has.

use super::Step;

/// Namespaces that are not its own.
pub const NAMESPACES: &[Step] = &[
    (
        "no network",
        "docker run --rm --network none $D busybox sh -c 'ip -o link | cut -d: -f2; ping -c 1 -w 1 127.0.0.1 | grep -c from'",
    ),
    (
        "the host's processes",
        "docker run --name box $N $D --pid=host busybox sh -c 'echo ran; exit 3'; echo $?; look; docker rm box",
    ),
    ("the host's name", "docker run --rm $N $D --uts=host busybox sh -c 'hostname'"),
    ("the host's shared memory", "docker run --rm $N $D --ipc=host busybox sh -c 'ls -d /dev/shm'"),
    (
        "no shared memory",
        "docker run --rm $N $D --ipc=none busybox sh -c 'ls /dev/shm 2>&1; ls -d /dev/mqueue'",
    ),
    (
        "shared memory that others may join",
        "docker run --rm $N $D --ipc=shareable busybox sh -c 'echo x > /dev/shm/x; cat /dev/shm/x'",
    ),
    (
        "the host's cgroups",
        "docker run --rm $N $D --cgroupns=host busybox sh -c 'cat /proc/self/cgroup | cut -d: -f1,2'",
    ),
    (
        "another's processes",
        "docker run -d --name other --annotation dev.msb.pod=true $N $D busybox sleep 1000 >&2
         docker run --rm --network container:other $D --pid=container:other busybox pidof sleep; docker rm -f other >&2",
    ),
    (
        "another's shared memory",
        "docker run -d --name other --annotation dev.msb.pod=true $N $D --ipc=shareable busybox sh -c 'echo x > /dev/shm/x; sleep 1000' >/dev/null
         docker run --rm --network container:other $D --ipc=container:other busybox sh -c 'until cat /dev/shm/x; do :; done' 2>/dev/null; echo $?; docker rm -f other >/dev/null",
    ),
    ("the host's network", "docker run --rm --network host $D busybox true; echo $?"),
    (
        "another's network",
        "docker run -d --name other --annotation dev.msb.pod=true $D busybox sleep 1000 >/dev/null
         docker run --rm --network container:other $D busybox sh -c 'hostname -i | grep -c . ; grep -c $(hostname) /etc/hosts'; echo $?; docker rm -f other >/dev/null",
    ),
];

/// What it has of the host and of others. `shared` makes a directory and a file; `unshared` removes what came of them.
pub const FUNCTIONS: &str = r#"
shared() { mkdir -p /root/dir; echo in > /root/dir/in; echo file > /root/file; docker volume create named > /dev/null; }
unshared() { docker volume rm named > /dev/null; rm -r /root/dir /root/file; }
# Addresses are given out in turn.
addresses() { sed -E 's/172\.[0-9]+\.[0-9]+\.[0-9]+/ADDRESS/g; s/([0-9a-f]{2}:){5}[0-9a-f]{2}/MAC/g; s/"(EndpointID|NetworkID|SandboxID|SandboxKey)":"[^"]*"/\1/g'; }
"#;

/// Volumes and networks.
pub const SHARED: &[Step] = &[
    (
        "volumes",
        "shared; docker run -d --name box $N $D -v /root/dir:/dir -v /root/file:/file:ro -v named:/named -v /anonymous -v /root/dir:/slave:rslave busybox sh -c '
            cat /dir/in /file /slave/in; echo out > /dir/out; echo named > /named/x; touch /anonymous/x; (echo no > /file) 2>&1; ls -ln /dir | cut -d\" \" -f1; echo ready; sleep 1000' >/dev/null
         until_log ready; look | sed -E 's/[0-9a-f]{64}/ID/g' | jq -cS '.Mounts |= sort_by(.Destination) | .HostConfig.Binds |= sort'; docker logs box; cat /root/dir/out; echo later > /root/dir/in; docker exec box cat /dir/in /slave/in
         docker run --rm $N $D --volumes-from box busybox sh -c 'cat /named/x /dir/out; ls /anonymous; (echo no > /file) 2>&1'; docker rm -fv box; unshared",
    ),
    (
        "mounts",
        "shared; mkdir -p /root/dir/sub; echo sub > /root/dir/sub/x
         docker run --rm $N $D --mount type=bind,src=/root/dir,dst=/dir,readonly --mount type=volume,src=named,dst=/named --mount type=tmpfs,dst=/t,tmpfs-size=1m busybox sh -c '
            cat /dir/sub/x; (touch /dir/sub/y) 2>&1; touch /named/y /t/y; df -k /t | tail -n 1 | tr -s \" \" | cut -d\" \" -f2,6'
         docker run --rm $N $D --mount type=bind,src=/root/nowhere,dst=/dir busybox true; echo $?; docker run --rm $N $D -v /root/file:/etc busybox true 2>/dev/null; echo $?; unshared",
    ),
    (
        "a published port",
        "shared; docker run -d --name box $D -p 8080:80 -v /root/dir:/dir busybox sh -c 'ip -o -4 addr show eth0 | wc -l; echo ready; exec httpd -f -p 80 -h /dir' >/dev/null
         until_log ready; wget -qO- http://localhost:8080/in
         docker ps --format '{{.Image}} {{.Command}} {{.Names}} {{.Ports}} {{.State}}'; docker port box; look | addresses; docker start box; docker rm -f box; unshared",
    ),
    (
        "a network joined and left",
        "docker network create net >/dev/null; docker run -d --name box $D busybox sh -c 'echo ready; sleep 1000' >/dev/null; until_log ready; docker network connect net box
         eventually '[ $(docker exec box ip -o -4 addr | wc -l) = 3 ]'; echo $?; look | addresses; docker network disconnect net box
         eventually '[ $(docker exec box ip -o -4 addr | wc -l) = 2 ]'; echo $?; docker rm -f box; docker network rm net",
    ),
];
