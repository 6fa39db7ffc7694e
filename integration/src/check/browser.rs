//! A browser, told what to do by the Chrome DevTools Protocol.
//!
//! Enters: an address. Leaves: what a page has become, and pictures of it. A browser that says what nobody understands ends the
//! test there.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test says what failed where it failed"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket, client::client};

use crate::dev::{
    packages::{self, Package},
    test::skipped,
};

/// Debian's browser.
pub const CHROMIUM: Package = ("chromium", "chromium");

/// A page in a headless Chromium.
#[derive(Debug)]
pub struct Page {
    socket: WebSocket<TcpStream>,
    number: u64,
    chromium: Child,
    _folder: tempfile::TempDir,
}

/// For anything that a page shows in the end.
const PATIENCE: Duration = Duration::from_secs(60);

impl Page {
    /// `url` in a browser of this machine; none: there is no browser, and that was said.
    pub fn open(url: &str) -> Option<Self> {
        let program = ["chromium", "chromium-browser", "google-chrome"]
            .into_iter()
            .find(|program| {
                Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
            })
            .or_else(|| match packages::require(&[CHROMIUM]) {
                Ok(()) => Some(CHROMIUM.1),
                Err(error) => {
                    skipped("the page in a browser", &format!("{} can't be had: {error}", CHROMIUM.0));
                    None
                }
            })?;
        let folder = tempfile::tempdir().unwrap();
        let chromium = Command::new(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--remote-debugging-port=0", "--window-size=1280,900", "--no-proxy-server"])
            .arg(format!("--user-data-dir={}", folder.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let port = port(folder.path());
        let answer = http(port, &format!("PUT /json/new?{url} HTTP/1.1"));
        let at = answer["webSocketDebuggerUrl"].as_str().unwrap().to_owned();
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) = client(at, stream).unwrap();
        let mut page = Self { socket, number: 0, chromium, _folder: folder };
        page.tell("Page.enable", json!({}));
        page.tell(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": false }),
        );
        page.wait("location.href !== 'about:blank' && document.readyState === 'complete'");
        Some(page)
    }

    /// Gives a command and waits for its answer.
    pub fn tell(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let text = json!({ "id": self.number, "method": method, "params": params }).to_string();
        self.socket.send(Message::text(text)).unwrap();
        loop {
            let message: Value =
                serde_json::from_str(self.socket.read().unwrap().to_text().unwrap()).unwrap();
            if message["id"] == self.number {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    /// What an expression is in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true });
        let result = self.tell("Runtime.evaluate", params);
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true in the page.
    pub fn wait(&mut self, expression: &str) {
        let until = Instant::now() + PATIENCE;
        while self.value(&format!("Boolean({expression})")) != true {
            let text = || "document.body.innerText";
            assert!(Instant::now() < until, "never: {expression}\n{}", self.value(text()));
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Presses keys as somebody who types does; those with names of more than one letter by their names,
    /// and Ctrl and C as `Interrupt`.
    pub fn press(&mut self, keys: &[&str]) {
        for key in keys {
            if *key == "Interrupt" {
                let held = json!({ "type": "keyDown", "key": "c", "modifiers": 2 });
                self.tell("Input.dispatchKeyEvent", held);
                continue;
            }
            let named = ["Enter", "ArrowLeft", "Backspace", "Tab"].contains(key);
            let each: Vec<String> =
                if named { vec![(*key).to_owned()] } else { key.chars().map(String::from).collect() };
            for key in each {
                let text = if named { if key == "Enter" { "\r" } else { "" } } else { key.as_str() };
                self.tell("Input.dispatchKeyEvent", json!({ "type": "keyDown", "key": key, "text": text }));
                self.tell("Input.dispatchKeyEvent", json!({ "type": "keyUp", "key": key }));
            }
        }
    }

    /// Keeps what the page looks like, as `page-NAME.png` in `folder`; says where.
    pub fn picture(&mut self, folder: &Path, name: &str) -> PathBuf {
        let answer = self.tell("Page.captureScreenshot", json!({ "format": "png" }));
        let bytes = data_encoding::BASE64.decode(answer["data"].as_str().unwrap().as_bytes()).unwrap();
        let path = folder.join(format!("page-{name}.png"));
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.chromium.kill();
        let _ = self.chromium.wait();
    }
}

fn port(folder: &Path) -> u16 {
    let until = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(folder.join("DevToolsActivePort")).unwrap_or_default();
        if let Some(port) = text.lines().next().and_then(|line| line.parse().ok()) {
            return port;
        }
        assert!(Instant::now() < until, "the browser does not begin");
        thread::sleep(Duration::from_millis(50));
    }
}

fn http(port: u16, request: &str) -> Value {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{request}\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    // It keeps the connection all the same.
    let mut answer = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        answer.read_line(&mut line).unwrap();
        match line.to_ascii_lowercase().trim_end().split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse().unwrap(),
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    answer.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}
