//! One direction of one stream. Reads block in poll, together with the eventfd that tells of the process's end.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use nix::unistd::{read, write};

/// Bytes copied at a time: the size of a pipe.
const BUFFER: usize = 64 << 10;
/// A terminal without an open slave says EIO at once; its process may still open `/dev/tty` again.
const HUNG_UP: u16 = 50;

/// From the process to the host. Ends at end of file, when the host no longer reads, or when the process has ended and
/// everything that was in the pipe is sent: children that still hold it are not waited for.
pub fn output(source: &OwnedFd, mut connection: &File, ended: BorrowedFd<'_>) {
    let mut buffer = vec![0; BUFFER];
    let mut last = false;
    loop {
        match read(source, &mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if connection.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN | Errno::EIO) if last => return,
            Err(Errno::EAGAIN) => last = wait(source.as_fd(), PollFlags::POLLIN, ended),
            Err(Errno::EIO) => last = ended_within(ended, PollTimeout::from(HUNG_UP)),
            Err(_) => return,
        }
    }
}

/// From the host to the process. Ends at the host's end of file or at the process's end. What the process no longer
/// reads is read from the host and thrown away.
pub fn input(connection: &File, sink: &OwnedFd, ended: BorrowedFd<'_>) {
    let mut buffer = vec![0; BUFFER];
    let mut closed = false;
    loop {
        match recv(connection.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return,
            Ok(_) if closed => {}
            Ok(count) => match put(&buffer[..count], sink, ended) {
                Put::All => {}
                Put::Closed => closed = true,
                Put::Ended => return,
            },
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                if wait(connection.as_fd(), PollFlags::POLLIN, ended) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

enum Put {
    All,
    Closed,
    Ended,
}

fn put(mut bytes: &[u8], sink: &OwnedFd, ended: BorrowedFd<'_>) -> Put {
    while !bytes.is_empty() {
        match write(sink, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                if wait(sink.as_fd(), PollFlags::POLLOUT, ended) {
                    return Put::Ended;
                }
            }
            Err(_) => return Put::Closed,
        }
    }
    Put::All
}

/// Waits for `what` on `descriptor`; whether the process has ended meanwhile.
fn wait(descriptor: BorrowedFd<'_>, what: PollFlags, ended: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(descriptor, what), PollFd::new(ended, PollFlags::POLLIN)];
    // An error (EINTR, no memory) only means to look again.
    let _ = poll(&mut polled, PollTimeout::NONE);
    polled[1].any().unwrap_or(false)
}

fn ended_within(ended: BorrowedFd<'_>, time: PollTimeout) -> bool {
    let mut polled = [PollFd::new(ended, PollFlags::POLLIN)];
    let _ = poll(&mut polled, time);
    polled[0].any().unwrap_or(false)
}
