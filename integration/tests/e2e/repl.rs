//! Code that a server runs in an interpreter that stays, inside a microVM. What Python does so, its client asks for.

use integration::check::Lab;

/// `js CODE [SECONDS]`: how it went, and each line of what it wrote, behind the name of its stream.
const FUNCTIONS: &str = r#"js() {
    rpc sandbox.repl.run "$(jq -n --arg code "$1" --argjson timeout ${2:-60} '{sandbox: "js", language: "javascript", $code, $timeout}')" |
        jq -r '.status + (if .truncated then " truncated" else "" end), (.output | sort_by(.stream == "stderr")[] | .stream[3:] + ": " + .text)'
}"#;

/// JavaScript, in the sandbox `js`, of whose server `MSB_API_KEY` has a key.
pub fn node(lab: &mut Lab) {
    lab.define(FUNCTIONS);
    lab.step(
        "what one run of JavaScript leaves is there for the next",
        r"js 'const n = 6; let seen = [1]; class A { twice(x) { return 2 * x } }
function f(x) {

  return x * n;
}'
js 'f(7)'; js 'const n = 7; seen.push(new A().twice(n)); console.log(f(7)); seen'",
    )
    .code(0)
    .out("success\nsuccess\nout: 42\nsuccess\nout: 49\nout: [ 1, 14 ]\n");
    lab.step(
        "it waits, in no function, and has what its image has",
        r#"js 'const { readFileSync } = await import("node:fs"); await new Promise(r => setTimeout(r, 50)); readFileSync("/proc/version", "utf8").includes("-msb")'"#,
    )
    .code(0)
    .out("success\nout: true\n");
    lab.step(
        "what it throws, with its trace; what can't be compiled; a promise that fails and that nobody waits for",
        r#"js 'function far() { null.x }
far()'; js 'throw 5'; js 'let = 1 1'; js 'await Promise.reject(new RangeError("why"))'; js 'Promise.reject(new Error("loose")); 1'; js 'f(1)'"#,
    )
    .code(0)
    .out(
        "error\nerr: TypeError: Cannot read properties of null (reading 'x')\nerr:     at far (<anonymous>:1:23)\nerr:     at <anonymous>:2:1\n\
         error\nerr: Uncaught 5\n\
         error\nerr: SyntaxError: Unexpected number\nerr:     at <anonymous>:1:9\n\
         error\nerr: RangeError: why\nerr:     at <anonymous>:1:22\n\
         error\nout: 1\nerr: Error: loose\nerr:     at <anonymous>:1:16\n\
         success\nout: 7\n",
    );
    lab.step(
        "lines of both streams, ended or not, and those that come when its run is over",
        r#"js 'process.stdout.write("open, "); console.error("to\nthem"); console.log("a\n\nb"); process.stdout.write("ünd"); setTimeout(() => console.log("later"), 20); undefined'
           sleep 1; js '1'; js 'require("child_process").execSync("echo of a child", { stdio: "inherit" }); undefined'"#,
    )
    .code(0)
    .out("success\nout: open, a\nout: \nout: b\nout: ünd\nerr: to\nerr: them\nsuccess\nout: later\nout: 1\nsuccess\nout: of a child\n");
    lab.step(
        "all that it writes, up to a bound",
        r#"js 'for (let i = 0; i < 1000; i += 1) console.log(i); console.log("x".repeat(1 << 20)); undefined' | md5sum
           { echo success; seq -f 'out: %.0f' 0 999; printf 'out: '; head -c 1048576 /dev/zero | tr '\0' x; echo; } | md5sum
           js 'const long = "y".repeat(1 << 16); for (let i = 0; i < 70; i += 1) console.log(long)' | cut -c -20 | sed -n '1p;2p'"#,
    )
    .code(0)
    .out_is("the same twice, and less", |out| {
        let lines: Vec<&str> = out.lines().collect();
        lines.len() == 4 && lines[0] == lines[1] && lines[2..] == ["success truncated", "out: yyyyyyyyyyyyyyy"]
    });
    lab.step(
        "what never ends is ended in time, wherever it is, and what was known is known",
        r#"for code in 'for (;;) {}' 'await new Promise(() => {})' 'await null; for (;;) {}' '(async () => { for (;;) await null })(); undefined' 'for (;;) console.log(1)'; do
               js "$code" 2 | grep -v 'out: 1$'; js 'f(1)'
           done"#,
    )
    .code(0)
    .out(&"error\nerr: Error: Execution timed out after 2 seconds\nsuccess\nout: 7\n".repeat(5));
    lab.step("it ends its interpreter, and a new one knows nothing", "js 'process.exit(3)'; js 'typeof f'")
        .code(0)
        .out("error\nerr: The code ended its interpreter with 3: its state is lost\nsuccess\nout: 'undefined'\n");
}
