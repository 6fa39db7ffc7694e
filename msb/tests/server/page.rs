//! The page, in a browser.

use std::{io::Write, path::Path, process::Command, time::Duration};

use integration::check::Page;
use msb::server::{
    Limits,
    auth::{Access, Secret, keygen},
};
use serde_json::json;

use super::{
    client::{Server, read},
    tools::{NODE, has},
};

#[test]
fn somebody_looks_at_sandboxes_and_works_in_one() {
    let server = Server::dev();
    let Some(mut page) = Page::open(&format!("http://{}/", server.address)) else {
        return;
    };
    page.wait("!document.getElementById('none').hidden");
    server.start("one");
    server.start("two");
    server.result("sandbox.stop", json!({ "sandbox": "two" }));
    page.wait("document.querySelectorAll('#list tr').length === 2");
    assert_eq!(page.value("document.getElementById('summary').textContent"), "2 sandboxes, 1 running");
    page.value("document.querySelector('#list tr').click()");

    // What a sandbox writes is text, whatever it looks like.
    page.wait("document.querySelectorAll('#logs div').length === 5");
    assert_eq!(page.value("document.querySelectorAll('#logs b').length"), 0);
    assert_eq!(page.value("document.querySelector('#logs .stderr').lastChild.data"), "line 4 of <b>one</b>");

    // A plot has something of its colour when it has two values.
    let drawn = |id: &str| {
        format!(
            "(() => {{ const c = document.getElementById('{id}'); \
             const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0; \
             for (let i = 0; i < d.length; i += 4) if (d[i + 2] > 200 && d[i] < 90 && d[i + 3] > 200) n += 1; \
             return n > 20; }})()"
        )
    };
    page.wait("sandboxes.get('default/one').cpu.length >= 4");
    page.wait(&drawn("plot-cpu"));
    page.wait(&drawn("plot-memory"));
    page.picture(Path::new(env!("CARGO_TARGET_TMPDIR")), "list");

    page.value("document.getElementById('show-terminal').click()");
    page.wait("terminal && terminal.screen.column > 0");
    page.press(&[
        "PS1='$ '",
        "Enter",
        "printf '\\033[2J\\033[H\\033[31mred\\033[0m %s\\n' $((6 * 7))",
        "Enter",
    ]);
    page.wait("terminal.screen.text(0) === 'red 42'");
    page.wait("[...document.querySelectorAll('.screen span')].some((s) => s.textContent === 'red' && s.style.color)");
    // A line is edited in its middle.
    page.press(&["echo ac", "ArrowLeft", "b", "Enter"]);
    page.wait("terminal.screen.lines.some((line, at) => terminal.screen.text(at) === 'abc')");
    // The shell knows how large its terminal is, and hears when that changes.
    let size = "terminal.screen.lines.some((l, at) => terminal.screen.text(at) === \
                `${terminal.screen.rows} ${terminal.screen.columns}`)";
    page.press(&["stty size", "Enter"]);
    page.wait(size);
    page.tell(
        "Emulation.setDeviceMetricsOverride",
        json!({ "width": 1000, "height": 900, "deviceScaleFactor": 1, "mobile": false }),
    );
    page.wait("terminal.screen.columns < 90");
    page.press(&["clear; stty size; echo 'wide: 日本 é'; echo \"<img src=x onerror=alert(1)>\"", "Enter"]);
    page.wait(size);
    page.wait("terminal.screen.lines.some((l, at) => terminal.screen.text(at) === 'wide: 日本 é')");
    assert_eq!(page.value("document.querySelectorAll('.screen img').length"), 0);
    page.picture(Path::new(env!("CARGO_TARGET_TMPDIR")), "terminal");
    page.press(&["exit 3", "Enter"]);
    page.wait("document.getElementById('terminal').innerText.includes('The shell ended with 3.')");

    page.value("document.getElementById('stop').click()");
    page.wait("document.getElementById('state').textContent === 'stopped'");
    assert_eq!(page.value("document.getElementById('trouble').textContent"), "");
    page.value("document.getElementById('start').click()");
    page.wait("document.getElementById('state').textContent === 'running'");
}

#[test]
fn who_has_no_key_is_asked_for_one() {
    let secret = Secret::given("0123456789abcdef0123").unwrap();
    let team = "team".parse().unwrap();
    let key = keygen(&secret, Duration::from_secs(600), Some(&team)).unwrap().text;
    let server = Server::begin(Access::Keys(secret), Limits::default());
    let body = json!({ "jsonrpc": "2.0", "method": "sandbox.start",
        "params": { "sandbox": "one", "config": { "image": "alpine" } } });
    let headers = format!("Content-Type: application/json\r\nAuthorization: {key}\r\n");
    assert_eq!(server.ask("POST", "/api/v1/rpc", &headers, body.to_string().as_bytes()).status, 200);
    assert_eq!(server.ask("GET", "/page/logs?namespace=team&sandbox=one", "", b"").status, 401);
    let answer = server.ask("GET", "/page/logs?namespace=other&sandbox=one", &headers, b"");
    assert_eq!(answer.status, 403);
    let answer = server.ask("GET", "/page/logs?namespace=team&sandbox=one&after=3", &headers, b"");
    assert_eq!(answer.json()["lines"].as_array().unwrap().len(), 2);
    for path in ["/", "/page/page.js", "/page/style.css", "/page/icon.svg"] {
        let answer = server.ask("GET", path, "", b"");
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("content-security-policy: default-src 'none'"), "{}", answer.head);
    }
    // What another's page would send.
    let mut stream = server.connect();
    let upgrade = "GET /page/terminal HTTP/1.1\r\nHost: here\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Origin: http://elsewhere\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).unwrap();
    assert_eq!(read(&mut stream).status, 403);

    let Some(mut page) = Page::open(&format!("http://{}/", server.address)) else {
        return;
    };
    page.wait("document.getElementById('ask').open");
    page.press(&["msb_not.a.key", "Enter"]);
    page.wait("document.getElementById('trouble').textContent.includes('opens nothing')");
    page.wait("document.getElementById('ask').open");
    page.press(&[&key, "Enter"]);
    page.wait("document.querySelectorAll('#list tr').length === 1");
    page.value("document.querySelector('#list button').click()");
    page.value("document.getElementById('show-terminal').click()");
    page.wait("terminal && terminal.screen.column > 0");
}

#[test]
fn a_screen_shows_what_is_written_to_it() {
    if !has("a_screen_shows_what_is_written_to_it", NODE) {
        return;
    }
    let here = env!("CARGO_MANIFEST_DIR");
    let ran = Command::new("node")
        .arg(format!("{here}/tests/server/screen.js"))
        .arg(format!("{here}/src/server/page/screen.js"))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
