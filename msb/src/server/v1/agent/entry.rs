//! What `stat` says of a file.

use serde::Serialize;

/// A file, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    pub path: String,
    kind: &'static str,
    size: u64,
    mode: u32,
    modified: Option<i64>,
    uid: u32,
    gid: u32,
    atime: Option<i64>,
    mtime: Option<i64>,
}

/// For `stat -c`, of coreutils as of busybox: st_mode in hexadecimal, and the rest in decimal; a mark before the name, which
/// may have anything in it.
pub(super) const FORMAT: &str = "%f %s %u %g %X %Y /%n";

/// Bits of st_mode that say what it is (inode(7)).
const KIND: u32 = 0o170_000;

/// The files that `stat` told of. Those in a directory have its path, and their own last component; a line that is no file
/// is the rest of a name with a line's end in it.
pub(super) fn entries(text: &str, directory: Option<&str>) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    for line in text.lines() {
        match (entry(line), found.last_mut()) {
            (Some(entry), _) => found.push(entry),
            (None, Some(last)) => {
                last.path.push('\n');
                last.path.push_str(line);
            }
            (None, None) => {}
        }
    }
    if let Some(directory) = directory {
        for entry in &mut found {
            let name = entry.path.rsplit('/').next().unwrap_or_default();
            entry.path = format!("{}/{name}", directory.trim_end_matches('/'));
        }
    }
    found
}

fn entry(line: &str) -> Option<Entry> {
    let (numbers, path) = line.split_once(" /")?;
    let mut numbers = numbers.split(' ');
    let mode = u32::from_str_radix(numbers.next()?, 16).ok()?;
    let size = numbers.next()?.parse().ok()?;
    let (uid, gid) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    let (atime, mtime) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    let kind = match mode & KIND {
        0o100_000 => "file",
        0o040_000 => "dir",
        0o120_000 => "symlink",
        _ => "other",
    };
    let all = numbers.next().is_none();
    all.then(|| Entry {
        path: path.to_owned(),
        kind,
        size,
        mode,
        modified: Some(mtime),
        uid,
        gid,
        atime: Some(atime),
        mtime: Some(mtime),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_may_have_anything_in_them() {
        let text = "81a4 3 0 0 5 6 /x//a b\n41ed 4096 1 2 7 8 /x//c\nd\na1ff 1 0 0 1 1 /x//l\n";
        let found = entries(text, Some("/x/"));
        let told: Vec<_> = found.iter().map(|entry| (entry.path.as_str(), entry.kind, entry.size)).collect();
        assert_eq!(told, [("/x/a b", "file", 3), ("/x/c\nd", "dir", 4096), ("/x/l", "symlink", 1)]);
        assert_eq!((found[1].uid, found[1].gid, found[1].mtime), (1, 2, Some(8)));
    }

    proptest! {
        #[test]
        fn what_a_sandbox_says_is_never_more_than_entries(text in "[0-9a-f /\n.]{0,200}|.*") {
            prop_assert!(entries(&text, Some("/d")).iter().all(|entry| entry.path.starts_with("/d/")));
        }
    }
}
