//! The published clients, as they are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use integration::dev::{packages, test::skipped};
use msb::server::{
    Limits,
    auth::{Access, Secret, keygen},
};

use super::client::Server;

/// An interpreter that has `package`; none: there is no way to get it here.
fn python(package: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(package.replace("==", "-"));
    let python = folder.join("bin/python");
    let done = folder.join("done");
    if !done.exists() {
        if let Err(error) = packages::require_installed(&["python3-venv"]) {
            skipped(package, &error.to_string());
            return None;
        }
        let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).status();
        let got = made.is_ok_and(|status| status.success())
            && Command::new(&python)
                .args([
                    "-m",
                    "pip",
                    "-q",
                    "--disable-pip-version-check",
                    "install",
                    "--only-binary=:all:",
                    package,
                ])
                .status()
                .is_ok_and(|status| status.success());
        if !got {
            skipped(package, "it can't be had from PyPI on this machine");
            return None;
        }
        fs::write(done, []).unwrap();
    }
    Some(python)
}

fn run(python: &Path, script: &str, env: &[(&str, &str)]) {
    let script = format!("{}/tests/server/{script}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(python).arg(script).envs(env.iter().copied()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert_eq!(out.lines().last(), Some("client done"), "{err}");
}

#[test]
fn version_0_1_8_runs_code_and_commands() {
    let Some(python) = python("microsandbox==0.1.8") else { return };
    let secret = Secret::given("0123456789abcdef0123").unwrap();
    let key = |secret: &Secret, lasts, namespace: Option<&str>| {
        let namespace = namespace.map(|name| name.parse().unwrap());
        keygen(secret, Duration::from_secs(lasts), namespace.as_ref()).unwrap().text
    };
    let forged = key(&Secret::given("another secret, as long").unwrap(), 600, None);
    // It is asked for last.
    let expired = key(&secret, 1, None);
    let (all, other) = (key(&secret, 600, None), key(&secret, 600, Some("other")));
    let server = Server::begin(Access::Keys(secret), Limits::default());
    let url = format!("http://{}", server.address);
    let env = [
        ("MSB_SERVER_URL", url.as_str()),
        ("MSB_API_KEY", &all),
        ("FORGED", &forged),
        ("EXPIRED", &expired),
        ("OTHER", &other),
    ];
    run(&python, "client_0_1.py", &env);
    assert!(server.engine.sandboxes.lock().unwrap().values().all(|info| !info.running()));
}

/// As for a cloud.
fn version(package: &str) {
    let Some(python) = python(package) else { return };
    let server = Server::dev();
    let url = format!("http://{}", server.address);
    run(&python, "client_v1.py", &[("MSB_BACKEND", "cloud"), ("MSB_API_KEY", "any"), ("MSB_API_URL", &url)]);
}

#[test]
fn version_0_6_14_streams() {
    version("microsandbox==0.6.14");
}

#[test]
fn version_0_7_11_streams() {
    version("microsandbox==0.7.11");
}
