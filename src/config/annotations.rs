//! What a user may ask for beyond the specification: annotations whose names begin with `dev.msb.`.
//!
//! | annotation | meaning | without it |
//! |---|---|---|
//! | `dev.msb.disk-size` | size of the disk for what the container writes: `512M`, `20G`, `1T`, or bytes | 16 GiB |
//!
//! One that isn't in this table is refused: a wish that is silently not granted is worse than an error.

use std::collections::BTreeMap;

use super::ConfigError;

/// All names of ours begin with it.
const PREFIX: &str = "dev.msb.";
/// See the table.
const DISK_SIZE: &str = "dev.msb.disk-size";

/// Size of the disk for what the container writes, in bytes. Sparse: it takes what is written, and no more.
const DISK_BYTES: u64 = 16 << 30;
/// The smallest, in bytes: a file system with a journal and some room.
const DISK_MIN: u64 = 64 << 20;
/// The largest, in bytes: what a file can have on an ext4 host, in whole TiB.
const DISK_MAX: u64 = 15 << 40;

/// What was asked for, complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wishes {
    /// Size of the disk for what the container writes, in bytes.
    pub disk_bytes: u64,
}

impl Wishes {
    /// From all annotations of a container.
    ///
    /// # Errors
    /// [`ConfigError::UnknownAnnotation`], [`ConfigError::DiskSize`].
    pub fn of(annotations: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut wishes = Self { disk_bytes: DISK_BYTES };
        for (name, value) in annotations.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
            match &**name {
                DISK_SIZE => {
                    wishes.disk_bytes = bytes(value)
                        .filter(|bytes| (DISK_MIN..=DISK_MAX).contains(bytes))
                        .ok_or_else(|| ConfigError::DiskSize { text: value.clone() })?;
                }
                _ => return Err(ConfigError::UnknownAnnotation { name: name.clone() }),
            }
        }
        Ok(wishes)
    }
}

/// `1073741824`, `1024M`, `1g`: powers of 1024, as Docker reads sizes.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(name: &str, value: &str) -> Result<Wishes, ConfigError> {
        Wishes::of(&BTreeMap::from([(name.into(), value.into()), ("org.other".into(), "x".into())]))
    }

    #[test]
    fn sizes_as_docker_writes_them() {
        for (text, expected) in [
            ("64M", 64 << 20),
            ("20G", 20 << 30),
            ("1t", 1 << 40),
            ("1GiB", 1 << 30),
            ("100000000", 100_000_000),
        ] {
            assert_eq!(asked(DISK_SIZE, text).unwrap().disk_bytes, expected, "{text}");
        }
        for text in ["", "G", "-1G", "1.5G", "1 G", "1X", "63M", "16T", "99999999999T"] {
            assert!(matches!(asked(DISK_SIZE, text), Err(ConfigError::DiskSize { .. })), "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(matches!(asked("dev.msb.disksize", "1G"), Err(ConfigError::UnknownAnnotation { .. })));
        assert_eq!(Wishes::of(&BTreeMap::new()).unwrap().disk_bytes, DISK_BYTES);
    }

    proptest! {
        #[test]
        fn any_text_is_decided(text in ".{0,24}") {
            let _ = bytes(&text);
        }
    }
}
