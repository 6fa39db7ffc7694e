//! The product as an image, with Docker's compose: what a user types, and each variable that can be set.

use integration::check::Lab;

use super::product::{RPC, patient};

crate::conformance!(both: [], ours: [composed]);

/// Each that `.env.example` names has another value here than there. Docker refuses more processors than there are.
const UNUSUAL: &str = "export MICROSANDBOX_VERSION=7.7 DEBIAN_VERSION=13.9-own GLOBAL_REGISTRY=127.0.0.1:5000/
export MICROSANDBOX_AUTO_PULL_IMAGES=false MICROSANDBOX_DEV_MODE=false MICROSANDBOX_PORT=5566 MICROSANDBOX_PORT_OVERRIDE=5577 TZ=MSB-3
export MICROSANDBOX_CPU_LIMIT=0.9 MICROSANDBOX_CPU_RESERVATION=0.2 MICROSANDBOX_MEMORY_LIMIT=1536M MICROSANDBOX_MEMORY_RESERVATION=192M
export MICROSANDBOX_MAX_SANDBOXES=1 MICROSANDBOX_MAX_MEMORY=300m MICROSANDBOX_PULL=never MICROSANDBOX_PARTS=parts:local
IMAGE=127.0.0.1:5000/microsandbox:7.7";

