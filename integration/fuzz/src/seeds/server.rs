//! Requests of each method, with all that it may have; frames of the stream to an agent; and what a page's terminal says.

use ciborium::value::Value as Cbor;
use serde_json::{Value, json};

use crate::server::{ROUTES, Said};

/// How many times four bytes a process says before, and these.
fn said(text: &str) -> Vec<u8> {
    let fours = text.len().div_ceil(4);
    let mut bytes = vec![u8::try_from(fours).expect("a short text")];
    bytes.extend(text.as_bytes());
    bytes.resize(1 + fours * 4, b'\n');
    bytes
}

fn route(route: &str, says: &str, body: &str) -> Vec<u8> {
    let number = ROUTES.iter().position(|other| *other == route).expect("it is one of them");
    [vec![u8::try_from(number).expect("few")], said(says), body.as_bytes().to_vec()].concat()
}

/// What is called, by both of the ways in which it is.
fn calls() -> Vec<Value> {
    let of = |method: &str, params: Value| json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let config = json!({
        "image": "alpine", "memory": 512, "cpus": 2, "volumes": ["/a:/b", "v:/c"], "ports": ["8080:80"], "envs": ["A=b"],
        "workdir": "/w", "shell": "/bin/sh", "scripts": { "start": "ls" },
    });
    let which = json!({ "sandbox": "a", "namespace": "default" });
    let with = |more: Value| {
        let mut params = which.clone();
        for (key, value) in more.as_object().expect("an object") {
            params[key] = value.clone();
        }
        params
    };
    vec![
        of("sandbox.start", with(json!({ "config": config }))),
        of("sandbox.start", json!({ "sandbox": "b" })),
        of("sandbox.stop", which.clone()),
        of("sandbox.metrics.get", json!({ "namespace": "*" })),
        of("sandbox.metrics.get", which.clone()),
        of("sandbox.repl.run", with(json!({ "language": "python", "code": "1+1", "timeout": 0.2 }))),
        of("sandbox.repl.run", with(json!({ "language": "nodejs", "code": "1+1" }))),
        of("sandbox.command.run", with(json!({ "command": "ls", "args": ["-l"], "timeout": 1 }))),
        of("sandbox.command.execute", with(json!({ "command": "none" }))),
        json!({ "jsonrpc": "1.0", "method": "x", "id": "text" }),
    ]
}

/// The tools' calls, and what else the protocol has.
fn model() -> Vec<Value> {
    let of = |method: &str, params: Value| json!({ "jsonrpc": "2.0", "id": "x", "method": method, "params": params });
    let names =
        ["sandbox_start", "sandbox_stop", "sandbox_run_code", "sandbox_run_command", "sandbox_get_metrics"];
    let arguments = json!({
        "sandbox": "a", "namespace": "default", "language": "python", "code": "print(1)", "command": "ls", "args": [],
        "config": { "cpus": 1 },
    });
    let mut all: Vec<Value> =
        names.iter().map(|name| of("tools/call", json!({ "name": name, "arguments": arguments }))).collect();
    all.extend([
        of("initialize", json!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {} })),
        of("notifications/initialized", json!({})),
        of("ping", json!({})),
        of("tools/list", json!({})),
        of("prompts/list", json!({})),
        of("prompts/get", json!({ "name": "create_python_sandbox", "arguments": { "sandbox_name": "x" } })),
    ]);
    all
}

fn create() -> Vec<Value> {
    let rule = |action: &str, to: &str| json!({ "direction": "egress", "action": action, "destination": { "group": to }, "ports": [{ "start": 53, "end": 53 }] });
    vec![
        json!({ "name": "b", "image": { "type": "oci", "reference": "alpine" } }),
        json!({
            "name": "b", "source": "oci", "reference": "alpine:3", "resources": { "vcpus": 2, "memory_mib": 256 },
            "runtime": { "workdir": "/w", "scripts": {}, "entrypoint": ["a"], "cmd": ["b"], "user": "1:2" },
            "env": [{ "key": "A", "value": "b" }, "C=d"], "labels": { "a": "b" }, "pull_policy": "never",
            "mounts": [
                { "type": "bind", "host": "/a", "guest": "/b", "options": { "readonly": true } },
                { "type": "named", "name": "v", "guest": "/c" },
            ],
            "lifecycle": { "ephemeral": true, "max_duration_secs": 60, "idle_timeout_secs": 5 },
        }),
        json!({
            "name": "b", "source": "oci", "reference": "x",
            "network": { "enabled": true, "policy": {
                "default_egress": "deny",
                "rules": [rule("allow", "host"), { "direction": "egress", "action": "allow", "destination": { "group": "public" } }],
            } },
        }),
        json!({ "name": "b", "source": "oci", "reference": "x", "network": { "enabled": false } }),
        json!({ "name": "b", "source": "disk", "mounts": [{ "type": "tmpfs" }], "rlimits": [1], "patches": [1], "init": 1 }),
        json!({ "name": "b", "source": "oci", "reference": "x", "network": { "secrets": { "entries": [1] } } }),
    ]
}

