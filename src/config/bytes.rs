//! Sizes as people and Docker write them: `512M`, `20G`, `1073741824`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub u64);

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no size: write it like 512M or 20G")]
pub struct NoSize {
    /// As given.
    pub text: String,
}

/// Letters and how often each multiplies by two.
const UNITS: [(&str, u32); 4] = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];

impl Bytes {
    /// Rounded up, in MiB.
    #[must_use]
    pub fn mib(self) -> u64 {
        self.0.div_ceil(1 << 20)
    }
}

impl FromStr for Bytes {
    type Err = NoSize;

    /// `1073741824`, `1024M`, `1g`, `1GiB`: powers of 1024, as Docker reads sizes.
    fn from_str(text: &str) -> Result<Self, NoSize> {
        let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = unit.to_ascii_uppercase();
        let letter = unit.strip_suffix("IB").or_else(|| unit.strip_suffix('B')).unwrap_or(&unit);
        let shift = match letter {
            // "B" alone is bytes; "iB" alone is nothing.
            "" if unit != "IB" => Some(0),
            letter => UNITS.iter().find(|(name, _)| *name == letter).map(|(_, shift)| *shift),
        };
        number
            .parse::<u64>()
            .ok()
            .zip(shift)
            .and_then(|(number, shift)| number.checked_mul(1 << shift))
            .map(Self)
            .ok_or_else(|| NoSize { text: text.to_owned() })
    }
}

impl TryFrom<String> for Bytes {
    type Error = NoSize;

    fn try_from(text: String) -> Result<Self, NoSize> {
        text.parse()
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        bytes.to_string()
    }
}

impl fmt::Display for Bytes {
    /// With the largest unit of which it is a whole number.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, shift)| self.0 != 0 && self.0.trailing_zeros() >= *shift) {
            Some((name, shift)) => write!(formatter, "{}{name}", self.0 >> shift),
            None => write!(formatter, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_docker_writes_them() {
        for (text, expected) in [
            ("0", 0),
            ("7b", 7),
            ("64M", 64 << 20),
            ("20G", 20 << 30),
            ("1t", 1 << 40),
            ("1GiB", 1 << 30),
            ("2kb", 2048),
            ("100000000", 100_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(expected)), "{text}");
        }
        for text in ["", "G", "-1G", "+1G", "1.5G", "1 G", "1X", "1IB", "1BB", "99999999999T", "1\u{212a}"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read(bytes: u64) {
            prop_assert_eq!(Bytes(bytes).to_string().parse(), Ok(Bytes(bytes)));
        }

        #[test]
        fn any_text_is_decided(text in ".{0,24}") {
            let _ = text.parse::<Bytes>();
        }
    }
}
