//! Code in an interpreter that stays, of this machine.

use msb::server::{Limits, auth::Access};
use serde_json::{Value, json};

use super::{
    client::{Server, stream},
    tools::{NODE, has},
};

/// With time enough, also for an interpreter that has to begin on a busy machine.
fn run(server: &Server, language: &str, code: &str) -> (String, String, String) {
    within(server, language, code, 60)
}

fn within(server: &Server, language: &str, code: &str, seconds: u32) -> (String, String, String) {
    told(&server.result(
        "sandbox.repl.run",
        json!({ "sandbox": "one", "language": language, "code": code, "timeout": seconds }),
    ))
}

/// What code is told that takes longer than two seconds.
fn late(server: &Server, language: &str, code: &str) -> String {
    let (status, _, err) = within(server, language, code, 2);
    assert_eq!(status, "error", "{code}");
    err
}

fn told(result: &Value) -> (String, String, String) {
    (result["status"].as_str().unwrap().into(), stream(result, "stdout"), stream(result, "stderr"))
}

fn good(server: &Server, language: &str, code: &str) -> String {
    let (status, out, err) = run(server, language, code);
    assert_eq!((status.as_str(), err.as_str()), ("success", ""), "{code}");
    out
}

fn bad(server: &Server, language: &str, code: &str) -> String {
    let (status, _, err) = run(server, language, code);
    assert_eq!(status, "error", "{code}");
    err
}

#[test]
fn python_keeps_what_it_knows() {
    let server = Server::dev();
    server.start("one");
    let good = |code| good(&server, "python", code);
    let bad = |code| bad(&server, "Python", code);
    // What the original could not: a blank line in a function, and code after a block.
    assert_eq!(good("def f():\n    x = 41\n\n    return x\nf() + 1"), "42");
    assert_eq!(good("f()"), "41");
    assert_eq!(good("x = 'no echo'"), "");
    assert_eq!(good("print('a', end=''); print('b\\n\\nc')\n'é'"), "ab\n\nc\n'é'");
    assert_eq!(good("import os; os.system('echo of a child; cat') and None"), "of a child\n0");
    let error = bad("def g():\n    1/0\ng()");
    assert!(error.contains("    1/0\n") && error.ends_with("ZeroDivisionError: division by zero"), "{error}");
    assert!(!error.contains("in main") && error.contains("File \"<input "), "{error}");
    assert!(bad("x = '''never ended").contains("SyntaxError"));
    assert!(bad("input()").contains("EOFError"));
    assert_eq!(good("import pickle\nclass A: pass\ntype(pickle.loads(pickle.dumps(A()))).__name__"), "'A'");
    assert_eq!(good("import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\nNone"), "");
    assert_eq!(good("import subprocess, sys; sys.stdout.write('last\\n') and None"), "last");
    let (status, _, err) = run(&server, "python", "import sys; print('warned', file=sys.stderr)");
    assert_eq!((status.as_str(), err.as_str()), ("success", "warned"));
    // Interrupted, and still there.
    let late = |code| late(&server, "python", code);
    let error = late("while True: pass");
    assert!(
        error.ends_with("Error: Execution timed out after 2 seconds") && error.contains("KeyboardInterrupt"),
        "{error}"
    );
    assert!(late("import time; time.sleep(60)").contains("timed out"));
    assert_eq!(good("f()"), "41");
    // One that does not heed it.
    let error =
        late("while True:\n    try:\n        for i in iter(int, 1): pass\n    except BaseException: pass");
    assert!(error.contains("its state is lost"), "{error}");
    assert!(bad("f()").contains("NameError"));
    let error = bad("import os, signal; os.kill(os.getpid(), signal.SIGKILL)");
    assert!(error.contains("Signal(9)") && error.contains("its state is lost"), "{error}");
    assert_eq!(run(&server, "python", "exit()"), ("success".into(), String::new(), String::new()));
    assert!(bad("exit(3)").contains("with 3"));
    assert!(bad("exit('why')").contains("why"));
    // Another sandbox's is another.
    good("y = 1");
    server.start("two");
    let params = json!({ "sandbox": "two", "language": "python", "code": "y" });
    assert_eq!(server.result("sandbox.repl.run", params)["status"], "error");
    // And one that is stopped forgets.
    server.result("sandbox.stop", json!({ "sandbox": "one" }));
    server.start("one");
    assert!(bad("y").contains("NameError"));
}

