//! What runc has answered, kept beside the tests: half of the time of a comparison is runc's.
//!
//! Enters: a step as it is now. Leaves: runc's answer to just that on a host of this recipe, if there is one. An answer that
//! is kept only makes a pass quicker: where ours differs, runc is asked again, in that host. `cargo dev test --with-runc` asks
//! it always, and writes the answers.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use integration::check::ALL_VARIABLE;
use integration::dev::cache::Inputs;
use integration::host::{fixture, image};
use serde::{Deserialize, Serialize};

/// Of one list of steps.
#[derive(Debug)]
pub struct Answers {
    path: PathBuf,
    kept: BTreeMap<String, Answer>,
    fresh: BTreeMap<String, Answer>,
}

/// To one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    /// Of all that decides it.
    hash: String,
    /// Its lines, to be read in a difference of versions.
    lines: Vec<String>,
}

impl Answers {
    /// Those to the list `name`.
    pub fn of(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/contract/by-runc");
        Self::read(folder.join(name).with_extension("json"))
    }

    fn read(path: PathBuf) -> Self {
        let kept = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).expect("the answers of runc can be read"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => panic!("{}: {error}", path.display()),
        };
        Self { path, kept, fresh: BTreeMap::new() }
    }

    /// What it said when all that `script` and the host are was as it is.
    pub fn kept(&self, step: &str, script: &str) -> Option<String> {
        let answer = self.kept.get(step).filter(|answer| answer.hash == hash(script))?;
        Some(answer.lines.join("\n"))
    }

    /// What it has said just now.
    pub fn add(&mut self, step: &str, script: &str, said: &str) {
        let lines = said.split('\n').map(str::to_owned).collect();
        self.fresh.insert(step.to_owned(), Answer { hash: hash(script), lines });
    }

    /// Keeps what was added, and nothing else: steps that are no more are forgotten.
    pub fn write(&self) {
        let text = serde_json::to_string_pretty(&self.fresh).expect("text can be written as JSON");
        let folder = self.path.parent().expect("a list has a folder");
        fs::create_dir_all(folder).expect("there is room for a folder");
        let mut file = tempfile::NamedTempFile::new_in(folder).expect("there is room for a file");
        std::io::Write::write_all(&mut file, (text + "\n").as_bytes()).expect("there is room for a list");
        file.as_file().sync_all().expect("there is room for a list");
        file.persist(&self.path).expect("a file can have a name");
    }
}

/// Whether runc is asked for everything.
pub fn all_are_asked() -> bool {
    std::env::var_os(ALL_VARIABLE).is_some()
}

/// Of the script and the host's recipe.
fn hash(script: &str) -> String {
    let inputs = Inputs::default().text(script);
    let inputs = image::inputs().into_iter().fold(inputs, Inputs::text);
    fixture::inputs().into_iter().fold(inputs, Inputs::text).hash()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_as_long_as_its_script_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("by-runc/list.json");
        let mut answers = Answers::read(path.clone());
        answers.add("one", "echo 1", "== stdout\n1\n");
        answers.add("two", "echo 2", "2");
        answers.write();
        let mut answers = Answers::read(path.clone());
        assert_eq!(answers.kept("one", "echo 1").as_deref(), Some("== stdout\n1\n"));
        assert_eq!(answers.kept("one", "echo 2"), None);
        assert_eq!(answers.kept("three", "echo 1"), None);
        answers.add("two", "echo 2", "2");
        answers.write();
        assert_eq!(Answers::read(path).kept("one", "echo 1"), None);
    }
}
