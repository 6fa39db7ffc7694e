//! The guest's first file system: a cpio archive that holds the agent and the least the kernel needs to start it.
//!
//! In: the agent's static binary. Out: an uncompressed `newc` archive, the same bytes for the same agent, so that it can be
//! cached by its hash. Uncompressed, because unpacking costs the guest more than copying.
//! It must never know what the agent does, nor how the archive reaches the guest.
//!
//! Format: `Documentation/driver-api/early-userspace/buffer-format.rst` in the Linux source, the parser is `init/initramfs.c`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::output::{Durability, Output, OutputError};

/// `c_magic` of "new ASCII" archives without checksums (buffer-format.rst, "cpio_file").
const MAGIC: &[u8; 6] = b"070701";
/// The name that ends an archive (buffer-format.rst, "cpio_trailer").
const TRAILER: &str = "TRAILER!!!";
/// `S_IFDIR`, `S_IFCHR`, `S_IFREG` of stat(2).
const S_IFDIR: u32 = 0o040_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFREG: u32 = 0o100_000;
/// Larger than any sane agent, far below the 4 GiB that `c_filesize` can hold. The archive is unpacked into guest memory.
const AGENT_MAX: u64 = 64 << 20;
/// Mount points that exist before the agent runs; devtmpfs, proc, sysfs and tmpfs go there.
const DIRECTORIES: [&str; 4] = ["dev", "proc", "run", "sys"];

