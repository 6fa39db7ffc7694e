//! What reads and writes disks inside the guest, for the benchmark of block devices: pid 1 of a machine that has
//! nothing else, so that every VMM can run it.
//!
//! Enters: `/dev/vda` (read), `/dev/vdb` (written), `/dev/vdc` (an EROFS with a tree of files). Leaves: one line per
//! case on the console, `IO name operations nanoseconds`, and the end of the machine.
//! `bench/disks.rs` starts it and reads them.
//!
//! As `guest-io files FILE DIRECTORY` it is an ordinary program instead, which reads FILE and writes a file in DIRECTORY
//! at random places, through the cache as programs do; its lines begin with `VOL`, for `bench/volumes.rs`.
//!
//! Not fio: Debian's needs some hundred MB of libraries (Ceph's among them), and a root to run from.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::Write,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::Path,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use io_uring::{IoUring, opcode, types};
use nix::{
    fcntl::{PosixFadviseAdvice, posix_fadvise},
    libc::O_DIRECT,
    mount::{MsFlags, mount},
    sys::reboot::{RebootMode, reboot},
};

/// Of each disk; they are larger.
const AREA: u64 = 128 << 20;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [files, file, directory] = arguments.as_slice()
        && files == "files"
    {
        return at_random(Path::new(file), Path::new(directory));
    }
    let mut console = OpenOptions::new().write(true).open("/dev/console").ok();
    let mut say = |line: &str| {
        if let Some(console) = &mut console {
            let _ = console.write_all(format!("{line}\n").as_bytes());
        }
    };
    if let Err(error) = measure(&mut say) {
        say(&format!("FAILED {error:#}"));
    }
    // The VMM decides what a restart is: here its end.
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    Ok(())
}

/// Transfers of 4 KiB, each in a place of its own, so that no cache has it: one after the other, as most programs have
/// them.
fn at_random(file: &Path, directory: &Path) -> Result<()> {
    const COUNT: u64 = 1024;
    let mut block = [0x5a; 4096];
    // Odd, so that each multiple of it is another block of a power of two of them.
    let place = |number: u64, blocks: u64| number * 2_654_435_761 % blocks * 4096;
    let source = File::open(file)?;
    let blocks = source.metadata()?.len() / 4096;
    // Nothing is read ahead: it would be for nothing, and is no part of what is asked.
    posix_fadvise(&source, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM)?;
    let began = Instant::now();
    (0..COUNT).try_for_each(|number| source.read_exact_at(&mut block, place(number, blocks)))?;
    println!("VOL random-read-4k {COUNT} {}", began.elapsed().as_nanos());
    let path = directory.join("random");
    let target = File::create_new(&path)?;
    target.set_len(COUNT * 4096)?;
    let began = Instant::now();
    (0..COUNT).try_for_each(|number| target.write_all_at(&block, place(number, COUNT)))?;
    println!("VOL random-write-4k {COUNT} {}", began.elapsed().as_nanos());
    let began = Instant::now();
    for number in 0..64 {
        target.write_all_at(&block, place(number, COUNT))?;
        target.sync_data()?;
    }
    println!("VOL write-4k-and-sync 64 {}", began.elapsed().as_nanos());
    Ok(fs::remove_file(path)?)
}

fn measure(say: &mut dyn FnMut(&str)) -> Result<()> {
    let _ = mount(Some("dev"), "/dev", Some("devtmpfs"), MsFlags::empty(), None::<&str>);
    for (disk, write) in [("/dev/vda", false), ("/dev/vdb", true)] {
        let verb = if write { "write" } else { "read" };
        let file = OpenOptions::new().read(true).write(write).custom_flags(O_DIRECT).open(disk);
        let file = file.with_context(|| disk.to_owned())?;
        for (kind, block, count, random) in
            [("4k-random", 4 << 10, 1024, true), ("1m-sequential", 1 << 20, 256, false)]
        {
            for depth in [1, 16] {
                // Once for caches and allocation, once for the result.
                for counted in [false, true] {
                    let began = Instant::now();
                    run(&file, write, block, count, depth, random)
                        .with_context(|| format!("{verb} {kind}"))?;
                    if counted {
                        say(&format!(
                            "IO {kind}-{verb}-depth-{depth} {count} {}",
                            began.elapsed().as_nanos()
                        ));
                    }
                }
            }
        }
        if write {
            let began = Instant::now();
            for _ in 0..64 {
                run(&file, true, 4096, 1, 1, true)?;
                file.sync_data()?;
            }
            say(&format!("IO 4k-write-and-flush 64 {}", began.elapsed().as_nanos()));
        }
    }
    mount(Some("/dev/vdc"), "/run", Some("erofs"), MsFlags::MS_RDONLY, None::<&str>).context("mount")?;
    let began = Instant::now();
    let files = walk(Path::new("/run"), false)?;
    say(&format!("IO find {files} {}", began.elapsed().as_nanos()));
    let began = Instant::now();
    let files = walk(Path::new("/run"), true)?;
    say(&format!("IO read-all {files} {}", began.elapsed().as_nanos()));
    Ok(())
}

/// `count` transfers of `block` bytes, `depth` of them at any time.
#[allow(
    unsafe_code,
    reason = "io_uring takes addresses; threads in its place would measure the guest's scheduler"
)]
fn run(file: &File, write: bool, block: usize, count: usize, depth: usize, random: bool) -> Result<()> {
    let mut ring = IoUring::new(32)?;
    let mut memory = vec![0x5a_u8; block * depth + 4096];
    let start = memory.as_ptr().align_offset(4096);
    let blocks = AREA / u64::try_from(block)?;
    let mut seed = 0x1234_5678_u64;
    let (mut begun, mut done) = (0, 0);
    let mut free: Vec<usize> = (0..depth).collect();
    while done < count {
        while begun < count
            && let Some(slot) = free.pop()
        {
            // Knuth's MMIX generator.
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = if random { (seed >> 24) % blocks } else { u64::try_from(begun)? % blocks };
            let at = at * u64::try_from(block)?;
            let address = memory[start + slot * block..].as_mut_ptr();
            let (fd, length) = (types::Fd(file.as_raw_fd()), u32::try_from(block)?);
            let entry = if write {
                opcode::Write::new(fd, address, length).offset(at).build()
            } else {
                opcode::Read::new(fd, address, length).offset(at).build()
            };
            // SAFETY: `memory` outlives the ring's last completion, which this function waits for; each slot is in
            // one transfer at a time. On an error the machine ends.
            unsafe { ring.submission().push(&entry.user_data(u64::try_from(slot)?)) }?;
            begun += 1;
        }
        ring.submit_and_wait(1)?;
        for completion in ring.completion() {
            ensure!(completion.result() == i32::try_from(block)?, "result {}", completion.result());
            free.push(usize::try_from(completion.user_data())?);
            done += 1;
        }
    }
    Ok(())
}

/// Looks at every file of a tree, and reads it all if asked to; returns how many there are.
fn walk(folder: &Path, read: bool) -> Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let metadata = path.symlink_metadata()?;
        count += 1;
        if metadata.is_dir() {
            count += walk(&path, read)?;
        } else if read && metadata.is_file() {
            let length = std::io::copy(&mut File::open(&path)?, &mut std::io::sink())?;
            ensure!(length == metadata.size(), "{} is too short", path.display());
        }
    }
    Ok(count)
}
