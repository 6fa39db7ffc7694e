//! What callers send who are wrong, slow, many, or hostile: a clear answer each, and the server lives.

use std::{
    io::{Read, Write},
    thread,
    time::{Duration, Instant},
};

use msb::server::{Limits, auth::Access};
use serde_json::json;

use super::client::{Server, read};

#[test]
fn bodies_that_are_wrong() {
    let server = Server::dev();
    let typed = "Content-Type: application/json\r\n";
    let post = |headers: &str, body: &[u8]| server.ask("POST", "/api/v1/rpc", headers, body).status;
    assert_eq!(post("", b"{}"), 415);
    assert_eq!(post("Content-Type: text/plain\r\n", b"{}"), 415);
    for malformed in [&b""[..], b"{", b"nonsense", b"{\"a\": \xff}", b"{} {}", b"[[[", &b"[".repeat(100_000)]
    {
        assert_eq!(
            post(typed, malformed),
            400,
            "{}",
            String::from_utf8_lossy(&malformed[..malformed.len().min(20)])
        );
    }
    let deep = [b"[".repeat(1_000_000), b"]".repeat(1_000_000)].concat();
    assert_eq!(post(typed, &deep), 400);
    for shape in
        ["7", "null", "\"x\"", "[]", r#"{"jsonrpc":"2.0","id":1}"#, r#"{"jsonrpc":"2.0","method":7}"#]
    {
        assert_eq!(post(typed, shape.as_bytes()), 422, "{shape}");
    }
    assert_eq!(post("Content-Type: application/json; charset=utf-8\r\n", b"7"), 422);
    // 100 MB that are said, and that are not.
    assert_eq!(post(typed, &vec![b' '; 100_000_000]), 413);
    let mut stream = server.connect();
    let head = format!("POST /api/v1/rpc HTTP/1.1\r\nHost: x\r\n{typed}Transfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [b"100000\r\n", &vec![b' '; 1 << 20][..], b"\r\n"].concat();
    for _ in 0..100 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    assert_eq!(read(&mut stream).status, 413);
    for path in
        ["/api/v1/rpc/..", "/%2e%2e/etc/passwd", "/../../etc/passwd", "/v1/sandboxes/by-name/..%2f..", "//"]
    {
        assert!(matches!(server.ask("GET", path, "", b"").status, 400 | 404 | 405), "{path}");
    }
    assert_eq!(server.ask("GET", "/api/v1/rpc", "", b"").status, 405);
    for name in ["../../etc", "a/b", ".", "a\0b", "", "a b", &"x".repeat(64), "ä"] {
        for method in [
            "sandbox.start",
            "sandbox.stop",
            "sandbox.repl.run",
            "sandbox.command.run",
            "sandbox.metrics.get",
        ] {
            for params in [json!({ "sandbox": name }), json!({ "sandbox": "a", "namespace": name })] {
                assert_eq!(server.rpc(method, params.clone()).status, 400, "{method} {params}");
            }
        }
    }
    assert!(server.engine.sandboxes.lock().unwrap().is_empty());
    assert_eq!(server.ask("GET", "/api/v1/health", "", b"").status, 200);
}

#[test]
fn clients_that_are_slow() {
    let limits = Limits { slow: Duration::from_millis(500), connections: 8, ..Limits::default() };
    let server = Server::begin(Access::Everybody, limits);
    // More of them than there is room for, and none ever ends its head.
    let mut idle: Vec<_> = (0..16).map(|_| server.connect()).collect();
    for stream in &mut idle {
        stream.write_all(b"GET /api/v1/health HTTP/1.1\r\nHost:").unwrap();
    }
    let began = Instant::now();
    assert_eq!(server.ask("GET", "/api/v1/health", "", b"").status, 200);
    assert!(began.elapsed() < Duration::from_secs(20));
    for stream in &mut idle {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    // And one that never ends its body.
    let mut stream = server.connect();
    let head = "POST /api/v1/rpc HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read(&mut stream).status, 408);
}

#[test]
fn two_hundred_at_once_and_more_than_there_may_be() {
    let server = Server::dev();
    server.start("one");
    thread::scope(|scope| {
        let threads: Vec<_> = (0..200)
            .map(|number: u32| {
                let server = &server;
                scope.spawn(move || {
                    let params = json!({ "sandbox": "one", "command": "echo", "args": [number.to_string()] });
                    let result = server.result("sandbox.command.run", params);
                    assert_eq!(result["output"][0]["text"], number.to_string());
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });

    let server = Server::begin(Access::Everybody, Limits { requests: 2, sandboxes: 3, ..Limits::default() });
    server.start("one");
    let answers: Vec<u16> = thread::scope(|scope| {
        let threads: Vec<_> = (0..20)
            .map(|_| {
                let server = &server;
                let params = json!({ "sandbox": "one", "command": "sleep", "args": ["1"] });
                scope.spawn(move || server.rpc("sandbox.command.run", params).status)
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(answers.contains(&200) && answers.contains(&503), "{answers:?}");
    server.start("two");
    server.start("three");
    let start = |name: &str| {
        server.rpc("sandbox.start", json!({ "sandbox": name, "config": { "image": "alpine" } })).json()
    };
    let refused = start("four");
    assert!(refused["error"]["message"].as_str().unwrap().contains("stop one first"), "{refused}");
    assert_eq!(start("two")["result"], "Sandbox two started successfully");
    server.result("sandbox.stop", json!({ "sandbox": "one" }));
    assert_eq!(start("four")["result"], "Sandbox four started successfully");
}

#[test]
fn a_start_that_takes_long_is_told_and_goes_on() {
    let limits = Limits { start: Duration::from_millis(200), ..Limits::default() };
    let server = Server::begin(Access::Everybody, limits);
    let told = server.result("sandbox.start", json!({ "sandbox": "s", "config": { "image": "slow" } }));
    assert!(told.as_str().unwrap().contains("timed out waiting"), "{told}");
    let began = Instant::now();
    while server.engine.sandboxes.lock().unwrap().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_end_lets_what_runs_finish_and_stops_what_is_asked() {
    let mut server = Server::dev();
    server.start("one");
    let (address, engine) = (server.address, std::sync::Arc::clone(&server.engine));
    let mut stream = server.connect();
    let body = json!({ "jsonrpc": "2.0", "method": "sandbox.command.run",
        "params": { "sandbox": "one", "command": "sh", "args": ["-c", "sleep 1; echo done"] } })
    .to_string();
    let head = "POST /api/v1/rpc HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(300));
    server.end();
    let answer = read(&mut stream);
    assert_eq!(answer.json()["result"]["output"][0]["text"], "done");
    std::net::TcpStream::connect(address).unwrap_err();
    assert!(engine.sandboxes.lock().unwrap().values().all(|info| !info.running()));
}