/// As a user has it, with parts that are built already and a Debian that is here: the virtual host reaches neither a registry
/// nor a package source.
fn composed(lab: &mut Lab) {
    lab.bring_msb();
    lab.must("a folder", "mkdir -p /root/product/.docker");
    for (name, content) in [
        ("Dockerfile", include_str!("../../../Dockerfile")),
        ("docker-compose.yml", include_str!("../../../docker-compose.yml")),
        (".env", include_str!("../../../.env.example")),
        (".docker/seccomp.json", include_str!("../../../.docker/seccomp.json")),
    ] {
        lab.write(&format!("/root/product/{name}"), content.into());
    }
    lab.bring_debian("/root/debian.tar");
    lab.define("cd /root/product");
    usual(lab);
    lab.define(UNUSUAL);
    lab.define(RPC);
    lab.define(
        r#"inside() { docker compose exec -T microsandbox "$@"; }
# Beside another container of the service compose does not say which of them it means.
server() { docker exec $(cat /root/id) "$@"; }"#,
    );
    lab.step_with(
        "its parts, and Debian",
        "mkdir -p /root/parts/out; tar -C / -c usr/local/bin/msb usr/local/bin/msb-runtime usr/lib/msb | tar -C /root/parts/out -x
         tar -C /root/parts -c out | docker import - parts:local > /dev/null; docker import /root/debian.tar ${GLOBAL_REGISTRY}debian:$DEBIAN_VERSION > /dev/null",
        patient,
    )
    .code(0);
    built(lab);
    lab.step_with(
        "a line for a shell in a microVM, which has the time zone and works in the workspace",
        "docker compose run --rm -T microsandbox run --network none 'echo Hello from sandbox; uname -r; date +%Z; pwd; echo work > made; exit 6'",
        patient,
    )
    .code(6)
    .out_is("the guest's kernel", |out| {
        out.starts_with("Hello from sandbox\n") && out.ends_with("-msb\nMSB\n/workspace\n")
    });
    lab.step(
        "a shell that reads a pipe",
        "echo 'echo pipe-$((1+1)); cat made; exit 4' | docker compose run --rm -T microsandbox",
    )
    .code(4)
    .out_has("pipe-2\nwork\n");
    lab.step(
        "a shell at a terminal",
        "(sleep 15; echo 'echo tty-$((1+1)); exit 3') | script -qec 'docker compose run --rm microsandbox' /dev/null",
    )
    .code(3)
    .out_has("tty-2");
    lab.step("a volume", "docker compose run --rm -T microsandbox run --network none -v kept:/kept 'echo x > /kept/file; cat /kept/file'").code(0).out("x\n");
    lab.step(
        "which is there for the next container, at a terminal",
        "script -qec 'docker compose run --rm microsandbox run --network none -v kept:/kept \"cat /kept/file; exit 5\"' /dev/null < /dev/null",
    )
    .code(5)
    // Before it the terminal shows the end of its input.
    .out_is("what was written", |out| out.lines().any(|line| line.trim().ends_with('x')));
    lab.step(
        "lines and shells leave nothing behind",
        "docker compose run --rm -T microsandbox ps -aq; docker compose run --rm -T --entrypoint ls microsandbox /root/.microsandbox/namespaces/default",
    )
    .code(0)
    .out("");
    lab.step("its help", "docker compose run --rm -T microsandbox --help").code(0).out_has("Usage: msb");
    lab.step_with(
        "the server, which is well, at the port that was asked for",
        "docker compose up -d --wait && docker compose ps -q > /root/id && busybox wget -qO- http://127.0.0.1:5577/api/v1/health && echo
         docker inspect $(cat /root/id) | jq -c '.[0] | [.State.Health.Status, .Config.Image, .HostConfig.NanoCpus, .HostConfig.Memory, .HostConfig.MemoryReservation, .NetworkSettings.Ports]'
         inside sh -c 'cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/memory.max; date +%Z; msb server start --help | grep -c MICROSANDBOX_MAX_MEMORY=300m'",
        patient,
    )
    .code(0)
    .out(
        "{\"message\":\"Service is healthy\"}\n\
         [\"healthy\",\"127.0.0.1:5000/microsandbox:7.7\",900000000,1610612736,201326592,{\"5555/tcp\":null,\"5566/tcp\":[{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"5577\"}]}]\n\
         90000 100000\n1610612736\nMSB\n1\n",
    );
    // bpf(2), which its capabilities let it call: EPERM is the profile's.
    lab.step(
        "what it may",
        r#"docker inspect $(docker compose ps -q) | jq -c '.[0].HostConfig | [.Privileged, .CapAdd]'; inside grep ^Seccomp: /proc/1/status
           inside perl -MPOSIX=uname -e 'syscall((uname)[4] eq "x86_64" ? 321 : 280, 0, 0, 0); print $! + 0, "
"'; inside msb doctor"#,
    )
    .out_is("no more than is needed", |out| {
        out.starts_with("[false,[\"SYS_ADMIN\",\"NET_ADMIN\"]]\nSeccomp:\t2\n1\n") && !out.contains("FAIL")
    });
    lab.step_with(
        "a key is needed; a sandbox with it",
        r#"inside msb server keygen | sed -n 's/^Token: //p' > /root/key; MSB_API_KEY=msb_x rpc sandbox.metrics.get '{}' | jq .code; export MSB_API_KEY=$(cat /root/key)
           rpc sandbox.start '{"sandbox":"one","config":{"image":"microsandbox/default","memory":256}}'
           rpc sandbox.command.run '{"sandbox":"one","command":"sh","args":["-c","echo late > /late; date +%Z; sync"]}' | jq -c '[.exit_code, .output[].text]'
           for start in '"two","config":{"image":"microsandbox/default","memory":16}' '"one","config":{"image":"microsandbox/default","memory":301}' '"one","config":{"image":"alpine","memory":256}'; do
               rpc sandbox.start '{"sandbox":'"$start"'}' | jq -r .message | sed 's/.* is not here: .*/not here/'
           done"#,
        patient,
    )
    .code(0)
    .out(
        "1004\n\"Sandbox one started successfully\"\n[0,\"MSB\"]\n\
         1 sandboxes run already, which is this server's limit: stop one first\n\
         It wants 301 MiB of memory, and of 300 MiB that sandboxes may have here, 0 are given away: stop one, or ask for less\n\
         not here\n",
    );
    lab.define("export MSB_API_KEY=$(cat /root/key)");
    lab.step_with(
        "its container is killed and another one made: what it wrote is there",
        r#"docker kill $(cat /root/id) > /dev/null; docker rm $(cat /root/id) > /dev/null; docker compose up -d --wait && docker compose ps -q > /root/id
           rpc sandbox.start '{"sandbox":"one"}'
           rpc sandbox.command.run '{"sandbox":"one","command":"cat","args":["/late"]}' | jq -r '.output[].text'"#,
        patient,
    )
    .out("\"Sandbox one started successfully\"\nlate\n");
    lab.step_with(
        "it is started again while a sandbox runs: that one was stopped, is known, runs again, and goes with all that it wrote",
        r#"docker compose restart 2> /dev/null; eventually 'inside msb server health > /dev/null 2>&1' 0.5
           inside msb ps -a --format json | jq -c '.[] | select(.name == "one") | [.name, .state]'; rpc sandbox.start '{"sandbox":"one"}'
           rpc sandbox.command.run '{"sandbox":"one","command":"cat","args":["/late"]}' | jq -r '.output[].text'
           inside msb rm -f one; inside ls /var/lib/msb-runtime | grep -v compositions"#,
        patient,
    )
    .out("[\"one\",\"stopped\"]\n\"Sandbox one started successfully\"\nlate\none\n");
    lab.step_with(
        "one in another container at the same time, whose port can be reached",
        r#"docker compose run -d --name held microsandbox run --name held --network none -p 8080:80 'perl -MIO::Socket::INET -e "\$s = IO::Socket::INET->new(Listen => 1, LocalPort => 80); while (\$c = \$s->accept) { print \$c qq(reached\n); close \$c }"' > /dev/null
           to=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' held)
           eventually '[ "$(socat -u TCP:$to:8080 - 2> /dev/null)" = reached ]' 0.5 && server msb ps -q
           server msb exec held true; echo $?; server msb stop held; echo $?"#,
        patient,
    )
    .out("held\n125\n1\n")
    .err_is("both are told", |err| err.matches("runs in another container").count() == 2);
    lab.step_with(
        "the server ends without it, in time",
        "docker stop -t 25 $(cat /root/id) > /dev/null; docker inspect -f '{{.State.ExitCode}}' $(cat /root/id); docker inspect -f '{{.State.Running}}' held; docker rm -f held > /dev/null",
        patient,
    )
    .out("0\ntrue\n");
    lab.step_with(
        "nobody needs a key where that is said; at the usual ports",
        r#"export MICROSANDBOX_DEV_MODE=true MICROSANDBOX_PORT=5555 MICROSANDBOX_PORT_OVERRIDE=5555
           docker compose up -d; eventually 'busybox wget -qO /dev/null http://127.0.0.1:5555/api/v1/health 2> /dev/null' 0.5; rpc sandbox.metrics.get '{}' | jq -c '[.sandboxes[].name]'"#,
        patient,
    )
    .code(0)
    .out("[\"held\"]\n");
    lab.step("it goes", "docker compose down -t 20; docker ps -aq").out("");
}

