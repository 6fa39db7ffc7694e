//! What a user of Docker types, with `msb` in its place: flags of a run and what becomes of them inside, and the verbs about
//! sandboxes in the background. The home has the image `busybox`.

use std::time::Duration;

use integration::check::Lab;

/// A server of names on the host's own loopback, as most hosts have one: all names are that of the web server.
const NAMES: &str = r#"
cat > /root/answers.py <<'PY'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 53))
while True:
    q, who = s.recvfrom(512)
    end = q.index(0, 12) + 5
    a = q[end - 4:end - 2] == b"\0\1"
    head = q[:2] + b"\x81\x80\0\1" + (b"\0\1" if a else b"\0\0") + b"\0\0\0\0"
    s.sendto(head + q[12:end] + (b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4" + bytes([203, 0, 113, 5]) if a else b""), who)
PY
python3 /root/answers.py < /dev/null > /dev/null 2>&1 &
mv /etc/resolv.conf /root/resolv.conf; echo nameserver 127.0.0.1 > /etc/resolv.conf"#;

/// All but what needs an Internet.
pub fn all(lab: &mut Lab) {
    lab.step(
        "flags are so inside",
        r#"printf 'A=1\nB=two words\n' > /tmp/vars
        msb run --rm --network none --env-file /tmp/vars --hostname box --tmpfs /scratch:size=1m --shm-size 2m --read-only --ulimit nofile=77 --cap-drop all --init busybox sh -c '
            echo $A $B; hostname; for d in /scratch /dev/shm; do df -m $d | awk "NR == 2 { print \$2 }"; done; touch /x 2> /dev/null || echo read-only
            touch /scratch/x && ulimit -n; grep CapBnd /proc/self/status; [ $$ = 1 ] || echo another; (sleep 0.1 &); sleep 1; ps | grep -c "\[sleep\]"'
        msb run --rm --network none -u nobody --entrypoint id busybox -u; msb run --rm --network none --cap-add net_admin busybox ip link set lo down
        echo $?; msb run --rm --network none --mount type=tmpfs,target=/t --mount type=bind,source=/etc,target=/host,ro busybox sh -c 'touch /t/x && touch /host/x 2> /dev/null || cat /host/hostname' | cmp - /etc/hostname"#,
    )
    .code(0)
    .out("1 two words\nbox\n1\n2\nread-only\n77\nCapBnd:\t0000000000000000\nanother\n0\n65534\n0\n");
    lab.step(
        "a small disk is full soon",
        "msb run --rm --network none --storage-opt size=64m busybox dd if=/dev/zero of=/big bs=1M count=100",
    )
    .code(1)
    .err_has("No space left");
    lab.step(
        "a program of the default image, with dashes before it or without",
        "msb run --rm --network none whoami; msb run --rm --network none -- echo dashed; msb run --rm 'echo a' b; echo $?",
    )
    .code(0)
    .out("root\ndashed\n125\n");
    in_the_background(lab);
    lab.step(
        "what it wrote, from some time on, with it, and until it ends",
        r#"msb run -d --name log --network none busybox sh -c 'echo 1; echo 2; echo err >&2; sleep 2; echo 4' > /dev/null; timeout 60 msb logs -f log 2> /dev/null
        msb logs -n 1 -t log | grep -c '^20..-..-..T..:..:..\..*Z 4$'; msb logs --since 2099-01-01T00:00:00Z log; msb logs --since 10m log 2>&1 | wc -l
        msb logs --format json log | jq -c '[.stream, .log]' | grep err; msb rm log"#,
    )
    .code(0)
    .out("1\n2\n4\n1\n4\n[\"stderr\",\"err\"]\nlog\n");
    lab.step_with(
        "one that fails is started again, twice; one that is to run always until it is stopped",
        r#"msb run -d --name twice --network none --restart on-failure:2 busybox sh -c 'echo run; exit 3' > /dev/null; msb run -d --name ever --network none --restart always busybox sh -c 'echo run; sleep 0.5' > /dev/null
        eventually '[ $(msb logs twice | wc -l) = 3 ] && [ $(msb logs ever | wc -l) -ge 3 ]' 0.5; msb stop -t 0 ever; eventually '[ -z "$(msb ps -q)" ]' 0.3; sleep 3
        msb ps -q; msb logs twice | wc -l; msb ps -a --filter exited=3 --format json | jq -r '.[].name'; msb rm twice ever"#,
        |command| command.timeout(Duration::from_secs(240)),
    )
    .code(0)
    .out("ever\n3\ntwice\ntwice\never\n");
    lab.step(
        "ports that the image names",
        r#"c=$(docker create busybox true); docker commit -c 'EXPOSE 80' $c exposing > /dev/null; docker save exposing | msb load > /dev/null; docker rm $c > /dev/null; docker rmi exposing > /dev/null
        msb run -d --name p --network none -P exposing sh -c 'echo served > /index.html; httpd -f -p 80 -h /' > /dev/null; eventually 'busybox wget -qO- http://$(msb port p 80)/' 0.3
        msb port p | sed 's/[0-9]*$//'; msb port --format json p | jq -c 'map(.address, .guest, .protocol, .host > 0)'; msb inspect p | jq -c '.[0] | [.name, .state]'; msb rm -f p; msb image rm exposing"#,
    )
    .code(0)
    .out("served\n80/tcp -> 127.0.0.1:\n[\"127.0.0.1\",80,\"tcp\",true]\n[\"p\",\"running\"]\np\nexposing\n");
}

fn in_the_background(lab: &mut Lab) {
    lab.step(
        "who attaches sees it, writes to it, and learns how it ends; so does who waits",
        r#"msb run -di --name cat --network none busybox cat; echo one | msb attach cat > /tmp/attached & a=$!; msb wait cat > /tmp/waited & w=$!
        eventually 'grep -q one /tmp/attached' 0.2; msb top cat | awk '{ print $NF }'; msb kill cat; wait $a; echo $?; wait $w; cat /tmp/attached /tmp/waited
        msb wait --format json cat | jq -c .; msb restart -t 0 cat; echo two | msb attach cat > /tmp/attached & a=$!; eventually 'grep -q two /tmp/attached' 0.2; msb stop -t 0 cat; wait $a; msb rm cat"#,
    )
    .code(0)
    .out("cat\nCOMMAND\ncat\ncat\n137\none\n137\n[{\"exit_code\":137,\"name\":\"cat\"}]\ncat\ncat\ncat\n");
    lab.step(
        "a terminal in the background is entered, left and entered again",
        r#"msb run -dit --name tty --network none busybox sh
        (sleep 4; printf 'echo at-$((1+1))\n'; eventually 'grep -q at-2 /tmp/terminal' 0.2; printf '\020\021'; sleep 2) | script -qec 'msb attach tty' /dev/null > /tmp/terminal; grep -o 'at-2' /tmp/terminal
        msb ps -q; (sleep 4; printf 'exit 6\n'; sleep 2) | script -qec 'msb attach tty' /dev/null > /dev/null; echo $?; msb rm tty"#,
    )
    .code(0)
    .out("tty\nat-2\ntty\n6\ntty\n");
    lab.step(
        "commands of others, and files",
        r#"msb run -d --name box --network none busybox sh -c 'timeout 10 sh -c "while :; do :; done"; sleep 1000' > /dev/null
        msb exec -di --env-file /tmp/vars box sh -c 'echo $B > /left'; eventually 'msb exec box cat /left' 0.3
        [ "$(msb exec -u nobody box sh -c 'echo $HOME')" = "$(msb exec box awk -F: '$1 == "nobody" { print $6 }' /etc/passwd)" ] && echo own; msb exec box sh -c 'echo $HOME'
        mkdir -p /tmp/of/sub /tmp/content; echo file > /tmp/of/sub/file; msb cp /tmp/of/. box:/tmp; msb exec box cat /tmp/sub/file; msb cp box:/tmp/sub/. /tmp/content; cat /tmp/content/file"#,
    )
    .code(0)
    .out("two words\nown\n/root\nfile\nfile\n");
    lab.step(
        "what it uses now is not what it has used all its life",
        "eventually '[ $(msb top --format json box | jq length) = 1 ]' 0.3; msb stats --format json box | jq '.[0].cpu_percent < 25'; msb stats --no-stream box | awk '{ print $1 }'; msb rm -f box",
    )
    .code(0)
    .out("true\nNAME\nbox\nbox\n");
}

/// Names, where the web server of an Internet is.
pub fn names(lab: &mut Lab) {
    lab.must("a server of names, which the host asks", NAMES);
    for network in ["public", "open"] {
        lab.step(
            &format!("names are found as the host finds them, in the network {network}"),
            &format!("msb run --rm --network {network} busybox wget -T 20 -qO- http://far.example.net/"),
        )
        .code(0)
        .out("page\n");
    }
    lab.must(
        "the host's own one",
        "rm /etc/resolv.conf; mv /root/resolv.conf /etc/resolv.conf; pkill -f '^python3 /root/answers'",
    );
}
