//! How much a device of the machine may do: `bytes=20M,bytes-burst=100M,operations=500`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Bytes;

/// Of each disk, or of each interface and direction. Without any of it, there is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Throttle {
    /// Bytes.
    pub bytes: Option<Flow>,
    /// Requests of a disk, packets of an interface.
    pub operations: Option<Flow>,
}

/// Those of a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttles {
    /// Of each disk.
    pub disks: Throttle,
    /// Of each network interface, in each direction.
    pub networks: Throttle,
}

/// So much each second in the long run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// At least 1.
    pub per_second: u64,
    /// What may come at once after a while of nothing, at least 1: what a second gives, unless said otherwise.
    pub burst: u64,
}

/// A text that is no such limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no limit: give {}", Throttle::EXPECTED)]
pub struct NoThrottle {
    /// As given.
    pub text: String,
}

impl Throttle {
    /// What can be said.
    pub const EXPECTED: &str = "some of bytes=20M, bytes-burst=100M, operations=500 and operations-burst=1000, with commas between them";

    /// Whether there is no limit.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for Throttle {
    type Err = NoThrottle;

    fn from_str(text: &str) -> Result<Self, NoThrottle> {
        let wrong = || NoThrottle { text: text.to_owned() };
        let mut given = [None; 4];
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (name, value) = part.trim().split_once('=').ok_or_else(wrong)?;
            let place = NAMES.iter().position(|known| *known == name).ok_or_else(wrong)?;
            let number =
                if place < 2 { value.parse::<Bytes>().ok().map(|bytes| bytes.0) } else { value.parse().ok() };
            let number = number.filter(|number| *number > 0).ok_or_else(wrong)?;
            if given[place].replace(number).is_some() {
                return Err(wrong());
            }
        }
        let flow = |per_second: Option<u64>, burst: Option<u64>| match (per_second, burst) {
            (Some(per_second), burst) => Ok(Some(Flow { per_second, burst: burst.unwrap_or(per_second) })),
            (None, None) => Ok(None),
            // A burst of what is not limited.
            (None, Some(_)) => Err(wrong()),
        };
        let [bytes, bytes_burst, operations, operations_burst] = given;
        Ok(Self { bytes: flow(bytes, bytes_burst)?, operations: flow(operations, operations_burst)? })
    }
}

const NAMES: [&str; 4] = ["bytes", "bytes-burst", "operations", "operations-burst"];

impl fmt::Display for Throttle {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut put = |to: &mut fmt::Formatter<'_>, name: &str, value: &dyn fmt::Display| {
            let comma = if std::mem::take(&mut first) { "" } else { "," };
            write!(to, "{comma}{name}={value}")
        };
        if let Some(Flow { per_second, burst }) = self.bytes {
            put(to, NAMES[0], &Bytes(per_second))?;
            put(to, NAMES[1], &Bytes(burst))?;
        }
        if let Some(Flow { per_second, burst }) = self.operations {
            put(to, NAMES[2], &per_second)?;
            put(to, NAMES[3], &burst)?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Throttle {
    type Error = NoThrottle;

    fn try_from(text: String) -> Result<Self, NoThrottle> {
        text.parse()
    }
}

impl From<Throttle> for String {
    fn from(throttle: Throttle) -> Self {
        throttle.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_is_meant() {
        let flow = |per_second, burst| Some(Flow { per_second, burst });
        let throttle: Throttle = "bytes=20M,operations=500,operations-burst=7".parse().unwrap();
        assert_eq!(throttle, Throttle { bytes: flow(20 << 20, 20 << 20), operations: flow(500, 7) });
        assert_eq!(throttle.to_string().parse(), Ok(throttle));
        let throttle: Throttle = "bytes-burst=1G, bytes=1".parse().unwrap();
        assert_eq!(throttle.bytes, flow(1, 1 << 30));
        assert!("".parse::<Throttle>().unwrap().is_none());
        assert_eq!(Throttle::default().to_string(), "");
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for text in [
            "20M",
            "bytes",
            "bytes=",
            "bytes=0",
            "bytes=-1",
            "bytes=1,bytes=2",
            "operations=1M",
            "operations-burst=7",
            "packets=1",
            "bytes=1,",
        ] {
            assert_eq!(text.parse::<Throttle>(), Err(NoThrottle { text: text.into() }));
        }
    }
}