pub(crate) fn requests() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let marks = "1\n\u{1b}[31m{\"a\":1}\n";
    all.extend(calls().iter().map(|body| route("POST /api/v1/rpc", marks, &body.to_string())));
    all.extend(model().iter().map(|body| route("POST /mcp", "out", &body.to_string())));
    all.extend(create().iter().map(|body| route("POST /v1/sandboxes", "", &body.to_string())));
    all.push(route("POST /v1/volumes", "", r#"{"name":"b"}"#));
    all.extend(ROUTES.iter().map(|name| route(name, "line", "")));
    all.push(route("PATCH /v1/sandboxes/default.a", "", r#"{"name":"c"}"#));
    for whole in [
        "GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "POST /v1/sandboxes HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        "GET /v1/sandboxes?namespace=* HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a.b.c\r\nConnection: close\r\n\r\n",
        "GET /v1/sandboxes/default.a/logs?follow=true&since=1 HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: x\r\nOrigin: http://y\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ] {
        all.push([&[255, 0][..], whole.as_bytes()].concat());
    }
    all
}

/// As `serde_json` has it, but for what is to be bytes: a list of numbers below 256 called `data`.
fn cbor(value: &Value) -> Cbor {
    let entry = |(key, value): (&String, &Value)| {
        let bytes = value.as_array().filter(|_| key == "data");
        let inner = match bytes {
            Some(list) => {
                Cbor::Bytes(list.iter().filter_map(|byte| byte.as_u64()?.try_into().ok()).collect())
            }
            None => cbor(value),
        };
        (Cbor::Text(key.clone()), inner)
    };
    match value {
        Value::Object(map) => Cbor::Map(map.iter().map(entry).collect()),
        Value::Array(list) => Cbor::Array(list.iter().map(cbor).collect()),
        Value::String(text) => Cbor::Text(text.clone()),
        Value::Bool(is) => Cbor::Bool(*is),
        Value::Number(number) => Cbor::Integer(number.as_i64().unwrap_or(0).into()),
        Value::Null => Cbor::Null,
    }
}

/// A frame of generation 7: its length, its id, its flags, and a map in which another one is packed.
fn frame(id: u32, kind: &str, payload: &Value) -> Vec<u8> {
    let packed = |value: &Cbor| {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).expect("memory takes all");
        bytes
    };
    let text = |text: &str| Cbor::Text(text.into());
    let body = Cbor::Map(vec![
        (text("v"), Cbor::Integer(7.into())),
        (text("t"), text(kind)),
        (text("p"), Cbor::Bytes(packed(&cbor(payload)))),
    ]);
    let body = packed(&body);
    let length = u32::try_from(5 + body.len()).expect("a small frame");
    [&length.to_be_bytes()[..], &id.to_be_bytes(), &[0], &body].concat()
}

pub(crate) fn frames() -> Vec<Vec<u8>> {
    let attributes = json!({ "mode": 0o644, "uid": 1, "gid": 2, "size": 3, "atime": 4, "mtime": 5 });
    let operations = [
        json!({ "RealPath": { "path": "/a" } }),
        json!({ "Stat": { "path": "/a", "follow_symlink": true } }),
        json!({ "SetStat": { "path": "/a", "follow_symlink": false, "attrs": attributes } }),
        json!({ "List": { "path": "/a" } }),
        json!({ "ReadLink": { "path": "/a" } }),
        json!({ "Symlink": { "target": "/a", "link_path": "/b" } }),
        json!({ "Mkdir": { "path": "/a", "mode": 0o700 } }),
        json!({ "Remove": { "path": "/a" } }),
        json!({ "RemoveDir": { "path": "/a", "recursive": true } }),
        json!({ "Copy": { "src": "/a", "dst": "/b" } }),
        json!({ "Rename": { "src": "/a", "dst": "/b" } }),
        json!({ "OpenFile": { "path": "/a", "options": { "read": true, "write": true, "create": true, "mode": 0o600 } } }),
        json!({ "OpenFile": { "path": "/a", "options": { "write": true, "append": true, "truncate": true, "create_new": true } } }),
        json!({ "OpenDir": { "path": "/a" } }),
        json!({ "CloseHandle": { "handle": 1 } }),
        json!({ "Read": { "handle": 1, "offset": 2, "len": 3 } }),
        json!({ "Write": { "handle": 1, "offset": 2 } }),
        json!({ "ReadDir": { "handle": 1, "limit": 2 } }),
        json!({ "FStat": { "handle": 1 } }),
        json!({ "FSetStat": { "handle": 1, "attrs": attributes } }),
    ];
    let data = json!({ "data": [104, 105] });
    let exec = json!({ "cmd": "sh", "args": ["-c", "x"], "env": ["A=b"], "cwd": "/w", "user": "1", "tty": true, "rows": 5, "cols": 9 });
    let of = |kind: &str, payload: &Value| frame(1, kind, payload);
    let listed = "81a4 3 0 0 5 6 /x//a b\n41ed 4096 1 2 7 8 /x//c\n";
    let mut streams = vec![
        [of("core.ping", &json!({})), of("core.touch", &json!({})), of("core.other", &data)].concat(),
        [
            of("core.exec.request", &exec),
            of("core.exec.stdin", &data),
            of("core.exec.resize", &json!({ "rows": 0, "cols": 7 })),
            of("core.exec.signal", &json!({ "signal": 15 })),
            of("core.exec.request", &exec),
            of("core.exec.stdin", &json!({ "data": [] })),
        ]
        .concat(),
        of("core.exec.request", &json!({ "cmd": "none" })),
        [
            of("core.tcp.connect", &json!({ "host": "localhost", "port": 80 })),
            of("core.tcp.data", &data),
            of("core.tcp.eof", &json!({})),
            of("core.tcp.close", &json!({})),
        ]
        .concat(),
        of("core.tcp.connect", &json!({ "host": "elsewhere", "port": 0 })),
    ];
    // A file, a directory: opened, used, and closed.
    for parts in [&operations[11..12], &operations[12..13], &operations[13..14]] {
        let steps = [parts, &operations[14..], &operations[14..15]].concat();
        let numbered = (1..).zip(&steps).flat_map(|(id, operation)| {
            [frame(id, "core.fs.request", &json!({ "op": operation })), frame(id, "core.fs.data", &data)]
                .concat()
        });
        streams.push(numbered.collect());
    }
    streams.extend(operations.iter().map(|operation| {
        [of("core.fs.request", &json!({ "op": operation })), of("core.fs.data", &json!({ "data": [] }))]
            .concat()
    }));
    let mut all: Vec<Vec<u8>> =
        streams.iter().map(|stream| [said(listed), stream.clone()].concat()).collect();
    all.extend(streams.iter().map(|stream| [said(""), stream.clone()].concat()));
    all
}

/// Messages of a page, each behind its kind and its length.
pub(crate) fn terminal() -> Vec<Vec<u8>> {
    let hello =
        |more: &str| format!(r#"{{"namespace":"default","sandbox":"a","rows":24,"columns":80{more}}}"#);
    let message = |said: Said, bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("a short message");
        [&[said as u8][..], &length.to_le_bytes(), bytes].concat()
    };
    let text = |text: &str| message(Said::Text, text.as_bytes());
    let typed = |bytes: &[u8]| message(Said::Bytes, bytes);
    let size = text(r#"{"rows":1,"columns":65535}"#);
    [
        vec![text(&hello(""))],
        vec![text(&hello(r#","key":"a.b.c""#)), typed(b"ls\n"), size.clone()],
        vec![text(&hello("")), size, typed(b"\x03"), message(Said::Ping, b"x"), message(Said::Close, b"")],
        vec![
            text(&hello("")),
            text("{}"),
            text("nonsense"),
            message(Said::Pong, b""),
            message(Said::Piece, b"x"),
        ],
        vec![text(r#"{"namespace":"*","sandbox":"../a","rows":0,"columns":0}"#)],
        vec![typed(b"first")],
        vec![message(Said::Close, b"\x03\xe8bye")],
    ]
    .iter()
    .map(|messages| [said("\u{1b}]0;x\x07$ "), messages.concat()].concat())
    .collect()
}
