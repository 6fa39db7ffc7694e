//! What POSIX and Linux promise of a file system, asked of one directory inside a container.
//!
//! `guest-posix DIRECTORY READ-ONLY [AREA…]`, as root with Docker's capabilities. DIRECTORY can be written to, by root alone;
//! READ-ONLY is a directory of a read-only mount with a file `f`, a directory `d`, a symbolic link `s` and a fifo `p`. Of
//! areas, all are asked, or those that begin with one of these words.
//!
//! Most of it is tables (`tables/`, whose language is told in `table.rs`): a line is a call and its outcome. What needs more
//! than one call in a row is a function of `programs/`. Leaves: `FAIL AREA: CASE: what` for each promise that is not kept,
//! and last `COUNT promises`. `tests/e2e/posix.rs` starts it and knows what may fail.

mod calls;
mod programs;
mod run;
mod table;

use std::{env, fs, path::Path};

use anyhow::{Context, Result};
use rustix::{fs::Mode, process};

use run::Runner;

/// Each runs in DIRECTORY.
const TABLES: &[(&str, &str)] = &[
    ("paths", include_str!("tables/paths.txt")),
    ("open", include_str!("tables/open.txt")),
    ("chmod", include_str!("tables/chmod.txt")),
    ("chown", include_str!("tables/chown.txt")),
    ("truncate", include_str!("tables/truncate.txt")),
    ("link", include_str!("tables/link.txt")),
    ("make", include_str!("tables/make.txt")),
    ("remove", include_str!("tables/remove.txt")),
    ("rename", include_str!("tables/rename.txt")),
    ("times", include_str!("tables/times.txt")),
    ("attributes", include_str!("tables/attributes.txt")),
];

const READ_ONLY: (&str, &str) = ("read-only", include_str!("tables/read-only.txt"));

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    if let Some(word) = env::args().nth(1).as_deref()
        && programs::itself(word)?
    {
        return Ok(());
    }
    let usage = "usage: guest-posix DIRECTORY READ-ONLY [AREA…]";
    let (directory, read_only) = (arguments.next().context(usage)?, arguments.next().context(usage)?);
    let areas: Vec<String> = arguments.collect();
    let work = Path::new(&directory).join("posix");
    fs::create_dir(&work)?;
    process::umask(Mode::from_raw_mode(0o022));
    let mut count = 0;
    let mut area = |name: &str, of: &mut dyn FnMut(&mut Runner) -> Result<()>| -> Result<()> {
        if !areas.is_empty() && !areas.iter().any(|area| name.starts_with(area.as_str())) {
            return Ok(());
        }
        let mut runner = Runner::new(name);
        of(&mut runner).with_context(|| format!("in {name}"))?;
        count += runner.count();
        Ok(())
    };
    for (name, text) in TABLES {
        area(name, &mut |runner| run::table(runner, text, Some(&work)))?;
    }
    area(READ_ONLY.0, &mut |runner| {
        env::set_current_dir(&read_only)?;
        run::table(runner, READ_ONLY.1, None)
    })?;
    for (name, program) in programs::ALL {
        area(name, &mut |runner| run::apart(runner, &work, &mut |runner| runner.program(program)))?;
    }
    env::set_current_dir("/")?;
    fs::remove_dir(&work)?;
    println!("{count} promises");
    Ok(())
}
