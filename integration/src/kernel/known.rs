//! Which bytes the guest kernel has had elsewhere: `guest/kernel/hashes`, a line for each source, compiler and configuration.
//!
//! In: that file and a kernel. Out: whether it is the one that its inputs have given before, wherever that was. A build that
//! is done anyway shows so that builds are reproducible, without a second one. It does not know how a kernel is built.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::{Arch, SOURCE_PACKAGE, config, recipe};

/// The file, below the workspace.
pub const FILE: &str = "guest/kernel/hashes";
/// What to do about a kernel of inputs that the file has not.
pub const UNKNOWN: &str = "guest/kernel/hashes has none of this source, compiler and configuration; `cargo dev reproduce kernel` \
     builds it twice and writes it down";
/// What to do about a kernel that is another one.
pub const OTHER: &str = "The same source, compiler and configuration gave other bytes before (guest/kernel/hashes). If \
     integration/src/kernel/recipe.rs or elf.rs has changed what comes out, `cargo dev reproduce kernel` writes the new hash \
     down, for the same commit. If not, something of this machine has got into the kernel, or it was tampered with";

/// What decides a kernel's bytes, in words without blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    arch: &'static str,
    source: String,
    compiler: String,
    linker: String,
    configuration: String,
}

impl Key {
    /// Of the kernel that is built here for `arch`.
    ///
    /// # Errors
    /// When the source, the compiler or the linker is not installed.
    pub fn here(arch: Arch) -> Result<Self> {
        let tools = if arch == Arch::host() { "" } else { arch.tools() };
        let version = |program: &str| -> Result<String> {
            let program = format!("{tools}{program}");
            let output = Command::new(&program).arg("--version").env("LC_ALL", "C").output();
            let output = output.with_context(|| format!("Cannot run {program}"))?;
            Ok(version(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default()))
        };
        let source = recipe::inputs(arch)?.into_iter().find(|(name, _)| name == SOURCE_PACKAGE);
        let source = source.context("A kernel has a source")?.1;
        let edits: String =
            config::EDITS.iter().map(|edit| [edit.file, edit.from, edit.to].join("\0")).collect();
        let configuration = Sha256::digest(config::joined(arch) + &edits);
        Ok(Self {
            arch: arch.name(),
            source: String::from_utf8_lossy(&source).into_owned(),
            compiler: version("gcc")?,
            linker: version("ld")?,
            configuration: data_encoding::HEXLOWER.encode(&configuration[..8]),
        })
    }

    fn line(&self) -> String {
        [self.arch, &self.source, &self.compiler, &self.linker, &self.configuration].join(" ")
    }
}

/// Of the line in which a program says what it is, the version: Debian's in brackets, or else the last word.
fn version(line: &str) -> String {
    let words = |text: &str| text.split_whitespace().next_back().unwrap_or("none").to_owned();
    match line.split_once('(').and_then(|(_, rest)| rest.split_once(')')) {
        Some((brackets, _)) if brackets.starts_with("Debian ") => words(brackets),
        _ => words(line),
    }
}

/// The SHA-256 of a file.
///
/// # Errors
/// When it can't be read.
pub fn hash(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("Cannot read {}", file.display()))?;
    Ok(data_encoding::HEXLOWER.encode(&Sha256::digest(&bytes)))
}

/// What a kernel is, beside those before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same.
    Same,
    /// There was none of these inputs.
    Unknown,
    /// Another one.
    Other {
        /// The hash that is written down.
        expected: String,
        /// The hash that it has.
        found: String,
    },
}

/// The file's lines.
#[derive(Clone, Debug)]
pub struct Known(String);

impl Known {
    /// Those of the workspace in `root`.
    ///
    /// # Errors
    /// When the file can't be read, or a line of it is not one.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join(FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("Cannot read {}", path.display()))?;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            ensure!(line.split(' ').count() == 6, "A line of {FILE} is not one of a kernel: {line}");
        }
        Ok(Self(text))
    }

    /// What the kernel with `found` as its hash is.
    #[must_use]
    pub fn compare(&self, key: &Key, found: &str) -> Verdict {
        match self.of(key) {
            None => Verdict::Unknown,
            Some(expected) if expected == found => Verdict::Same,
            Some(expected) => Verdict::Other { expected: expected.to_owned(), found: found.to_owned() },
        }
    }

    fn of(&self, key: &Key) -> Option<&str> {
        let key = key.line();
        let lines = self.0.lines().filter_map(|line| line.rsplit_once(' '));
        lines.filter(|(known, _)| *known == key).map(|(_, hash)| hash).next_back()
    }

    /// Has `hash` for `key` from now on, in the file as well.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&mut self, root: &Path, key: &Key, hash: &str) -> Result<()> {
        let line = key.line();
        let other = |known: &&str| known.rsplit_once(' ').is_none_or(|(known, _)| known != line);
        let mut lines: Vec<&str> = self.0.lines().filter(other).collect();
        let new = format!("{line} {hash}");
        lines.push(&new);
        self.0 = lines.join("\n") + "\n";
        fs::write(root.join(FILE), &self.0).with_context(|| format!("Cannot write {FILE}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(configuration: &str) -> Key {
        let [source, compiler, linker] = ["6.12-1", "12.2.0-14", "2.40"].map(str::to_owned);
        Key { arch: "x86_64", source, compiler, linker, configuration: configuration.to_owned() }
    }

    #[test]
    fn another_kernel_of_the_same_inputs_is_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("guest/kernel")).unwrap();
        fs::write(folder.path().join(FILE), "# inputs, hash\nx86_64 6.12-1 12.2.0-14 2.40 aa 11\n").unwrap();
        let mut known = Known::read(folder.path()).unwrap();
        assert_eq!(known.compare(&key("aa"), "11"), Verdict::Same);
        assert_eq!(known.compare(&key("bb"), "11"), Verdict::Unknown);
        let other = Verdict::Other { expected: "11".into(), found: "22".into() };
        assert_eq!(known.compare(&key("aa"), "22"), other);
        known.write(folder.path(), &key("bb"), "33").unwrap();
        known.write(folder.path(), &key("aa"), "22").unwrap();
        let again = Known::read(folder.path()).unwrap();
        assert_eq!(again.compare(&key("aa"), "22"), Verdict::Same);
        assert_eq!(again.compare(&key("bb"), "33"), Verdict::Same);
        assert_eq!(again.0.lines().count(), 3, "{}", again.0);
    }

    #[test]
    fn versions_are_words() {
        assert_eq!(version("gcc (Debian 12.2.0-14+deb12u1) 12.2.0"), "12.2.0-14+deb12u1");
        assert_eq!(version("GNU ld (GNU Binutils for Debian) 2.40"), "2.40");
        assert_eq!(version("cc 3.4"), "3.4");
    }

    #[test]
    fn the_file_of_this_workspace_can_be_read() {
        let known = Known::read(&crate::dev::Project::here().root).unwrap();
        assert!(
            known.0.lines().any(|line| line.starts_with("x86_64 ")),
            "{} {:?}",
            known.0,
            Key::here(Arch::host())
        );
    }
}
