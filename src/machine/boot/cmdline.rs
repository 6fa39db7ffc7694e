//! The kernel's command line: the machine's own words, its devices, then what the configuration adds.

use std::fmt::Write;

use thiserror::Error;

use crate::machine::layout;

/// The machine's own words, each with its reason.
const OWN: &[&str] = &[
    // The serial port is for panics; a console that prints everything costs more than the rest of the boot.
    "console=ttyS0",
    "quiet",
    // A panic ends the machine at once: nobody is there to look at it.
    "panic=-1",
    // Reset by port 0xcf9, which is told apart from a triple fault.
    #[cfg(target_arch = "x86_64")]
    "reboot=p",
];

/// Why there is no command line.
#[derive(Debug, Error)]
pub enum CommandLineError {
    /// Too long for the kernel.
    #[error("The kernel's command line has {length} bytes, {} are possible; give fewer kernel arguments or disks", layout::COMMAND_LINE_SIZE - 1)]
    TooLong {
        /// Bytes.
        length: usize,
    },
    /// A word that the kernel would read as several, or not at all.
    #[error(
        "The kernel argument {word:?} has a space outside quotes, a control character or one that is not ASCII"
    )]
    Word {
        /// The word.
        word: String,
    },
}

/// Puts the command line together. `devices` are the register windows of the virtio devices and their interrupts, which are on
/// the line where there is no device tree.
pub fn build(devices: &[(u64, u32)], extra: &[String]) -> Result<String, CommandLineError> {
    let mut line = OWN.join(" ");
    if cfg!(target_arch = "x86_64") {
        for (address, irq) in devices {
            // Documentation/admin-guide/kernel-parameters.txt: <size>@<baseaddr>:<irq>
            write!(line, " virtio_mmio.device={}@{address:#x}:{irq}", layout::VIRTIO_WINDOW)
                .expect("a String takes everything");
        }
    }
    for word in extra {
        let unquoted = word.split('"').step_by(2).any(|part| part.contains(' '));
        if word.is_empty() || unquoted || !word.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return Err(CommandLineError::Word { word: word.clone() });
        }
        line.push(' ');
        line.push_str(word);
    }
    if line.len() >= layout::COMMAND_LINE_SIZE {
        return Err(CommandLineError::TooLong { length: line.len() });
    }
    Ok(line)
}

/// What Linux calls the platform device of that place in `devices`, whose registers are at `address`: it counts those that it
/// reads on the line, and names those of a device tree by node and address.
pub fn device_name(index: usize, address: u64) -> String {
    if cfg!(target_arch = "x86_64") {
        format!("virtio-mmio.{index}")
    } else {
        format!("{address:x}.virtio_mmio")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn devices_come_before_what_is_added() {
        let line = build(&[(0xd000_0000, 5), (0xd000_0200, 6)], &["init=/sbin/x".into()]).unwrap();
        assert!(
            line.ends_with(
                " virtio_mmio.device=512@0xd0000000:5 virtio_mmio.device=512@0xd0000200:6 init=/sbin/x"
            ),
            "{line}"
        );
    }

    #[test]
    fn words_that_are_not_one_word_are_refused() {
        for word in ["", "a b", "a\nb", "a\0", "ä", "a=\"b c\" d"] {
            assert!(matches!(build(&[], &[word.into()]), Err(CommandLineError::Word { .. })), "{word:?}");
        }
        build(&[], &["a=\"b c\"".into()]).unwrap();
    }

    #[test]
    fn a_line_that_linux_would_cut_is_refused() {
        assert!(matches!(build(&[], &["x".repeat(2048)]), Err(CommandLineError::TooLong { .. })));
    }
}