/// No initramfs could be made of this agent.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// The agent's binary could not be read.
    #[error("Cannot read the guest agent {path:?}: build it, or check the path and its permissions")]
    ReadAgent {
        /// The agent's path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What was given is no program.
    #[error("The guest agent is not an ELF program: give the static binary of the agent")]
    NotElf,
    /// The agent would fill the guest's memory.
    #[error("The guest agent has more than {AGENT_MAX} bytes: build it stripped, with the `guest` profile")]
    AgentTooLarge,
    /// The archive could not be written.
    #[error("Cannot write the initramfs {path:?}: check the free space")]
    WriteArchive {
        /// The archive's path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The archive's file could not be made or named.
    #[error("Cannot store the initramfs")]
    Output(#[from] OutputError),
}

/// Reads the agent's binary and writes its archive to `out`, durably.
///
/// # Errors
/// [`InitramfsError`]; `out` is then as it was before.
pub fn write(agent: &Path, out: &Path) -> Result<(), InitramfsError> {
    let unreadable = |source| InitramfsError::ReadAgent { path: agent.to_owned(), source };
    let file = File::open(agent).map_err(unreadable)?;
    let mut binary = Vec::new();
    file.take(AGENT_MAX + 1).read_to_end(&mut binary).map_err(unreadable)?;
    let archive = archive(&binary)?;

    let output = Output::create(out)?;
    output
        .file()
        .write_all(&archive)
        .map_err(|source| InitramfsError::WriteArchive { path: out.to_owned(), source })?;
    Ok(output.commit(Durability::Durable)?)
}

/// The archive with `agent` (the bytes of a static ELF program) as `/init`.
///
/// # Errors
/// [`InitramfsError::NotElf`] and [`InitramfsError::AgentTooLarge`].
pub fn archive(agent: &[u8]) -> Result<Vec<u8>, InitramfsError> {
    if !agent.starts_with(b"\x7fELF") {
        return Err(InitramfsError::NotElf);
    }
    let length = u32::try_from(agent.len()).ok().filter(|length| u64::from(*length) <= AGENT_MAX);
    let length = length.ok_or(InitramfsError::AgentTooLarge)?;

    let mut archive = Archive { bytes: Vec::with_capacity(agent.len() + 2048), entries: 0 };
    for directory in DIRECTORIES {
        archive.entry(directory, S_IFDIR | 0o755, 2, (0, 0), 0);
    }
    // The kernel opens it for pid 1's first three descriptors, before anything is mounted (init/main.c, console_on_rootfs).
    archive.entry("dev/console", S_IFCHR | 0o600, 1, (5, 1), 0);
    archive.entry("init", S_IFREG | 0o755, 1, (0, 0), length);
    archive.data(agent);
    archive.entry(TRAILER, 0, 1, (0, 0), 0);
    Ok(archive.bytes)
}

/// An archive in the making; every entry begins and ends on a multiple of four bytes.
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// A header and its name. The owner is root and the time is the epoch, whoever builds it and whenever.
    fn entry(&mut self, name: &str, mode: u32, links: u32, device: (u32, u32), size: u32) {
        self.entries += 1;
        let name_size = u32::try_from(name.len() + 1).expect("names here are short constants");
        let fields = [
            self.entries, // c_ino
            mode,         // c_mode
            0,            // c_uid
            0,            // c_gid
            links,        // c_nlink
            0,            // c_mtime
            size,         // c_filesize
            0,            // c_maj
            0,            // c_min
            device.0,     // c_rmaj
            device.1,     // c_rmin
            name_size,    // c_namesize, with its NUL
            0,            // c_chksum
        ];
        self.bytes.extend_from_slice(MAGIC);
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    fn data(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const AGENT: &[u8] = b"\x7fELF and five";

    /// Name, mode, device and data of an entry.
    type Entry = (String, u32, (u32, u32), Vec<u8>);

    /// The entries, as `init/initramfs.c` reads them.
    fn parse(archive: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut rest = archive;
        loop {
            assert_eq!(&rest[..6], MAGIC);
            let field = |index: usize| {
                let digits = &rest[6 + 8 * index..14 + 8 * index];
                u32::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = std::str::from_utf8(&rest[110..110 + name_size - 1]).unwrap().to_owned();
            assert_eq!(rest[110 + name_size - 1], 0);
            let data = (110 + name_size).next_multiple_of(4);
            if name == TRAILER {
                assert_eq!(rest.len(), data);
                return entries;
            }
            entries.push((name, mode, (field(9), field(10)), rest[data..data + size].to_vec()));
            rest = &rest[(data + size).next_multiple_of(4)..];
        }
    }

    #[test]
    fn the_archive_holds_the_agent_the_console_and_the_mount_points() {
        let entries = parse(&archive(AGENT).unwrap());
        let names: Vec<&str> = entries.iter().map(|entry| entry.0.as_str()).collect();
        assert_eq!(names, ["dev", "proc", "run", "sys", "dev/console", "init"]);
        assert!(entries[..4].iter().all(|entry| entry.1 == 0o040_755));
        assert_eq!((entries[4].1, entries[4].2), (0o020_600, (5, 1)));
        assert_eq!((entries[5].1, entries[5].3.as_slice()), (0o100_755, AGENT));
    }

    #[test]
    fn the_same_agent_gives_the_same_file() {
        let directory = tempfile::tempdir().unwrap();
        let agent = directory.path().join("agent");
        std::fs::write(&agent, AGENT).unwrap();
        let outs = [directory.path().join("a"), directory.path().join("b")];
        outs.iter().for_each(|out| write(&agent, out).unwrap());
        assert_eq!(std::fs::read(&outs[0]).unwrap(), std::fs::read(&outs[1]).unwrap());
    }

    #[test]
    fn what_is_no_agent_is_refused() {
        assert!(matches!(archive(b"#!/bin/sh\n"), Err(InitramfsError::NotElf)));
        assert!(matches!(archive(b""), Err(InitramfsError::NotElf)));
        let mut large = vec![0; usize::try_from(AGENT_MAX).unwrap() + 1];
        large[..4].copy_from_slice(b"\x7fELF");
        assert!(matches!(archive(&large), Err(InitramfsError::AgentTooLarge)));
        let missing = write(Path::new("/nonexistent-agent"), Path::new("/nonexistent-out"));
        assert!(matches!(missing, Err(InitramfsError::ReadAgent { .. })));
    }

    #[test]
    fn cpio_lists_the_archive() {
        let Ok(mut cpio) = Command::new("cpio")
            .args(["-it", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            return test_skips::skip("no cpio here to compare with");
        };
        cpio.stdin.take().unwrap().write_all(&archive(AGENT).unwrap()).unwrap();
        let output = cpio.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "dev\nproc\nrun\nsys\ndev/console\ninit\n");
    }
}
