//! The id of a container: safe as a file name.

use std::{fmt, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest id in bytes, as with runc.
const ID_MAX: usize = 1024;

/// A container's id: letters, digits, `_`, `+`, `-` and `.`; never `.` or `..`. The rule is runc's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Id(String);

/// Not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid container ID format: {id:?}: use letters, digits, '_', '+', '-' and '.', at most {ID_MAX} bytes"
)]
pub struct BadId {
    /// As given, its beginning.
    pub id: String,
}

impl Id {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Id {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        if matches!(text, "" | "." | "..") || text.len() > ID_MAX || !text.bytes().all(allowed) {
            return Err(BadId { id: text.chars().take(64).collect() });
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Id {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl AsRef<Path> for Id {
    fn as_ref(&self) -> &Path {
        self.0.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_callers_use() {
        for id in ["a", "C0ffee_+-.x", "...", "a.b", &"x".repeat(1024)] {
            assert!(id.parse::<Id>().is_ok(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "a b", "é", "a\0", &"x".repeat(1025)] {
            assert!(id.parse::<Id>().is_err(), "{id}");
        }
    }

    proptest! {
        #[test]
        fn an_id_is_one_ordinary_component(text in ".{0,16}") {
            if let Ok(id) = text.parse::<Id>() {
                let parts: Vec<_> = Path::new(id.as_str()).components().collect();
                prop_assert!(matches!(parts[..], [Component::Normal(_)]));
            }
        }
    }
}
