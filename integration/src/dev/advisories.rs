//! `cargo dev advisories`: what is known to be bad in what we depend on, by RustSec's database, which `cargo audit` reads too.
//!
//! In: the lock file, and the database where it can be reached, or a copy of it. Out: whether something in it is about us, and
//! how new the database is; or why nobody looked. It is not silent about the second: no database is not a clean one.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{Project, deny};

/// The database, as cargo-deny knows it.
const DATABASE: &str = "https://github.com/RustSec/advisory-db";
/// The exit code when nobody looked.
pub const SKIPPED: i32 = 3;
/// Who is not done with answering by then is out of reach, in seconds.
const PATIENCE: &str = "120";

/// What `advisories` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A copy of the database (a clone of its repository), where the original is out of reach
    #[arg(long, value_name = "DIR")]
    database: Option<PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advisories {
    /// Nothing is about us.
    Clean {
        /// The day of the database's newest entry.
        newest: String,
    },
    /// Something is; cargo-deny has printed it.
    Found,
    /// Nobody looked.
    Skipped {
        /// Why not.
        reason: String,
    },
}

/// Looks, and says what came of it; 0: nothing is about us, 1: something is, [`SKIPPED`]: nobody looked.
pub fn run(project: &Project, arguments: &Arguments) -> Result<i32> {
    Ok(match check(project, arguments.database.as_deref())? {
        Advisories::Clean { newest } => {
            println!("None of what is known up to {newest} is about us.");
            0
        }
        Advisories::Found => 1,
        Advisories::Skipped { reason } => {
            println!("skipped: {reason}");
            SKIPPED
        }
    })
}

/// Looks into the original, or into `copy`.
pub fn check(project: &Project, copy: Option<&Path>) -> Result<Advisories> {
    let git = Command::new("git").arg("--version").output();
    if !git.is_ok_and(|output| output.status.success()) {
        return Ok(Advisories::Skipped { reason: "there is no git, which fetches the database".into() });
    }
    let folder = tempfile::tempdir().context("Cannot make a folder")?;
    let fetched = folder.path().join("database");
    let copy = match copy {
        Some(copy) => copy,
        // Here, and not by cargo-deny: who can't have it has found nothing.
        None => {
            if let Err(reason) = fetch(DATABASE, &fetched) {
                let reason =
                    format!("{DATABASE} is out of reach ({reason}); a copy can be named with --database");
                return Ok(Advisories::Skipped { reason });
            }
            &fetched
        }
    };
    let newest = newest(copy)?;
    look(project, &deny::program(project)?, copy, &newest)
}

/// Runs cargo-deny over a clone of its own.
fn look(project: &Project, program: &Path, copy: &Path, newest: &str) -> Result<Advisories> {
    let ours = project.root.join(deny::CONFIGURATION);
    let mut text = fs::read_to_string(&ours).with_context(|| format!("Cannot read {}", ours.display()))?;
    // `[advisories]` is the last section there. Copies have a clone apart: one that was old must not pass for the original.
    let clones = tempfile::tempdir().context("Cannot make a folder")?;
    text += &format!("db-path = {:?}\n", clones.path().join("clones"));
    let mut configuration = tempfile::NamedTempFile::new().context("Cannot make a file")?;
    configuration.write_all(text.as_bytes()).context("Cannot write a file")?;
    let mut command = deny::command(program, &project.root, configuration.path());
    command.arg("advisories").env("GIT_TERMINAL_PROMPT", "0");
    // It takes no path for a database: git does for it.
    let copy = fs::canonicalize(copy).with_context(|| format!("Cannot find {}", copy.display()))?;
    let key = format!("url.file://{}.insteadOf", copy.display());
    command.envs([("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", &key), ("GIT_CONFIG_VALUE_0", DATABASE)]);
    let clean = command.status().context("Cannot run cargo-deny")?.success();
    Ok(if clean { Advisories::Clean { newest: newest.to_owned() } } else { Advisories::Found })
}

/// The day of the newest entry of a copy, which an old one must not hide.
fn newest(copy: &Path) -> Result<String> {
    let output = Command::new("git").arg("-C").arg(copy).args(["log", "-1", "--format=%cs", "main"]).output();
    let output = output.context("Cannot run git")?;
    let there = output.status.success() && copy.join("crates").is_dir();
    ensure!(there, "{} is no clone of {DATABASE} with a branch `main`", copy.display());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The newest of a repository; else what git says.
fn fetch(repository: &str, to: &Path) -> Result<(), String> {
    let mut command = Command::new("timeout");
    command.args([PATIENCE, "git", "clone", "--quiet", "--depth=1", "--branch=main", repository]).arg(to);
    let output = command.env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().lines().next_back().map(str::to_owned);
    Err(said.unwrap_or_else(|| "no answer".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database of one entry, about all versions of `name` from `bad` on.
    fn database(at: &Path, name: &str) {
        let folder = at.join("crates").join(name);
        fs::create_dir_all(&folder).unwrap();
        let entry = format!(
            "```toml\n[advisory]\nid = \"RUSTSEC-2026-9999\"\npackage = \"{name}\"\ndate = \"2026-01-01\"\n\n\
             [versions]\npatched = []\n```\n\n# Made up\n\nFor a test.\n"
        );
        fs::write(folder.join("RUSTSEC-2026-9999.md"), entry).unwrap();
        for line in [
            &["init", "--quiet", "--initial-branch=main"][..],
            &["add", "."],
            &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=one"],
        ] {
            let status = Command::new("git").arg("-C").arg(at).args(line).status().unwrap();
            assert!(status.success(), "{line:?}");
        }
    }

    #[test]
    fn what_a_database_says_of_us_is_found_and_of_others_is_not() {
        let project = Project::here();
        let Some(program) = deny::at_hand(&project) else {
            return test_skips::skip("there is no cargo-deny here; `cargo dev test` builds it");
        };
        let folder = tempfile::tempdir().unwrap();
        for (name, found) in [("vm-memory", true), ("of-somebody-else", false)] {
            let at = folder.path().join(name);
            database(&at, name);
            let newest = newest(&at).unwrap();
            let looked = look(&project, &program, &at, &newest).unwrap();
            let expected = if found { Advisories::Found } else { Advisories::Clean { newest } };
            assert_eq!(looked, expected, "{name}");
        }
    }

    #[test]
    fn what_is_no_database_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let error = check(&Project::here(), Some(folder.path())).unwrap_err();
        assert!(error.to_string().contains("no clone of"), "{error}");
        let nowhere = format!("file://{}", folder.path().display());
        let fetched = fetch(&nowhere, &folder.path().join("database"));
        assert!(fetched.unwrap_err().contains("repository"), "not {nowhere}");
    }
}
