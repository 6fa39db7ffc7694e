//! The product: sandboxes without any Docker, for a shell and over HTTP.

use std::time::Duration;

use integration::{
    check::{Lab, Random},
    dev::Project,
    host::command::HostCommand,
};

use super::{newest, repl, verbs};

crate::conformance!(both: [], ours: [by_hand, served, by_its_client]);

/// `rpc METHOD PARAMS`: the answer's result or error, with the key in `MSB_API_KEY` if there is one; at the port of
/// `MICROSANDBOX_PORT_OVERRIDE`, or else the usual one.
pub(crate) const RPC: &str = r#"rpc() {
    python3 -c 'import json, os, sys, urllib.error, urllib.request
body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": sys.argv[1], "params": json.loads(sys.argv[2])}).encode()
head = {"Content-Type": "application/json", "Authorization": "Bearer " + os.environ.get("MSB_API_KEY", "any")}
ask = urllib.request.Request("http://127.0.0.1:%s/api/v1/rpc" % os.environ.get("MICROSANDBOX_PORT_OVERRIDE", "5555"), body, head)
try: answer = json.load(urllib.request.urlopen(ask))
except urllib.error.HTTPError as error: answer = {"result": json.load(error)}
print(json.dumps(answer.get("result", answer.get("error"))))' "$@"
}"#;

/// A home on the disk with the test image in it.
pub(crate) const FUNCTIONS: &str = r#"
export MICROSANDBOX_HOME=/var/lib/home MICROSANDBOX_IMAGE=busybox
loaded() { docker save busybox | msb load; }
settled() { eventually '! pgrep -x "pasta.*" > /dev/null' 0.3; mount | grep -c /var/lib/home; ls /var/lib/home/run /run/user/0/msb 2> /dev/null | grep -v -e : -e '^$'; }
"#;

/// A network that is the Internet, with a private one behind the same link: a web server at an address of each.
const INTERNET: &str = "ip netns add net; ip link add out0 type veth peer name in netns net
for net in 203.0.113 10.9.0; do ip addr add $net.1/24 dev out0; ip -n net addr add $net.5/24 dev in; done
ip link set out0 up; ip -n net link set in up; ip -n net link set lo up; ip route add default via 203.0.113.5
mkdir /w; echo page > /w/index.html; ip netns exec net busybox httpd -p 80 -h /w
busybox wget -qO- http://203.0.113.5/ && busybox wget -qO- http://10.9.0.5/";

