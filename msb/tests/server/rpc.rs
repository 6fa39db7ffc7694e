//! JSON-RPC as the published clients speak it.

use std::time::Duration;

use msb::server::{
    Limits,
    auth::{Access, Secret, keygen},
};
use serde_json::{Value, json};

use super::client::{Server, stream};

#[test]
fn envelopes_and_refusals_are_the_originals() {
    let server = Server::dev();
    let health = server.ask("GET", "/api/v1/health", "", b"");
    assert_eq!((health.status, health.json()), (200, json!({ "message": "Service is healthy" })));
    assert_eq!(server.ask("GET", "/api/v1/health/", "", b"").status, 404);
    let post = |body: Value| {
        let answer = server.post("/api/v1/rpc", &body);
        (answer.status, answer.json())
    };
    let version = json!({ "code": -32600, "message": "Invalid or missing jsonrpc version field" });
    for body in [json!({ "method": "x", "id": 1 }), json!({ "jsonrpc": "1.0", "method": "x", "id": 1 })] {
        assert_eq!(post(body), (400, json!({ "jsonrpc": "2.0", "error": version, "id": 1 })));
    }
    let (status, answer) = post(json!({ "jsonrpc": "2.0", "method": "nope" }));
    let error = json!({ "code": -32601, "message": "Method not found: nope" });
    assert_eq!((status, answer), (404, json!({ "jsonrpc": "2.0", "error": error })));
    for (params, text) in [
        (json!(null), "Invalid parameters"),
        (json!({}), "Missing required 'sandbox' parameter"),
        (json!({ "sandbox": "../x" }), "is no name"),
        (json!({ "sandbox": "x", "namespace": "*" }), "is no name"),
        (
            json!({ "sandbox": "x" }),
            "No configuration provided and no existing configuration found for sandbox 'x'",
        ),
        (json!({ "sandbox": "x", "config": {} }), "Sandbox 'x' not found in existing configuration"),
        (json!({ "sandbox": "x", "config": { "image": "a", "ports": ["80:0"] } }), "80:0"),
        (json!({ "sandbox": "x", "config": { "image": "a", "volumes": ["/a:/b/../../c"] } }), "/a:/b"),
        (json!({ "sandbox": "x", "config": { "image": 7 } }), "Invalid parameters"),
        (json!({ "sandbox": "x", "config": { "image": "a", "cpus": 300 } }), "Invalid parameters"),
    ] {
        let answer = server.rpc("sandbox.start", params.clone());
        let body = answer.json();
        assert_eq!((answer.status, &body["code"]), (400, &json!(2001)), "{params} {body}");
        assert!(body["error"].as_str().unwrap().contains(text), "{params} {body}");
    }
    let answer = server.rpc("sandbox.stop", json!({ "sandbox": "x", "namespace": "nobody" }));
    let text = "Namespace directory 'nobody' does not exist";
    assert_eq!((answer.status, answer.json()), (400, json!({ "error": text, "code": 2001 })));
    let preflight = server.ask("OPTIONS", "/api/v1/rpc", "Origin: http://a\r\n", b"");
    assert_eq!(preflight.status, 200);
    assert!(
        preflight.head.contains("access-control-allow-methods: GET,POST,PUT,DELETE"),
        "{}",
        preflight.head
    );
}

