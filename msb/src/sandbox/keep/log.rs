//! What a sandbox's first process writes, line by line, in two files of bounded length: when the one is full it takes the
//! other's place, and the oldest lines are gone.
//!
//! A line is `{"t":NANOSECONDS,"s":1,"m":"TEXT"}`; a file begins with `{"base":N}`, the number of bytes that were written
//! before it. So a place in the log is one number that goes on when files change, which is what who follows the log needs.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::sandbox::{Line, Logs, Since, Stream};

/// Bytes of a file, after which the next one is begun.
const FULL: u64 = 8 << 20;
/// Bytes of a line, after which it is broken, as Docker does.
const LINE: usize = 16 << 10;
/// How often who reads may find that the files have changed places meanwhile.
const CHANGES: u32 = 10;
/// What one answer has of lines and bytes.
const ANSWER: (usize, usize) = (1000, 1 << 20);

#[derive(Serialize, Deserialize)]
struct Head {
    base: u64,
}

#[derive(Serialize, Deserialize)]
struct Written {
    t: u64,
    s: u8,
    m: String,
}

/// A log that is written to.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    length: u64,
    base: u64,
}

impl Log {
    /// The one at `path`, which goes on where it ended.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let open = match Part::open(path)? {
            Some(Part { base, .. }) => {
                let file = OpenOptions::new().append(true).open(path)?;
                Open { length: file.metadata()?.len(), file, base }
            }
            // Who wrote it may have been killed between two files: places go on all the same.
            None => begin(path, Part::open(&older(path))?.map_or(Ok(0), |part| part.end())?)?,
        };
        Ok(Self { path: path.to_owned(), file: Mutex::new(open) })
    }

    fn append(&self, lines: &str) -> io::Result<()> {
        let mut open = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if open.length > FULL {
            fs::rename(&self.path, older(&self.path))?;
            *open = begin(&self.path, open.base + open.length)?;
        }
        open.file.write_all(lines.as_bytes())?;
        open.length += lines.len() as u64;
        Ok(())
    }
}

fn begin(path: &Path, base: u64) -> io::Result<Open> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    let head = format!("{}\n", serde_json::to_string(&Head { base })?);
    file.write_all(head.as_bytes())?;
    Ok(Open { file, length: head.len() as u64, base })
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("old")
}

/// One of the two files.
#[derive(Debug)]
struct Part {
    file: File,
    /// The number of bytes before it.
    base: u64,
}

impl Part {
    /// None: it is not there, or not a log.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut line = String::new();
        let read = BufReader::new((&file).take(100)).read_line(&mut line);
        let head = read.ok().and_then(|_| serde_json::from_str(&line).ok());
        Ok(head.map(|Head { base }| Self { file, base }))
    }

    /// Behind its last byte, as a place in the log.
    fn end(&self) -> io::Result<u64> {
        Ok(self.base + self.file.metadata()?.len())
    }

    /// Both, in their order, as they were at one moment: were the one opened before and the other after it, what lies between
    /// would be in neither. `opened` is called between the two.
    fn both(path: &Path, mut opened: impl FnMut()) -> io::Result<Vec<Self>> {
        let mut tries = 0;
        loop {
            tries += 1;
            let before = inode(&older(path))?;
            let first = Self::open(&older(path))?;
            opened();
            let second = Self::open(path)?;
            // Each change is of megabytes: who writes so fast overtakes every reader.
            if inode(&older(path))? == before || tries == CHANGES {
                return Ok(first.into_iter().chain(second).collect());
            }
        }
    }
}

/// Which file has that name; none: there is none.
fn inode(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => Ok(Some(found?.ino())),
    }
}

/// The lines of one stream, as they come.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    log: &'a Log,
    stream: u8,
    rest: Vec<u8>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(log: &'a Log, stream: Stream) -> Self {
        Self { log, stream: if stream == Stream::Stdout { 1 } else { 2 }, rest: Vec::new() }
    }

    /// Takes some output. That the log can't be written, as on a full disk, must not end the sandbox.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let now = now();
        let (mut text, mut from) = (String::new(), 0);
        while let Some(end) = self.rest[from..].iter().position(|byte| *byte == b'\n') {
            self.line(&mut text, now, from, from + end);
            from += end + 1;
        }
        while self.rest.len() - from >= LINE {
            self.line(&mut text, now, from, from + LINE);
            from += LINE;
        }
        self.rest.drain(..from);
        if !text.is_empty() {
            let _ = self.log.append(&text);
        }
    }

    fn line(&self, text: &mut String, now: u64, from: usize, to: usize) {
        let line = String::from_utf8_lossy(&self.rest[from..to]);
        let line = Written { t: now, s: self.stream, m: line.trim_end_matches('\r').to_owned() };
        // Numbers and a string: it always has its JSON.
        text.push_str(&serde_json::to_string(&line).unwrap_or_default());
        text.push('\n');
    }
}

