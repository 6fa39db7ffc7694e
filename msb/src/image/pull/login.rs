//! Names and passwords for registries, kept as `docker login` keeps them: in Docker's `config.json`, so that both know them.
//!
//! In: who somebody is at a registry. Out: whether it takes that; and a file that only its owner reads. Where Docker leaves
//! passwords to a program of the system's, they are its to keep.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use data_encoding::BASE64;
use oci_client::Reference;
use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

use super::Registries;
use super::credentials::{Credentials, host, is_hub, server};
use super::error::PullError;
use super::executor::executor;
use super::registry::Registry;

/// Asked for where a token is for one repository: it need not be there.
const ANY: &str = "library/busybox";

impl Registries {
    /// Asks the registry whether it takes that, and keeps it for the next times.
    ///
    /// # Errors
    /// [`PullError`]; nothing is kept then.
    pub fn login(&self, registry: &str, credentials: &Credentials) -> Result<(), PullError> {
        let reference = Reference::with_tag(registry.to_owned(), ANY.to_owned(), "latest".to_owned());
        let asked = Self { credentials: Some(credentials.clone()), ..self.clone() };
        let executor =
            executor().map_err(|source| PullError::Broken { registry: registry.into(), source })?;
        executor.block_on(async { Registry::of(&reference, &asked)?.greet().await })?;
        let Some(path) = &self.docker_config else { return Err(PullError::NoConfig) };
        let auth = BASE64.encode(format!("{}:{}", credentials.user, credentials.password).as_bytes());
        change(path, |auths| drop(auths.insert(server(registry).to_owned(), json!({ "auth": auth }))))
    }

    /// Forgets what is kept of a registry; whether there was anything.
    ///
    /// # Errors
    /// [`PullError`]
    pub fn logout(&self, registry: &str) -> Result<bool, PullError> {
        let Some(path) = &self.docker_config else { return Err(PullError::NoConfig) };
        let mut found = false;
        change(path, |auths| {
            let before = auths.len();
            auths.retain(|key, _| {
                let name = host(key);
                name != registry && !(is_hub(registry) && is_hub(name))
            });
            found = auths.len() != before;
        })?;
        Ok(found)
    }
}

/// All else in the file stays as it is.
fn change(path: &Path, act: impl FnOnce(&mut Map<String, Value>)) -> Result<(), PullError> {
    let bad = |source| PullError::DockerConfig { path: path.to_owned(), source };
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => b"{}".to_vec(),
        text => text.map_err(bad)?,
    };
    let mut config: Value = serde_json::from_slice(&text).map_err(|error| bad(error.into()))?;
    let nonsense = || bad(io::Error::other("it is no object"));
    let all = config.as_object_mut().ok_or_else(nonsense)?;
    let kept = |key: &str| {
        all.get(key).is_some_and(|value| {
            value.as_str().is_some_and(|text| !text.is_empty())
                || value.as_object().is_some_and(|helpers| !helpers.is_empty())
        })
    };
    if kept("credsStore") || kept("credHelpers") {
        return Err(PullError::Kept { path: path.to_owned() });
    }
    act(all.entry("auths").or_insert_with(|| json!({})).as_object_mut().ok_or_else(nonsense)?);
    let text = serde_json::to_vec_pretty(&config).map_err(|error| bad(error.into()))?;
    write(path, &text).map_err(|source| PullError::Written { path: path.to_owned(), source })
}

/// Whole or not at all. A temporary file is its owner's alone, and so is what it becomes.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_else_is_in_the_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/config.json");
        change(&path, |auths| drop(auths.insert("a.example".into(), json!({ "auth": "eDp5" })))).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(
            &path,
            r#"{"HttpHeaders": {"X": "y"}, "auths": {"https://index.docker.io/v1/": {}, "a.example": {}}}"#,
        )
        .unwrap();
        let registries = Registries { docker_config: Some(path.clone()), ..Registries::default() };
        assert!(registries.logout("docker.io").unwrap());
        assert!(!registries.logout("b.example").unwrap());
        let left: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(left, json!({ "HttpHeaders": { "X": "y" }, "auths": { "a.example": {} } }));
        fs::write(&path, r#"{"credsStore": "pass"}"#).unwrap();
        assert!(matches!(registries.logout("a.example"), Err(PullError::Kept { .. })));
        for bad in ["7", r#"{"auths": 7}"#, "{"] {
            fs::write(&path, bad).unwrap();
            registries.logout("a.example").unwrap_err();
        }
    }
}
