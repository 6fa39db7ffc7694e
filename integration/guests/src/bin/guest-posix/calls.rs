//! The verbs of the tables: words in, the call's outcome out.
//!
//! A path is relative to the case's directory; `:a` is what was opened as `a`, `:a/x` what is called x in that directory, `''`
//! no name at all.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use rustix::fs::{
    Access, AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec,
    Timestamps, UTIME_NOW, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::{pread, pwrite, read, write};
use rustix::{fs, process};

use crate::run::Runner;

/// What a call gave: some text, mostly none.
type Told = Result<String, Errno>;

/// A descriptor of the runner's and a path from there; of a path of none, the descriptor itself.
struct Place<'a> {
    at: BorrowedFd<'a>,
    path: &'a str,
}

fn place<'a>(runner: &'a Runner, word: &'a str) -> Result<Place<'a>> {
    let Some(rest) = word.strip_prefix(':') else {
        return Ok(Place { at: CWD, path: if word == "''" { "" } else { word } });
    };
    let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
    let at = runner.open.get(name).with_context(|| format!("{name} was not opened"))?;
    Ok(Place { at: at.as_fd(), path })
}

/// Calls it. An error is one of the table.
pub fn call(runner: &mut Runner, verb: &str, arguments: &[String]) -> Result<Told> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ("open", [name, flags, ..]) = (verb, words.as_slice()) {
        return opened(runner, name, flags, words.get(2).copied());
    }
    if verb == "close" {
        runner.open.remove(words[0]).context("it was not opened")?;
        return Ok(Ok(String::new()));
    }
    let done = match verb {
        "make" | "mknod" | "mkdir" | "link" | "symlink" | "rename" | "unlink" | "rmdir" | "remove" => {
            entry(runner, verb, &words)?
        }
        "stat" | "lstat" | "same" | "list" | "readlink" | "access" => return tell(runner, verb, &words),
        "getxattr" | "setxattr" | "removexattr" | "listxattr" => return attribute(runner, verb, &words),
        "read" | "write" | "append" | "sync" => return data(runner, verb, &words),
        "chmod" => {
            let (to, mode) = (place(runner, words[0])?, mode(words[1])?);
            if opened_alone(&to, words[0]) {
                fs::fchmod(to.at, mode)
            } else {
                fs::chmodat(to.at, to.path, mode, AtFlags::empty())
            }
        }
        "chown" | "lchown" => {
            let to = place(runner, words[0])?;
            let (user, group) = (owner(words[1])?.map(Uid::from_raw), owner(words[2])?.map(Gid::from_raw));
            let flags = if verb == "lchown" { AtFlags::SYMLINK_NOFOLLOW } else { AtFlags::empty() };
            if opened_alone(&to, words[0]) {
                fs::fchown(to.at, user, group)
            } else {
                fs::chownat(to.at, to.path, user, group, flags)
            }
        }
        "utimens" | "lutimens" => {
            let to = place(runner, words[0])?;
            let times = Timestamps { last_access: time(words[1])?, last_modification: time(words[2])? };
            let flags = if verb == "lutimens" { AtFlags::SYMLINK_NOFOLLOW } else { AtFlags::empty() };
            if opened_alone(&to, words[0]) {
                fs::futimens(to.at, &times)
            } else {
                fs::utimensat(to.at, to.path, &times, flags)
            }
        }
        "truncate" => {
            let (to, length): (_, i64) = (place(runner, words[0])?, words[1].parse()?);
            if opened_alone(&to, words[0]) {
                return Ok(nix::unistd::ftruncate(to.at, length).map(|()| String::new()));
            }
            return Ok(nix::unistd::truncate(to.path, length).map(|()| String::new()));
        }
        "allocate" | "punch" | "keep" => {
            let to = place(runner, words[0])?;
            let flags = match verb {
                "punch" => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                "keep" => FallocateFlags::KEEP_SIZE,
                _ => FallocateFlags::empty(),
            };
            fs::fallocate(to.at, flags, words[1].parse()?, words[2].parse()?)
        }
        "umask" => {
            process::umask(mode(words[0])?);
            Ok(())
        }
        _ => bail!("no such verb"),
    };
    Ok(done.map(|()| String::new()).map_err(errno))
}

fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

fn opened_alone(place: &Place, word: &str) -> bool {
    word.starts_with(':') && place.path.is_empty()
}

/// `open NAME FLAGS [MODE]`, which is closed at once; with `FLAGS=a` it stays, as `a`.
fn opened(runner: &mut Runner, name: &str, flags: &str, permissions: Option<&str>) -> Result<Told> {
    let (flags, keep) = flags.split_once('=').map_or((flags, None), |(flags, keep)| (flags, Some(keep)));
    let mut all = OFlags::CLOEXEC;
    for flag in flags.split(',') {
        all |= match flag {
            "rdonly" => OFlags::RDONLY,
            "wronly" => OFlags::WRONLY,
            "rdwr" => OFlags::RDWR,
            "creat" => OFlags::CREATE,
            "excl" => OFlags::EXCL,
            "trunc" => OFlags::TRUNC,
            "append" => OFlags::APPEND,
            "nofollow" => OFlags::NOFOLLOW,
            "directory" => OFlags::DIRECTORY,
            "nonblock" => OFlags::NONBLOCK,
            "path" => OFlags::PATH,
            "tmpfile" => OFlags::TMPFILE,
            "noatime" => OFlags::NOATIME,
            "sync" => OFlags::SYNC,
            _ => bail!("no such flag"),
        };
    }
    let from = place(runner, name)?;
    let found: Result<OwnedFd, _> = fs::openat(from.at, from.path, all, mode(permissions.unwrap_or("644"))?);
    Ok(match (found, keep) {
        (Ok(file), Some(keep)) => {
            runner.open.insert(keep.to_owned(), file);
            Ok(String::new())
        }
        (Ok(_), None) => Ok(String::new()),
        (Err(error), _) => Err(errno(error)),
    })
}

