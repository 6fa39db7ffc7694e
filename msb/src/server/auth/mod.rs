//! Who asks, and what they may.
//!
//! A request comes in with its headers; what leaves is a [`Caller`], and of it the only way to a [`Key`]: so the namespace
//! that is checked is always the one that is used.

pub(super) mod origin;
mod secret;
mod token;

use axum::http::{HeaderMap, header};

pub(super) use secret::random;
pub use secret::{Secret, SecretError};
pub use token::{BadLasting, Token, keygen, lasting};

use crate::{
    name::Name,
    sandbox::{Key, Network, Port, Volume, Where, keep},
};
use token::BadToken;

/// Who is let in.
#[derive(Debug, Clone)]
pub enum Access {
    /// Everybody, to everything: for who develops, on a machine of their own.
    Everybody,
    /// Who has a key signed with this.
    Keys(Secret),
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    only: Option<Name>,
    /// A page that may be anybody's, and that was asked for no key.
    page: bool,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No key, or nothing that looks like one.
    #[error("Invalid credentials")]
    Credentials,
    /// A key that is not ours, or too old.
    #[error("Invalid or expired token")]
    Token,
    /// A key to something else.
    #[error("Access denied")]
    Denied,
}

/// Why somebody can't mount what they ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unmountable {
    /// They have a key to one namespace.
    #[error("A key to one namespace can't mount what is outside of it")]
    Key,
    /// They are a page of somebody else's.
    #[error(
        "A page of another origin can't mount paths of the host: ask from elsewhere, or have the server ask for keys"
    )]
    Page,
}

/// Why somebody can't have the network that they ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// All that the host can reach.
    #[error(
        "A key to one namespace, or a page of another origin, can't have a sandbox that reaches the host's networks"
    )]
    Network,
    /// An address of the host's.
    #[error(
        "A key to one namespace, or a page of another origin, publishes ports at the server's own address alone: leave the address out"
    )]
    Address,
}

impl Caller {
    pub(super) fn everywhere() -> Self {
        Self { only: None, page: false }
    }

    pub(super) fn of(namespace: Name) -> Self {
        Self { only: Some(namespace), page: false }
    }

    /// The one namespace that they may see; none: all of them.
    pub(super) fn only(&self) -> Option<&Name> {
        self.only.as_ref()
    }

    /// Whether they may mount these: what belongs to the host, or to all namespaces, is not for who has a key to one; and a
    /// path of the host is not for a page that anybody may have made, which a browser lets ask whoever looks at it.
    ///
    /// # Errors
    /// [`Unmountable`].
    pub fn mounts(&self, volumes: &[Volume]) -> Result<(), Unmountable> {
        if self.only.is_some() && !volumes.is_empty() {
            return Err(Unmountable::Key);
        }
        if self.page && volumes.iter().any(|volume| matches!(volume.source, Where::Host(_))) {
            return Err(Unmountable::Page);
        }
        Ok(())
    }

    /// Whether they may have a sandbox that reaches `network`, and is reached at `ports`: the networks of the host are not for
    /// who has a key to one namespace, nor for a page that anybody may have made; and neither says at which of the host's
    /// addresses a sandbox is reached.
    ///
    /// # Errors
    /// [`Unreachable`].
    pub fn reaches(&self, network: Network, ports: &[Port]) -> Result<(), Unreachable> {
        if self.only.is_none() && !self.page {
            return Ok(());
        }
        if network == Network::Open {
            return Err(Unreachable::Network);
        }
        let usual = keep::usual_address().ok();
        if ports.iter().any(|port| port.address.is_some() && port.address != usual) {
            return Err(Unreachable::Address);
        }
        Ok(())
    }

    /// The namespace that they mean who ask for `asked`, or for none.
    ///
    /// # Errors
    /// [`Refused::Denied`].
    pub fn namespace(&self, asked: Option<Name>) -> Result<Name, Refused> {
        match (asked, &self.only) {
            (Some(asked), None) => Ok(asked),
            (None, None) => Ok(Name::default_namespace()),
            (None, Some(only)) => Ok(only.clone()),
            (Some(asked), Some(only)) if asked == *only => Ok(asked),
            (Some(_), Some(_)) => Err(Refused::Denied),
        }
    }