impl Drop for Lines<'_> {
    fn drop(&mut self) {
        if !self.rest.is_empty() {
            self.take(b"\n");
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Some lines of the log at `path`; of one that was never begun, none.
///
/// # Errors
/// The system's.
pub fn read(path: &Path, since: Since) -> io::Result<Logs> {
    read_of(Part::both(path, || {})?, since)
}

fn read_of(parts: Vec<Part>, since: Since) -> io::Result<Logs> {
    let mut all = Vec::new();
    let after = match since {
        Since::After(place) => place,
        Since::Beginning | Since::Last(_) => 0,
    };
    let mut next = after;
    for part in parts {
        next = next.max(read_part(&part, after, &mut all)?);
    }
    let from = match since {
        Since::Last(count) => all.len().saturating_sub(count),
        Since::Beginning | Since::After(_) => 0,
    };
    let (mut lines, mut bytes) = (Vec::new(), 0);
    for line in all.drain(from..) {
        bytes += line.text.len();
        if lines.len() == ANSWER.0 || bytes > ANSWER.1 {
            break;
        }
        next = line.next;
        lines.push(line);
    }
    Ok(Logs { lines, next })
}

/// The lines of one file behind the place `after`; returns where its last whole line ends.
fn read_part(part: &Part, after: u64, to: &mut Vec<Line>) -> io::Result<u64> {
    let mut at = part.base.max(after.min(part.end()?));
    let mut reader = BufReader::new(&part.file);
    reader.seek(SeekFrom::Start(at - part.base))?;
    let mut text = String::new();
    loop {
        text.clear();
        let count = reader.read_line(&mut text)?;
        // A line that is just being written is read the next time.
        if !text.ends_with('\n') {
            return Ok(at);
        }
        at += count as u64;
        let Ok(Written { t, s, m }) = serde_json::from_str(&text) else { continue };
        let stream = if s == 2 { Stream::Stderr } else { Stream::Stdout };
        to.push(Line { at: UNIX_EPOCH + Duration::from_nanos(t), stream, text: m, next: at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(logs: &Logs) -> Vec<&str> {
        logs.lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn lines_come_back_in_order_and_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert_eq!(read(&path, Since::Beginning).unwrap(), Logs::default());
        let log = Log::open(&path).unwrap();
        let (mut out, mut err) = (Lines::new(&log, Stream::Stdout), Lines::new(&log, Stream::Stderr));
        out.take(b"one\r\ntw");
        err.take(b"bad \xff\n");
        out.take(b"o\n");
        let first = read(&path, Since::Beginning).unwrap();
        assert_eq!(texts(&first), ["one", "bad \u{fffd}", "two"]);
        assert_eq!(first.lines[1].stream, Stream::Stderr);
        assert_eq!(texts(&read(&path, Since::After(first.lines[0].next)).unwrap()), ["bad \u{fffd}", "two"]);
        assert_eq!(read(&path, Since::After(first.next)).unwrap(), Logs { lines: vec![], next: first.next });
        out.take(b"rest without end");
        drop(out);
        assert_eq!(texts(&read(&path, Since::After(first.next)).unwrap()), ["rest without end"]);
        assert_eq!(texts(&read(&path, Since::Last(1)).unwrap()), ["rest without end"]);
    }

    #[test]
    fn a_long_line_is_broken_and_a_full_log_forgets_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Log::open(&path).unwrap();
        let mut lines = Lines::new(&log, Stream::Stdout);
        lines.take(&[b'x'; LINE + 1]);
        assert_eq!(read(&path, Since::Beginning).unwrap().lines[0].text.len(), LINE);
        let before = read(&path, Since::Beginning).unwrap().next;
        for _ in 0..3 * FULL / LINE as u64 {
            lines.take(&[b'y'; LINE]);
        }
        let length = |path: &Path| fs::metadata(path).unwrap().len();
        assert!(length(&path) + length(&older(&path)) < 3 * FULL);
        let kept = read(&path, Since::After(before)).unwrap();
        assert!(kept.lines[0].next > before && kept.lines.len() <= ANSWER.0);
        // It goes on where it was when it is opened again.
        let end = read(&path, Since::Last(1)).unwrap().next;
        drop(lines);
        drop(log);
        let log = Log::open(&path).unwrap();
        Lines::new(&log, Stream::Stdout).take(b"later\n");
        assert_eq!(texts(&read(&path, Since::After(end)).unwrap()).last(), Some(&"later"));
    }

    #[test]
    fn who_follows_misses_nothing_when_files_change_places() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Log::open(&path).unwrap();
        let mut lines = Lines::new(&log, Stream::Stdout);
        let mut place = 0;
        while fs::metadata(&path).unwrap().len() <= FULL {
            place = fs::metadata(&path).unwrap().len();
            lines.take(&[b'y'; LINE]);
        }
        let mut changes = 0;
        let parts = Part::both(&path, || {
            changes += 1;
            if changes == 1 {
                lines.take(b"new\n");
            }
        });
        let logs = read_of(parts.unwrap(), Since::After(place)).unwrap();
        assert_eq!(texts(&logs).len(), 2, "{place}");
        assert_eq!(texts(&logs)[1], "new");
        // Killed between the two files.
        drop(lines);
        fs::rename(&path, older(&path)).unwrap();
        Lines::new(&Log::open(&path).unwrap(), Stream::Stdout).take(b"later\n");
        assert_eq!(texts(&read(&path, Since::After(logs.next)).unwrap()), ["later"]);
    }
}
