//! Who signs tokens for Debian's registry (`auth: token`), as large registries have it: distribution's "Token Authentication".

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::json;
use tempfile::TempDir;

use super::debian::{PASSWORD, USER};

/// What the registry calls itself, and whom it believes.
const SERVICE: &str = "registry of a test";
const ISSUER: &str = "issuer of a test";

pub struct Tokens {
    address: String,
    keys: Arc<TempDir>,
}

/// Runs `openssl` in `directory`.
pub fn openssl(directory: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    let command = command.current_dir(directory).args(arguments.split(' ')).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Tokens {
    /// Listens until the test ends.
    pub fn start() -> Self {
        let keys = Arc::new(tempfile::tempdir().unwrap());
        openssl(
            keys.path(),
            "req -x509 -newkey rsa:2048 -nodes -keyout key -out certificate -subj /CN=issuer -days 2",
        );
        openssl(keys.path(), "x509 -in certificate -outform DER -out der");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let theirs = Arc::clone(&keys);
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away is its own affair.
                let _ = answer(&stream.unwrap(), theirs.path());
            }
        });
        Self { address, keys }
    }

    /// What the registry's configuration says of it.
    pub fn configuration(&self) -> String {
        format!(
            "auth: {{token: {{realm: 'http://{}/token', service: {SERVICE}, issuer: {ISSUER}, rootcertbundle: {}}}}}\n",
            self.address,
            self.keys.path().join("certificate").display()
        )
    }
}

/// A token for what is asked for, to who may; the path is `/token?scope=repository:NAME:pull&service=…`.
fn answer(mut stream: &TcpStream, keys: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let basic = BASE64.encode(format!("{USER}:{PASSWORD}").as_bytes());
    let known = headers.iter().any(|line| {
        line.split_once(": ").is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("authorization") && value == format!("Basic {basic}")
        })
    });
    let path = first.split(' ').nth(1).unwrap_or_default().replace("%3A", ":").replace("%2F", "/");
    let scope = path.split(['?', '&']).find_map(|part| part.strip_prefix("scope=")).unwrap_or_default();
    let mut words = scope.split(':').skip(1);
    let repository = words.next().unwrap_or_default();
    // Who is not known is told so; who is, may pull.
    let (status, body) = match known {
        false => ("401 Unauthorized", json!({ "errors": [{ "code": "UNAUTHORIZED" }] })),
        true => ("200 OK", json!({ "token": token(keys, repository) })),
    };
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// RFC 7515, with RS256, and the certificate that the registry has among its own.
fn token(keys: &Path, repository: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let certificate = BASE64.encode(&fs::read(keys.join("der")).unwrap());
    let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [certificate] });
    let claims = json!({
        "iss": ISSUER, "sub": USER, "aud": SERVICE, "exp": now + 300, "nbf": now - 10, "iat": now, "jti": "one",
        "access": [{ "type": "repository", "name": repository, "actions": ["pull"] }],
    });
    let part = |value: &serde_json::Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let directory = tempfile::tempdir_in(keys).unwrap();
    fs::write(directory.path().join("text"), &signed).unwrap();
    openssl(directory.path(), "dgst -sha256 -sign ../key -out signature text");
    let signature = fs::read(directory.path().join("signature")).unwrap();
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}
