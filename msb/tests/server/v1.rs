//! `/v1`: what the newest clients ask of a server beside what `clients` has them do.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use ciborium::value::Value as Cbor;
use msb::server::{
    Limits,
    auth::{Access, Secret, keygen},
};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket, client::IntoClientRequest};

use super::client::{Answer, Server};

fn ask(server: &Server, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let Answer { status, body, .. } =
        server.ask(method, path, "Content-Type: application/json\r\n", body.to_string().as_bytes());
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn sandbox(name: &str) -> Value {
    json!({ "name": name, "image": { "type": "oci", "reference": "alpine" } })
}

#[test]
fn volumes_are_made_used_and_removed() {
    let server = Server::dev();
    let ask = |method, path, body: &Value| ask(&server, method, path, body);
    assert_eq!(ask("GET", "/v1/volumes", &Value::Null), (200, json!([])));
    let (status, made) = ask("POST", "/v1/volumes", &json!({ "name": "data", "labels": {} }));
    assert_eq!(
        (status, &made["id"], &made["name"], &made["kind"]),
        (201, &json!("data"), &json!("data"), &json!("managed"))
    );
    let code = |(status, body): (u16, Value)| (status, body["error"]["code"].as_str().unwrap().to_owned());
    for (body, wanted) in [
        (json!({ "name": "data" }), (409, "name_already_exists")),
        (json!({ "name": "../x" }), (400, "invalid_request")),
        (json!({ "name": "big", "capacity_gib": 1 }), (400, "invalid_request")),
        (json!({ "name": "named", "labels": { "a": "b" } }), (400, "invalid_request")),
        (json!({}), (400, "invalid_request")),
    ] {
        assert_eq!(code(ask("POST", "/v1/volumes", &body)), (wanted.0, wanted.1.to_owned()), "{body}");
    }
    assert_eq!(ask("GET", "/v1/volumes", &Value::Null).1.as_array().unwrap().len(), 1);
    let mut wanted = sandbox("user");
    wanted["mounts"] =
        json!([{ "type": "named", "name": "data", "guest": "/data", "options": { "readonly": true } }]);
    assert_eq!(ask("POST", "/v1/sandboxes", &wanted).0, 201);
    let made = server.engine.sandboxes.lock().unwrap().values().next().unwrap().request.clone();
    assert!(made.volumes[0].read_only && made.volumes[0].target.ends_with("data"));
    assert_eq!(code(ask("GET", "/v1/volumes/default", &Value::Null)).1, "volume_not_found");
    assert_eq!(ask("DELETE", "/v1/volumes/data", &Value::Null).0, 200);
    assert_eq!(code(ask("DELETE", "/v1/volumes/data", &Value::Null)), (404, "volume_not_found".into()));
}

#[test]
fn files_of_a_volume_are_written_and_read() {
    let server = Server::dev();
    let json = "Content-Type: application/json\r\n";
    assert_eq!(ask(&server, "POST", "/v1/volumes", &json!({ "name": "data" })).0, 201);
    let head = |path: &str| {
        format!("x-msb-file-path: {}\r\n", data_encoding::BASE64URL_NOPAD.encode(path.as_bytes()))
    };
    let files = |method: &str, verb: &str, path: &str, body: &[u8]| {
        server.ask(method, &format!("/v1/volumes/data/files{verb}"), &head(path), body)
    };
    let post = |verb: &str, body: Value| {
        server.ask("POST", &format!("/v1/volumes/data/files{verb}"), json, body.to_string().as_bytes()).status
    };
    assert_eq!(post("/mkdir", json!({ "path": "a/b" })), 200);
    let large = vec![b'x'; 20 << 20];
    assert_eq!(files("PUT", "/content", "a/b/large", &large).status, 200);
    assert!(
        files("GET", "/content", "a/b/large", b"")
            .text()
            .contains(std::str::from_utf8(&large[..1000]).unwrap())
    );
    let stat = files("GET", "/stat", "a/b/large", b"").json();
    assert_eq!((&stat["metadata"]["size"], &stat["metadata"]["kind"]), (&json!(20 << 20), &json!("file")));
    assert_eq!(post("/copy", json!({ "from": "a/b/large", "to": "a/copy" })), 200);
    assert_eq!(post("/rename", json!({ "from": "a/copy", "to": "a/moved" })), 200);
    let listed = files("GET", "", "a", b"").json();
    let paths: Vec<_> =
        listed["entries"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["a/b", "a/moved"]);
    assert_eq!(files("GET", "/exists", "a/moved", b"").json(), json!({ "exists": true }));
    assert_eq!(files("GET", "/exists", "a/none", b"").json(), json!({ "exists": false }));
    let code = |answer: Answer| (answer.status, answer.json()["error"]["code"].as_str().unwrap().to_owned());
    assert_eq!(code(files("GET", "/content", "none", b"")), (404, "volume_file_not_found".into()));
    assert_eq!(
        code(files("GET", "/content", "a/../../../etc/passwd", b"")),
        (400, "invalid_volume_path".into())
    );
    assert_eq!(code(files("GET", "/content", "a", b"")), (400, "invalid_volume_path".into()));
    assert_eq!(code(files("DELETE", "", "a", b"")), (400, "invalid_volume_path".into()), "it is not empty");
    assert_eq!(
        code(server.ask("GET", "/v1/volumes/data/files", "", b"")),
        (400, "invalid_volume_path".into())
    );
    assert_eq!(
        code(server.ask("GET", "/v1/volumes/none/files", &head("/"), b"")),
        (404, "volume_not_found".into())
    );
    let all = format!("{}x-msb-file-recursive: true\r\n", head("a"));
    assert_eq!(server.ask("DELETE", "/v1/volumes/data/files", &all, b"").status, 200);
    assert_eq!(files("GET", "", "/", b"").json(), json!({ "entries": [] }));
    assert_eq!(
        ask(&server, "PATCH", "/v1/volumes/data", &json!({ "capacity_gib": null })).1["used_bytes"],
        4096
    );
    assert_eq!(ask(&server, "PATCH", "/v1/volumes/data", &json!({ "labels": { "a": "b" } })).0, 400);
}

#[test]
fn how_a_start_goes_and_went_is_told() {
    let server = Server::dev();
    let create = |image: &str| json!({ "name": image, "image": { "type": "oci", "reference": image } });
    assert_eq!(ask(&server, "POST", "/v1/sandboxes", &create("slow-bad")).0, 201);
    let told = || ask(&server, "GET", "/v1/sandboxes/by-name/slow-bad", &Value::Null).1;
    assert_eq!(told()["status"], "created");
    thread::scope(|scope| {
        let start =
            scope.spawn(|| ask(&server, "POST", "/v1/sandboxes/by-name/slow-bad/start", &Value::Null));
        let mut starting = told();
        while starting["status"] == "created" && !start.is_finished() {
            thread::sleep(Duration::from_millis(20));
            starting = told();
        }
        assert_eq!(
            (&starting["status"], &starting["status_reason"]),
            (&json!("starting"), &json!("scheduling"))
        );
        assert_eq!(start.join().unwrap().0, 502);
    });
    let failed = told();
    assert_eq!(
        (&failed["status"], &failed["last_failure_message"]),
        (&json!("failed"), &json!("It does not start"))
    );
    assert_eq!(ask(&server, "DELETE", "/v1/sandboxes/by-name/slow-bad", &Value::Null).0, 200);
    assert_eq!(ask(&server, "POST", "/v1/sandboxes", &create("slow-bad")).1["status"], "created");
    assert_eq!(ask(&server, "POST", "/v1/sandboxes/by-name/slow-bad/start", &Value::Null).0, 502);
    assert_eq!(told()["status"], "failed");
    // As the command line does it, of which the server learns nothing.
    server.engine.sandboxes.lock().unwrap().clear();
    assert_eq!(ask(&server, "POST", "/v1/sandboxes", &create("slow-bad")).1["status"], "created");
}

#[test]
fn a_key_to_one_namespace_has_no_volumes() {
    let secret = Secret::given("0123456789abcdef0123").unwrap();
    let key = keygen(&secret, Duration::from_secs(600), Some(&"one".parse().unwrap())).unwrap().text;
    let server = Server::begin(Access::Keys(secret), Limits::default());
    let headers = format!("Authorization: Bearer {key}\r\nContent-Type: application/json\r\n");
    for (method, path) in [("GET", "/v1/volumes"), ("POST", "/v1/volumes"), ("DELETE", "/v1/volumes/data")] {
        assert_eq!(server.ask(method, path, &headers, br#"{"name": "data"}"#).status, 403, "{method} {path}");
    }
}

#[test]
fn a_sandbox_gets_another_name_while_it_rests() {
    let server = Server::dev();
    let ask = |method, path, body: &Value| ask(&server, method, path, body);
    for name in ["old", "other"] {
        assert_eq!(ask("POST", "/v1/sandboxes", &sandbox(name)).0, 201);
    }
    let (status, told) = ask("PATCH", "/v1/sandboxes/default.old", &json!({ "name": "new" }));
    assert_eq!((status, &told["name"], &told["id"]), (200, &json!("new"), &json!("default.new")));
    assert_eq!(ask("PATCH", "/v1/sandboxes/default.new", &json!({})).0, 200, "nothing is nothing");
    let code = |path, body: &Value| ask("PATCH", path, body).1["error"]["code"].as_str().unwrap().to_owned();
    let new = "/v1/sandboxes/default.new";
    assert_eq!(code("/v1/sandboxes/default.old", &json!({ "name": "x" })), "sandbox_not_found");
    assert_eq!(code(new, &json!({ "name": "other" })), "name_already_exists");
    assert_eq!(code(new, &json!({ "name": "a b" })), "invalid_request");
    assert_eq!(code(new, &json!({ "slug": "else" })), "invalid_request");
    assert_eq!(ask("POST", "/v1/sandboxes/default.new/start", &Value::Null).0, 200);
    assert_eq!(code(new, &json!({ "name": "x" })), "invalid_state_transition");
}

#[test]
fn times_of_a_sandboxs_life_are_asked_for() {
    let server = Server::dev();
    let mut wanted = sandbox("short");
    wanted["lifecycle"] = json!({ "max_duration_secs": 60, "idle_timeout_secs": 5 });
    assert_eq!(ask(&server, "POST", "/v1/sandboxes", &wanted).0, 201);
    let made = server.engine.sandboxes.lock().unwrap().values().next().unwrap().request.clone();
    assert_eq!(
        (made.timeout, made.idle_timeout),
        (Some(Duration::from_secs(60)), Some(Duration::from_secs(5)))
    );
}

#[test]
fn whatever_goes_wrong_is_told_in_one_shape() {
    let server = Server::begin(Access::Everybody, Limits { body: 1000, ..Limits::default() });
    let json = "Content-Type: application/json\r\n";
    let large = vec![b' '; 2000];
    for (method, path, headers, body, wanted) in [
        ("GET", "/v1/nothing", "", &b""[..], (404, "not_found")),
        ("PUT", "/v1/sandboxes", "", b"", (405, "method_not_allowed")),
        ("POST", "/v1/sandboxes", "", b"{}", (415, "invalid_request")),
        ("POST", "/v1/sandboxes", json, b"{", (400, "invalid_request")),
        ("POST", "/v1/sandboxes", json, b"[]", (400, "invalid_request")),
        ("POST", "/v1/sandboxes", json, &large, (413, "payload_too_large")),
        ("GET", "/v1/sandboxes?limit=x", "", b"", (400, "invalid_request")),
        ("GET", "/v1/sandboxes/none", "", b"", (404, "sandbox_not_found")),
        ("POST", "/v1/sandboxes/by-name/x/start?wait_for=stopped", "", b"", (400, "invalid_request")),
        ("POST", "/v1/sandboxes/by-name/x/start?wait_timeout=x", "", b"", (400, "invalid_request")),
    ] {
        let answer = server.ask(method, path, headers, body);
        let told = answer.json();
        assert_eq!(
            (answer.status, told["error"]["code"].as_str().unwrap()),
            wanted,
            "{method} {path} {told}"
        );
        assert!(!told["error"]["message"].as_str().unwrap().is_empty(), "{told}");
    }
    let secret = Secret::given("0123456789abcdef0123").unwrap();
    let server = Server::begin(Access::Keys(secret), Limits::default());
    let answer = server.ask("GET", "/v1/sandboxes", "", b"");
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (401, &json!("unauthorized")));
    assert_eq!(server.ask("GET", "/page/logs", "", b"").json()["code"], 1001, "the others' is flat");
    let server = Server::begin(Access::Everybody, Limits { requests: 0, ..Limits::default() });
    let answer = server.ask("GET", "/v1/sandboxes", "", b"");
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &json!("unavailable")));
    assert!(answer.head.to_lowercase().contains("retry-after"), "{}", answer.head);
}

