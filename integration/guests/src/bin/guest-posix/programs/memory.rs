//! Files in memory (mmap(2)).

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use anyhow::{Context, Result};
use nix::libc::c_void;
use nix::sys::mman::{MapFlags, MsFlags, ProtFlags, mmap, msync};

use super::{child, ended};
use crate::run::Runner;

/// More than one page, and not a whole number of them.
const LENGTH: usize = 10_000;

/// A file in memory until this program ends.
#[derive(Clone, Copy, Debug)]
struct Mapping(NonNull<u8>);

#[allow(unsafe_code, reason = "mmap, and what others write there")]
impl Mapping {
    fn new(file: &File, flags: MapFlags) -> Result<Self> {
        let length = NonZeroUsize::try_from(LENGTH)?;
        // SAFETY: a new mapping at an address of the kernel's choice, which is never unmapped.
        let at = unsafe { mmap(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags, file, 0)? };
        Ok(Self(at.cast()))
    }

    fn place(self, at: usize) -> NonNull<u8> {
        assert!(at < LENGTH);
        // SAFETY: within the mapping.
        unsafe { self.0.add(at) }
    }

    fn byte(self, at: usize) -> u8 {
        // SAFETY: mapped; the file is never shorter than that.
        unsafe { self.place(at).read_volatile() }
    }

    fn put(self, at: usize, byte: u8) {
        // SAFETY: as above; it can be written to.
        unsafe { self.place(at).write_volatile(byte) }
    }

    fn sync(self) -> Result<()> {
        // SAFETY: the whole of a mapping of ours.
        unsafe { msync(self.0.cast::<c_void>(), LENGTH, MsFlags::MS_SYNC) }.context("msync")
    }
}

/// One file, whoever reads and writes it and how.
pub fn shared(runner: &mut Runner) -> Result<()> {
    fs::write("f", [b'.'; LENGTH])?;
    let file = File::options().read(true).write(true).open("f")?;
    let read = |at| -> Result<u8> {
        let mut room = [0];
        file.read_exact_at(&mut room, at)?;
        Ok(room[0])
    };
    let map = Mapping::new(&file, MapFlags::MAP_SHARED)?;
    map.put(5000, b'm');
    runner.is("read has what memory has", read(5000)?, b'm');
    file.write_all_at(b"w", 7000)?;
    runner.is("memory has what was written", map.byte(7000), b'w');
    let other = child(|| {
        let file = File::options().read(true).write(true).open("f")?;
        Mapping::new(&file, MapFlags::MAP_SHARED)?.put(0, b'o');
        file.write_all_at(b"o", 9999)?;
        Ok(())
    })?;
    ended(other)?;
    runner.is("another process's memory is the same", map.byte(0), b'o');
    runner.is("and what it wrote", map.byte(9999), b'o');
    let own = Mapping::new(&file, MapFlags::MAP_PRIVATE)?;
    own.put(1, b'p');
    runner.is("what is private stays there", read(1)?, b'.');
    map.put(8000, b's');
    map.sync()?;
    runner.is("written out", fs::read("f")?[8000], b's');
    file.set_len(5001)?;
    file.set_len(10_000)?;
    runner.is("what was cut off is zeros in memory", map.byte(7000), 0);
    runner.is("and what was not is as it was", map.byte(5000), b'm');
    let early = fs::metadata("f")?.modified()?;
    std::thread::sleep(std::time::Duration::from_millis(20));
    map.put(100, b'l');
    map.sync()?;
    runner.is("writing to memory is a modification", fs::metadata("f")?.modified()? > early, true);
    drop(file);
    fs::remove_file("f")?;
    map.put(2, b'g');
    runner.is("memory outlives descriptor and name", map.byte(2), b'g');
    Ok(())
}
