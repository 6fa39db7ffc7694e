//! Runs cases, each in an empty directory of its own, and tells of what was otherwise.

use std::{collections::BTreeMap, env, fs, os::fd::OwnedFd, path::Path, thread, time::Duration};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setegid, seteuid, setgroups};
use rustix::fs::{AtFlags, CWD, Mode, statat};
use rustix::process;

use crate::calls;
use crate::table::{self, Line};

/// A clock's tick is at most this (`CONFIG_HZ=100`): what happens after it has another time.
const TICK: Duration = Duration::from_millis(11);

/// Where cases run, and what came of them.
#[derive(Debug)]
pub struct Runner {
    area: String,
    case: String,
    count: usize,
    /// What is held open, by its name.
    pub open: BTreeMap<String, OwnedFd>,
}

impl Runner {
    /// Nothing was asked yet.
    pub fn new(area: &str) -> Self {
        Self { area: area.to_owned(), case: String::new(), count: 0, open: BTreeMap::new() }
    }

    /// How many promises were looked at.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Runs one of `programs`.
    pub fn program(&mut self, program: &dyn Fn(&mut Runner) -> Result<()>) -> Result<()> {
        self.case = "all of it".to_owned();
        let came = program(self);
        become_root()?;
        if let Err(error) = came {
            self.holds("it comes to its end", || Err(format!("{error:#}")));
        }
        Ok(())
    }

    /// Notes whether a promise is kept.
    pub fn holds(&mut self, what: &str, kept: impl FnOnce() -> Result<(), String>) {
        self.count += 1;
        if let Err(found) = kept() {
            println!("FAIL {}: {}: {what}: {found}", self.area, self.case);
        }
    }

    /// Notes whether `found` is `expected`.
    #[allow(clippy::needless_pass_by_value, reason = "callers have values")]
    pub fn is<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, expected: T) {
        self.holds(what, || if found == expected { Ok(()) } else { Err(format!("{found:?}")) });
    }

    /// Notes whether `result` is that error.
    pub fn fails<T, E: Into<std::io::Error>>(&mut self, what: &str, result: Result<T, E>, errno: Errno) {
        let found = result.err().and_then(|error| error.into().raw_os_error()).map(Errno::from_raw);
        self.is(what, found, Some(errno));
    }

    fn line(&mut self, line: &Line) {
        let text = line.text.clone();
        let found = self.outcome(line);
        self.holds(&short(&text), || found);
    }

    fn outcome(&mut self, line: &Line) -> Result<(), String> {
        let before: Vec<_> = line.times.iter().map(|(name, ..)| stamps(name)).collect();
        if !before.is_empty() {
            thread::sleep(TICK);
        }
        let found = self.call(line).map_err(|error| format!("{error:#}"))?;
        let expected: Result<&str, &str> = match line.outcome.as_str() {
            error if is_errno(error) => Err(error),
            other => Ok(other),
        };
        match (&found, expected) {
            (Ok(_), Ok("")) => {}
            (Ok(found), Ok("''")) if found.is_empty() => {}
            (Ok(found), Ok(expected)) if found == expected => {}
            (Err(found), Err(expected)) if format!("{found:?}") == expected => {}
            (Ok(found), _) => return Err(format!("it told {found:?}")),
            (Err(errno), _) => return Err(format!("{errno:?}")),
        }
        for ((name, which, changes), before) in line.times.iter().zip(before) {
            let (before, after) = (before?, stamps(name)?);
            for of in which.chars() {
                let (before, after) = (before.get(&of), after.get(&of));
                // A link has no time of its own last; the files' clock never goes backwards.
                if (before < after) != *changes {
                    return Err(format!("{of} of {name} was {before:?} and is {after:?}"));
                }
            }
        }
        Ok(())
    }

    /// Calls as who is to call, and comes back to root.
    fn call(&mut self, line: &Line) -> Result<Result<String, Errno>> {
        if let Some((user, group, groups)) = &line.caller {
            become_user(*user, *group, groups)?;
        }
        let found = calls::call(self, &line.verb, &line.arguments);
        if line.caller.is_some() {
            become_root()?;
        }
        found
    }
}

/// Until [`become_root`].
pub fn become_user(user: u32, group: u32, others: &[u32]) -> Result<()> {
    become_root()?;
    let others: Vec<Gid> = others.iter().copied().map(Gid::from_raw).collect();
    setgroups(&others).context("setgroups")?;
    setegid(Gid::from_raw(group)).context("setegid")?;
    seteuid(Uid::from_raw(user)).context("seteuid")
}

/// With all that root may.
pub fn become_root() -> Result<()> {
    seteuid(Uid::from_raw(0)).context("seteuid")?;
    setegid(Gid::from_raw(0)).context("setegid")?;
    setgroups(&[]).context("setgroups")
}

/// Modification and status times.
fn stamps(name: &str) -> Result<BTreeMap<char, (i64, u64)>, String> {
    let stat = statat(CWD, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| format!("{name}: {error}"))?;
    let of = |seconds, nanoseconds| (seconds, nanoseconds);
    Ok([('m', of(stat.st_mtime, stat.st_mtime_nsec)), ('c', of(stat.st_ctime, stat.st_ctime_nsec))].into())
}

fn is_errno(word: &str) -> bool {
    word.starts_with('E')
        && word.len() > 2
        && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}

/// Long names tell nothing.
fn short(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.char_indices().nth(40) {
        Some((at, _)) => format!("{}…({})", &word[..at], word.len()),
        None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Runs a table: each case in a directory of its own in `work`, or all where we are.
pub fn table(runner: &mut Runner, text: &str, work: Option<&Path>) -> Result<()> {
    for case in table::parse(text)? {
        let mut lines = |runner: &mut Runner| {
            runner.case.clone_from(&case.title);
            case.lines.iter().for_each(|line| runner.line(line));
            Ok(())
        };
        match work {
            Some(work) => apart(runner, work, &mut lines)?,
            None => lines(runner)?,
        }
        runner.open.clear();
        process::umask(Mode::from_raw_mode(0o022));
    }
    Ok(())
}

/// Runs something in an empty directory, which is removed with all that it then has.
pub fn apart(runner: &mut Runner, work: &Path, of: &mut dyn FnMut(&mut Runner) -> Result<()>) -> Result<()> {
    let place = work.join("case");
    fs::create_dir(&place)?;
    env::set_current_dir(&place)?;
    of(runner)?;
    runner.open.clear();
    env::set_current_dir(work)?;
    fs::remove_dir_all(&place).context("what the case has left can't be removed")
}
