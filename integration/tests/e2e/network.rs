//! Networks as Docker's users know them: the container's own links, names, published ports, and all that changes while it
//! runs.

use std::time::Duration;

use integration::check::Lab;
use integration::host::command::HostCommand;

crate::conformance!(
    both: [bridge, user_networks, later_networks, links_of_links, podman_and_cni],
    ours: [mixed, refused, lost_and_found]
);

/// A web server on a host that is reached through the virtual host's own routing: its address is `$OUTSIDE`.
const OUTSIDE: &str = r#"
    OUTSIDE=198.51.100.2
    outside() {
        ip netns add outside
        ip link add to-outside type veth peer name eth0 netns outside
        ip addr add 198.51.100.1/24 dev to-outside; ip link set to-outside up
        ip -n outside addr add 198.51.100.2/24 dev eth0; ip -n outside link set eth0 up; ip -n outside link set lo up
        mkdir -p /root/outside; echo from outside > /root/outside/index.html
        ip netns exec outside busybox httpd -p 80 -h /root/outside
    }
    fetch() { busybox wget -T 20 -q -O - "$@"; }
"#;

/// `names ADDRESS` answers every question about a name with 203.0.113.9, in the namespace that `outside` made.
const NAMES: &str = r#"
    names() {
        cat > /root/names.py <<'PY'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("198.51.100.2", 53))
