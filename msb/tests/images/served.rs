//! A server whose sandboxes want images that are not here: it pulls them by itself, unless that is not wanted.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use msb::image::{ImageError, Registries};
use msb::sandbox::Pull;

use super::{content::Content, debian::Debian, images};

/// What says whether it pulls.
const POLICY: &str = "MICROSANDBOX_PULL";

/// The program itself, until it is dropped.
struct Server {
    address: String,
    process: Child,
}

impl Server {
    fn start(home: &Path, policy: Option<&str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msb"));
        command.args(["server", "start", "--dev", "--port", "0"]).env("MICROSANDBOX_HOME", home);
        match policy {
            Some(value) => command.env(POLICY, value),
            None => command.env_remove(POLICY),
        };
        let mut process = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "the server ended");
            if let Some((_, address)) = line.trim().split_once("http://") {
                break address.to_owned();
            }
        };
        // It must be able to say more.
        thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { address, process }
    }

    /// Asks for a sandbox of the image. What came of it.
    fn sandbox(&self, image: &str) -> String {
        let params = serde_json::json!({ "sandbox": "s", "config": { "image": image } });
        let body =
            serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": "sandbox.start", "params": params })
                .to_string();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = "POST /api/v1/rpc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
        stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// What the sandbox itself comes to is of no matter: there is no program in its image, and may be no machine here.
#[test]
fn an_image_that_is_not_here_is_pulled_for_a_sandbox_unless_that_is_not_wanted() {
    let test = "an_image_that_is_not_here_is_pulled_for_a_sandbox_unless_that_is_not_wanted";
    let Some((keep, images)) = images(test) else { return };
    let home = keep.path().join("home");
    let registry = Debian::start(false);
    registry.push("team/app", "1", &Content::new("first", 1));
    let name = format!("{}/team/app:1", registry.address);
    let here = || match images.local(&name, &()) {
        Err(ImageError::NotHere { .. }) => false,
        found => found.is_ok(),
    };

    let server = Server::start(&home, Some("never"));
    let refused = server.sandbox(&name);
    assert!(refused.contains("is not here: get it with `msb pull`"), "{refused}");
    assert!(!here());
    // As it says.
    let mut pull = Command::new(env!("CARGO_BIN_EXE_msb"));
    pull.args(["pull", &name]).env("MICROSANDBOX_HOME", &home).env(POLICY, "never").stdout(Stdio::null());
    assert!(pull.status().unwrap().success() && here());
    let told = server.sandbox(&name);
    assert!(!told.contains("is not here"), "{told}");
    drop(server);

    images.remove(&name).unwrap();
    images.prune(&[]).unwrap();
    assert!(!here());
    let server = Server::start(&home, None);
    let told = server.sandbox(&name);
    assert!(!told.contains("is not here") && here(), "{told}");
    drop(server);
    images.get(&name, Pull::Never, &Registries::default(), &()).unwrap();
}
