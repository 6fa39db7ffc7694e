//! Proxies: those of the environment, for registries. Never for this machine itself.

use std::net::IpAddr;

use super::error::PullError;

/// As the environment has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `https:`
    pub https: Option<String>,
    /// For `http:`
    pub http: Option<String>,
    /// Hosts, domains and networks that are reached without, separated by commas.
    pub none: Option<String>,
}

/// Never through a proxy.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

impl Proxies {
    /// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, or their lower case, which counts first as with curl.
    #[must_use]
    pub fn of_environment() -> Self {
        let get = |name: &str| {
            let set = |name: String| std::env::var(name).ok().filter(|value| !value.is_empty());
            set(name.to_lowercase()).or_else(|| set(name.to_owned()))
        };
        Self { https: get("HTTPS_PROXY"), http: get("HTTP_PROXY"), none: get("NO_PROXY") }
    }

    /// For requests to `registry`, checked, and with this machine among those that are reached without.
    pub(super) fn towards(&self, registry: &str) -> Result<Self, PullError> {
        if is_loopback(registry) {
            return Ok(Self::default());
        }
        let none = [self.none.as_deref(), Some(LOOPBACK)].into_iter().flatten().collect::<Vec<_>>().join(",");
        for (variable, address) in [("HTTPS_PROXY", &self.https), ("HTTP_PROXY", &self.http)] {
            if let Some(address) = address {
                reqwest::Proxy::all(address).map_err(|_| PullError::Proxy { variable })?;
            }
        }
        Ok(Self { https: self.https.clone(), http: self.http.clone(), none: Some(none) })
    }
}

/// Whether a registry is on this machine: such ones are spoken to in plain HTTP, as Docker does.
pub(super) fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_reached_without() {
        for here in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(here), "{here}");
        }
        for there in ["localhost.example", "docker.io", "10.0.0.1:5000", "127.example:1", "[::2]:5000"] {
            assert!(!is_loopback(there), "{there}");
        }
        let proxies =
            Proxies { https: Some("http://proxy:1".into()), http: None, none: Some("a.example".into()) };
        assert_eq!(proxies.towards("localhost:5000").unwrap(), Proxies::default());
        let there = proxies.towards("docker.io").unwrap();
        assert_eq!(there.https, proxies.https);
        assert_eq!(there.none.unwrap(), "a.example,localhost,127.0.0.0/8,::1");
        let bad = Proxies { https: Some("::::".into()), ..Proxies::default() };
        assert!(matches!(bad.towards("docker.io"), Err(PullError::Proxy { variable: "HTTPS_PROXY" })));
    }
}
