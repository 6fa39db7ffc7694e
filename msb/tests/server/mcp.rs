//! The Model Context Protocol, as an assistant speaks it.

use std::time::Duration;

use msb::server::{
    Limits,
    auth::{Access, Secret, keygen},
};
use serde_json::{Value, json};

use super::client::Server;

fn ask(server: &Server, method: &str, params: Value) -> Value {
    let answer =
        server.post("/mcp", &json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn tool(server: &Server, name: &str, arguments: Value) -> (String, bool) {
    let answer = ask(server, "tools/call", json!({ "name": name, "arguments": arguments }));
    let result = &answer["result"];
    (
        result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}")).into(),
        result["isError"] == true,
    )
}

#[test]
fn an_assistant_finds_its_tools_and_uses_them() {
    let server = Server::dev();
    let hello = ask(&server, "initialize", json!({ "protocolVersion": "2024-11-05" }));
    assert_eq!(hello["result"]["protocolVersion"], "2024-11-05");
    assert_eq!(hello["result"]["serverInfo"]["name"], "microsandbox-server");
    let told = server.post("/mcp", &json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    assert_eq!((told.status, told.body.len()), (200, 0));
    let tools = ask(&server, "tools/list", json!({}));
    let names: Vec<_> =
        tools["result"]["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(
        names,
        ["sandbox_start", "sandbox_stop", "sandbox_run_code", "sandbox_run_command", "sandbox_get_metrics"]
    );

    let which = json!({ "sandbox": "one", "namespace": "default" });
    let with = |more: Value| {
        let mut all = which.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    // Without any word of an image, also where there is no configuration at all (an issue of the original's).
    assert!(!tool(&server, "sandbox_start", json!({ "sandbox": "bare", "namespace": "default" })).1);
    let image = |name: &str| {
        let key = msb::sandbox::Key::of(name.parse().unwrap());
        server.engine.sandboxes.lock().unwrap()[&key].request.image.clone()
    };
    let of_start = image("bare");
    server.result("sandbox.start", json!({ "sandbox": "own", "config": { "image": "alpine" } }));
    assert!(!tool(&server, "sandbox_start", json!({ "sandbox": "own", "namespace": "default" })).1);
    assert_eq!(image("own"), "alpine", "the one that there is");
    let started = tool(&server, "sandbox_start", with(json!({ "config": {} })));
    assert_eq!(image("one"), of_start);
    assert_eq!(started, ("Sandbox one started successfully".into(), false));
    let (text, error) =
        tool(&server, "sandbox_run_code", with(json!({ "language": "python", "code": "6 * 7" })));
    assert!(!error);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["output"][0]["text"], "42");
    let (text, error) =
        tool(&server, "sandbox_run_command", with(json!({ "command": "echo", "args": ["hi"] })));
    assert!(!error && text.contains("hi"));
    let (text, error) = tool(&server, "sandbox_get_metrics", json!({ "namespace": "default" }));
    assert!(!error && text.contains("\"running\": true"), "{text}");
    // Arguments that are wrong are told, and the connection lives.
    for wrong in
        [json!(7), json!({}), json!({ "sandbox": 1 }), json!({ "sandbox": "../x", "namespace": "a" })]
    {
        let (text, error) = tool(&server, "sandbox_run_command", wrong);
        assert!(error && text.starts_with("Error: "), "{text}");
    }
    assert!(!tool(&server, "sandbox_stop", which.clone()).1);
    let prompt = ask(
        &server,
        "prompts/get",
        json!({ "name": "create_python_sandbox", "arguments": { "sandbox_name": "p" } }),
    );
    assert!(prompt["result"]["messages"][0]["content"]["text"].as_str().unwrap().contains("`p`"));
    assert_eq!(ask(&server, "prompts/list", json!({}))["result"]["prompts"].as_array().unwrap().len(), 2);
    for (method, params) in
        [("nope", json!({})), ("tools/call", json!({ "name": "nope" })), ("prompts/get", json!(1))]
    {
        let answer = ask(&server, method, params);
        assert_eq!(answer["error"]["code"], -32603);
        assert!(answer["error"]["message"].as_str().unwrap().starts_with("MCP method error: "), "{answer}");
    }
    let answer = server.post("/mcp", &json!({ "method": "tools/list", "id": 1 }));
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (200, &json!(-32600)));
}

#[test]
fn the_namespace_in_a_tools_arguments_is_the_one_that_counts() {
    let secret = Secret::given("0123456789abcdef0123").unwrap();
    let team = "team".parse().unwrap();
    let key = keygen(&secret, Duration::from_secs(600), Some(&team)).unwrap().text;
    let server = Server::begin(Access::Keys(secret), Limits::default());
    let start = |outer: &str, inner: &str| {
        let arguments = json!({ "sandbox": "s", "namespace": inner, "config": { "image": "alpine" } });
        let params = json!({ "namespace": outer, "name": "sandbox_start", "arguments": arguments });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
        let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {key}\r\n");
        server.ask("POST", "/mcp", &headers, body.as_bytes()).status
    };
    assert_eq!(start("team", "other"), 403);
    assert_eq!(start("other", "team"), 200);
    assert_eq!(
        server.post("/mcp", &json!({ "jsonrpc": "2.0", "method": "tools/list", "id": 1 })).status,
        401
    );
    let keys: Vec<String> = server.engine.sandboxes.lock().unwrap().keys().map(ToString::to_string).collect();
    assert_eq!(keys, ["team/s"]);
}
