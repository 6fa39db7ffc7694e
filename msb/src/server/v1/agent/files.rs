//! Files of a sandbox: each question is a few commands of its own shell, run as its root. What they are about is passed as
//! arguments and never as a part of what the shell reads.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    entry::{Entry, FORMAT, entries},
    frame::{Data, Piece, message},
    session::{Heard, hear},
};
use crate::{
    sandbox::{Exec, Failure, Key},
    server::{
        app::App,
        process::{Next, Process, Side, buffers},
    },
};

/// A question.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    op: Op,
}

#[derive(Debug, Deserialize)]
enum Op {
    RealPath { path: String },
    Stat { path: String, follow_symlink: bool },
    SetStat { path: String, follow_symlink: bool, attrs: Attributes },
    List { path: String },
    ReadLink { path: String },
    Symlink { target: String, link_path: String },
    Mkdir { path: String, mode: Option<u32> },
    Remove { path: String },
    RemoveDir { path: String, recursive: bool },
    Copy { src: String, dst: String },
    Rename { src: String, dst: String },
    OpenFile { path: String, options: Options },
    OpenDir { path: String },
    CloseHandle { handle: u64 },
    Read { handle: u64, offset: u64, len: Option<u64> },
    Write { handle: u64, offset: u64 },
    ReadDir { handle: u64, limit: Option<u32> },
    FStat { handle: u64 },
    FSetStat { handle: u64, attrs: Attributes },
}

#[derive(Debug, Default, Deserialize)]
struct Attributes {
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    size: Option<u64>,
    atime: Option<i64>,
    mtime: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "as open(2) has them, and the protocol")]
struct Options {
    #[serde(default)]
    read: bool,
    #[serde(default)]
    write: bool,
    #[serde(default)]
    append: bool,
    #[serde(default)]
    create: bool,
    #[serde(default)]
    truncate: bool,
    #[serde(default)]
    create_new: bool,
    mode: Option<u32>,
}

/// An answer.
#[derive(Debug, Serialize)]
struct Response {
    ok: bool,
    error: Option<String>,
    data: Option<Found>,
}

#[derive(Debug, Serialize)]
enum Found {
    Stat(Entry),
    List(Vec<Entry>),
    Handle(u64),
    Path(String),
}

/// What a client opened.
#[derive(Default)]
pub(super) struct Handles {
    open: Mutex<(u64, BTreeMap<u64, Handle>)>,
}

#[derive(Clone)]
struct Handle {
    path: String,
    append: bool,
    /// Of a directory: what was not told yet.
    left: Option<Vec<Entry>>,
}

/// Handles of one client at once.
const HANDLES: usize = 1024;
/// Bytes of an answer that is held as a whole: a listing.
const LARGEST: usize = 3 << 20;
/// For a question about files: most take no time, and a file that is written to its client's pace has none.
const LIMIT: Duration = Duration::from_secs(3600);

impl Handles {
    fn with<T>(&self, what: impl FnOnce(&mut u64, &mut BTreeMap<u64, Handle>) -> T) -> T {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, all) = &mut *open;
        what(next, all)
    }

    fn add(&self, handle: Handle) -> Result<Option<Found>, String> {
        self.with(|next, all| {
            if all.len() >= HANDLES {
                return Err("Too many open files".into());
            }
            *next += 1;
            all.insert(*next, handle);
            Ok(Some(Found::Handle(*next)))
        })
    }

    fn get(&self, handle: u64) -> Result<Handle, String> {
        self.with(|_, all| all.get(&handle).cloned()).ok_or_else(|| "Bad file descriptor".into())
    }
}

/// Answers a question; what is read goes to `sender` before it, what is written comes from `told`.
pub(super) async fn run(
    app: &App,
    key: &Key,
    id: u32,
    request: Request,
    handles: &Handles,
    sender: &mpsc::Sender<Vec<u8>>,
    told: Heard,
) -> Vec<u8> {
    let shell = Shell { app, key, id, sender };
    let answered = tokio::time::timeout(LIMIT, shell.answer(request.op, handles, told)).await;
    let response = match answered.unwrap_or_else(|_| Err("Connection timed out".into())) {
        Ok(data) => Response { ok: true, error: None, data },
        Err(error) => Response { ok: false, error: Some(error), data: None },
    };
    message(id, "core.fs.response", true, &response)
}

