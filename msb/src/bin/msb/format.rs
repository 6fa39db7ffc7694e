//! What people read: tables, sizes, times, progress; or JSON for programs.

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::ValueEnum;
use msb_runtime::plain;
use serde::Serialize;
use serde_json::Value;

/// `--format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: one array or object.
    Json,
}

/// Prints rows below their headings, each column as wide as its widest cell.
///
/// # Errors
/// Of stdout.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    io::stdout().write_all(lined_up(headings, rows).as_bytes())
}

/// What is in the cells is a sandbox's, an image's or a user's.
fn lined_up(headings: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| plain::line(cell)).collect()).collect();
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(at, heading)| {
            let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            cells.chain([heading.len()]).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    let headings = headings.iter().map(ToString::to_string).collect();
    for row in std::iter::once(&headings).chain(&rows) {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// Prints JSON.
///
/// # Errors
/// Of stdout.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = plain::json(&serde_json::to_string_pretty(value)?);
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

/// Does something to each, prints the name of each where that went well, and tells what did not at the end of each.
///
/// # Errors
/// Never; the code says whether all went well.
pub fn each<T: Display>(all: &[T], act: impl Fn(&T) -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    tell_each(all, |one| act(one).map(|()| one.to_string()))
}

/// As [`each`], and prints what it gave.
///
/// # Errors
/// Never; the code says whether all went well.
pub fn tell_each<T>(all: &[T], act: impl Fn(&T) -> anyhow::Result<String>) -> anyhow::Result<ExitCode> {
    Ok(take_each(all, act, |text| println!("{}", plain::line(&text))))
}

/// As [`each`], and prints what all of them gave as JSON, in one array at the end.
///
/// # Errors
/// Of stdout; the code says whether all went well.
pub fn json_of_each<T>(all: &[T], act: impl Fn(&T) -> anyhow::Result<Value>) -> anyhow::Result<ExitCode> {
    let mut values = Vec::new();
    let code = take_each(all, act, |value| values.push(value));
    json(&values)?;
    Ok(code)
}

fn take_each<T, U>(all: &[T], act: impl Fn(&T) -> anyhow::Result<U>, mut take: impl FnMut(U)) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for one in all {
        match act(one) {
            Ok(given) => take(given),
            Err(error) => {
                eprintln!("msb: {}", msb_runtime::verbs::words::chain(error.as_ref()));
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// Bytes, with the power of 1024 that fits.
pub fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes, 0);
    let mut rest = 0;
    while value >= 1024 && unit < 4 {
        rest = value % 1024;
        value /= 1024;
        unit += 1;
    }
    let name = ["B", "KiB", "MiB", "GiB", "TiB"][unit];
    if unit == 0 || value >= 100 {
        format!("{value} {name}")
    } else {
        format!("{value}.{} {name}", rest * 10 / 1024)
    }
}

/// How long ago, in one unit.
pub fn ago(time: SystemTime) -> String {
    format!("{} ago", span(time.elapsed().unwrap_or_default()))
}

/// In one unit.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (number, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        assert_eq!(
            [size(0), size(1536), size(5 << 30), size(200 << 20)],
            ["0 B", "1.5 KiB", "5.0 GiB", "200 MiB"]
        );
        assert_eq!(span(Duration::from_secs(1)), "1 second");
        assert_eq!(span(Duration::from_secs(7200)), "2 hours");
    }

    #[test]
    fn a_table_steers_no_terminal() {
        let rows = [vec!["a\x1b[2Jb\n".to_owned(), "x".to_owned()]];
        assert_eq!(lined_up(&["ONE", "TWO"], &rows), "ONE       TWO\na?[2Jb?   x\n");
    }
}
