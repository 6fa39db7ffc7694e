//! A stream whose every message has its time as a whole: a timeout of the socket's begins anew with each byte, and belongs to
//! whoever else has the socket.
//!
//! Enters: a stream, and when patience ends. Leaves: bytes, or the error that they came too late.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv, send},
};

/// The stream for one message.
#[derive(Debug)]
pub(super) struct Timely<'a> {
    stream: &'a UnixStream,
    deadline: Option<Instant>,
}

impl<'a> Timely<'a> {
    /// For a message that begins now; without `patience` it may take any time.
    pub(super) fn new(stream: &'a UnixStream, patience: Option<Duration>) -> Self {
        Self { stream, deadline: patience.map(|patience| Instant::now() + patience) }
    }

    /// Tries, and where that would block waits for `event` and tries again.
    fn attempt(&self, event: PollFlags, act: impl Fn(MsgFlags) -> nix::Result<usize>) -> io::Result<usize> {
        loop {
            match act(MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.wait(event)?,
                other => return Ok(other?),
            }
        }
    }

    fn wait(&self, event: PollFlags) -> io::Result<()> {
        let timeout = match self.deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                // At least what is left: a poll of none would be a loop.
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut [PollFd::new(self.stream.as_fd(), event)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Read for Timely<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let fd = self.stream.as_raw_fd();
        // The buffer is lent to each attempt in turn.
        let buffer = std::cell::RefCell::new(buffer);
        self.attempt(PollFlags::POLLIN, |flags| recv(fd, &mut buffer.borrow_mut(), flags))
    }
}

impl Write for Timely<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fd = self.stream.as_raw_fd();
        self.attempt(PollFlags::POLLOUT, |flags| send(fd, bytes, flags))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn bytes_come_and_go_and_the_end_is_seen() {
        let (one, other) = UnixStream::pair().unwrap();
        Timely::new(&one, None).write_all(b"hello").unwrap();
        let mut bytes = [0; 5];
        Timely::new(&other, Some(Duration::from_secs(60))).read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
        drop(one);
        assert_eq!(Timely::new(&other, None).read(&mut bytes).unwrap(), 0);
        assert_eq!(Timely::new(&other, None).write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn who_trickles_is_late() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let writer = thread::spawn(move || {
            while theirs.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(5))
            }
        });
        let mut bytes = vec![0; 1 << 20];
        let mut timely = Timely::new(&ours, Some(Duration::from_millis(100)));
        let error = timely.read_exact(&mut bytes).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(ours);
        writer.join().unwrap();
    }

    #[test]
    fn who_does_not_read_is_late_too() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut timely = Timely::new(&ours, Some(Duration::from_millis(50)));
        let error = timely.write_all(&vec![0; 8 << 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
