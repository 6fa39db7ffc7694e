//! Where the virtual host's packages come from: the machine's own Debian sources, with another suite.
//!
//! Enters: the text of apt's source files, of both formats (sources.list(5)). Leaves: one-line entries for mmdebstrap.
//! Only Debian's own archive is taken: suites named for this machine's release, component main, Debian's own keyring.

use std::path::{Path, PathBuf};

/// Why there are no sources.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// A file could not be read.
    #[error("{path} could not be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No entry of Debian's own archive.
    #[error(
        "No Debian archive for {codename} in {folder}; the virtual host is built from this machine's own sources"
    )]
    None {
        /// The release looked for.
        codename: String,
        /// Where.
        folder: PathBuf,
    },
}

/// One archive.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    uri: String,
    suite: String,
    signed_by: Option<String>,
}

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Entries of this machine's `apt` folder (`/etc/apt`) with its own `codename` replaced by `suite`, one a line.
pub fn sources(apt: &Path, codename: &str, suite: &str) -> Result<String, SourcesError> {
    let mut files = vec![apt.join("sources.list")];
    if let Ok(folder) = std::fs::read_dir(apt.join("sources.list.d")) {
        files.extend(folder.flatten().map(|entry| entry.path()));
    }
    files.sort();
    let mut lines: Vec<String> = Vec::new();
    for path in files.iter().filter(|path| path.exists()) {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SourcesError::Read { path: path.clone(), source })?;
        let entries = match path.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => deb822(&text),
            Some("list") => one_line(&text),
            _ => Vec::new(),
        };
        for entry in entries.iter().filter(|entry| is_debian(entry, codename)) {
            let keyring = entry.signed_by.as_deref().unwrap_or(KEYRING);
            let line = format!(
                "deb [signed-by={keyring}] {} {} main\n",
                entry.uri,
                entry.suite.replacen(codename, suite, 1)
            );
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    if lines.is_empty() {
        return Err(SourcesError::None { codename: codename.to_owned(), folder: apt.to_owned() });
    }
    Ok(lines.concat())
}

fn is_debian(entry: &Entry, codename: &str) -> bool {
    let own = |suffix: &str| entry.suite.strip_prefix(codename) == Some(suffix);
    let keyring = entry.signed_by.as_deref().is_none_or(|path| path.contains("debian-archive"));
    keyring && ["", "-updates", "-security", "/updates"].into_iter().any(own)
}

/// The format of `*.sources`: paragraphs of fields.
fn deb822(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let lines = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>();
    for paragraph in lines.split(|line| line.trim().is_empty()) {
        let field = |name: &str| {
            let value = paragraph.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
            });
            value.unwrap_or_default()
        };
        let has = |name: &str, word: &str| field(name).split_whitespace().any(|found| found == word);
        if !has("Types", "deb") || !has("Components", "main") || field("Enabled").eq_ignore_ascii_case("no") {
            continue;
        }
        let signed_by = Some(field("Signed-By")).filter(|path| path.starts_with('/')).map(str::to_owned);
        for uri in field("URIs").split_whitespace() {
            for suite in field("Suites").split_whitespace() {
                entries.push(Entry {
                    uri: uri.to_owned(),
                    suite: suite.to_owned(),
                    signed_by: signed_by.clone(),
                });
            }
        }
    }
    entries
}

/// The format of `*.list`: `deb [options] uri suite component…`.
fn one_line(text: &str) -> Vec<Entry> {
    let parse = |line: &str| {
        let rest = line.trim().strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        words.any(|component| component == "main").then_some(())?;
        let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        Some(Entry { uri: uri.to_owned(), suite: suite.to_owned(), signed_by: signed_by.map(str::to_owned) })
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_with_another_suite() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sources.list.d")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "sources.list",
            "# deb http://old.example/ one main\ndeb [arch=amd64 signed-by=/k/debian-archive-k.gpg] http://a.example/debian one-security main contrib\ndeb http://b.example/ one-other main\n",
        );
        write(
            "sources.list.d/debian.sources",
            "Types: deb\n# note\nURIs: http://a.example/debian\nSuites: one one-updates one-backports\nComponents: main\n\nTypes: deb-src\nURIs: http://a.example/debian\nSuites: one\nComponents: main\n",
        );
        write(
            "sources.list.d/docker.list",
            "deb [signed-by=/etc/apt/keyrings/docker.asc] http://c.example one stable\ndeb [signed-by=/etc/apt/keyrings/x.gpg] http://d.example one main\n",
        );
        let found = sources(folder.path(), "one", "two").unwrap();
        assert_eq!(
            found,
            "deb [signed-by=/k/debian-archive-k.gpg] http://a.example/debian two-security main\n\
             deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://a.example/debian two main\n\
             deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://a.example/debian two-updates main\n"
        );
        assert!(matches!(sources(folder.path(), "three", "two"), Err(SourcesError::None { .. })));
    }
}