#[test]
fn node_keeps_what_it_knows() {
    if !has("node_keeps_what_it_knows", NODE) {
        return;
    }
    let server = Server::dev();
    server.start("one");
    let good = |code| good(&server, "javascript", code);
    let bad = |code| bad(&server, "node", code);
    assert_eq!(good("const x = 1;\nfunction f() {\n\n  return x + 1;\n}\nf()"), "2");
    assert_eq!(good("const x = 41; f()"), "42");
    assert_eq!(good("let s = { a: [1, 2] }"), "");
    assert_eq!(good("s"), "{ a: [ 1, 2 ] }");
    assert_eq!(good("await Promise.resolve(7)"), "7");
    assert_eq!(good("console.log('a'); 'é'"), "a\n'é'");
    assert_eq!(
        good("require('child_process').execSync('echo of a child', { stdio: 'inherit' }); undefined"),
        "of a child"
    );
    let error = bad("function g() { null.x }\ng()");
    assert!(
        error.starts_with("TypeError:") && error.contains("at g (") && !error.contains("eval"),
        "{error}"
    );
    let error = bad("1;\n  foo bar");
    assert!(error.starts_with("SyntaxError:") && error.ends_with("at <anonymous>:2:7"), "{error}");
    assert_eq!(bad("throw 5"), "Uncaught 5");
    let error = bad("throw Object.assign(new Error('why'), { code: 'E' })");
    assert_eq!(error, "Error: why\n    at <anonymous>:1:21 {\n  code: 'E'\n}");
    assert_eq!(good("new Error('value')"), "Error: value\n    at <anonymous>:1:1");
    // Nobody waits for it, and it is told by its own run.
    assert!(bad("Promise.reject(new Error('loose')); 1").starts_with("Error: loose\n"));
    assert_eq!(good("const { basename } = await import('node:path'); basename('/a/b')"), "'b'");
    assert_eq!(
        good("/['`\"]/.test(\"'\") + 'import(1)' + `import (2)` + /import(3)/.source // import(4)"),
        "'trueimport(1)import (2)import(3)'"
    );
    assert_eq!(
        good("process.stdout.write('part, '); process.stdout.end('end\\n'); console.log('more')"),
        "part, end\nmore"
    );
    let late = |code| late(&server, "javascript", code);
    for endless in [
        "while (true) {}",
        "await new Promise(() => {})",
        "await null; while (true) {}",
        "setTimeout(() => { while (true) {} }, 50); await new Promise(() => {})",
        "(async () => { for (;;) await null })(); undefined",
        "process.nextTick(function next() { process.nextTick(next) }); undefined",
    ] {
        assert_eq!(late(endless), "Error: Execution timed out after 2 seconds", "{endless}");
        assert_eq!(good("f()"), "42", "{endless}");
    }
    // In the midst of a write; and what comes to nothing must not be found by the collector of garbage.
    let (_, out, err) = within(&server, "node", "while (true) console.log('x'.repeat(1000))", 2);
    assert!(out.starts_with("xxx") && err.ends_with("Error: Execution timed out after 2 seconds"), "{err}");
    assert_eq!(good("for (let i = 0; i < 3e6; i += 1) ({ a: [i, new Array(10)] }); console.log(f())"), "42");
    // One that does not heed it: its process waits for another one.
    let error = late("require('child_process').execSync('sleep 60')");
    assert!(error.contains("its state is lost"), "{error}");
    assert!(bad("f()").contains("ReferenceError"));
    assert!(bad("process.exit(3)").contains("with 3"));
    assert_eq!(good("1 + 1"), "2");
}

#[test]
fn what_code_writes_has_a_bound_and_a_caller_that_leaves_ends_it() {
    let server = Server::begin(Access::Everybody, Limits { output: 10_000, ..Limits::default() });
    server.start("one");
    let params =
        json!({ "sandbox": "one", "language": "python", "code": "for i in range(100000): print('x' * 50)" });
    let result = server.result("sandbox.repl.run", params);
    assert_eq!((&result["status"], &result["truncated"]), (&json!("success"), &json!(true)));
    assert!(result["output"].to_string().len() < 30_000);
    let params = json!({ "sandbox": "one", "command": "sh", "args": ["-c", "yes | head -c 1000000"] });
    let result = server.result("sandbox.command.run", params);
    assert_eq!((&result["exit_code"], &result["truncated"]), (&json!(0), &json!(true)));

    let body = json!({ "jsonrpc": "2.0", "method": "sandbox.repl.run",
        "params": { "sandbox": "one", "language": "python", "code": "while True: pass" } })
    .to_string();
    let mut stream = server.connect();
    let head = "POST /api/v1/rpc HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    drop(stream);
    // The same interpreter is free again long before the limit of an hour.
    let params = json!({ "sandbox": "one", "language": "python", "code": "i", "timeout": 20 });
    assert_eq!(stream_of(&server.result("sandbox.repl.run", params)), "99999");
    for (language, params) in [("cobol", json!("1")), ("python", json!(1))] {
        let answer =
            server.rpc("sandbox.repl.run", json!({ "sandbox": "one", "language": language, "code": params }));
        assert_eq!(answer.status, 400);
    }
    let params = json!({ "sandbox": "one", "language": "python", "code": "1", "timeout": -1 });
    assert_eq!(server.rpc("sandbox.repl.run", params).status, 400);
}

fn stream_of(result: &Value) -> String {
    stream(result, "stdout")
}
