//! `cp SOURCE DESTINATION`

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::ExitCode,
    thread::{self, ScopedJoinHandle},
};

use anyhow::{Context as _, bail};
use clap::Args;
use msb::sandbox::Key;

use crate::Scope;

/// Copy files between a sandbox and this machine.
#[derive(Debug, Args)]
pub struct Cp {
    /// PATH, or SANDBOX:PATH.
    source: String,
    /// PATH, or SANDBOX:PATH; a directory that is there gets the source under its own name.
    destination: String,
}

impl Cp {
    /// Copies it.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        match (inside(scope, &self.source)?, inside(scope, &self.destination)?) {
            (Some((key, path)), None) => out(scope, &key, &path, Path::new(&self.destination))?,
            (None, Some((key, path))) => into(scope, Path::new(&self.source), &key, &path)?,
            _ => bail!("Give one path of this machine, and one as SANDBOX:PATH"),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// As Docker tells them apart: what has a colon before any slash is a sandbox's.
fn inside(scope: &Scope, text: &str) -> anyhow::Result<Option<(Key, PathBuf)>> {
    match text.split_once(':') {
        Some((name, path)) if !name.contains('/') && !name.starts_with('.') => {
            Ok(Some((scope.key(name)?, Path::new("/").join(path))))
        }
        _ => Ok(None),
    }
}

/// Where it goes and what it is called there: a directory that is there keeps its name.
///
/// A source that ends with `/.` is what is in it, as with Docker: it has no name of its own where the destination is there.
fn target(destination: &Path, is_directory: bool, source: &Path) -> anyhow::Result<(PathBuf, OsString)> {
    if is_directory {
        let content = source.as_os_str().as_bytes().ends_with(b"/.") || source == Path::new(".");
        let own = if content { OsStr::new(".") } else { source.file_name().unwrap_or(OsStr::new("root")) };
        return Ok((destination.to_owned(), own.to_owned()));
    }
    let name = destination.file_name().context("The destination has no name")?.to_owned();
    let parent = destination.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((parent.unwrap_or(Path::new(".")).to_owned(), name))
}

fn out(scope: &Scope, key: &Key, path: &Path, destination: &Path) -> anyhow::Result<()> {
    let (directory, name) = target(destination, destination.is_dir(), path)?;
    let (reader, writer) = nix::unistd::pipe()?;
    thread::scope(|threads| {
        let unpacked = begun(threads, move || {
            let mut archive = tar::Archive::new(File::from(reader));
            // A sandbox's owners and set-uid programs are its own. What would lead out of the directory is left out.
            archive.set_preserve_ownerships(false);
            archive.set_mask(0o7000);
            let done = archive.unpack(&directory);
            // Whoever writes is not held up by what is not wanted.
            let _ = io::copy(&mut archive.into_inner(), &mut io::sink());
            done.with_context(|| format!("{} can't be written", directory.display()))
        })?;
        let copied = scope.sandboxes.copy_out(key, path, &name, File::from(writer));
        let unpacked = unpacked.join().unwrap_or_else(|_| bail!("The copy was lost"));
        copied?;
        unpacked
    })
}

fn into(scope: &Scope, source: &Path, key: &Key, path: &Path) -> anyhow::Result<()> {
    let metadata =
        source.symlink_metadata().with_context(|| format!("{} can't be read", source.display()))?;
    let (directory, name) = target(path, scope.sandboxes.has_directory(key, path)?, source)?;
    let (reader, writer) = nix::unistd::pipe()?;
    thread::scope(|threads| {
        let packed = begun(threads, move || -> io::Result<()> {
            let mut archive = tar::Builder::new(File::from(writer));
            archive.follow_symlinks(false);
            if metadata.is_dir() {
                archive.append_dir_all(&name, source)?;
            } else {
                archive.append_path_with_name(source, &name)?;
            }
            archive.finish()
        })?;
        let copied = scope.sandboxes.copy_in(key, &directory, File::from(reader));
        let packed = packed.join().unwrap_or_else(|_| Err(io::Error::other("the copy was lost")));
        copied?;
        packed.with_context(|| format!("{} can't be read", source.display()))
    })
}

/// One half of a copy.
fn begun<'scope, T: Send + 'scope>(
    threads: &'scope thread::Scope<'scope, '_>,
    half: impl FnOnce() -> T + Send + 'scope,
) -> anyhow::Result<ScopedJoinHandle<'scope, T>> {
    thread::Builder::new().name("copy".into()).spawn_scoped(threads, half).context("No thread for the copy")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_the_name_and_another_destination_gives_one() {
        let target = |to: &str, is, from: &str| target(Path::new(to), is, Path::new(from)).unwrap();
        assert_eq!(target("/tmp", true, "/a/b"), ("/tmp".into(), "b".into()));
        assert_eq!(target("/tmp/new", false, "/a/b"), ("/tmp".into(), "new".into()));
        assert_eq!(target("new", false, "/a/b"), (".".into(), "new".into()));
        assert_eq!(target("/tmp", true, "/"), ("/tmp".into(), "root".into()));
        assert_eq!(target("/tmp", true, "/a/b/."), ("/tmp".into(), ".".into()));
        assert_eq!(target("/tmp", true, "."), ("/tmp".into(), ".".into()));
        assert_eq!(target("/tmp/new", false, "/a/b/."), ("/tmp".into(), "new".into()));
    }
}