/// What compose makes of the variables, as `.env.example` has them.
fn usual(lab: &mut Lab) {
    lab.step(
        "what is so unless something else is said",
        r#"docker compose config --format json | jq -c '.services.microsandbox | .image, .build.args, .environment, [.ports[] | [.host_ip, .target, .published]], .deploy.resources'
           grep -o '^#\?[A-Z_]*=' .env | tr -d '#=' | sort > /tmp/told; grep -o '\${[A-Z_]*' docker-compose.yml | tr -d '${' | sort -u | diff /tmp/told -"#,
    )
    .code(0)
    .out(
        r#""microsandbox:latest"
{"DEBIAN_VERSION":"13.2-slim","GLOBAL_REGISTRY":"","MICROSANDBOX_AUTO_PULL_IMAGES":"true","MICROSANDBOX_PARTS":"build","MICROSANDBOX_VERSION":"latest"}
{"HTTPS_PROXY":null,"HTTP_PROXY":null,"MICROSANDBOX_DEV_MODE":"true","MICROSANDBOX_MAX_MEMORY":"auto","MICROSANDBOX_MAX_SANDBOXES":"100","MICROSANDBOX_PORT":"5555","MICROSANDBOX_PULL":"if-missing","NO_PROXY":null,"TZ":"UTC"}
[["127.0.0.1",5555,"5555"]]
{"limits":{"cpus":4,"memory":"4294967296"},"reservations":{"cpus":1,"memory":"1073741824"}}
"#,
    );
}

/// The image, from another registry and Debian, under another name; with the images of Python and Node, or without.
fn built(lab: &mut Lab) {
    // On the host's network is the registry. A user has the Internet here.
    lab.define("built() { COMPOSE_FILE=docker-compose.yml:host.yml docker compose build -q && docker run --rm $IMAGE images -q; }");
    lab.step_with(
        "it is built",
        "echo 'services: { microsandbox: { build: { network: host } } }' > host.yml; built
         docker image inspect $IMAGE | jq -r '.[0].Config.Labels[\"org.opencontainers.image.version\"]'",
        patient,
    )
    .code(0)
    .out("docker.io/microsandbox/default:latest\n7.7\n");
    unprivileged(lab);
    lab.step_with(
        "it is built with the images of Python and Node, from that registry",
        "MICROSANDBOX_AUTO_PULL_IMAGES=true built",
        patient,
    )
    .code(0)
    .out("127.0.0.1:5000/node:22-slim\n127.0.0.1:5000/python:3.13-slim\ndocker.io/microsandbox/default:latest\n");
}

/// While an image is built nobody may set the attributes that some layers need: they are brought then, and unpacked later.
fn unprivileged(lab: &mut Lab) {
    lab.write("/root/registry.py", REGISTRY.into());
    lab.step_with(
        "an image with a directory that was made anew, from a registry",
        "printf 'FROM busybox\nRUN mkdir /d && touch /d/file\nRUN rm -r /d && mkdir /d\n' | docker build -q -t again - > /dev/null &&
         mkdir /root/again && docker save again | tar -C /root/again -x || exit 9
         python3 /root/registry.py /root/again > /tmp/registry.log 2>&1 < /dev/null & eventually 'busybox wget -qO /dev/null http://127.0.0.1:5000/v2/ 2> /dev/null' 0.3
         try() { docker run --rm --network host -e MICROSANDBOX_HOME=/tmp/home -e MICROSANDBOX_SHIPPED= $IMAGE pull \"$@\" 127.0.0.1:5000/again; echo $?; }
         try; try --no-unpack",
        patient,
    )
    .out("1\n127.0.0.1:5000/again\n0\n")
    .err_has("can't be unpacked");
}

/// What of a registry a pull needs (OCI distribution-spec, "Pull"), for the one image of a layout.
const REGISTRY: &str = r#"import http.server, json, sys
root = sys.argv[1]
manifest = json.load(open(root + "/index.json"))["manifests"][0]
class Registry(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        what, body, kind = self.path.split("/")[-2], b"{}", "application/json"
        if what == "manifests":
            body, kind = open(root + "/blobs/" + manifest["digest"].replace(":", "/"), "rb").read(), manifest["mediaType"]
        elif what == "blobs":
            body = open(root + "/blobs/" + self.path.split("/")[-1].replace(":", "/"), "rb").read()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", 5000), Registry).serve_forever()
"#;