#[test]
fn a_start_is_waited_for_as_long_as_was_asked_and_cleans_up_alone() {
    let server = Server::dev();
    let slow = json!({ "name": "late", "image": { "type": "oci", "reference": "slow-bad" } });
    let path = "/v1/sandboxes?start=true&wait_for=running&wait_timeout=0.2";
    let (status, told) = ask(&server, "POST", path, &slow);
    assert_eq!((status, &told["error"]["code"]), (504, &json!("timeout")), "{told}");
    assert_eq!(server.engine.sandboxes.lock().unwrap().len(), 1, "it goes on");
    let began = std::time::Instant::now();
    while !server.engine.sandboxes.lock().unwrap().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20), "what can't be started is there still");
        thread::sleep(Duration::from_millis(50));
    }
    let (status, told) = ask(&server, "POST", "/v1/sandboxes?start=true&wait_timeout=90", &sandbox("good"));
    assert_eq!((status, &told["status"]), (201, &json!("running")));
}

#[test]
fn a_page_of_somebody_elses_mounts_nothing_of_the_host() {
    let server = Server::dev();
    let rpc = |origin: &str, volume: &str| {
        let config = json!({ "image": "alpine", "volumes": [volume] });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "sandbox.start", "params": { "sandbox": "s", "config": config } });
        let host = server.address;
        let head = format!(
            "Content-Type: application/json\r\nOrigin: {}\r\n",
            origin.replace("HOST", &host.to_string())
        );
        server.ask_of(&host.to_string(), "POST", "/api/v1/rpc", &head, body.to_string().as_bytes()).status
    };
    assert_eq!(rpc("https://evil.example", "/etc:/x"), 400);
    assert_eq!(rpc("null", "/etc:/x"), 400);
    assert!(server.engine.sandboxes.lock().unwrap().is_empty());
    assert_eq!(rpc("https://evil.example", "data:/x"), 200);
    assert_eq!(rpc("http://HOST", "/etc:/x"), 200);
    let mut wanted = sandbox("v1");
    wanted["mounts"] = json!([{ "type": "bind", "host": "/etc", "guest": "/x" }]);
    let head = "Content-Type: application/json\r\nOrigin: https://evil.example\r\n";
    let answer = server.ask("POST", "/v1/sandboxes", head, wanted.to_string().as_bytes());
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!("invalid_sandbox_config")));
    assert_eq!(ask(&server, "POST", "/v1/sandboxes", &wanted).0, 201, "who is no page");
}