    /// The sandbox that they mean.
    ///
    /// # Errors
    /// [`Refused::Denied`].
    pub fn key(&self, namespace: Option<Name>, name: Name) -> Result<Key, Refused> {
        Ok(Key { namespace: self.namespace(namespace)?, name })
    }
}

impl Access {
    /// Who sent these headers.
    ///
    /// # Errors
    /// [`Refused::Credentials`], [`Refused::Token`].
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, Refused> {
        let sent = headers.get(header::PROXY_AUTHORIZATION).or_else(|| headers.get(header::AUTHORIZATION));
        let caller = self.caller_with(sent.and_then(|value| value.to_str().ok()))?;
        let page = matches!(self, Self::Everybody) && origin::may_be_foreign(headers);
        Ok(Caller { page, ..caller })
    }

    /// Who sent this as the value of a header.
    ///
    /// # Errors
    /// [`Refused::Credentials`], [`Refused::Token`].
    pub fn caller_with(&self, sent: Option<&str>) -> Result<Caller, Refused> {
        let secret = match self {
            Self::Everybody => return Ok(Caller::everywhere()),
            Self::Keys(secret) => secret,
        };
        let sent = sent.ok_or(Refused::Credentials)?.trim();
        let key = match sent.split_once(' ') {
            // RFC 9110, 11.1: the scheme's case does not matter.
            Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim_start(),
            _ => sent,
        };
        token::check(secret, key).map_err(|bad| match bad {
            BadToken::Shape => Refused::Credentials,
            BadToken::Invalid => Refused::Token,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_namespace_that_is_used_is_the_one_that_is_checked() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let all = Caller::everywhere();
        assert_eq!(all.namespace(None), Ok(name("default")));
        assert_eq!(all.namespace(Some(name("x"))), Ok(name("x")));
        let one = Caller::of(name("team"));
        assert_eq!(one.namespace(None), Ok(name("team")));
        assert_eq!(one.namespace(Some(name("default"))), Err(Refused::Denied));
        assert_eq!(one.key(Some(name("team")), name("a")).unwrap().to_string(), "team/a");
    }

    #[test]
    fn the_hosts_networks_are_not_for_everybody() {
        let ports = |text: &str| [text.parse::<Port>().unwrap()];
        let page = Caller { page: true, ..Caller::everywhere() };
        for caller in [Caller::of("team".parse().unwrap()), page] {
            assert_eq!(caller.reaches(Network::Open, &[]), Err(Unreachable::Network));
            assert_eq!(
                caller.reaches(Network::Public, &ports("203.0.113.1:80:80")),
                Err(Unreachable::Address)
            );
            assert_eq!(caller.reaches(Network::Public, &ports("[::]:80:80")), Err(Unreachable::Address));
            assert_eq!(caller.reaches(Network::Public, &ports("8080:80")), Ok(()));
            let usual = Port { address: keep::usual_address().ok(), ..ports("8080:80")[0] };
            assert_eq!(caller.reaches(Network::None, &[usual]), Ok(()));
        }
        assert_eq!(Caller::everywhere().reaches(Network::Open, &ports("0.0.0.0:80:80")), Ok(()));
    }

    #[test]
    fn keys_come_in_two_headers_and_two_shapes() {
        let secret = Secret::given("0123456789abcdef").unwrap();
        let key = keygen(&secret, Duration::from_secs(60), None).unwrap().text;
        let access = Access::Keys(secret);
        for sent in [key.clone(), format!("Bearer {key}"), format!("bearer  {key}")] {
            for name in [header::AUTHORIZATION, header::PROXY_AUTHORIZATION] {
                let headers = HeaderMap::from_iter([(name, sent.parse().unwrap())]);
                assert_eq!(access.caller(&headers), Ok(Caller::everywhere()));
            }
        }
        assert_eq!(access.caller(&HeaderMap::new()), Err(Refused::Credentials));
        assert_eq!(access.caller_with(Some("Basic dTpw")), Err(Refused::Credentials));
        assert_eq!(access.caller_with(Some("Bearer msb_x")), Err(Refused::Token));
        assert_eq!(Access::Everybody.caller(&HeaderMap::new()), Ok(Caller::everywhere()));
    }
}
