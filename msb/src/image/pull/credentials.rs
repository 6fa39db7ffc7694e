//! Who asks: what `docker login` left in Docker's configuration.
//!
//! In: a registry's name, `config.json`, and the programs it names (docker-credential-helpers' protocol). Out: a name and a
//! password, or none. It must never write a password anywhere.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use data_encoding::BASE64;
use serde::Deserialize;

use super::error::{PullError, shortened};

/// What Docker calls its own registry there.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// The name of one who has a token and no name.
const TOKEN: &str = "<token>";

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Who.
    pub user: String,
    /// The proof.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        to.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DockerConfig {
    auths: BTreeMap<String, Auth>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

/// What a helper answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Where Docker keeps its configuration: `$DOCKER_CONFIG`, else `~/.docker`.
pub(super) fn usual() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")))?;
    Some(directory.join("config.json"))
}

/// Those for `registry`, of the file `config`, if it is there.
pub(super) fn find(config: &Path, registry: &str) -> Result<Option<Credentials>, PullError> {
    let bad = |source| PullError::DockerConfig { path: config.to_owned(), source };
    let text = match std::fs::read(config) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(bad)?,
    };
    let config: DockerConfig = serde_json::from_slice(&text).map_err(|error| bad(error.into()))?;
    let server = server(registry);
    let same = |key: &str| {
        key == server || host(key) == registry || (is_hub(registry) && host(key) == "index.docker.io")
    };
    let named = config.cred_helpers.iter().find(|(key, _)| same(key)).map(|(_, helper)| helper);
    if let Some(helper) = named.or(config.creds_store.as_ref()) {
        return ask(helper, server);
    }
    let Some((_, auth)) = config.auths.iter().find(|(key, _)| same(key)) else { return Ok(None) };
    match (&auth.auth, &auth.username, &auth.password) {
        (Some(auth), ..) if !auth.is_empty() => {
            let nonsense = || bad(io::Error::other("`auth` is not base64 of NAME:PASSWORD"));
            let plain = BASE64.decode(auth.trim().as_bytes()).map_err(|_| nonsense())?;
            let plain = String::from_utf8(plain).map_err(|_| nonsense())?;
            let (user, password) = plain.trim_end_matches('\0').split_once(':').ok_or_else(nonsense)?;
            Ok(Some(Credentials { user: user.into(), password: password.into() }))
        }
        (_, Some(user), Some(password)) => {
            Ok(Some(Credentials { user: user.clone(), password: password.clone() }))
        }
        _ => Ok(None),
    }
}

/// Whether that is one of Docker's names for its own registry.
pub(super) fn is_hub(registry: &str) -> bool {
    matches!(registry, "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

/// What a registry is called in the file.
pub(super) fn server(registry: &str) -> &str {
    if is_hub(registry) { DOCKER_HUB } else { registry }
}

/// Of a key, which may be a URL.
pub(super) fn host(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    key.split('/').next().unwrap_or(key)
}

fn ask(helper: &str, server: &str) -> Result<Option<Credentials>, PullError> {
    let program = format!("docker-credential-{helper}");
    let failed = |message: &str| PullError::Helper { program: program.clone(), message: shortened(message) };
    if helper.contains('/') {
        return Err(failed("its name is a path"));
    }
    let run = || -> io::Result<std::process::Output> {
        let mut child = Command::new(&program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(server.as_bytes())?;
        }
        child.wait_with_output()
    };
    let output = run().map_err(|error| failed(&error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        // The helpers' own words for none.
        let none = text.contains("credentials not found");
        return if none {
            Ok(None)
        } else {
            Err(failed(&format!("{text} {}", String::from_utf8_lossy(&output.stderr))))
        };
    }
    let answer: Answer =
        serde_json::from_str(&text).map_err(|_| failed("its answer is not as helpers answer"))?;
    if answer.username == TOKEN {
        return Err(failed(
            "it has a token of an identity service, which is not supported; log in with a password",
        ));
    }
    Ok(Some(Credentials { user: answer.username, password: answer.secret }))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn found(config: &str, registry: &str) -> Result<Option<Credentials>, PullError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        fs::write(&path, config).unwrap();
        find(&path, registry)
    }

    fn someone(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials { user: user.into(), password: password.into() })
    }

    #[test]
    fn passwords_of_docker_login() {
        // "me:a:b", "hub:x"
        let config = r#"{"auths": {"registry.example:5000": {"auth": "bWU6YTpi"}, "https://index.docker.io/v1/": {"auth": "aHViOng="},
            "https://other.example/v2/": {"username": "u", "password": "p"}, "none.example": {}}, "HttpHeaders": {}}"#;
        for (registry, wanted) in [
            ("registry.example:5000", someone("me", "a:b")),
            ("docker.io", someone("hub", "x")),
            ("other.example", someone("u", "p")),
            ("none.example", None),
            ("registry.example", None),
        ] {
            assert_eq!(found(config, registry).unwrap(), wanted, "{registry}");
        }
        assert_eq!(find(Path::new("/nonexistent/config.json"), "x").unwrap(), None);
        for bad in ["", "7", r#"{"auths": {"x": {"auth": "!"}}}"#, r#"{"auths": {"x": {"auth": "bm8="}}}"#] {
            found(bad, "x").unwrap_err();
        }
        let shown = format!("{:?}", someone("me", "secret"));
        assert!(!shown.contains("secret"));
    }

    #[test]
    fn programs_that_keep_passwords() {
        let error = found(r#"{"credsStore": "../x"}"#, "x").unwrap_err();
        assert!(error.to_string().contains("path"), "{error}");
        let error = found(r#"{"credHelpers": {"x": "nobody-has-this"}}"#, "x").unwrap_err();
        assert!(matches!(error, PullError::Helper { .. }), "{error}");
        assert_eq!(found(r#"{"credHelpers": {"x": "nobody-has-this"}}"#, "y").unwrap(), None);
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("docker-credential-test");
        let script = "#!/bin/sh\nread s\n[ $s = x ] || { echo credentials not found in native keychain; exit 1; }\n\
            echo '{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"pw\"}'\n";
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        // By its path: tests share their environment. The name is checked above.
        let run = |server: &str| {
            let out = Command::new("sh")
                .args(["-c", &format!("printf %s {server} | {} get", program.display())])
                .output()
                .unwrap();
            out.status.success()
        };
        assert!(run("x") && !run("y"));
    }
}
