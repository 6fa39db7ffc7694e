//! The product's clients are killed at random moments: their sandbox goes on and answers, what they began in it ends with them, what
//! they had half done is whole with the next one, and nothing is left.
//!
//! With `MSB_SOAK` so many are killed; `MSB_SEED` says which, and when.

use std::time::Duration;

use integration::check::Lab;

use super::{
    product::FUNCTIONS,
    upset::{random, rounds},
};

crate::conformance!(both: [], ours: [killed]);

/// Each is killed so many milliseconds after its beginning, one that copies in a third of that, and `half` when something has come
/// and the sandbox stands still for it.
const CLIENTS: [&str; 11] =
    ["attach", "look", "logs", "exec", "terminal", "run", "out", "half", "into", "out-of-rest", "into-rest"];

/// A file of a layer is opened when it is first read, and so does not count among those that serve the sandbox have open.
const SHOTS: &str = r#"
files() { find $MICROSANDBOX_HOME | sort; }
shot() {
    local after=$1; shift; "$@" < /root/quiet > /root/out 2>&1 9>&- & local client=$!
    case $after in half) eventually '[ -e /root/got ]' 0.01 ;; *) sleep $(awk "BEGIN { print $after / 1000 }") ;; esac
    case $1 in script) pkill -KILL -f '^msb exec -it' ;; *) kill -KILL $client 2> /dev/null ;; esac
    wait $client; killed=$((killed + ($? == 137)))
}
goes() { local was="$(msb logs one | tail -n 1)"; eventually '[ "$(msb logs one | tail -n 1)" != "$was" ]'; }
answers() { [ "$(timeout -s KILL 60 msb exec one echo fine)" = fine ]; }
copied() { msb cp $1 $2 && msb cp $2 /root/got && cmp /root/big /root/got; }
got() { msb cp $1 /root/got && cmp /root/big /root/got; }
round() {
    local in_third=$(($3 / 3))
    case $2 in
        attach) shot $3 msb attach one ;;
        look) shot $3 msb attach --no-stdin one ;;
        logs) shot $3 msb logs -f one ;;
        exec) shot $3 msb exec -i one sh -c 'cat; sleep 4321' ;;
        terminal) shot $3 script -qec 'msb exec -it one sleep 4321' /dev/null ;;
        run) shot $3 msb run --name fore --network none busybox sleep 4321 ;;
        out) shot $in_third msb cp one:/big /root/got ;;
        half) rm -f /root/got; shot half msb cp one:/big /root/got ;;
        into) shot $in_third msb cp /root/big one:/in ;;
        out-of-rest) shot $in_third msb cp rests:/big /root/got ;;
        into-rest) shot $in_third msb cp /root/big rests:/in ;;
    esac
    goes || echo "round $1, $2: the sandbox stands still"; answers || echo "round $1, $2: it does not answer"
    eventually '! msb exec one ps | grep "sleep 4321\|tar -x"' || echo "round $1, $2: it is still there"
    case $2 in
        run) msb rm -f fore > /root/out 2>&1 || grep -q 'There is no sandbox' /root/out || cat /root/out; msb run --rm --name fore --network none busybox true ;;
        out | half) got one:/big ;;
        into) copied /root/big one:/in ;;
        out-of-rest) got rests:/big ;;
        into-rest) copied /root/big rests:/in ;;
    esac || echo "round $1, $2: the next one fails"
}
has() { for process in $keeper $own $(pgrep -P $own); do ls -l /proc/$process/fd | grep -vc /images/; ls /proc/$process/task | wc -l; done | tr '\n' ' '; }
"#;

fn killed(lab: &mut Lab) {
    lab.bring_msb();
    lab.define(FUNCTIONS);
    lab.define(SHOTS);
    lab.must(
        "a home with an image, and the first of its kind",
        "loaded; msb run --rm --network none busybox true; files > /root/before",
    );
    let before = lab.snapshot();
    lab.must(
        "a sandbox that tells numbers, one at rest, and a file in both",
        r#"msb run -d --name one --network none busybox sh -c 'n=0; while :; do n=$((n+1)); echo number $n; sleep 0.1; done'
           msb create --name rests --network none busybox sleep 1000; head -c 8000000 /dev/urandom > /root/big
           copied /root/big one:/big && copied /root/big rests:/big"#,
    );
    let rounds = rounds(&mut random(), &CLIENTS);
    let count = rounds.lines().count() as u64;
    lab.step_with(
        "clients are killed",
        &format!(
            r#"keeper=$(pgrep -f '^msb keep default one'); own=$(pgrep -P $keeper); killed=0; mkfifo /root/quiet; exec 9<> /root/quiet; had=$(has)
               {rounds}
               eventually '[ "$(has)" = "$had" ]' || echo "$(has)instead of $had"; [ $killed -gt {least} ] || echo "only $killed were killed""#,
            least = count / 2
        ),
        |command| command.timeout(Duration::from_secs(200 + 20 * count)),
    )
    .code(0)
    .out("");
    lab.step(
        "who looks finds the sandbox as it was; then all of it goes",
        "timeout -s KILL 60 msb attach --no-stdin one 2> /dev/null | sed -n '2{s/ .*//;p;q}'; msb start rests; msb rm -f one rests; settled; files | diff - /root/before; msb ps -aq",
    )
    .code(0)
    .out("number\nrests\none\nrests\n0\n");
    lab.nothing_left("after all", &before);
}