#[test]
fn a_page_of_somebody_elses_has_no_network_of_the_hosts() {
    let server = Server::dev();
    let foreign = "Content-Type: application/json\r\nOrigin: https://evil.example\r\n";
    let mut wanted = sandbox("open");
    wanted["network"] = json!({ "policy": { "default_egress": "allow" } });
    let answer = server.ask("POST", "/v1/sandboxes", foreign, wanted.to_string().as_bytes());
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!("invalid_sandbox_config")));
    let rpc = |head: &str, port: &str| {
        let config = json!({ "image": "alpine", "ports": [port] });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "sandbox.start", "params": { "sandbox": "s", "config": config } });
        server.ask("POST", "/api/v1/rpc", head, body.to_string().as_bytes()).status
    };
    assert_eq!(rpc(foreign, "0.0.0.0:8080:80"), 400);
    assert!(server.engine.sandboxes.lock().unwrap().is_empty());
    assert_eq!(rpc(foreign, "8080:80"), 200);
    assert_eq!(rpc("Content-Type: application/json\r\n", "0.0.0.0:8080:80"), 200);
    assert_eq!(ask(&server, "POST", "/v1/sandboxes", &wanted).0, 201, "who is no page");
}

#[test]
fn a_page_of_somebody_elses_has_no_stream() {
    let server = Server::dev();
    server.start("one");
    let open = |origin: &str| {
        let mut request =
            format!("ws://{}/v1/sandboxes/default.one/agent", server.address).into_client_request().unwrap();
        request.headers_mut().insert("origin", origin.parse().unwrap());
        match tungstenite::client(request, server.connect()) {
            Ok(_) => 101,
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                answer.status().as_u16()
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(open("https://evil.example"), 403);
    assert_eq!(open("null"), 403);
    assert_eq!(open(&format!("http://{}", server.address)), 101);
}

type Socket = WebSocket<TcpStream>;

/// One frame of the stream to an agent, as the original's client writes it.
fn say(socket: &mut Socket, id: u32, kind: &str, payload: Cbor) {
    let mut inner = Vec::new();
    ciborium::into_writer(&payload, &mut inner).unwrap();
    let text = |text: &str| Cbor::Text(text.into());
    let body =
        Cbor::Map(vec![(text("v"), 7.into()), (text("t"), text(kind)), (text("p"), Cbor::Bytes(inner))]);
    let mut rest = id.to_be_bytes().to_vec();
    rest.push(0);
    ciborium::into_writer(&body, &mut rest).unwrap();
    let mut frame = u32::try_from(rest.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(rest);
    socket.send(Message::Binary(frame.into())).unwrap();
}

/// The next frame: its id, its kind, and its payload's fields.
fn hear(socket: &mut Socket) -> (u32, String, BTreeMap<String, Cbor>) {
    let Message::Binary(bytes) = socket.read().unwrap() else { panic!("no frame") };
    read(&bytes)
}

fn read(bytes: &[u8]) -> (u32, String, BTreeMap<String, Cbor>) {
    let fields = |value: Cbor| -> BTreeMap<String, Cbor> {
        let map = value.into_map().unwrap().into_iter();
        map.map(|(name, value)| (name.into_text().unwrap(), value)).collect()
    };
    let mut body = fields(ciborium::from_reader(&bytes[9..]).unwrap());
    let payload = body.remove("p").unwrap().into_bytes().unwrap();
    let kind = body.remove("t").unwrap().into_text().unwrap();
    (
        u32::from_be_bytes(bytes[4..8].try_into().unwrap()),
        kind,
        fields(ciborium::from_reader(&payload[..]).unwrap()),
    )
}

fn map(fields: &[(&str, Cbor)]) -> Cbor {
    Cbor::Map(fields.iter().map(|(name, value)| (Cbor::Text((*name).into()), value.clone())).collect())
}

fn stream(server: &Server) -> Socket {
    server.start("one");
    let request =
        format!("ws://{}/v1/sandboxes/default.one/agent", server.address).into_client_request().unwrap();
    let (mut socket, _) = tungstenite::client(request, server.connect()).unwrap();
    // The range of ids and the first frame.
    let Message::Binary(bytes) = socket.read().unwrap() else { panic!("no frame") };
    let (id, kind, ready) = read(&bytes[8..]);
    assert_eq!((id, kind.as_str()), (0, "core.ready"));
    for (moment, milliseconds) in [("boot_time_ns", 80), ("init_time_ns", 20), ("ready_time_ns", 100)] {
        assert_eq!(ready[moment], Cbor::from(milliseconds * 1_000_000), "{moment}");
    }
    socket
}

#[test]
fn a_stream_connects_to_a_port_of_the_sandbox() {
    let server = Server::dev();
    let mut socket = stream(&server);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let echo = thread::spawn(move || {
        let (mut served, _) = listener.accept().unwrap();
        let mut said = Vec::new();
        served.read_to_end(&mut said).unwrap();
        served.write_all(&said).unwrap();
    });
    say(&mut socket, 5, "core.tcp.connect", map(&[("host", "localhost".into()), ("port", port.into())]));
    assert_eq!(hear(&mut socket).1, "core.tcp.connected");
    for piece in ["one ", "two"] {
        say(&mut socket, 5, "core.tcp.data", map(&[("data", Cbor::Bytes(piece.into()))]));
    }
    say(&mut socket, 5, "core.tcp.eof", map(&[]));
    let mut said = Vec::new();
    let last = loop {
        let (id, kind, mut fields) = hear(&mut socket);
        assert_eq!(id, 5);
        match kind.as_str() {
            "core.tcp.data" => said.extend(fields.remove("data").unwrap().into_bytes().unwrap()),
            "core.tcp.eof" => {}
            other => break other.to_owned(),
        }
    };
    assert_eq!((said.as_slice(), last.as_str()), (&b"one two"[..], "core.tcp.closed"));
    echo.join().unwrap();
    for (host, port, wanted) in [("127.0.0.1", port, "refused"), ("10.0.0.1", 80, "localhost")] {
        say(&mut socket, 6, "core.tcp.connect", map(&[("host", host.into()), ("port", port.into())]));
        let (_, kind, mut fields) = hear(&mut socket);
        let error = fields.remove("error").unwrap().into_text().unwrap().to_lowercase();
        assert!(kind == "core.tcp.failed" && error.contains(wanted), "{kind} {error}");
    }
}

#[test]
fn a_stream_that_is_closed_lets_go_of_its_port_and_a_touch_is_counted() {
    let server = Server::dev();
    let mut socket = stream(&server);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    say(&mut socket, 5, "core.tcp.connect", map(&[("host", "localhost".into()), ("port", port.into())]));
    assert_eq!(hear(&mut socket).1, "core.tcp.connected");
    let (mut served, _) = listener.accept().unwrap();
    served.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    say(&mut socket, 5, "core.tcp.close", map(&[]));
    assert_eq!(served.read(&mut [0]).unwrap(), 0);
    for count in [1, 2] {
        say(&mut socket, 7, "core.touch", map(&[]));
        let (_, kind, mut fields) = hear(&mut socket);
        assert_eq!((kind.as_str(), fields.remove("activity_seq")), ("core.touched", Some(count.into())));
    }
}
