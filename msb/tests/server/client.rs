//! A server in this process, and a client that sends exactly what it is told.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use msb::{
    sandbox::Pull,
    server::{Limits, ServerConfig, auth::Access, run},
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::engine::Local;

/// A server that ends with the test.
pub struct Server {
    pub address: SocketAddr,
    pub engine: Arc<Local>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Server {
    pub fn begin(access: Access, limits: Limits) -> Self {
        let engine = Arc::new(Local::default());
        let (stop, stopped) = oneshot::channel();
        let (listening, told) = mpsc::channel();
        let theirs = Arc::clone(&engine);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            let config = ServerConfig {
                address: "127.0.0.1:0".parse().unwrap(),
                access,
                limits,
                pull: Pull::IfMissing,
                stop_sandboxes: true,
                log: None,
            };
            let stop = async { drop(stopped.await) };
            runtime.block_on(run(theirs, config, |address| listening.send(address).unwrap(), stop)).unwrap();
            runtime.shutdown_background();
        });
        Self { address: told.recv().unwrap(), engine, stop: Some(stop), thread: Some(thread) }
    }

    pub fn dev() -> Self {
        Self::begin(Access::Everybody, Limits::default())
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends a whole request and reads the whole answer.
    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        self.ask_of("x", method, path, headers, body)
    }

    /// The same of a server that is called so.
    pub fn ask_of(&self, host: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // Who answers before the end of a large body may close before it, too.
        let _ = stream.write_all(body);
        read(&mut stream)
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, "Content-Type: application/json\r\n", body.to_string().as_bytes())
    }

    pub fn rpc(&self, method: &str, params: Value) -> Answer {
        self.post("/api/v1/rpc", &json!({ "jsonrpc": "2.0", "method": method, "params": params, "id": "7" }))
    }

    /// The result of a call that must succeed.
    pub fn result(&self, method: &str, params: Value) -> Value {
        let answer = self.rpc(method, params);
        assert_eq!(answer.status, 200, "{answer:?}");
        let mut answer = answer.json();
        assert_eq!(answer["id"], "7", "{answer}");
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].take()
    }

    pub fn start(&self, sandbox: &str) {
        self.result("sandbox.start", json!({ "sandbox": sandbox, "config": { "image": "alpine" } }));
    }

    /// Ends it as a signal would.
    pub fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads an answer to its end.
pub fn read(stream: &mut TcpStream) -> Answer {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let end = all.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(&all)));
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: all[end + 4..].to_vec() }
}

/// What a run of code or a command wrote to a stream.
pub fn stream(result: &Value, name: &str) -> String {
    let lines = result["output"].as_array().unwrap();
    let texts = lines.iter().filter(|line| line["stream"] == name).map(|line| line["text"].as_str().unwrap());
    texts.collect::<Vec<_>>().join("\n")
}