#[test]
fn a_sandbox_from_start_to_stop() {
    let server = Server::dev();
    let config =
        json!({ "image": "microsandbox/python", "memory": 512, "cpus": 1, "volumes": null, "envs": ["A=b"] });
    let started = server.result("sandbox.start", json!({ "sandbox": "one", "config": config, "more": 1 }));
    assert_eq!(started, "Sandbox one started successfully");
    let info = server.engine.sandboxes.lock().unwrap().values().next().unwrap().clone();
    assert_eq!(info.key.to_string(), "default/one");
    assert_eq!(info.request.image, "docker.io/library/python:3.13-slim");
    assert_eq!((info.request.memory, info.request.cpus), (Some(512 << 20), Some(1.0)));
    assert_eq!(info.request.env, ["A=b"]);

    let ran = server.result(
        "sandbox.command.run",
        json!({ "sandbox": "one", "command": "sh", "args": ["-c", "echo a; echo b >&2; exit 3"] }),
    );
    assert_eq!(
        (&ran["exit_code"], &ran["success"], &ran["command"]),
        (&json!(3), &json!(false), &json!("sh"))
    );
    assert_eq!((stream(&ran, "stdout"), stream(&ran, "stderr")), ("a".into(), "b".into()));
    let ran = server.result("sandbox.command.execute", json!({ "sandbox": "one", "command": "true" }));
    assert_eq!((&ran["exit_code"], &ran["success"], &ran["output"]), (&json!(0), &json!(true), &json!([])));
    let ran = server.result("sandbox.command.run", json!({ "sandbox": "one", "command": "cat" }));
    assert_eq!(ran["exit_code"], 0);
    let ran = server.result(
        "sandbox.command.run",
        json!({ "sandbox": "one", "command": "sh", "args": ["-c", "kill -9 $$"] }),
    );
    assert_eq!(ran["exit_code"], 137);
    // What it leaves behind holds its streams, and nobody waits for that.
    let ran = server.result(
        "sandbox.command.run",
        json!({ "sandbox": "one", "command": "sh", "args": ["-c", "echo x; sleep 5 &"] }),
    );
    assert_eq!((&ran["exit_code"], stream(&ran, "stdout")), (&json!(0), "x".into()));

    for (params, text) in [
        (json!({ "sandbox": "one", "command": "no-such-program" }), "can't run no-such-program"),
        (
            json!({ "sandbox": "one", "command": "sleep", "args": ["9"], "timeout": 1 }),
            "Command timed out after 1 seconds",
        ),
    ] {
        let answer = server.rpc("sandbox.command.run", params);
        let body = answer.json();
        assert_eq!((answer.status, &body["error"]["code"]), (200, &json!(-32000)), "{body}");
        assert!(body["error"]["message"].as_str().unwrap().contains(text), "{body}");
    }

    let metrics = server.result("sandbox.metrics.get", json!({ "namespace": "default", "sandbox": "one" }));
    let one = &metrics["sandboxes"][0];
    assert_eq!(
        (&one["name"], &one["namespace"], &one["running"]),
        (&json!("one"), &json!("default"), &json!(true))
    );
    assert!(
        one["cpu_usage"].is_f64()
            && one["memory_usage"].as_u64().unwrap() >= 96
            && one["disk_usage"] == 5 << 20
    );
    for all in [json!({ "namespace": "*" }), json!({})] {
        assert_eq!(server.result("sandbox.metrics.get", all)["sandboxes"][0]["name"], "one");
    }
    assert_eq!(server.rpc("sandbox.metrics.get", json!({ "sandbox": "two" })).status, 404);
    let killed = json!({ "sandbox": "one", "command": "sh", "args": ["-c", "kill -KILL $$"] });
    let killed = server.result("sandbox.command.run", killed);
    assert_eq!((&killed["exit_code"], &killed["success"]), (&json!(137), &json!(false)));
    let scripts =
        json!({ "sandbox": "x", "config": { "image": "alpine", "scripts": { "start": "a", "test": "b" } } });
    assert_eq!(server.rpc("sandbox.start", scripts).status, 400);

    for _ in 0..2 {
        let stopped = server.result("sandbox.stop", json!({ "sandbox": "one", "namespace": "default" }));
        assert_eq!(stopped, "Sandbox one stopped successfully");
    }
    let answer = server.rpc("sandbox.command.run", json!({ "sandbox": "one", "command": "true" })).json();
    assert!(answer["error"]["message"].as_str().unwrap().contains("is not running"), "{answer}");
    let answer = server.rpc("sandbox.command.run", json!({ "sandbox": "two", "command": "true" }));
    assert_eq!((answer.status, &answer.json()["code"]), (404, &json!(4001)));
    assert_eq!(
        server.result("sandbox.start", json!({ "sandbox": "one" })),
        "Sandbox one started successfully"
    );
    let failed =
        server.rpc("sandbox.start", json!({ "sandbox": "bad", "config": { "image": "missing" } })).json();
    assert_eq!(failed["error"]["message"], "There is no image missing");

    let text = server.ask("GET", "/metrics", "", b"").text();
    assert!(text.contains("msb_sandbox_running{namespace=\"default\",sandbox=\"one\"} 1\n"), "{text}");
    assert!(text.contains("msb_http_requests_total{request=\"rpc\",status=\"404\"} 2\n"), "{text}");
}