fn by_hand(lab: &mut Lab) {
    lab.bring_msb();
    lab.define(FUNCTIONS);
    lab.step("an image is loaded", "loaded").code(0).out("Loaded docker.io/library/busybox:latest\n");
    lab.step(
        "output and exit code are the command's",
        "msb run --rm --network none busybox sh -c 'echo out; echo err >&2; exit 7'",
    )
    .code(7)
    .out("out\n")
    .err("err\n");
    lab.step("a program that is not there", "msb run --rm --network none busybox nothing")
        .code(127)
        .err_has("not found");
    lab.step(
        "a line for the shell of the default image, of which nothing is left",
        "msb run --network none 'echo Hello from sandbox'; msb ps -aq",
    )
    .code(0)
    .out("Hello from sandbox\n");
    lab.step(
        "a shell that reads its lines",
        "echo 'echo line; exit 4' | msb run -i --rm --network none busybox",
    )
    .code(4)
    .out("line\n");
    lab.step(
        "a terminal",
        "echo 'stty size > /dev/null && echo tty-$((1+1)); exit 3' | script -qec 'msb run -it --rm --network none busybox' /dev/null",
    )
    .code(3)
    .out_has("tty-2");
    lab.step(
        "one in the background, with a port, a volume and its name",
        "msb run -d --name web --network none -p 8080:80 -v kept:/www -e GREETING=hello -w /tmp -c 1 -m 256m busybox \\
         sh -c 'echo $GREETING $PWD; echo $GREETING > /www/index.html; echo own > /own; trap \"exit 5\" TERM; \\
         httpd -p 127.0.0.1:80 -h /www; while :; do sleep 0.1; done'
         eventually 'busybox wget -qO- http://127.0.0.1:8080/' 0.3",
    )
    .code(0)
    .out("web\nhello\n");
    lab.step(
        "what runs",
        "msb ps --format json | jq -c '.[] | [.name, .state, .request.ports[0].host]'; msb logs web",
    )
    .code(0)
    .out("[\"web\",\"running\",8080]\nhello /tmp\n");
    lab.step(
        "commands in it",
        "msb exec -e A=b web sh -c 'echo $A; cat; exit 3' < /dev/null; echo $?; echo in | msb exec -i -u nobody web sh -c 'cat; id -u'
         msb exec web nothing; echo $?; msb exec -d web sh -c 'echo left > /left'; eventually 'msb exec web cat /left' 0.3",
    )
    .code(0)
    .out("b\n3\nin\n65534\n127\nleft\n");
    lab.step(
        "what it uses",
        "msb stats --format json | jq -c '.[] | [.name, .memory_bytes > 1000000, .disk_bytes > 0]'; msb inspect web | jq '.[0].boot_seconds > 0'",
    )
    .code(0)
    .out("[\"web\",true,true]\ntrue\n");
    lab.step(
        "files out of it and into it, running or not",
        "msb cp web:/own /tmp/own; cat /tmp/own; mkdir -p /tmp/tree/sub; echo new > /tmp/tree/sub/file; msb cp /tmp/tree web:/
         msb exec web cat /tree/sub/file; msb cp web:/tree /tmp/back; cat /tmp/back/sub/file; msb cp web:/none /tmp; echo $?",
    )
    .code(0)
    .out("own\nnew\nnew\n125\n");
    lab.step(
        "the same of its volumes",
        "msb cp web:/www /tmp/www; cat /tmp/www/index.html; echo fresh > /tmp/fresh; msb cp /tmp/fresh web:/www; cat $MICROSANDBOX_HOME/volumes/kept/fresh
         msb exec web ln -s /etc /www/out; msb cp web:/www/out/hostname /tmp/inside; cat /tmp/inside",
    )
    .code(0)
    .out("hello\nfresh\nweb\n");
    lab.step(
        "what can't be brought is told, and nothing old is given for it",
        "msb exec web sh -c 'echo newer > /tree/sub/file'; root=$(echo $MICROSANDBOX_HOME/*/default/web/rootfs); mount -t tmpfs none $root/tree
         msb cp web:/own /tmp/stale; echo $?; ls /tmp/stale; umount $root/tree; msb cp web:/tree/sub/file /tmp/newer; cat /tmp/newer; msb ps -q",
    )
    .out("125\nnewer\nweb\n")
    .err_has("mount");
    lab.step(
        "walls that are relaxed are told of, each time and for as long",
        r#"printf '[machine]\nconfinement = "off"\n' > /tmp/off.toml; export MSB_CONFIG=/tmp/off.toml
           msb run --rm --network none busybox true; msb run -d --name bare --network none busybox sleep 1000; unset MSB_CONFIG
           msb inspect bare | jq -c .[0].confinement; msb stop -t 0 bare; msb start bare; msb inspect bare | jq -c .[0].confinement; msb rm -f bare"#,
    )
    .code(0)
    .out("bare\n\"off\"\nbare\nbare\n\"enforced\"\nbare\n")
    .err_is("twice, once for each that was started so", |err| err.matches("the VMM is root on this host").count() == 2);
    lab.step("its name is taken", "msb run --name web busybox true").code(125).err_has("already");
    lab.step(
        "it ends as it wants to",
        "msb stop web; msb ps -a --format json | jq -c '.[] | [.state, .exit_code]'; settled",
    )
    .out("web\n[\"stopped\",5]\n0\n");
    lab.step(
        "files of its volumes while it rests: a link of its own leads where it does inside",
        "msb cp /tmp/tree web:/www; cat $MICROSANDBOX_HOME/volumes/kept/tree/sub/file; msb cp /tmp/tree web:/www/out; ls -d /etc/tree
         msb cp web:/etc/tree/sub/file /tmp/own-etc; cat /tmp/own-etc; msb cp web:/www/tree /tmp/rest; cat /tmp/rest/sub/file",
    )
    .code(0)
    .out("new\nnew\nnew\n")
    .err_has("/etc/tree");
    lab.step(
        "what it wrote is there when it runs again",
        "msb start web; eventually 'msb exec web grep -q hello /www/index.html' 0.2; msb exec web cat /own /www/index.html",
    )
    .code(0)
    .out("web\nown\nhello\n");
    lab.step(
        "its keeper is killed, and what it wrote is not lost",
        "msb exec web sh -c 'echo late > /late; sync'; pkill -KILL -f '^msb keep default web'; msb stop -t 1 web; msb start web; msb exec web cat /late",
    )
    .code(0)
    .out("web\nweb\nlate\n");
    lab.step("a port of it is as good as a command for one that ends when it is idle", "msb run -d --name idle --network none --idle-timeout 8s -p 8081:80 busybox sh -c 'mkfifo /f; httpd -p 80 -h /etc; cat /f' > /dev/null
         msb exec idle sleep 10; msb ps -q; for i in 1 2 3 4 5; do sleep 2; busybox wget -qO /dev/null http://127.0.0.1:8081/hostname; done; msb ps -q; eventually '[ -z \"$(msb ps -q | grep idle)\" ]' 0.3; msb ps -a --format json | jq -c '.[] | select(.name == \"idle\") | [.state, .exit_code]'; msb rm idle")
        .out("idle\nweb\nidle\nweb\n[\"stopped\",137]\nidle\n");
    lab.step("all of it goes", "msb rm web; echo $?; msb rm -f web; msb volume rm kept; msb ps -aq; ls $MICROSANDBOX_HOME/volumes; settled")
        .out("1\nweb\nkept\n0\n");
    lab.step("a time limit", "msb run --rm --network none --timeout 4s busybox sh -c 'trap \"exit 9\" TERM; while :; do sleep 0.1; done'").code(9);
    lab.must("a server for datagrams, of the host's own", "mkdir /tmp/echo; for f in /usr/bin/socat $(ldd /usr/bin/socat | grep -o '/[^ ]*'); do cp -L $f /tmp/echo; done");
    lab.define(r#"
        echoes() { msb run -d --name echo --network $1 -p 5300:53/udp -v /tmp/echo:/e:ro busybox sh -c '/e/ld-linux-x86-64.so.2 --library-path /e /e/socat UDP-RECVFROM:53,fork EXEC:cat' > /dev/null; eventually '[ "$(say one)" = one ]' 0.3; }
        say() { echo $1 | socat -t 5 - UDP:127.0.0.1:5300; }"#);
    lab.step(
        "what joins a sandbox with the host's network has few rights, a filter, and sees nothing",
        "msb run -d --name net --network public busybox sleep 1000 > /dev/null; p=$(pgrep -x 'pasta.*' | head -n 1)
         grep -h -e ^NoNewPrivs -e ^Seccomp: /proc/$p/status; ls -A /proc/$p/root | wc -l
         [ $((0x$(sed -n 's/^CapEff:\\t//p' /proc/$p/status) & ~0x281400)) = 0 ] && echo few
         for n in mnt pid ipc uts; do [ $(readlink /proc/$p/ns/$n) != $(readlink /proc/self/ns/$n) ] && echo own $n; done; msb rm -f net",
    )
    // To enter the namespace, to make an interface there, and to send from low ports.
    .out("NoNewPrivs:\t1\nSeccomp:\t2\n0\nfew\nown mnt\nown pid\nown ipc\nown uts\nnet\n");
    for network in ["none", "public"] {
        lab.step(
            "datagrams find their way, and each sender its answers",
            &format!("echoes {network} && {{ say two > /tmp/two & say three; wait; cat /tmp/two; }}; msb rm -f echo"),
        )
        .code(0)
        .out("three\ntwo\necho\n");
    }
    lab.step(
        "who looks at what there is keeps nothing from being started",
        "msb create --name seen --network none busybox sleep 1000 > /dev/null; (while :; do msb ps -aq > /dev/null; done) & w=$!
         for i in 1 2 3; do msb start seen && msb stop -t 0 seen; done > /tmp/seen 2>&1; kill $w; sort /tmp/seen | uniq -c | tr -s ' '; msb rm seen",
    )
    .out(" 6 seen\nseen\n");
    lab.step("without any way out", "msb run --rm busybox echo offline").code(0).out("offline\n");
    verbs::all(lab);
    lab.must("the Internet", INTERNET);
    lab.step(
        "the Internet and nothing private",
        "msb run --rm busybox sh -c 'wget -T 20 -qO- http://203.0.113.5/; for to in 10.9.0.5 10.9.0.1 172.17.0.1; do timeout 4 wget -qO- http://$to/ 2> /dev/null || echo $to closed; done'",
    )
    .code(0)
    .out("page\n10.9.0.5 closed\n10.9.0.1 closed\n172.17.0.1 closed\n");
    lab.step(
        "all that the host can reach",
        "msb run --rm --network open busybox wget -qO- http://10.9.0.5/; settled",
    )
    .out("page\n0\n");
    verbs::names(lab);
    lab.step("images go and come back", "msb save busybox > /tmp/saved && msb rmi busybox && msb images -q; docker rmi -f busybox > /dev/null; docker load -qi /tmp/saved; msb load -i /tmp/saved")
        .code(0)
        .out_is("names of one image", |out| out.lines().all(|line| line.contains("busybox")) && out.contains("Loaded"));
    lab.step("hostile words", "msb run --rm --name ../x busybox true; msb run -v a:b busybox true; msb run -p 0:0 busybox true; msb exec ../../etc true; ls $MICROSANDBOX_HOME")
        .out_is("nothing new", |out| out == "images\nl\nnamespaces\nrun\nvolumes\n");
}

fn served(lab: &mut Lab) {
    lab.bring_msb();
    lab.define(FUNCTIONS);
    lab.define(RPC);
    lab.must("an image", "loaded");
    lab.must(
        "a server",
        "msb server start --dev > /tmp/server.log 2>&1 < /dev/null & eventually 'msb server health' 0.2",
    );
    lab.step(
        "a sandbox of an image that would end at once, and what runs in it",
        r#"rpc sandbox.start '{"sandbox":"one","config":{"image":"busybox","memory":256,"cpus":1,"envs":["A=b"]}}'
           rpc sandbox.command.run '{"sandbox":"one","command":"sh","args":["-c","echo $A; echo err >&2; exit 3"]}' | jq -c '[.exit_code, .success, ([.output[].text] | sort)]'
           rpc sandbox.command.run '{"sandbox":"one","command":"ps"}' | jq -r '.output[].text' | grep -c exe
           rpc sandbox.metrics.get '{"sandbox":"one"}' | jq -c '.sandboxes[] | [.name, .running, .memory_usage > 0]'"#,
    )
    .code(0)
    .out("\"Sandbox one started successfully\"\n[3,false,[\"b\",\"err\"]]\n1\n[\"one\",true,true]\n");
    newest::client(lab);
    newest::page(lab);
    lab.define(r#"v1() {
        python3 -c 'import json, sys, urllib.error, urllib.request
body = sys.argv[3].encode() if len(sys.argv) > 3 else None
ask = urllib.request.Request("http://127.0.0.1:5555/v1/" + sys.argv[2], body, {"Content-Type": "application/json"}, method=sys.argv[1])
try: print(urllib.request.urlopen(ask).read().decode())
except urllib.error.HTTPError as error: print(error.read().decode())' "$@"; }"#);
    lab.step(
        "by the newest clients' interface: a volume, which one sandbox has; another name",
        r#"v1 POST volumes '{"name": "data"}' | jq -r .id; v1 GET volumes | jq -c '[.[].name]'
           v1 POST 'sandboxes?start=true' '{"name": "old", "image": {"type": "oci", "reference": "busybox"}, "network": {"enabled": false}, "mounts": [{"type": "named", "name": "data", "guest": "/data"}]}' | jq -r .status
           rpc sandbox.command.run '{"sandbox":"old","command":"sh","args":["-c","echo kept > /data/file; echo own > /own"]}' | jq .exit_code; cat $MICROSANDBOX_HOME/volumes/data/file
           v1 DELETE volumes/data | jq -r .error.code; v1 PATCH sandboxes/default.old '{"name": "new"}' | jq -r .error.code
           v1 POST sandboxes/default.old/stop | jq -r .status; v1 PATCH sandboxes/default.old '{"name": "new"}' | jq -r .id; v1 POST sandboxes/default.new/start | jq -r .status
           rpc sandbox.command.run '{"sandbox":"new","command":"cat","args":["/own"]}' | jq -r '.output[].text'
           v1 DELETE sandboxes/default.new | jq -r .message; v1 DELETE volumes/data | jq -r .message; ls $MICROSANDBOX_HOME/volumes"#,
    )
    .code(0)
    .out("data\n[\"data\"]\nrunning\n0\nkept\ninvalid_request\ninvalid_state_transition\nstopped\ndefault.new\nrunning\nown\nSandbox new is removed\nVolume data is removed\n");
    lab.define(r#"
        left() { ls $MICROSANDBOX_HOME/run | wc -l; pgrep -c -f '^msb keep'; mount | grep -c /var/lib/home; msb ps -aq; }
        clean() { eventually '[ "$(left)" = "$before" ]' 0.3 && echo clean; }
        begins() { eventually 'before=$(left); sleep 1; [ "$before" = "$(left)" ]' 0.2; }"#);
    lab.step(
        "who starts what another one starts has it as well, from the command line too, and nothing of it is left",
        r#"begins; start() { rpc sandbox.start '{"sandbox":"twice","config":{"image":"busybox","memory":128}}'; }
           start > /tmp/first & start; wait $!; cat /tmp/first
           rpc sandbox.command.run '{"sandbox":"twice","command":"echo","args":["runs"]}' | jq -r '.output[].text'
           rpc sandbox.stop '{"sandbox":"twice"}'; msb start twice > /tmp/first & rpc sandbox.start '{"sandbox":"twice"}'; wait $!; cat /tmp/first
           rpc sandbox.command.run '{"sandbox":"twice","command":"echo","args":["again"]}' | jq -r '.output[].text'
           rpc sandbox.stop '{"sandbox":"twice"}'; msb rm twice; clean"#,
    )
    .code(0)
    .out("\"Sandbox twice started successfully\"\n\"Sandbox twice started successfully\"\nruns\n\"Sandbox twice stopped successfully\"\n\"Sandbox twice started successfully\"\ntwice\nagain\n\"Sandbox twice stopped successfully\"\ntwice\nclean\n");
    lab.step(
        "a start that fails leaves what ran before it, or nothing where nothing was",
        r#"begins; for config in '"image":"busybox:none"' '"image":"busybox","volumes":["/nowhere:/x"]' '"image":"busybox","ports":["5555:80"]'; do
               rpc sandbox.start '{"sandbox":"one","config":{'"$config"'}}' | jq -r .code
               rpc sandbox.command.run '{"sandbox":"one","command":"sh","args":["-c","echo $A"]}' | jq -r '.output[].text'
               rpc sandbox.start '{"sandbox":"new","config":{'"$config"'}}' | jq -r .code
           done
           v1 POST 'sandboxes?start=true' '{"name": "user", "image": {"type": "oci", "reference": "busybox"}, "runtime": {"user": "nobody-at-all"}}' | jq -r .error.code; clean"#,
    )
    .code(0)
    .out("-32000\nb\n-32000\n2001\nb\n2001\n2001\nb\n2001\ninvalid_sandbox_config\nclean\n");
    lab.step(
        "a command that takes too long ends with what it began",
        r#"rpc sandbox.command.run '{"sandbox":"one","command":"sh","args":["-c","sleep 4321 & setsid sleep 4321 & wait"],"timeout":2}' | jq -r .message
           rpc sandbox.command.run '{"sandbox":"one","command":"ps"}' | jq -r '.output[].text' | grep -c 4321"#,
    )
    .out("Command timed out after 2 seconds\n0\n");
    lab.step_with(
        "two hundred commands at once",
        r#"begins; python3 -c 'import concurrent.futures, json, urllib.request
def run(number):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "sandbox.command.run", "params": {"sandbox": "one", "command": "echo", "args": [str(number)]}}).encode()
    ask = urllib.request.Request("http://127.0.0.1:5555/api/v1/rpc", body, {"Content-Type": "application/json"})
    answer = json.load(urllib.request.urlopen(ask))
    return answer["result"]["output"] == [{"stream": "stdout", "text": str(number)}] if "result" in answer else answer["error"]["message"]
with concurrent.futures.ThreadPoolExecutor(200) as pool:
    results = list(pool.map(run, range(200)))
print(results.count(True), {str(result) for result in results if result is not True})'; clean"#,
        patient,
    )
    .code(0)
    .out("200 set()\nclean\n");
    lab.step("it stops, and its files stay", r#"rpc sandbox.command.run '{"sandbox":"one","command":"sh","args":["-c","echo kept > /kept"]}' > /dev/null
        rpc sandbox.stop '{"sandbox":"one"}'; rpc sandbox.stop '{"sandbox":"one"}'; rpc sandbox.start '{"sandbox":"one"}'
        rpc sandbox.command.run '{"sandbox":"one","command":"cat","args":["/kept"]}' | jq -r '.output[].text'"#)
        .out("\"Sandbox one stopped successfully\"\n\"Sandbox one stopped successfully\"\n\"Sandbox one started successfully\"\nkept\n");
    lab.step("what can't be started leaves nothing", r#"rpc sandbox.start '{"sandbox":"two","config":{"image":"busybox:none"}}' | jq -r .message | head -c 20; echo; msb ps -aq"#)
        .code(0)
        .out_is("the one", |out| out.lines().last() == Some("one"));
    lab.step("the server is killed, and the next one finds its sandboxes", r#"kill -KILL $(cat $MICROSANDBOX_HOME/run/.server.pid)
        msb server start --dev > /tmp/server.log 2>&1 < /dev/null & eventually 'msb server health' 0.2 > /dev/null
        rpc sandbox.command.run '{"sandbox":"one","command":"cat","args":["/kept"]}' | jq -r '.output[].text'"#)
        .code(0)
        .out("kept\n");
    lab.step_with(
        "whoever serves it is killed, in random order: it can be had again each time, and nothing that it synced is lost",
        &killed(),
        |command| command.timeout(Duration::from_secs(280 + 12 * kills())),
    )
    .code(0)
    .out("");
    lab.step("it ends, and its sandboxes with it", "msb server stop; eventually '! msb server health 2> /dev/null' 0.5; eventually '[ -z \"$(msb ps -q)\" ]'; msb rm one; settled")
        .out("one\n0\n");
}

pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// How often somebody is killed.
fn kills() -> u64 {
    number("MSB_SOAK", 6)
}

/// Lines of a shell that kill the server, a sandbox's keeper, its network's program or its VMM, so often in all.
fn killed() -> String {
    let seed = number("MSB_SEED", 20_261_127);
    let mut random = Random(seed);
    let rounds: String = (1..=kills())
        .map(|round| {
            let victim = match random.below(4) {
                0 => "kill -KILL $(cat $MICROSANDBOX_HOME/run/.server.pid)",
                // One whose keeper has gone has none until it starts again, and runs on; so with its network.
                1 => "pkill -KILL -f '^msb keep default one' || :",
                2 => "pkill -KILL -x 'pasta.*' || :",
                _ => "pkill -KILL -x msb-vmm",
            };
            format!("round {round} \"{victim}\"\n")
        })
        .collect();
    format!(
        r#"
        had() {{ rpc sandbox.command.run '{{"sandbox":"one","command":"cat","args":["/kept"]}}' 2> /dev/null | jq -r '.output[].text' 2> /dev/null | grep -qx "$1"; }}
        again() {{
            msb server health > /dev/null 2>&1 || {{ msb server start --dev > /tmp/server.log 2>&1 < /dev/null & eventually 'msb server health' 0.2 > /dev/null; }}
            rpc sandbox.start '{{"sandbox":"one"}}' > /tmp/started 2>&1
        }}
        round() {{
            rpc sandbox.command.run '{{"sandbox":"one","command":"sh","args":["-c","echo '$1' > /kept; sync"]}}' > /tmp/wrote 2>&1
            had $1 || {{ echo "seed {seed}, round $1: not written"; cat /tmp/wrote; }}
            eval "$2" || echo "round $1: nothing to kill by $2"
            eventually "again; had $1" 0.5 || {{ echo "seed {seed}, round $1, after $2:"; cat /tmp/started /tmp/server.log; msb ps -a; }}
        }}
        {rounds}"#
    )
}

/// The last published client that speaks JSON-RPC, as it is on PyPI, with sandboxes that are microVMs: the same script that the
/// server's own tests run.
fn by_its_client(lab: &mut Lab) {
    lab.bring_msb();
    lab.bring_debian("/root/python.tar");
    let node = Project::here().node_image().expect("an image with Node can be had");
    lab.write("/root/node.tar", std::fs::read(node).expect("it was made just now"));
    lab.bring_python_client("0.1.8", "/root/client.tar");
    lab.write("/root/client.py", include_str!("../../../msb/tests/server/client_0_1.py").into());
    lab.define(FUNCTIONS);
    lab.define(RPC);
    lab.step_with(
        "images with Python and Node, the client, and a server in the background that wants keys of a secret of ours",
        "msb import /root/python.tar docker.io/library/python:3.13-slim > /dev/null && rm /root/python.tar &&
         msb import /root/node.tar docker.io/library/node:22-slim > /dev/null && rm /root/node.tar && mkdir site && tar -C site -xf /root/client.tar &&
         msb server start -d -k 'a secret that somebody chose' && stat -c %a $MICROSANDBOX_HOME/namespaces/.server.key && msb server health",
        patient,
    )
    .code(0)
    .out("Serving sandboxes on http://127.0.0.1:5555\n600\nhealthy\n");
    lab.step(
        "keys, as they are told",
        "msb server keygen --expire 1s | sed 's/^Token: msb_.*/Token/; s/: [0-9]* (/: N (/'; msb server keygen --namespace other | tail -n 1; msb server keygen --namespace ../x",
    )
    .code(125)
    .out("Token\nToken expires: N (seconds since 1970), in 1 second\nNamespace: *\nNamespace: other\n")
    .err_has("is no name");
    lab.step_with(
        "it runs code and commands, with state, errors, limits, namespaces and keys",
        "key() { msb server keygen \"$@\" | sed -n 's/^Token: //p'; }
         export PYTHONPATH=$PWD/site MSB_API_KEY=$(key) OTHER=$(key --namespace other) EXPIRED=$(key --expire 1s) FORGED=$(MICROSANDBOX_HOME=/tmp/forger key)
         python3 /root/client.py || { code=$?; cat $MICROSANDBOX_HOME/run/.server.log >&2; exit $code; }
         msb ps -q && msb ps -q --namespace other",
        patient,
    )
    .code(0)
    .out("client done\n");
    lab.define("export MSB_API_KEY=$(msb server keygen | sed -n 's/^Token: //p')");
    lab.step("the sandbox with Node again", r#"rpc sandbox.start '{"sandbox":"js"}'"#)
        .code(0)
        .out("\"Sandbox js started successfully\"\n");
    repl::node(lab);
    lab.step(
        "its log is put aside while it serves, when it is long",
        r#"cd $MICROSANDBOX_HOME/run; truncate -s 17M .server.log; rpc sandbox.metrics.get '{"sandbox":"none"}' > /dev/null
           rpc sandbox.metrics.get '{"sandbox":"js"}' > /dev/null; stat -c '%n %a' .server.log*; tail -n 1 .server.log | jq -c '[.call, .sandbox]'"#,
    )
    .code(0)
    .out(".server.log 600\n.server.log.old 600\n[\"sandbox.metrics.get\",\"js\"]\n");
    lab.step("it has ended when that is told", "msb server stop && ! msb server health; msb server stop")
        .code(125)
        .out("")
        .err_has("No server runs for this home");
}

/// An image of Docker's takes long under emulation.
pub(crate) fn patient(command: HostCommand<'_>) -> HostCommand<'_> {
    command.timeout(Duration::from_secs(280))
}
