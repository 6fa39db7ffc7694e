//! The files of a cgroup: bounded reads, and the formats that the kernel has for them (cgroup-v2.rst, "Interface Files").

use std::fs::File;
use std::io::{self, Read, Write};

use msb_agent::protocol::Amount;

/// Longest file that is read. `memory.stat`, the longest of them, has some 2 KiB.
const LENGTH: u64 = 64 << 10;

/// The directory of a cgroup.
#[derive(Debug, Clone)]
pub struct Files(pub String);

impl Files {
    /// Reads one of its files.
    pub fn read(&self, name: &str) -> io::Result<String> {
        read_path(&self.path(name))
    }

    /// Writes one, in one call.
    pub fn write(&self, name: &str, value: &str) -> io::Result<()> {
        write_path(&self.path(name), value)
    }

    /// Where one is.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }
}

/// Reads a file of the kernel's.
pub fn read_path(path: &str) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LENGTH).read_to_string(&mut text)?;
    Ok(text)
}

/// Writes a file of the kernel's, in one call; it must exist.
pub fn write_path(path: &str, value: &str) -> io::Result<()> {
    let count = File::options().write(true).open(path)?.write(value.as_bytes())?;
    if count == value.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// "Flat keyed": a word and a number on each line. Lines of another form are left out.
pub fn flat_keyed(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

/// The number after `key`, 0 where there is none.
pub fn value(text: &str, key: &str) -> u64 {
    flat_keyed(text).find(|(found, _)| *found == key).map_or(0, |(_, value)| value)
}

/// A number or `max`.
pub fn amount(text: &str) -> Option<Amount> {
    match text.trim() {
        "max" => Some(Amount::Unlimited),
        number => number.parse().ok().map(Amount::Of),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_formats() {
        let text = "low 0\nhigh 3\nbroken\nmax x\noom_kill 7\n";
        assert_eq!(flat_keyed(text).collect::<Vec<_>>(), [("low", 0), ("high", 3), ("oom_kill", 7)]);
        assert_eq!((value(text, "oom_kill"), value(text, "oom"), value(text, "max")), (7, 0, 0));
        assert_eq!(amount("max\n"), Some(Amount::Unlimited));
        assert_eq!(amount("67108864\n"), Some(Amount::Of(64 << 20)));
        assert_eq!(amount(""), None);
    }
}