#[test]
fn a_key_opens_its_own_namespace() {
    let secret = Secret::given("0123456789abcdef0123").unwrap();
    let key = |lasts, namespace: Option<&str>| {
        let namespace = namespace.map(|name| name.parse().unwrap());
        keygen(&secret, Duration::from_secs(lasts), namespace.as_ref()).unwrap().text
    };
    let (all, team) = (key(600, None), key(600, Some("team")));
    let server = Server::begin(Access::Keys(secret), Limits::default());
    let ask = |key: &str, params: Value| {
        let body =
            json!({ "jsonrpc": "2.0", "method": "sandbox.start", "params": params, "id": 1 }).to_string();
        let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {key}\r\n");
        let answer = server.ask("POST", "/api/v1/rpc", &headers, body.as_bytes());
        (answer.status, answer.json()["code"].clone())
    };
    let config = json!({ "image": "alpine" });
    let start = |namespace: &str| json!({ "sandbox": "s", "namespace": namespace, "config": config });
    assert_eq!(server.rpc("sandbox.start", start("team")).status, 401);
    assert_eq!(ask("nonsense", start("team")), (401, json!(1001)));
    assert_eq!(ask("msb_a.b.c", start("team")), (401, json!(1004)));
    assert_eq!(ask(&team, start("other")), (403, json!(3001)));
    assert_eq!(ask(&team, start("team")), (200, Value::Null));
    assert_eq!(ask(&team, json!({ "sandbox": "t", "config": config })), (200, Value::Null));
    assert_eq!(ask(&all, start("other")), (200, Value::Null));
    // What is outside of its namespace is not for it.
    let mounted = json!({ "sandbox": "s", "config": { "image": "alpine", "volumes": ["/etc:/x"] } });
    assert_eq!(ask(&team, mounted), (400, json!(2001)));
    let published = |port: &str| json!({ "sandbox": "s", "config": { "image": "alpine", "ports": [port] } });
    assert_eq!(ask(&team, published("0.0.0.0:8080:80")), (400, json!(2001)));
    assert_eq!(ask(&team, published("8080:80")), (200, Value::Null));
    let keys: Vec<String> = server.engine.sandboxes.lock().unwrap().keys().map(ToString::to_string).collect();
    assert_eq!(keys, ["other/s", "team/s", "team/t"]);
    // Who asks for all is told of their own.
    let body =
        json!({ "jsonrpc": "2.0", "method": "sandbox.metrics.get", "params": { "namespace": "*" }, "id": 1 });
    let headers = format!("Content-Type: application/json\r\nProxy-Authorization: {team}\r\n");
    let answer = server.ask("POST", "/api/v1/rpc", &headers, body.to_string().as_bytes()).json();
    assert_eq!(answer["result"]["sandboxes"].as_array().unwrap().len(), 2, "{answer}");
    let text = server.ask("GET", "/metrics", &format!("Authorization: {team}\r\n"), b"").text();
    assert!(text.contains("team") && !text.contains("other"), "{text}");
    assert_eq!(server.ask("GET", "/metrics", "", b"").status, 401);
    assert_eq!(server.ask("GET", "/api/v1/health", "", b"").status, 200);
}
