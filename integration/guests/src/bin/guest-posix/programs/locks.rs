//! flock(2), and fcntl(2)'s two kinds of locks on parts of a file.

use std::fs::{self, File};
use std::os::fd::AsFd;

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::libc;

use super::{child, ended};
use crate::run::Runner;

fn part(kind: i32, start: i64, length: i64) -> Result<libc::flock> {
    Ok(libc::flock {
        l_type: kind.try_into()?,
        l_whence: libc::SEEK_SET.try_into()?,
        l_start: start,
        l_len: length,
        l_pid: 0,
    })
}

fn take(file: impl AsFd, lock: FcntlArg) -> Result<(), Errno> {
    fcntl(file, lock).map(drop)
}

pub fn locks(runner: &mut Runner) -> Result<()> {
    fs::write("f", [b'.'; 100])?;
    let open = || File::options().read(true).write(true).open("f");
    let whole = |file, how| Flock::lock(file, how).map_err(|(_, errno)| errno);

    let held = whole(open()?, FlockArg::LockExclusiveNonblock)?;
    let other = whole(open()?, FlockArg::LockSharedNonblock).map(drop);
    runner.fails("a file that is locked as a whole", other, Errno::EAGAIN);
    drop(held);
    let shared = whole(open()?, FlockArg::LockSharedNonblock)?;
    runner.is("two who read", whole(open()?, FlockArg::LockSharedNonblock).is_ok(), true);
    let other = whole(open()?, FlockArg::LockExclusiveNonblock).map(drop);
    runner.fails("and none who writes", other, Errno::EAGAIN);
    drop(shared);

    let file = open()?;
    take(&file, FcntlArg::F_SETLK(&part(libc::F_WRLCK, 5, 10)?))?;
    let refused = child(|| {
        let mine = File::options().read(true).write(true).open("f")?;
        let write = |start, length| -> Result<_> {
            Ok(take(&mine, FcntlArg::F_SETLK(&part(libc::F_WRLCK, start, length)?)))
        };
        ensure!(write(0, 10)? == Err(Errno::EAGAIN), "what overlaps is not refused");
        let mut asked = part(libc::F_RDLCK, 0, 0)?;
        take(&mine, FcntlArg::F_GETLK(&mut asked))?;
        ensure!((asked.l_start, asked.l_len) == (5, 10), "it is not told which is held");
        ensure!(write(20, 10)?.is_ok(), "another part can't be locked");
        ensure!(write(0, 5)?.is_ok(), "the part before can't be locked");
        Ok(())
    })?;
    runner.is("a part is another process's", ended(refused).is_ok(), true);
    runner.is("its end ends its locks", take(&file, FcntlArg::F_SETLK(&part(libc::F_WRLCK, 0, 0)?)), Ok(()));
    drop(open()?);
    // fcntl(2): any close by the process lets all go.
    let free = child(|| {
        let mine = File::options().read(true).write(true).open("f")?;
        Ok(take(&mine, FcntlArg::F_SETLK(&part(libc::F_WRLCK, 0, 0)?))?)
    })?;
    runner.is("as does the close of any of its descriptors", ended(free).is_ok(), true);

    let (one, two) = (open()?, open()?);
    take(&one, FcntlArg::F_OFD_SETLK(&part(libc::F_WRLCK, 50, 10)?))?;
    let own = take(&two, FcntlArg::F_OFD_SETLK(&part(libc::F_WRLCK, 55, 1)?));
    runner.fails("a lock of a description, not of a process", own, Errno::EAGAIN);
    drop(one);
    runner.is("its close ends it", take(&two, FcntlArg::F_OFD_SETLK(&part(libc::F_WRLCK, 55, 1)?)), Ok(()));

    // One who waits has it as soon as it is let go.
    let waiter = child(|| {
        let mine = File::options().read(true).write(true).open("f")?;
        take(&mine, FcntlArg::F_OFD_SETLKW(&part(libc::F_WRLCK, 55, 1)?))?;
        Ok(fs::write("had", "")?)
    })?;
    std::thread::sleep(std::time::Duration::from_millis(100));
    runner.is("who waits waits", fs::exists("had")?, false);
    // Not by a close: the child has this description as well.
    take(&two, FcntlArg::F_OFD_SETLK(&part(libc::F_UNLCK, 55, 1)?))?;
    ended(waiter)?;
    runner.is("until it is let go", fs::exists("had")?, true);
    Ok(())
}
