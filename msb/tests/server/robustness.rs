//! What callers send who are wrong, slow, many, or hostile: a clear answer each, and the server lives.

use std::{
    io::{Read, Write},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use msb::server::{Limits, auth::Access};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
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
    let made = || server.engine.made.load(std::sync::atomic::Ordering::Relaxed);
    let before = made();
    let five = json!({ "name": "five", "image": { "type": "oci", "reference": "alpine" } });
    for refused in [start("four"), server.post("/v1/sandboxes?start=true", &five).json()] {
        assert!(refused["error"]["message"].as_str().unwrap().contains("stop one first"), "{refused}");
    }
    let there = json!({ "name": "one", "image": { "type": "oci", "reference": "alpine" } });
    assert_eq!(server.post("/v1/sandboxes?start=true", &there).status, 409);
    assert_eq!(made(), before, "no image is brought for what is refused");
    assert_eq!(start("two")["result"], "Sandbox two started successfully");
    server.result("sandbox.stop", json!({ "sandbox": "one" }));
    assert_eq!(start("four")["result"], "Sandbox four started successfully");
}

#[test]
fn a_start_that_takes_long_is_told_and_goes_on() {
    let limits = Limits { start: Duration::from_millis(200), ..Limits::default() };
    let server = Server::begin(Access::Everybody, limits);
    // The second one has not even its turn when nobody waits for it any more.
    for image in ["slow", "alpine"] {
        let told = server.result("sandbox.start", json!({ "sandbox": "s", "config": { "image": image } }));
        assert!(told.as_str().unwrap().contains("timed out waiting"), "{told}");
    }
    let began = Instant::now();
    while !server.engine.sandboxes.lock().unwrap().values().any(|info| info.request.image == "alpine") {
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
    begun(&server, 1);
    server.end();
    let answer = read(&mut stream);
    assert_eq!(answer.json()["result"]["output"][0]["text"], "done");
    std::net::TcpStream::connect(address).unwrap_err();
    assert!(engine.sandboxes.lock().unwrap().values().all(|info| !info.running()));
}

#[test]
fn who_starts_what_another_one_starts_waits_for_it() {
    let server = Server::dev();
    let start = || {
        let params = json!({ "sandbox": "s", "config": { "image": "slow" } });
        server.rpc("sandbox.start", params).json()
    };
    let told: Vec<_> = thread::scope(|scope| {
        let starts: Vec<_> = (0..6).map(|_| scope.spawn(start)).collect();
        for _ in 0..500 {
            if !server.engine.changing.lock().unwrap().is_empty() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        // And who stops it meanwhile waits as well.
        let stop = scope.spawn(|| server.rpc("sandbox.stop", json!({ "sandbox": "s" })).json());
        starts.into_iter().chain([stop]).map(|thread| thread.join().unwrap()).collect()
    });
    for answer in told {
        assert!(answer["result"].as_str().is_some_and(|text| text.ends_with("successfully")), "{answer}");
    }
}

/// Waits until so many processes have been begun.
fn begun(server: &Server, count: usize) {
    let began = Instant::now();
    while server.engine.begun.load(Ordering::Relaxed) < count {
        assert!(began.elapsed() < Duration::from_secs(60), "they have not all begun");
        thread::sleep(Duration::from_millis(50));
    }
}

/// As `bash -c 'ulimit -Sn hard'`.
fn many_files() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

#[test]
fn commands_that_run_take_no_thread_of_those_that_others_need() {
    const MANY: usize = 530;
    many_files();
    let limits = Limits { requests: 2 * MANY, connections: 2 * MANY, ..Limits::default() };
    let server = Server::begin(Access::Everybody, limits);
    server.start("one");
    let body = json!({ "jsonrpc": "2.0", "method": "sandbox.command.run",
        "params": { "sandbox": "one", "command": "sleep", "args": ["600"] } })
    .to_string();
    let head = "POST /api/v1/rpc HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let streams: Vec<_> = (0..MANY)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    begun(&server, MANY);
    server.result("sandbox.stop", json!({ "sandbox": "one" }));
    drop(streams);
}

/// Whether there is such a process, on this machine.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn a_command_that_takes_too_long_ends_with_its_children() {
    let server = Server::dev();
    server.start("one");
    let script = "sleep 300 & echo $!; wait";
    let params = json!({ "sandbox": "one", "command": "sh", "args": ["-c", script], "timeout": 1 });
    let answer = server.rpc("sandbox.command.run", params).json();
    let error = &answer["error"];
    assert_eq!(error["message"], "Command timed out after 1 seconds", "{answer}");
    let child = error["data"]["output"][0]["text"].as_str().unwrap();
    // The kernel takes its time to end one.
    let began = Instant::now();
    while lives(child) {
        assert!(began.elapsed() < Duration::from_secs(20), "{child} goes on");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_wait_for_other_code_is_part_of_the_time_that_code_has() {
    let server = Server::dev();
    server.start("one");
    let run = |code: &str, timeout: f64| {
        let params = json!({ "sandbox": "one", "language": "python", "code": code, "timeout": timeout });
        server.result("sandbox.repl.run", params)
    };
    run("import time", 60.0);
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    thread::scope(|scope| {
        let long = scope.spawn(|| run(&format!("open({runs:?}, 'w').close(); time.sleep(5); 'long'"), 60.0));
        while !runs.exists() {
            assert!(!long.is_finished(), "it has not run");
            thread::sleep(Duration::from_millis(20));
        }
        let short = run("'short'", 0.5);
        assert!(!long.is_finished(), "it has waited for all of the other's time");
        assert!(short["status"] == "error" && short.to_string().contains("busy with other code"), "{short}");
        assert!(long.join().unwrap().to_string().contains("long"));
    });
}

#[test]
fn a_client_that_takes_nothing_does_not_stay() {
    let limits =
        Limits { slow: Duration::from_secs(1), output: 64 << 20, connections: 1, ..Limits::default() };
    let server = Server::begin(Access::Everybody, limits);
    server.start("one");
    let body = json!({ "jsonrpc": "2.0", "method": "sandbox.command.run",
        "params": { "sandbox": "one", "command": "sh", "args": ["-c", "yes $(head -c 1000 /dev/zero | tr '\\0' x) | head -c 40000000"] } })
    .to_string();
    let head = "POST /api/v1/rpc HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let mut deaf = server.connect();
    deaf.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
    thread::sleep(Duration::from_secs(2));
    // It has the only place that there is.
    assert_eq!(server.ask("GET", "/api/v1/health", "", b"").status, 200);
    drop(deaf);
}

#[test]
fn a_stream_that_lasts_has_a_place_and_health_needs_none() {
    let limits = Limits { connections: 4, sessions: 2, requests: 0, ..Limits::default() };
    let mut server = Server::begin(Access::Everybody, limits);
    assert_eq!(server.ask("GET", "/api/v1/health", "", b"").status, 200);
    assert_eq!(server.rpc("sandbox.metrics.get", json!({})).status, 503);
    server.end();
    let limits = Limits { connections: 4, sessions: 2, finish: Duration::from_secs(30), ..Limits::default() };
    let mut server = Server::begin(Access::Everybody, limits);
    server.start("one");
    let open = || {
        let request = format!("ws://{}/v1/sandboxes/default.one/agent", server.address);
        tungstenite::client(request, server.connect()).map_err(|error| error.to_string())
    };
    let held: Vec<_> = (0..2).map(|_| open().unwrap()).collect();
    let refused = open().unwrap_err();
    assert!(refused.contains("503"), "{refused}");
    // Those places are not free for others either.
    let idle: Vec<_> = (0..2).map(|_| server.connect()).collect();
    let mut third = server.connect();
    third.write_all(b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    third.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(third.read(&mut [0]).is_err(), "there are more connections than there may be");
    drop(idle);
    third.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(read(&mut third).status, 200);
    // And the server's end does not wait for who does not end.
    let began = Instant::now();
    server.end();
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    drop(held);
}

#[test]
fn memory_that_is_given_away_is_counted() {
    let server = Server::begin(Access::Everybody, Limits { memory: Some(1 << 30), ..Limits::default() });
    let start = |name: &str, memory: u32| {
        let params = json!({ "sandbox": name, "config": { "image": "alpine", "memory": memory } });
        server.rpc("sandbox.start", params).json()
    };
    assert!(start("one", 600)["result"].is_string());
    let refused = start("two", 600);
    assert!(refused["error"]["message"].as_str().unwrap().contains("600 are given away"), "{refused}");
    assert!(start("two", 424)["result"].is_string());
    assert!(start("one", 600)["result"].is_string(), "what it has is its own");
    server.result("sandbox.stop", json!({ "sandbox": "one" }));
    assert!(start("three", 600)["result"].is_string());
}

#[test]
fn the_end_stops_all_at_once() {
    let mut server = Server::dev();
    for number in 0..8 {
        let params = json!({ "sandbox": format!("s{number}"), "config": { "image": "stubborn" } });
        server.result("sandbox.start", params);
    }
    let (engine, began) = (std::sync::Arc::clone(&server.engine), Instant::now());
    server.end();
    assert!(began.elapsed() < Duration::from_secs(14), "{:?}", began.elapsed());
    assert!(engine.sandboxes.lock().unwrap().values().all(|info| !info.running()));
}
