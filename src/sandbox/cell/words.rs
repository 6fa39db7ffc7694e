//! What the two processes say to each other.

use serde::{Deserialize, Serialize};

use crate::machine::Ended;

/// Of the sandbox, to the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// Join the stream that comes with it with a port of the guest. No answer: a stream that can't be joined is closed.
    Connect {
        /// The guest's.
        port: u32,
    },
    /// A line for the console's log. No answer.
    Note {
        /// The line.
        text: String,
    },
    /// Stop the processors.
    Pause,
    /// Let them go on.
    Resume,
    /// A network interface, whose tap comes with it, and for the kernel's service its descriptor as well.
    Plug {
        /// Into this slot.
        slot: usize,
        /// Its address.
        mac: [u8; 6],
        /// In bytes.
        mtu: u16,
    },
    /// Take it away.
    Unplug {
        /// From this slot.
        slot: usize,
    },
    /// An image, which comes with it.
    AttachRaw {
        /// Whether it is only read.
        read_only: bool,
    },
    /// A composition, which comes with it.
    AttachComposed {
        /// By which its layers' files are asked for.
        number: u32,
    },
    /// Take a disk away.
    Detach {
        /// Its platform device.
        device: String,
    },
    /// When the guest's first instruction was about to be executed.
    Entered,
}

/// Of the machine, to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It is done.
    Done,
    /// A name.
    Text(String),
    /// A time.
    Number(u64),
    /// It can't be done, in words.
    Refused(String),
}

/// Of the machine, unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Event {
    /// It is built and between its walls.
    Built {
        /// For network interfaces.
        slots: usize,
    },
    /// It is not, or has failed since.
    Failed {
        /// The chain of causes.
        reason: String,
        /// It was the file system's back end that failed.
        file_system: bool,
    },
    /// The guest opened the stream that comes with it.
    Stream {
        /// To this port of the host.
        port: u32,
    },
    /// It has ended.
    Ended {
        /// How.
        how: Ended,
        /// The last of its console.
        tail: String,
    },
}

/// Of a disk, for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wanted {
    /// The disk's number.
    pub disk: u32,
    /// The file's, in its composition.
    pub file: u32,
}

/// The end of a text, not longer than so many bytes.
pub(super) fn end_of(text: &str, most: usize) -> &str {
    let mut from = text.len().saturating_sub(most);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(end_of("short", 10), "short");
        assert_eq!(end_of("aé", 1), "");
        assert_eq!(end_of("aéb", 3), "éb");
        assert_eq!(end_of("aéb", 2), "b");
    }
}