/// What makes, moves and removes names.
fn entry(runner: &Runner, verb: &str, words: &[&str]) -> Result<rustix::io::Result<()>> {
    let flags = |found: Option<&&str>| {
        Ok(match found {
            None => RenameFlags::empty(),
            Some(&"exchange") => RenameFlags::EXCHANGE,
            Some(&"noreplace") => RenameFlags::NOREPLACE,
            Some(_) => bail!("no such flag"),
        })
    };
    Ok(match (verb, words) {
        // Of each kind one, in the ordinary way.
        ("make", [kind, name]) => match *kind {
            "dir" => fs::mkdir(*name, mode("755")?),
            "symlink" => fs::symlink("nowhere", *name),
            "file" => fs::open(*name, OFlags::CREATE | OFlags::EXCL, mode("644")?).map(drop),
            kind => fs::mknodat(CWD, *name, self::kind(kind)?, mode("644")?, fs::makedev(1, 3)),
        },
        ("mknod", [name, kind, permissions]) => {
            let to = place(runner, name)?;
            fs::mknodat(to.at, to.path, self::kind(kind)?, mode(permissions)?, fs::makedev(1, 3))
        }
        ("mkdir", [name, permissions]) => {
            let to = place(runner, name)?;
            fs::mkdirat(to.at, to.path, mode(permissions)?)
        }
        ("link", [from, to, rest @ ..]) => {
            let (from, to) = (place(runner, from)?, place(runner, to)?);
            let flags = if rest == ["follow"] { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
            fs::linkat(from.at, from.path, to.at, to.path, flags)
        }
        ("symlink", [target, name]) => {
            let to = place(runner, name)?;
            fs::symlinkat(if *target == "''" { "" } else { target }, to.at, to.path)
        }
        ("rename", [from, to, rest @ ..]) => {
            let (from, to) = (place(runner, from)?, place(runner, to)?);
            fs::renameat_with(from.at, from.path, to.at, to.path, flags(rest.first())?)
        }
        ("unlink", [name]) => {
            let of = place(runner, name)?;
            fs::unlinkat(of.at, of.path, AtFlags::empty())
        }
        ("rmdir", [name]) => {
            let of = place(runner, name)?;
            fs::unlinkat(of.at, of.path, AtFlags::REMOVEDIR)
        }
        // By its kind.
        ("remove", [name]) => {
            let of = place(runner, name)?;
            match fs::statat(of.at, of.path, AtFlags::SYMLINK_NOFOLLOW).map(|stat| kind_of(&stat)) {
                Ok(FileType::Directory) => fs::unlinkat(of.at, of.path, AtFlags::REMOVEDIR),
                Ok(_) => fs::unlinkat(of.at, of.path, AtFlags::empty()),
                Err(error) => Err(error),
            }
        }
        _ => bail!("not those arguments"),
    })
}

/// What asks.
fn tell(runner: &Runner, verb: &str, words: &[&str]) -> Result<Told> {
    let of = place(runner, words[0])?;
    let told = match verb {
        "stat" | "lstat" => {
            let flags = if verb == "lstat" { AtFlags::SYMLINK_NOFOLLOW } else { AtFlags::empty() };
            let found = if opened_alone(&of, words[0]) {
                fs::fstat(of.at)
            } else {
                fs::statat(of.at, of.path, flags)
            };
            match found {
                Ok(stat) => {
                    let fields = words[1..].iter().map(|name| field(&stat, name));
                    Ok(fields.collect::<Result<Vec<_>>>()?.join(" "))
                }
                Err(error) => Err(error),
            }
        }
        "same" => {
            let other = place(runner, words[1])?;
            let inode = |of: &Place| {
                fs::statat(of.at, of.path, AtFlags::SYMLINK_NOFOLLOW).map(|stat| (stat.st_dev, stat.st_ino))
            };
            inode(&of).and_then(|one| Ok(if one == inode(&other)? { "yes" } else { "no" }.to_owned()))
        }
        "list" => fs::openat(of.at, of.path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).and_then(
            |directory| {
                let mut names = Vec::new();
                for entry in fs::Dir::new(directory)? {
                    names.push(entry?.file_name().to_string_lossy().into_owned());
                }
                names.sort();
                Ok(names.join(" "))
            },
        ),
        "readlink" => {
            fs::readlinkat(of.at, of.path, Vec::new()).map(|target| target.to_string_lossy().into_owned())
        }
        _ => {
            let access = words[1].chars().try_fold(Access::empty(), |all, letter| {
                Ok(all
                    | match letter {
                        'r' => Access::READ_OK,
                        'w' => Access::WRITE_OK,
                        'x' => Access::EXEC_OK,
                        'f' => Access::EXISTS,
                        _ => bail!("no such access"),
                    })
            })?;
            fs::accessat(of.at, of.path, access, AtFlags::EACCESS).map(|()| String::new())
        }
    };
    Ok(told.map_err(errno))
}

fn field(stat: &Stat, name: &str) -> Result<String> {
    Ok(match name {
        "type" => match kind_of(stat) {
            FileType::RegularFile => "file",
            FileType::Directory => "dir",
            FileType::Symlink => "symlink",
            FileType::Fifo => "fifo",
            FileType::Socket => "socket",
            FileType::CharacterDevice => "char",
            FileType::BlockDevice => "block",
            FileType::Unknown => "unknown",
        }
        .to_owned(),
        "mode" => format!("{:04o}", stat.st_mode & 0o7777),
        "nlink" => stat.st_nlink.to_string(),
        "uid" => stat.st_uid.to_string(),
        "gid" => stat.st_gid.to_string(),
        "size" => stat.st_size.to_string(),
        "blocks" => stat.st_blocks.to_string(),
        "device" => format!("{}:{}", fs::major(stat.st_rdev), fs::minor(stat.st_rdev)),
        "atime" => format!("{}.{:09}", stat.st_atime, stat.st_atime_nsec),
        "mtime" => format!("{}.{:09}", stat.st_mtime, stat.st_mtime_nsec),
        _ => bail!("stat tells no such thing"),
    })
}

/// Extended attributes of a path: `setxattr NAME ATTRIBUTE VALUE [create|replace]`.
fn attribute(_: &Runner, verb: &str, words: &[&str]) -> Result<Told> {
    let mut room = vec![0; 1 << 16];
    let told = match (verb, words) {
        ("getxattr", [path, name]) => fs::lgetxattr(*path, *name, &mut room)
            .map(|length| String::from_utf8_lossy(&room[..length]).into_owned()),
        ("listxattr", [path]) => fs::llistxattr(*path, &mut room).map(|length| {
            // What the host's security module adds is none of ours.
            let names = String::from_utf8_lossy(&room[..length]).into_owned();
            let mut names: Vec<&str> =
                names.split('\0').filter(|name| !name.is_empty() && *name != "security.selinux").collect();
            names.sort_unstable();
            names.join(" ")
        }),
        ("removexattr", [path, name]) => fs::lremovexattr(*path, *name).map(|()| String::new()),
        ("setxattr", [path, name, value, rest @ ..]) => {
            let flags = match rest {
                [] => XattrFlags::empty(),
                ["create"] => XattrFlags::CREATE,
                ["replace"] => XattrFlags::REPLACE,
                _ => bail!("no such flag"),
            };
            let value = if *value == "''" { "" } else { value };
            fs::lsetxattr(*path, *name, value.as_bytes(), flags).map(|()| String::new())
        }
        _ => bail!("not those arguments"),
    };
    Ok(told.map_err(errno))
}

/// `read :a AT LENGTH`, `write :a AT TEXT`, `append :a TEXT` where the file is; of what was read, zeros are dots.
fn data(runner: &Runner, verb: &str, words: &[&str]) -> Result<Told> {
    let of = place(runner, words[0])?;
    ensure!(opened_alone(&of, words[0]), "not of a path");
    let told = match (verb, words) {
        ("read", [_, at, length]) => {
            let mut room = vec![0; length.parse()?];
            let found = match *at {
                "-" => read(of.at, &mut room),
                at => pread(of.at, &mut room, at.parse()?),
            };
            found.map(|length| String::from_utf8_lossy(&room[..length]).replace('\0', "."))
        }
        ("write", [_, at, text]) => {
            pwrite(of.at, text.as_bytes(), at.parse()?).map(|count| count.to_string())
        }
        ("append", [_, text]) => write(of.at, text.as_bytes()).map(|count| count.to_string()),
        ("sync", [_]) => fs::fsync(of.at).map(|()| String::new()),
        _ => bail!("not those arguments"),
    };
    Ok(told.map_err(errno))
}

fn mode(word: &str) -> Result<Mode> {
    Ok(Mode::from_raw_mode(u32::from_str_radix(word, 8)?))
}

fn owner(word: &str) -> Result<Option<u32>> {
    Ok(if word == "-" { None } else { Some(word.parse()?) })
}

fn kind(word: &str) -> Result<FileType> {
    Ok(match word {
        "file" => FileType::RegularFile,
        "fifo" => FileType::Fifo,
        "socket" => FileType::Socket,
        "char" => FileType::CharacterDevice,
        "block" => FileType::BlockDevice,
        _ => bail!("no such kind of file"),
    })
}

fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// `now`, `omit`, or seconds with nanoseconds behind the point.
fn time(word: &str) -> Result<Timespec> {
    let special = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    Ok(match word {
        "now" => special(UTIME_NOW),
        "omit" => special(UTIME_OMIT),
        _ => {
            let (seconds, nanoseconds) = word.split_once('.').unwrap_or((word, "0"));
            Timespec { tv_sec: seconds.parse()?, tv_nsec: nanoseconds.parse()? }
        }
    })
}