struct Shell<'run> {
    app: &'run App,
    key: &'run Key,
    id: u32,
    sender: &'run mpsc::Sender<Vec<u8>>,
}

impl Shell<'_> {
    async fn answer(&self, op: Op, handles: &Handles, told: Heard) -> Result<Option<Found>, String> {
        match op {
            Op::RealPath { path } => {
                Ok(Some(Found::Path(self.line("readlink -f \"$1\"", &[&at(&path)]).await?)))
            }
            Op::ReadLink { path } => {
                let script = "[ -L \"$1\" ] || { echo 'Invalid argument' >&2; exit 1; }; readlink \"$1\"";
                Ok(Some(Found::Path(self.line(script, &[&at(&path)]).await?)))
            }
            Op::Stat { path, follow_symlink } => self.stat(&path, follow_symlink).await,
            Op::FStat { handle } => self.stat(&handles.get(handle)?.path, true).await,
            Op::SetStat { path, follow_symlink, attrs } => self.set(&path, follow_symlink, &attrs).await,
            Op::FSetStat { handle, attrs } => self.set(&handles.get(handle)?.path, true, &attrs).await,
            Op::List { path } => Ok(Some(Found::List(self.list(&path).await?))),
            Op::Symlink { target, link_path } => {
                self.done("ln -s -- \"$1\" \"$2\"", &[&target, &at(&link_path)]).await
            }
            Op::Mkdir { path, mode } => {
                let mode = mode.map_or_else(String::new, octal);
                let script = "mkdir -p \"$1\" && { [ -z \"$2\" ] || chmod \"$2\" \"$1\"; }";
                self.done(script, &[&at(&path), &mode]).await
            }
            Op::Remove { path } => {
                let script =
                    "[ ! -d \"$1\" ] || [ -L \"$1\" ] || { echo 'Is a directory' >&2; exit 1; }; rm \"$1\"";
                self.done(script, &[&at(&path)]).await
            }
            Op::RemoveDir { path, recursive } => {
                let script = "[ -d \"$1\" ] || { [ -e \"$1\" ] && echo 'Not a directory' >&2 || \
                              echo 'No such file or directory' >&2; exit 1; }; $2 \"$1\"";
                self.done(script, &[&at(&path), if recursive { "rm -r" } else { "rmdir" }]).await
            }
            // Onto what is there, and never into it (`-T`).
            Op::Copy { src, dst } => self.done("cp -a -T \"$1\" \"$2\"", &[&at(&src), &at(&dst)]).await,
            Op::Rename { src, dst } => self.done("mv -f -T \"$1\" \"$2\"", &[&at(&src), &at(&dst)]).await,
            Op::OpenFile { path, options } => {
                self.open(&path, &options).await?;
                handles.add(Handle { path, append: options.append, left: None })
            }
            Op::OpenDir { path } => {
                let left = Some(self.list(&path).await?);
                handles.add(Handle { path, append: false, left })
            }
            Op::CloseHandle { handle } => {
                handles.get(handle)?;
                handles.with(|_, all| all.remove(&handle));
                Ok(None)
            }
            Op::ReadDir { handle, limit } => {
                let limit = limit.map_or(usize::MAX, |limit| limit as usize);
                let taken = handles.with(|_, all| {
                    let left = all.get_mut(&handle)?.left.as_mut()?;
                    let rest = left.split_off(limit.min(left.len()));
                    Some(std::mem::replace(left, rest))
                });
                taken.map(|taken| Some(Found::List(taken))).ok_or_else(|| "Not a directory".into())
            }
            Op::Read { handle, offset, len } => {
                let path = at(&handles.get(handle)?.path);
                let (from, length) = ((within(offset)? + 1).to_string(), len.map(|len| len.to_string()));
                match length {
                    None if offset == 0 => self.read("cat \"$1\"", &[&path]).await,
                    None => self.read("tail -c \"+$2\" \"$1\"", &[&path, &from]).await,
                    Some(length) => {
                        self.read("tail -c \"+$2\" \"$1\" | head -c \"$3\"", &[&path, &from, &length]).await
                    }
                }
            }
            Op::Write { handle, offset } => {
                let Handle { path, append, .. } = handles.get(handle)?;
                // `<>` opens without a change, and `dd` moves in what both have.
                let script = if append {
                    "cat >>\"$1\""
                } else {
                    "{ dd bs=1 \"seek=$2\" count=0 conv=notrunc </dev/null 2>/dev/null; cat; } 1<>\"$1\""
                };
                self.write(script, &[&at(&path), &within(offset)?.to_string()], told).await
            }
        }
    }

    async fn stat(&self, path: &str, follow: bool) -> Result<Option<Found>, String> {
        let script = format!("stat {} -c '{FORMAT}' \"$1\"", if follow { "-L" } else { "" });
        let text = self.ask(&script, &[&at(path)]).await?;
        let mut found = entries(&text, None);
        let mut entry = found.pop().ok_or("The sandbox's stat says nothing that can be read")?;
        path.clone_into(&mut entry.path);
        Ok(Some(Found::Stat(entry)))
    }

    async fn list(&self, path: &str) -> Result<Vec<Entry>, String> {
        let script = format!(
            "[ -d \"$1\" ] || {{ [ -e \"$1\" ] && echo 'Not a directory' >&2 || \
             echo 'No such file or directory' >&2; exit 1; }}; \
             find \"$1/\" -mindepth 1 -maxdepth 1 -exec stat -c '{FORMAT}' {{}} +"
        );
        Ok(entries(&self.ask(&script, &[&at(path)]).await?, Some(path)))
    }

    async fn set(&self, path: &str, follow: bool, attrs: &Attributes) -> Result<Option<Found>, String> {
        let (path, still) = (at(path), if follow { "" } else { "-h" });
        let number = |number: Option<u32>| number.map_or_else(String::new, |number| number.to_string());
        if let Some(size) = attrs.size {
            self.done("truncate -s \"$2\" \"$1\"", &[&path, &size.to_string()]).await?;
        }
        if attrs.uid.is_some() || attrs.gid.is_some() {
            let owner = format!("{}:{}", number(attrs.uid), number(attrs.gid));
            self.done("chown $3 \"${2%:}\" \"$1\"", &[&path, &owner, still]).await?;
        }
        if let Some(mode) = attrs.mode {
            self.done("chmod \"$2\" \"$1\"", &[&path, &octal(mode)]).await?;
        }
        for (flag, time) in [("-a", attrs.atime), ("-m", attrs.mtime)] {
            if let Some(time) = time {
                self.done("touch -c $3 -d \"@$2\" \"$1\"", &[&path, &time.to_string(), flag]).await?;
            }
        }
        Ok(None)
    }

    /// As open(2) would, but for the descriptor.
    async fn open(&self, path: &str, options: &Options) -> Result<(), String> {
        let yes = |on: bool| if on { "1" } else { "" };
        let script = "[ ! -d \"$1\" ] || { echo 'Is a directory' >&2; exit 1; }
            [ -e \"$1\" ] && new= || new=1
            [ -z \"$2\" ] || [ -n \"$new\" ] || { echo 'File exists' >&2; exit 1; }
            [ -n \"$2$3\" ] || [ -z \"$new\" ] || { echo 'No such file or directory' >&2; exit 1; }
            [ -n \"$5\" ] || exec test -r \"$1\"
            if [ -n \"$4\" ]; then : >\"$1\"; else : >>\"$1\"; fi || exit 1
            [ -z \"$new\" ] || [ -z \"$6\" ] || chmod \"$6\" \"$1\"";
        let mode = options.mode.map_or_else(String::new, octal);
        let writes = options.write || options.append || !options.read;
        let arguments = [
            &*at(path),
            yes(options.create_new),
            yes(options.create),
            yes(options.truncate),
            yes(writes),
            &mode,
        ];
        self.done(script, &arguments).await.map(drop)
    }

    async fn done(&self, script: &str, arguments: &[&str]) -> Result<Option<Found>, String> {
        self.ask(script, arguments).await.map(|_| None)
    }

    async fn line(&self, script: &str, arguments: &[&str]) -> Result<String, String> {
        let text = self.ask(script, arguments).await?;
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }

    /// All that it says.
    async fn ask(&self, script: &str, arguments: &[&str]) -> Result<String, String> {
        let mut process = self.begin(script, arguments, false).await?;
        let mut all = Vec::new();
        follow(&mut process, &mut Taker::All(&mut all)).await?;
        Ok(String::from_utf8_lossy(&all).into_owned())
    }

    /// All that it says, as pieces to the client.
    async fn read(&self, script: &str, arguments: &[&str]) -> Result<Option<Found>, String> {
        let mut process = self.begin(script, arguments, false).await?;
        follow(&mut process, &mut Taker::Client(self.id, self.sender)).await?;
        Ok(None)
    }

    /// What its client says is what it reads.
    async fn write(&self, script: &str, arguments: &[&str], told: Heard) -> Result<Option<Found>, String> {
        let mut process = self.begin(script, arguments, true).await?;
        let mut heard = JoinSet::new();
        heard.spawn(hear(told, process.stdin.take(), process.running()));
        follow(&mut process, &mut Taker::Nobody).await?;
        Ok(None)
    }

    async fn begin(&self, script: &str, arguments: &[&str], stdin: bool) -> Result<Process, String> {
        if arguments.iter().any(|argument| argument.contains('\0')) {
            return Err("Invalid argument".into());
        }
        let args = [&["/bin/sh", "-c", script, "sh"], arguments].concat();
        let exec = Exec { user: Some("0".into()), env: vec!["LC_ALL=C".into()], ..Exec::of(&args) };
        Process::begin(&self.app.engine, self.key, exec, stdin)
            .await
            .map_err(|failure: Failure| failure.chain())
    }
}

/// Who gets what a process says.
enum Taker<'take> {
    All(&'take mut Vec<u8>),
    Client(u32, &'take mpsc::Sender<Vec<u8>>),
    Nobody,
}

impl Taker<'_> {
    /// False: it takes no more.
    async fn take(&mut self, piece: &[u8]) -> bool {
        match self {
            Self::All(all) => {
                all.extend_from_slice(piece);
                all.len() <= LARGEST
            }
            Self::Client(id, sender) => {
                let piece = Piece { data: Data(piece.to_vec()) };
                sender.send(message(*id, "core.fs.data", false, &piece)).await.is_ok()
            }
            Self::Nobody => true,
        }
    }
}

/// Reads a process to its end; what goes wrong is what it says of it.
async fn follow(process: &mut Process, taker: &mut Taker<'_>) -> Result<(), String> {
    let mut buffers = buffers();
    let mut open = [true; 2];
    let mut said = Vec::new();
    while open != [false; 2] {
        match process.next(&mut buffers, open).await.map_err(|error| error.to_string())? {
            Next::Read(side, 0) => open[side as usize] = false,
            Next::Read(Side::Out, read) => {
                if !taker.take(&buffers[0][..read]).await {
                    return Err("Value too large".into());
                }
            }
            Next::Read(Side::Err, read) => {
                said.extend_from_slice(&buffers[1][..read]);
                said.truncate(4096);
            }
            Next::Ended(_) => {}
        }
    }
    if process.wait().await.code() == 0 {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("Input/output error");
    Err(last.to_owned())
}

/// A path that no command takes for an option.
fn at(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("./{path}") }
}

/// A place in a file: as far as a kernel counts (lseek(2)).
fn within(offset: u64) -> Result<u64, String> {
    if offset < i64::MAX.unsigned_abs() { Ok(offset) } else { Err("Invalid argument".into()) }
}

fn octal(mode: u32) -> String {
    format!("{:o}", mode & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_file_is_one_that_there_can_be() {
        assert_eq!((within(0), within(7)), (Ok(0), Ok(7)));
        for beyond in [u64::MAX, 1 << 63, (1 << 63) - 1] {
            within(beyond).unwrap_err();
        }
    }
}
