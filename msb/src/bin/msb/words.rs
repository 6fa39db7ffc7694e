//! What the words behind the flags of `run` mean: an image and a command, a command alone, or a line for a shell.

use anyhow::bail;

use crate::default;

/// What is known of images without asking anybody.
pub trait Known {
    /// Whether an image of that name is here.
    fn is_here(&self, name: &str) -> bool;
    /// Whether the default image is here and has that program.
    fn is_program(&self, name: &str) -> bool;
}

/// What is to be run.
#[derive(Debug, PartialEq, Eq)]
pub struct Meant {
    /// Of which image.
    pub image: String,
    /// None: what the image says.
    pub command: Option<Vec<String>>,
    /// Whether it is the default image, which nobody has named.
    pub by_default: bool,
    /// What is to be said where the image can't be had.
    pub doubt: Option<String>,
}

/// The first word, and the others.
///
/// # Errors
/// For a line that is followed by more words.
pub fn meant(first: Option<String>, rest: Vec<String>, known: &dyn Known) -> anyhow::Result<Meant> {
    let of = |image: String, command: Vec<String>| Meant {
        image,
        command: (!command.is_empty()).then_some(command),
        by_default: false,
        doubt: None,
    };
    let by_default = |command| Meant { by_default: true, ..of(default::image(), command) };
    let Some(first) = first else { return Ok(by_default(rest)) };
    // No reference has a space: it is a line for a shell.
    if first.contains(char::is_whitespace) {
        if !rest.is_empty() {
            bail!(
                "{first:?} is no image's name: a line for the shell of the default image is one word by itself, so put \
                 all of it between quotes, or give an image before it"
            );
        }
        return Ok(by_default(vec!["/bin/sh".into(), "-c".into(), first]));
    }
    if !rest.is_empty() || first.contains(['/', ':', '@', '.']) || known.is_here(&first) {
        return Ok(of(first, rest));
    }
    if known.is_program(&first) {
        return Ok(by_default(vec![first]));
    }
    let doubt = format!(
        "{first} is taken for an image: none of that name is here, and the default image {} is not here or has no such \
         program. To run it there give `-- {first}`",
        default::image()
    );
    Ok(Meant { doubt: Some(doubt), ..of(first, rest) })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Here;

    impl Known for Here {
        fn is_here(&self, name: &str) -> bool {
            name == "busybox"
        }

        fn is_program(&self, name: &str) -> bool {
            ["ls", "busybox"].contains(&name)
        }
    }

    fn of(words: &[&str]) -> (String, Option<Vec<String>>) {
        let mut words = words.iter().map(ToString::to_string);
        let found = meant(words.next(), words.collect(), &Here).unwrap();
        (found.image, found.command)
    }

    fn command(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn images_commands_and_lines() {
        let default = default::image();
        assert_eq!(of(&["echo Hello"]), (default.clone(), command(&["/bin/sh", "-c", "echo Hello"])));
        assert_eq!(of(&["ls"]), (default, command(&["ls"])));
        assert_eq!(of(&["busybox"]), ("busybox".into(), None), "an image that is here comes first");
        assert_eq!(of(&["busybox", "echo", "a b"]), ("busybox".into(), command(&["echo", "a b"])));
        assert_eq!(of(&["ls", "-l"]), ("ls".into(), command(&["-l"])), "as with Docker");
        assert_eq!(of(&["ls:1"]), ("ls:1".into(), None));
        assert_eq!(of(&["python"]), ("python".into(), None));
    }

    #[test]
    fn what_is_unclear_is_said() {
        let error = meant(Some("echo a".into()), vec!["b".into()], &Here).unwrap_err().to_string();
        assert!(error.contains("\"echo a\"") && error.contains("quotes"), "{error}");
        let doubt = meant(Some("python".into()), vec![], &Here).unwrap().doubt.unwrap();
        assert!(doubt.contains("-- python"), "{doubt}");
        assert_eq!(meant(Some("python".into()), vec!["-V".into()], &Here).unwrap().doubt, None);
    }
}
