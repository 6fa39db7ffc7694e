//! Debian's `docker-registry`, on loopback, until it is dropped.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use integration::dev::packages;
use msb::image::Digest;
use tempfile::TempDir;

use super::content::{Content, INDEX, MANIFEST};

/// Who may, where not everybody may.
pub const USER: &str = "me";
/// Their password.
pub const PASSWORD: &str = "se:cret";
/// Both, as `htpasswd -B` writes them.
const HTPASSWD: &str = "me:$2y$05$LgKejvMbtFg4/8JxjE2kLO7lyX2A11sHnWlIfcN600Utobw7TQuEC\n";

pub struct Debian {
    /// `localhost:PORT`
    pub address: String,
    server: Child,
    authorization: String,
    directory: Option<TempDir>,
}

impl Debian {
    pub fn start(with_passwords: bool) -> Self {
        packages::require(&[("docker-registry", "docker-registry")]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let users = directory.path().join("htpasswd");
        let passwords = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display());
        fs::write(&users, HTPASSWD).unwrap();
        Self::serve(directory, if with_passwords { &passwords } else { "" }, "")
    }

    /// The same content, for whom `auth` lets in, and with `tls`: what the configuration says of both.
    pub fn again(mut self, auth: &str, tls: &str) -> Self {
        let directory = self.directory.take().unwrap();
        drop(self);
        Self::serve(directory, auth, tls)
    }

    fn serve(directory: TempDir, auth: &str, tls: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{free}'{tls}}}\n{auth}",
            directory.path().join("data").display()
        );
        let path = directory.path().join("config.yml");
        fs::write(&path, config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = command.spawn().unwrap();
        let started = Instant::now();
        while TcpStream::connect(free).is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "docker-registry does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        let basic = data_encoding::BASE64.encode(format!("{USER}:{PASSWORD}").as_bytes());
        Self {
            address: free.to_string(),
            server,
            authorization: format!("Authorization: Basic {basic}\r\n"),
            directory: Some(directory),
        }
    }

    /// OCI distribution-spec, "Push".
    pub fn push(&self, repository: &str, tag: &str, content: &Content) {
        for blob in content.layers.iter().map(|layer| &layer.blob).chain([&content.config]) {
            let answer = self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), "", &[]);
            let place = answer
                .lines()
                .find_map(|line| line.strip_prefix("Location: "))
                .expect("a place to upload to");
            let place = place.trim().trim_start_matches(&format!("http://{}", self.address));
            let to = format!("{place}&digest={}", Digest::of(blob));
            self.request("PUT", &to, "application/octet-stream", blob);
        }
        let manifest = content.manifest_digest().to_string();
        for (name, kind, text) in
            [(manifest.as_str(), MANIFEST, &content.manifest), (tag, INDEX, &content.index)]
        {
            self.request("PUT", &format!("/v2/{repository}/manifests/{name}"), kind, text);
        }
    }

    fn request(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {kind}\r\n{}Content-Length: {}\r\n\r\n",
            self.address,
            self.authorization,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
        answer
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}
