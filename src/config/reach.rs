//! Whom a machine can reach: `dev.msb.network`.

use std::{net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// Beyond what the network itself lets through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// `open`: everybody.
    #[default]
    Open,
    /// `public`: the Internet, and nothing that is private to the host, its networks or its owner's cloud.
    Public {
        /// `public,ADDRESS`: a name server that may be asked, wherever it is.
        resolver: Option<Ipv4Addr>,
    },
}

impl Reach {
    /// What can be given.
    pub(super) const EXPECTED: &str = "`open`, `public`, or `public,` with the IPv4 address of a name server";
}

impl FromStr for Reach {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once(',') {
            None if text == "open" => Ok(Self::Open),
            None if text == "public" => Ok(Self::Public { resolver: None }),
            Some(("public", address)) => {
                Ok(Self::Public { resolver: Some(address.parse().map_err(|_| ())?) })
            }
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_annotation_is_written() {
        assert_eq!("open".parse(), Ok(Reach::Open));
        let resolver = Some(Ipv4Addr::new(169, 254, 1, 1));
        assert_eq!("public,169.254.1.1".parse(), Ok(Reach::Public { resolver }));
        for bad in ["", "closed", "public,", "public,::1", "open,1.1.1.1", "public,1.1.1.1,2.2.2.2"] {
            bad.parse::<Reach>().unwrap_err();
        }
    }
}
