//! An error in the words that callers read: Docker, containerd and podman match on them.

use std::{error::Error, io};

use nix::errno::Errno;

/// An error and its causes on one line. The texts of the system's own errors are replaced; a cause that says nothing new is
/// left out.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for cause in std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source()) {
        let words = plain(cause);
        if text.ends_with(&words) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&words);
    }
    // Some of the words are a guest's, an image's or a registry's.
    crate::plain::lines(&text)
}

/// A cause in words that Docker does not take for the container's command: "no such file or directory",
/// "permission denied" and "is a directory" in an error make it exit with 126 or 127.
fn plain(cause: &(dyn Error + 'static)) -> String {
    let errno = if let Some(errno) = cause.downcast_ref::<Errno>() {
        *errno
    } else if let Some(code) = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
        Errno::from_raw(code)
    } else {
        return neutral(cause.to_string());
    };
    match errno {
        Errno::ENOENT => "it is not there (ENOENT)".into(),
        Errno::EACCES => "access is not allowed (EACCES)".into(),
        Errno::EISDIR => "a directory is in the way (EISDIR)".into(),
        errno => format!("{} ({errno:?})", errno.desc()),
    }
}

/// The same, where another process (the VMM, the agent) has put the system's own texts into its own. What is said of
/// the container's command is worded differently there, and stays.
fn neutral(mut text: String) -> String {
    const WORDS: [(&str, &str); 6] = [
        ("No such file or directory (os error 2)", "it is not there (ENOENT)"),
        ("ENOENT: No such file or directory", "it is not there (ENOENT)"),
        ("Permission denied (os error 13)", "access is not allowed (EACCES)"),
        ("EACCES: Permission denied", "access is not allowed (EACCES)"),
        ("Is a directory (os error 21)", "a directory is in the way (EISDIR)"),
        ("EISDIR: Is a directory", "a directory is in the way (EISDIR)"),
    ];
    for (theirs, ours) in WORDS {
        if text.contains(theirs) {
            text = text.replace(theirs, ours);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_systems_words_mean_no_exit_code() {
        for errno in [Errno::ENOENT, Errno::EACCES, Errno::EISDIR] {
            let wrapped = Err::<(), _>(io::Error::from(errno)).context("Can't open /dev/kvm").unwrap_err();
            let direct = Err::<(), _>(errno).context("Can't open /dev/kvm").unwrap_err();
            for text in [chain(wrapped.as_ref()), chain(direct.as_ref())] {
                let text = text.to_lowercase();
                for words in ["no such file", "permission denied", "is a directory"] {
                    assert!(!text.contains(words), "{text}");
                }
                assert!(text.starts_with("can't open /dev/kvm: "), "{text}");
            }
        }
    }

    #[test]
    fn what_others_say_in_an_error_steers_no_terminal() {
        let error = anyhow::anyhow!("sh\u{1b}[31m\r\u{9b}2J: not found").context("exec");
        assert_eq!(chain(error.as_ref()), "exec: sh?[31m??2J: not found");
    }

    #[test]
    fn another_processes_words_are_made_plain_too() {
        let io = io::Error::from(Errno::ENOENT);
        assert_eq!(neutral(format!("The kernel: {io}")), "The kernel: it is not there (ENOENT)");
        assert_eq!(neutral(format!("open: {}", Errno::EACCES)), "open: access is not allowed (EACCES)");
        let command = "exec: \"/etc\": is a directory";
        assert_eq!(neutral(command.into()), command);
    }
}
