//! Names of sandboxes and namespaces: safe as a file name, as a host name, and in a URL.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// 1 to 63 of `[A-Za-z0-9_-]`, the first one a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A text that is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no name: give 1 to 63 letters, digits, `-` or `_`, the first one a letter or digit")]
pub struct BadName {
    /// Its beginning.
    pub given: String,
}

/// The longest name: what one label of a host name may have (RFC 1035, 2.3.4).
const LONGEST: usize = 63;

impl Name {
    /// The namespace of who names none.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn default_namespace() -> Self {
        Self("default".into())
    }

    /// As a text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let all = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if first && all && text.len() <= LONGEST {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName { given: text.chars().take(LONGEST + 1).collect() })
        }
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        to.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_that_means_something_to_a_file_system() {
        for good in ["a", "0", "web-1", "A_b", &"x".repeat(63)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a.b", "-a", "_a", "a b", "a\0", "ä", "*", &"x".repeat(64)] {
            bad.parse::<Name>().unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn what_is_a_name_is_one_component_of_a_path(text in ".*") {
            if let Ok(name) = text.parse::<Name>() {
                let path = std::path::Path::new("/home").join(name.as_str());
                prop_assert_eq!(path.parent(), Some(std::path::Path::new("/home")));
            }
        }
    }
}
