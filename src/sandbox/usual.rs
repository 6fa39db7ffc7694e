//! The usual files that came by content: when the host writes one, the container's copy follows.
//!
//! Docker rewrites `/etc/hosts` and `resolv.conf` of a running container in place when a network is connected or
//! disconnected. One inotify descriptor watches those very files, not their names: with runc, too, a file that takes
//! another's name is not seen. The other way, what the container writes stays in the container.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, BorrowedFd},
};

use msb_agent::protocol::Request;
use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};

use crate::{
    host::volumes::{copy, source::Source},
    process::agent::{Agent, AgentError},
};

/// The files of one container that are watched.
#[derive(Debug)]
pub(super) struct Usual {
    inotify: Inotify,
    files: Vec<(WatchDescriptor, u32, Source)>,
    /// Those of `files` that the guest does not have as they are.
    changed: BTreeSet<usize>,
}

impl Usual {
    /// Watches each file, which the agent knows by its number, from before it is first read.
    pub(super) fn watch(files: Vec<(u32, Source)>) -> Result<Self, Errno> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let watch = |(number, source): (u32, Source)| {
            let path = source.by_descriptor();
            Ok((inotify.add_watch(&path, AddWatchFlags::IN_CLOSE_WRITE)?, number, source))
        };
        let files = files.into_iter().map(watch).collect::<Result<_, Errno>>()?;
        Ok(Self { inotify, files, changed: BTreeSet::new() })
    }

    /// The files in their order, for the first reading.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.files.iter().map(|(_, _, source)| source)
    }

    /// Takes note of what was written. Whether there was anything.
    pub(super) fn notice(&mut self) -> bool {
        let mut noticed = false;
        while let Ok(events) = self.inotify.read_events() {
            for event in events {
                noticed = true;
                // After an overflow nobody knows which.
                let all = event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
                let files = self.files.iter().enumerate();
                let touched = files.filter(|(_, (watch, ..))| all || *watch == event.wd).map(|(at, _)| at);
                self.changed.extend(touched);
            }
        }
        noticed
    }

    /// Hands what has changed to the guest, which must not be paused: its answer is waited for.
    ///
    /// # Errors
    /// Only the agent's loss.
    pub(super) fn hand_over(&mut self, agent: &mut Agent) -> Result<(), AgentError> {
        while let Some(at) = self.changed.pop_first() {
            let (_, number, source) = &self.files[at];
            // A file that can't be read now is written again by whoever is at it.
            let Ok(file) = copy::read(source) else { continue };
            match agent.order(Request::Refresh { file: *number, content: file.content }) {
                // One that the agent can't write is not worth a container.
                Ok(()) | Err(AgentError::Failed(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AsFd for Usual {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    #[test]
    fn a_file_that_is_written_in_place_is_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| dir.path().join(name));
        for path in &paths {
            fs::write(path, "1").unwrap();
        }
        let files = (3..).zip(&paths).map(|(number, path)| (number, Source::open(path).unwrap())).collect();
        let mut usual = Usual::watch(files).unwrap();
        assert!(!usual.notice());
        fs::write(&paths[1], "2").unwrap();
        fs::OpenOptions::new().append(true).open(&paths[1]).unwrap().write_all(b"3").unwrap();
        assert!(usual.notice() && !usual.notice());
        assert_eq!(usual.changed, BTreeSet::from([1]));
        assert_eq!(copy::read(usual.sources().nth(1).unwrap()).unwrap().content, b"23");
    }
}
