//! The command: found at create, because Docker makes 126 or 127 only of a create that fails; and its execve.
//!
//! As runc does it with Go's `exec.LookPath`, as the process's user in its working directory.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use msb_agent::protocol::{CommandProblem, Failure, Process};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{SFlag, stat};
use nix::unistd::{AccessFlags, execve, faccessat};

use super::setup::Filter;
use crate::container::{plain, setup};

/// Everything execve needs.
#[derive(Debug)]
pub struct Ready {
    /// As given.
    pub command: String,
    /// As found.
    pub program: CString,
    /// `argv`.
    pub args: Vec<CString>,
    /// `envp`.
    pub env: Vec<CString>,
    /// Of system calls.
    pub filter: Option<Filter>,
}

/// Where `args[0]` is.
///
/// # Errors
/// [`Failure::Command`] in runc's four cases, [`Failure::Setup`] for what else can be wrong with a path.
pub fn find(process: &Process) -> Result<CString, Failure> {
    let command = process.args.first().map_or("", String::as_str);
    let found = if command.contains('/') {
        check(Path::new(command)).map(|()| PathBuf::from(command))
    } else {
        search(command, path_of(&process.env)).ok_or(Errno::ENOENT).or(Err(Errno::ENODATA))
    };
    match found {
        Ok(path) => CString::new(path.as_os_str().as_bytes()).map_err(|error| setup(text(command), &error)),
        Err(Errno::ENODATA) => Err(refused(command, CommandProblem::NotInPath)),
        Err(errno) => Err(failed(command, errno)),
    }
}

/// Becomes the program; returns only with the reason why not.
pub fn execute(ready: &Ready) -> Failure {
    if let Some(Err(failure)) = ready.filter.as_ref().map(Filter::install) {
        return failure;
    }
    match execve(&ready.program, &ready.args, &ready.env) {
        Ok(never) => match never {},
        Err(errno) => failed(&ready.command, errno),
    }
}

fn search(command: &str, path: &str) -> Option<PathBuf> {
    // An empty element would mean the working directory: Go refuses what it finds there.
    path.split(':')
        .filter(|directory| directory.starts_with('/') && !command.is_empty())
        .map(|directory| Path::new(directory).join(command))
        .find(|candidate| check(candidate).is_ok())
}

/// Of several the last, as with setenv one after the other.
fn path_of(env: &[String]) -> &str {
    env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or("")
}

fn check(path: &Path) -> Result<(), Errno> {
    let stat = stat(path)?;
    if SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    // Root may access what nobody may execute.
    if stat.st_mode & 0o111 == 0 {
        return Err(Errno::EACCES);
    }
    faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS)
}

fn failed(command: &str, errno: Errno) -> Failure {
    match errno {
        Errno::ENOENT => refused(command, CommandProblem::NotFound),
        Errno::EACCES | Errno::EPERM => refused(command, CommandProblem::PermissionDenied),
        Errno::EISDIR => refused(command, CommandProblem::IsDirectory),
        Errno::ENOEXEC => refused(command, CommandProblem::Format),
        errno => setup(text(command), &plain(errno)),
    }
}

fn refused(command: &str, problem: CommandProblem) -> Failure {
    Failure::Command { command: command.to_owned(), problem }
}

fn text(command: &str) -> String {
    format!("exec: {command:?}")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_four_cases_of_runc() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::write(path.join("plain"), "x").unwrap();
        fs::write(path.join("program"), "x").unwrap();
        fs::set_permissions(path.join("program"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(check(&path.join("nothing")), Err(Errno::ENOENT));
        assert_eq!(check(&path.join("plain")), Err(Errno::EACCES));
        assert_eq!(check(path), Err(Errno::EISDIR));
        assert_eq!(check(&path.join("program")), Ok(()));
        let list = format!("/nowhere:{}", path.display());
        assert_eq!(search("program", &list), Some(path.join("program")));
        assert_eq!(search("plain", &list), None);
        assert_eq!(search("", &list), None);
    }

    #[test]
    fn the_last_path_counts() {
        assert_eq!(path_of(&["PATH=/a".into(), "PATHS=/x".into(), "PATH=/b".into()]), "/b");
        assert_eq!(path_of(&[]), "");
    }

    #[test]
    fn an_interpreter_that_is_missing_is_told_as_not_found() {
        assert_eq!(failed("/x", Errno::ENOENT), refused("/x", CommandProblem::NotFound));
        assert_eq!(failed("/x", Errno::ENOEXEC), refused("/x", CommandProblem::Format));
        assert!(matches!(failed("/x", Errno::ENOTDIR), Failure::Setup { .. }));
    }
}