while True:
    q, who = s.recvfrom(512)
    end = q.index(0, 12) + 5
    a = q[end - 4:end - 2] == b"\0\1"
    head = q[:2] + b"\x81\x80\0\1" + (b"\0\1" if a else b"\0\0") + b"\0\0\0\0"
    s.sendto(head + q[12:end] + (b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4" + bytes([203, 0, 113, 9]) if a else b""), who)
PY
        ip netns exec outside python3 /root/names.py < /dev/null > /dev/null 2>&1 &
        eventually 'ip netns exec outside ss -Huln | grep -q :53' 0.2
    }
"#;

/// Three services; `WEB`, `DATABASE` and `WORKER` name their runtimes. `page` is what the published port shows: the web server
/// asks the database, which serves the volume that the workers write to.
const PROJECT: &str = r##"
    mkdir -p /root/shop; cat > /root/shop/compose.yaml <<'YAML'
services:
  web:
    image: busybox
    runtime: ${WEB}
    ports: ["8088:80"]
    depends_on: [database]
    command:
      - sh
      - -c
      - |
        mkdir -p /www/cgi-bin
        printf '#!/bin/sh\necho; wget -T 20 -q -O - http://database:5432/$$QUERY_STRING\n' > /www/cgi-bin/ask
        chmod 755 /www/cgi-bin/ask; exec httpd -f -p 80 -h /www
  database:
    image: busybox
    runtime: ${DATABASE}
    volumes: ["data:/data"]
    command: ["sh", "-c", "echo rows > /data/index.html; exec httpd -f -p 5432 -h /data"]
  worker:
    image: busybox
    runtime: ${WORKER}
    volumes: ["data:/data"]
    depends_on: [database]
    command:
      - sh
      - -c
      - |
        until wget -q -O /dev/null http://database:5432/; do sleep 0.2; done
        mkdir -p /data/workers; hostname > /data/workers/$$(hostname); exec sleep 1000
volumes:
  data:
YAML
    compose() { docker compose --progress quiet --project-directory /root/shop "$@"; }
    page() { fetch "http://127.0.0.1:8088/cgi-bin/ask?$1" 2> /dev/null; }
    workers() { compose exec -T database ls /data/workers | wc -l; }
    names() { compose exec -T web nslookup -type=a worker 127.0.0.11 | grep -c '^Address: '; }
"##;

/// What a web server in a container serves.
const SERVE: &str = r#"sh -c 'mkdir /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www'"#;

/// `hold.py serve` answers on each of its connections, which it has as long as the client wants; `hold.py ask` has them all
/// before it asks on the first.
const HOLD: &str = r#"cat > /root/hold.py <<'PY'
import resource, select, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
if sys.argv[1] == "serve":
    server = socket.create_server(("", 81), backlog=1024)
    held, poll = {}, select.epoll()
    poll.register(server, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == server.fileno():
                one = server.accept()[0]
                held[one.fileno()] = one
                poll.register(one, select.EPOLLIN)
            elif data := held[fd].recv(100):
                held[fd].sendall(data)
            else:
                held.pop(fd).close()
all = [socket.create_connection((sys.argv[2], int(sys.argv[3])), 60) for _ in range(1000)]
for i, one in enumerate(all):
    one.sendall(b"%d" % i)
answers = sum(one.recv(100) == b"%d" % i for i, one in enumerate(all))
print(len(all), "open,", answers, "answers")
PY"#;

fn bridge(lab: &mut Lab) {
    lab.define(OUTSIDE);
    lab.must("a server outside", "outside");
    let before = lab.snapshot();
    lab.step(
        "the container's link has the address and the hardware address that Docker gave it, and reaches its gateway",
        r#"docker run --rm --mac-address 02:42:ac:11:00:77 $D busybox sh -c '
            ls /sys/class/net; cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu
            ip -4 -o addr show eth0 | grep -o "172.17.0.[0-9]*/16"
            ip route | grep -o "default via 172.17.0.1 dev eth0"
            ping -c 2 -W 20 172.17.0.1 | grep -o ", 0% packet loss"
            ping -c 1 127.0.0.1 | grep -o ", 0% packet loss"'"#,
    )
    .code(0)
    .out("eth0\nlo\n02:42:ac:11:00:77\n1500\n172.17.0.2/16\ndefault via 172.17.0.1 dev eth0\n, 0% packet loss\n, 0% packet loss\n");
    lab.step("it reaches a server outside", "docker run --rm $D busybox wget -T 20 -q -O - http://$OUTSIDE/")
        .code(0)
        .out("from outside\n");
    lab.step("without a network there is the loopback only", "docker run --rm $N $D busybox sh -c 'ls /sys/class/net; ping -c 1 127.0.0.1 > /dev/null && echo alive'")
        .code(0)
        .out("lo\nalive\n");
    lab.must(
        "a server with a published port",
        &format!("{HOLD}
            docker run -d --name web --hostname web -p 8080:80 -p 8081:81 -v /usr:/usr:ro -v /usr/lib:/lib:ro \
                -v /usr/lib64:/lib64:ro -v /root/hold.py:/hold.py:ro $D busybox {SERVE} >&2"),
    );
    lab.wait("it serves the host's port", "[ \"$(fetch http://127.0.0.1:8080/)\" = web ]");
    lab.step(
        "and its own address",
        "fetch http://$(docker inspect -f '{{.NetworkSettings.IPAddress}}' web)/",
    )
    .code(0)
    .out("web\n");
    lab.step(
        "and who comes from outside",
        "ip netns exec outside busybox wget -T 20 -q -O - http://198.51.100.1:8080/",
    )
    .code(0)
    .out("web\n");
    lab.step_with(
        "many at the same time, and a file that is longer than any packet",
        "docker exec web sh -c 'head -c 3000000 /dev/zero | tr \"\\0\" x > /www/long'
         seq 200 | xargs -P 100 -n 1 sh -c 'busybox wget -T 60 -q -O - http://127.0.0.1:8080/' | sort | uniq -c | grep -o '200 web'
         fetch http://127.0.0.1:8080/long | md5sum | cut -c 1-32; head -c 3000000 /dev/zero | tr '\\0' x | md5sum | cut -c 1-32",
        long,
    )
    .code(0)
    .out_is("200 answers, and the same sum twice", |out| {
        let lines: Vec<&str> = out.lines().collect();
        lines.len() == 3 && lines[0] == "200 web" && lines[1] == lines[2]
    });
    thousand(lab);
    lab.step("Docker counts what came and went", "docker stats --no-stream --format '{{.NetIO}}' web")
        .code(0)
        .out_is("megabytes went", |out| out.contains("kB / ") && out.trim_end().ends_with("MB"));
    lab.must("started again", "docker restart -t 1 web >&2");
    lab.wait("it serves again", "[ \"$(fetch http://127.0.0.1:8080/)\" = web ]");
    lab.must("it goes", "docker rm -f web >&2");
    lab.nothing_left("after the networks' containers", &before);
}

/// Of a step with hundreds of connections.
fn long(command: HostCommand<'_>) -> HostCommand<'_> {
    command.timeout(Duration::from_secs(300))
}

/// All at once, by way of the host's own routing.
fn thousand(lab: &mut Lab) {
    lab.must(
        "a server that holds many connections",
        "docker exec -d web /usr/bin/python3 -ISB /hold.py serve",
    );
    lab.wait("it listens", "docker exec web netstat -ltn | grep -q ':81 '");
    lab.step_with(
        "a thousand connections at the same time, each of which is answered",
        "ip netns exec outside python3 -ISB /root/hold.py ask 198.51.100.1 8081",
        long,
    )
    .code(0)
    .out("1000 open, 1000 answers\n")
    .err("");
}

fn user_networks(lab: &mut Lab) {
    lab.define(OUTSIDE);
    lab.must("a network of both families with large packets", "
        docker network create --ipv6 --subnet fd00:77::/64 --subnet 10.77.0.0/24 -o com.docker.network.driver.mtu=9000 net1 >&2");
    lab.must("a server in it", &format!("docker run -d --name web --hostname web --network net1 --network-alias www --ip 10.77.0.10 --ip6 fd00:77::10 $D busybox {SERVE} >&2"));
    lab.wait("it serves", "[ \"$(fetch http://10.77.0.10/)\" = web ]");
    lab.step(
        "another finds it by its name and its alias, over both families, and not what is not there",
        r#"docker run --rm --network net1 $D busybox sh -c '
            grep -c 127.0.0.11 /etc/resolv.conf
            cat /sys/class/net/eth0/mtu
            wget -T 20 -q -O - http://web/
            wget -T 20 -q -O - http://www/
            wget -T 20 -q -O - "http://[fd00:77::10]/"
            ping -4 -c 1 -W 20 web | grep -o "10.77.0.10)"
            ping -6 -c 1 -W 20 web | grep -o "fd00:77::10"  | head -n 1
            ping -4 -c 1 -W 20 -s 8900 web | grep -o ", 0% packet loss"
            nslookup -type=a web 127.0.0.11 | grep -o "10.77.0.10"
            nslookup nothing-there > /dev/null || echo unknown
            printf "\\000\\025\\022\\064\\001\\000\\000\\001\\000\\000\\000\\000\\000\\000\\003web\\000\\000\\001\\000\\001" |
                nc -w 20 127.0.0.11 53 | hexdump -ve "1/1 \"%02x\"" | grep -c "^00..1234.*0a4d000a"'"#,
    )
    .code(0)
    .out("1\n9000\nweb\nweb\nweb\n10.77.0.10)\nfd00:77::10\n, 0% packet loss\n10.77.0.10\nunknown\n1\n");
    lab.step("a server of names of its own has their port", r#"docker run --rm --network net1 $D busybox sh -c '
            nc -l -p 53 > /dev/null & i=0; until nc -w 3 127.0.0.1 53 < /dev/null; do i=$((i+1)); [ $i -lt 50 ] || exit 1; sleep 0.2; done; echo mine; nslookup web | grep -o "10.77.0.10"'"#)
        .code(0)
        .out("mine\n10.77.0.10\n");
    lab.must("all go", "docker rm -f web >&2; docker network rm net1 >&2");
    lab.define(NAMES);
    lab.must("a server of names outside, and a network", "outside; names; docker network create net1 >&2");
    for network in ["bridge", "net1"] {
        lab.step(
            &format!("a server of names of one's own (--dns), in the network {network}"),
            &format!(
                "docker run --rm --network {network} --dns 198.51.100.2 --dns-search example.org --dns-option ndots:3 $D busybox sh -c '
                    grep -v -e ^# -e 127.0.0.11 -e 198.51.100.2 -e ^$ /etc/resolv.conf | sort; nslookup -type=a far.example.net | grep -o 203.0.113.9
                    ping -4 -c 1 -W 1 far.example.net 2>&1 | grep -o \"(203.0.113.9)\"'"
            ),
        )
        .code(0)
        .out_is("its answer, to both who ask", |out| {
            out.contains("search example.org\n") && out.contains("ndots:3") && out.ends_with("\n203.0.113.9\n(203.0.113.9)\n")
        });
    }
    lab.must("it goes", "docker network rm net1 >&2");
    project(lab);
}

/// A project of Docker Compose through its life.
fn project(lab: &mut Lab) {
    lab.define("export WEB=${D#*=} DATABASE=${D#*=} WORKER=${D#*=}");
    lab.define(PROJECT);
    let before = lab.snapshot();
    lab.must("a project comes up", "compose up -d");
    lab.wait("the published port shows what the database has", "[ \"$(page)\" = rows ]");
    lab.wait("the worker has found it too", "[ \"$(workers)\" = 1 ]");
    lab.must(
        "one is started anew",
        "compose exec -T database sh -c 'echo more > /data/more'; compose restart -t 1 database",
    );
    lab.wait("it is found again, with its volume", "[ \"$(page more)\" = more ]");
    lab.must("more workers", "compose up -d --scale worker=3");
    lab.wait("they work", "[ \"$(workers)\" = 3 ]");
    lab.step("all have one name", "names").code(0).out("3\n");
    lab.must("fewer", "compose up -d -t 1 --scale worker=2");
    lab.step("and one name still", "names; compose ps -q | wc -l").code(0).out("2\n4\n");
    lab.must("down", "compose down -v -t 1");
    lab.nothing_left("after a project", &before);
}

/// Links that share one of the host's.
fn links_of_links(lab: &mut Lab) {
    lab.define(OUTSIDE);
    lab.must("a server outside", "outside");
    for driver in ["macvlan", "ipvlan"] {
        lab.must(
            "a network on the host's own link, and a server in it",
            &format!(
                "docker network create -d {driver} --subnet 198.51.100.0/24 --gateway 198.51.100.2 --ip-range 198.51.100.64/26 \
                    -o parent=to-outside net1 >&2
                 docker run -d --name web --hostname web --network net1 --ip 198.51.100.70 $D busybox {SERVE} >&2"
            ),
        );
        lab.wait(
            &format!("{driver}: it is reached from outside"),
            "[ \"$(ip netns exec outside busybox wget -T 5 -q -O - http://198.51.100.70/ 2> /dev/null)\" = web ]",
        );
        lab.step(
            &format!("{driver}: from another container, by its name, and that reaches outside"),
            "docker run --rm --network net1 $D busybox sh -c '
                ls /sys/class/net; wget -T 20 -q -O - http://web/; wget -T 20 -q -O - http://198.51.100.2/'",
        )
        .code(0)
        .out("eth0\nlo\nweb\nfrom outside\n");
        lab.must("all go", "docker rm -f web >&2; docker network rm net1 >&2");
    }
}

fn later_networks(lab: &mut Lab) {
    lab.must(
        "two networks, and a container in one",
        "docker network create --subnet 10.71.0.0/24 net1 >&2; docker network create --subnet 10.72.0.0/24 net2 >&2
         docker run -d --name here --network net1 $D busybox sleep 1000 >&2
         docker run -d --name there --network net2 --ip 10.72.0.20 busybox sleep 1000 >&2",
    );
    for round in ["a network that comes later", "and again"] {
        lab.must(round, "docker network connect --ip 10.72.0.10 net2 here");
        lab.wait("is there", "docker exec here ip addr | grep -q 10.72.0.10/24");
        lab.step("it carries", "docker exec here ping -c 1 -W 20 there | grep -o ', 0% packet loss'")
            .code(0)
            .out(", 0% packet loss\n");
        lab.must("it goes", "docker network disconnect net2 here");
        lab.wait("is gone", "[ $(docker exec here ls /sys/class/net | wc -l) = 2 ]");
    }
    lab.step(
        "the first is as it was",
        "docker exec here ping -c 1 -W 20 10.71.0.1 | grep -o ', 0% packet loss'",
    )
    .code(0)
    .out(", 0% packet loss\n");
    lab.step("a container of two networks from the start", "
        docker create --name two --network net1 $D busybox sh -c 'ls /sys/class/net; ping -c 1 -W 20 there | grep -o 10.72.0.20 | head -n 1; ping -c 1 -W 20 here | grep -o 10.71.0.[0-9]* | head -n 1' > /dev/null
        docker network connect net2 two; docker start -a two")
        .code(0)
        .out("eth0\neth1\nlo\n10.72.0.20\n10.71.0.2\n");
    lab.must("all go", "docker rm -f here there two >&2; docker network rm net1 net2 >&2");
}

/// The other two who make networks: netavark before the container is created, CNI between create and start.
fn podman_and_cni(lab: &mut Lab) {
    lab.define(OUTSIDE);
    lab.define(r#"pod() { podman --runtime "$P" "$@"; }"#);
    lab.must(
        "a server outside, and Docker lets others' packets through",
        "outside; iptables -P FORWARD ACCEPT",
    );
    lab.step("podman's own network", r#"pod run --rm busybox sh -c '
            ls /sys/class/net; ip -4 -o addr show eth0 | grep -o "10.88.0.[0-9]*/16" | sed "s/0\.[0-9]*\//0.N\//"
            wget -T 20 -q -O - http://198.51.100.2/'"#)
        .code(0)
        .out("eth0\nlo\n10.88.0.N/16\nfrom outside\n");
    lab.must("a published port, and a name in a network", &format!(
        "pod network create net1 >&2; pod run -d --name web --hostname web --network net1 -p 8090:80 busybox {SERVE} >&2"));
    lab.wait("it serves the host's port", "[ \"$(fetch http://127.0.0.1:8090/)\" = web ]");
    lab.step(
        "and is found by its name",
        "pod run --rm --network net1 busybox wget -T 20 -q -O - http://web/",
    )
    .code(0)
    .out("web\n");
    lab.must("all go", "pod rm -f -t 1 web >&2; pod network rm net1 >&2");
    lab.must("a network of CNI's", r#"
        mkdir -p /etc/cni/net.d /opt/cni; ln -s /usr/lib/cni /opt/cni/bin
        cat > /etc/cni/net.d/10-test.conflist <<'JSON'
{"cniVersion": "0.4.0", "name": "test", "plugins": [{"type": "bridge", "bridge": "cni-test", "isGateway": true, "ipMasq": true,
 "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.99.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
        cp -a /opt/busybox/rootfs /root/tree"#);
    lab.step("by containerd", r#"ctr run --rm --cni --runc-binary "$P" --env PATH=/bin --rootfs /root/tree a sh -c '
            ls /sys/class/net; ip -4 -o addr show eth0 | grep -o "10.99.0.[0-9]*/24" | sed "s/0\.[0-9]*\//0.N\//"
            ping -c 1 -W 20 10.99.0.1 | grep -o ", 0% packet loss"; wget -T 20 -q -O - http://198.51.100.2/'"#)
        .code(0)
        .out("eth0\nlo\n10.99.0.N/24\n, 0% packet loss\nfrom outside\n");
}

/// Half of a network is ours, half is runc's.
fn mixed(lab: &mut Lab) {
    lab.define(OUTSIDE);
    lab.must("a network", "docker network create net1 >&2");
    for (server, client) in [("$D", ""), ("", "$D"), ("$D", "$D")] {
        lab.must(
            "a server",
            &format!("docker run -d --name web --hostname web --network net1 {server} busybox {SERVE} >&2"),
        );
        lab.step(
            "found by its name",
            &format!(
                "docker run --rm --network net1 {client} busybox sh -c '
                    i=0; until wget -T 20 -q -O - http://web/ || [ $i = 50 ]; do i=$((i+1)); sleep 0.2; done'"
            ),
        )
        .code(0)
        .out("web\n");
        lab.must("it goes", "docker rm -f web >&2");
    }
}

fn refused(lab: &mut Lab) {
    lab.step("the host's network", "docker run --rm --network host $D busybox true")
        .code(125)
        .err_has("The host's own network can't be given to a machine");
    lab.must("a container of runc's and one of ours", "
        docker run -d --name other busybox sleep 1000 >&2; docker run -d --name ours $D busybox sleep 1000 >&2");
    for (name, why) in
        [("other", "a microVM needs one for itself"), ("ours", "docker run --annotation dev.msb.pod=true")]
    {
        lab.step(
            "another container's network",
            &format!("docker run --rm --network container:{name} $D busybox true"),
        )
        .code(125)
        .err_has(why);
    }
    lab.step(
        "the others are as they were",
        "
        docker exec other ping -c 1 -W 20 172.17.0.1 | grep -o ', 0% packet loss'
        docker exec ours ping -c 1 -W 20 172.17.0.1 | grep -o ', 0% packet loss'",
    )
    .code(0)
    .out(", 0% packet loss\n, 0% packet loss\n");
    lab.must("all go", "docker rm -f other ours >&2");
    lab.step(
        "a fifth network",
        "for i in 1 2 3 4 5; do docker network create n$i >&2; done
         docker create --name five --network n1 $D busybox true > /dev/null
         for i in 2 3 4 5; do docker network connect n$i five; done; docker start five; code=$?
         docker rm -f five >&2; docker network rm n1 n2 n3 n4 n5 >&2; exit $code",
    )
    .code(1)
    .err_has("There is no place for the interface")
    .err_has("networks at the same time");
}

/// What the container's network loses on the host while it runs.
fn lost_and_found(lab: &mut Lab) {
    lab.define(
        r#"
        in_ns() { nsenter -t $(docker inspect -f '{{.State.Pid}}' box1) -n "$@"; }
        reaches() { docker exec box1 ping -c 1 -W 20 172.17.0.1 > /dev/null; }
    "#,
    );
    lab.must("a container", "docker run -d --name box1 $D busybox sleep 1000 >&2; reaches");
    lab.must("its tap is deleted", "in_ns ip link del msb0");
    lab.wait("it gets another", "reaches");
    lab.must("its link is down", "in_ns ip link set eth0 down");
    lab.wait("it has none", "! docker exec box1 ls /sys/class/net/eth0");
    lab.must("and up", "in_ns ip link set eth0 up; in_ns ip route replace default via 172.17.0.1");
    lab.wait("it has it again", "reaches");
    lab.must("another address", "in_ns ip addr add 172.17.99.1/16 dev eth0");
    lab.wait("is the container's", "docker exec box1 ip addr show eth0 | grep -q 172.17.99.1");
    lab.must("which goes", "in_ns ip addr del 172.17.99.1/16 dev eth0");
    lab.wait("there as well", "! docker exec box1 ip addr show eth0 | grep -q 172.17.99.1");
    lab.must("its link is deleted", "in_ns ip link del eth0");
    lab.wait("it has none", "! docker exec box1 ls /sys/class/net/eth0");
    lab.step(
        "and runs and ends as others",
        "docker exec box1 echo alive; docker stop -t 1 box1; docker rm box1",
    )
    .code(0)
    .out("alive\nbox1\nbox1\n");
    lab.define(crate::direct::BUNDLE);
    lab.step(
        "a namespace that is removed under a running container",
        r#"mkdir -p /sys/fs/cgroup/e2e; ip netns add gone; ip link add over type veth peer name eth0 netns gone
           ip addr add 10.66.0.1/24 dev over; ip link set over up; ip -n gone addr add 10.66.0.2/24 dev eth0; ip -n gone link set eth0 up
           bundle c sleep 1000
           jq '(.linux.namespaces[] | select(.type == "network")).path = "/run/netns/gone" |
              .process.capabilities |= map_values(. + ["CAP_NET_RAW"])' c/config.json > new; mv new c/config.json
           $R run --detach --bundle c c < /dev/null > c/out 2>&1; $R exec c ping -c 1 -W 20 10.66.0.1 | grep -o ", 0% packet loss"
           ip netns del gone; $R exec c ping -c 1 -W 20 10.66.0.1 | grep -o ", 0% packet loss"
           ip link del over; eventually '! $R exec c ls /sys/class/net/eth0 > /dev/null 2>&1' && echo lost
           $R exec c echo alive; $R kill c KILL; eventually '[ "$($R state c | jq -r .status)" = stopped ]'; $R delete c; ip link | grep -c msb"#,
    )
    .out(", 0% packet loss\n, 0% packet loss\nlost\nalive\n0\n");
}
