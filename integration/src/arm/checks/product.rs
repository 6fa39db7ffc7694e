//! The checks of what is built upon the runtime: containerd's shim, and sandboxes that need no Docker. After those of the
//! runtime itself.

use super::Check;
use super::table::holds;

/// All of them. A later one may use what an earlier one has left.
pub(super) const CHECKS: &[Check] = &[
    holds(
        "containerd knows our shim, which runs a container of its own",
        "containerd --root /root/containerd --state /root/containerd.run --address $CONTAINERD > /root/containerd.log 2>&1 < /dev/null &
         echo $! > /root/containerd.pid; eventually 'ctr version > /dev/null 2>&1' || tail -n 5 /root/containerd.log
         cp -a /opt/busybox/rootfs /root/tree
         ctr run --rm --runtime io.containerd.msb.v2 --env PATH=/bin --rootfs /root/tree one sh -c 'uname -m; exit 4'; echo code $?",
        "aarch64\ncode 4\n",
    ),
    holds(
        "it serves execs and signals, and its end is the shim's",
        "ctr run --detach --runtime io.containerd.msb.v2 --env PATH=/bin --rootfs /root/tree two sleep 1000 < /dev/null
         echo in | ctr task exec --exec-id x two sh -c 'cat; echo $((6 * 7))'; ctr task ls | awk '$1 == \"two\" { print $3 }'
         ctr task kill --signal KILL two; eventually 'ctr task ls | grep -q STOPPED'; ctr task rm two 2> /dev/null; ctr container rm two
         eventually '! pgrep -x containerd-shim > /dev/null' && echo gone; kill $(cat /root/containerd.pid)
         eventually '! pgrep -x containerd > /dev/null'; rm -r /run/containerd; rmdir /sys/fs/cgroup/default",
        "in\n42\nRUNNING\ngone\n",
    ),
    Check {
        what: "the product's doctor finds nothing wrong: its home, and passt",
        script: "mkdir -p $MICROSANDBOX_HOME; msb doctor >&2",
        code: 0,
        out: "",
    },
    holds(
        "an image of its own, and a sandbox of it: output and exit code",
        "busybox tar -C /opt/busybox/rootfs -c -f - . | msb import - busybox > /dev/null
         msb run --rm --network none busybox sh -c 'uname -m; exit 5'; echo code $?",
        "aarch64\ncode 5\n",
    ),
    holds(
        "a sandbox reaches what is public, and nothing that is private",
        "ip netns add out; ip link add out0 type veth peer name in netns out
         for net in 203.0.113 10.9.0; do ip addr add $net.1/24 dev out0; ip -n out addr add $net.5/24 dev in; done
         ip link set out0 up; ip -n out link set in up; ip -n out link set lo up; ip route add default via 203.0.113.5
         mkdir w; echo page > w/index.html; ip netns exec out busybox httpd -p 80 -h /root/w
         busybox wget -qO- http://203.0.113.5/; busybox wget -qO- http://10.9.0.5/
         msb run --rm --network public busybox sh -c 'wget -T 20 -qO- http://203.0.113.5/; wget -T 3 -qO- http://10.9.0.5/ 2> /dev/null'; echo code $?
         kill $(ip netns pids out); ip link del out0; ip netns del out; umount /run/netns; rmdir /run/netns",
        "page\npage\npage\ncode 1\n",
    ),
    holds(
        "one in the background has a port, a log and execs; what it wrote is there again",
        "msb run -d --name web --network none -p 8080:80 busybox sh -c 'echo up; echo kept > /own; mkdir /www; echo served > /www/index.html; httpd -f -p 127.0.0.1:80 -h /www'
         eventually 'busybox wget -qO- http://127.0.0.1:8080/ 2> /dev/null'; msb exec web cat /own; msb logs web
         msb stop -t 1 web; msb start web; msb exec web cat /own; msb rm -f web",
        "web\nserved\nkept\nup\nweb\nweb\nkept\nweb\n",
    ),
    holds(
        "the server starts a sandbox and runs a command in it",
        r#"msb server start --dev > /root/server.log 2>&1 < /dev/null &
         eventually 'msb server health > /dev/null 2>&1'
         rpc() { busybox wget -qO- --header 'Content-Type: application/json' --post-data '{"jsonrpc":"2.0","id":1,"method":"'$1'","params":'"$2"'}' http://127.0.0.1:5555/api/v1/rpc; }
         rpc sandbox.start '{"sandbox":"one","config":{"image":"busybox","memory":128}}' | jq -r .result
         rpc sandbox.command.run '{"sandbox":"one","command":"uname","args":["-m"]}' | jq -c '[.result.exit_code, .result.output[0].text]'
         rpc sandbox.stop '{"sandbox":"one"}' | jq -r .result; msb server stop; msb rm one; eventually '! pgrep -x msb > /dev/null'; rmdir -p /run/user/0/msb 2> /dev/null; ! ls -d /run/user 2> /dev/null"#,
        "Sandbox one started successfully\n[0,\"aarch64\"]\nSandbox one stopped successfully\none\n",
    ),
];
