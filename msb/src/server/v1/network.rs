//! Whom a sandbox can reach, as these clients ask for it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    create::{More, none},
    problem::Problem,
};
use crate::sandbox::Network;

#[derive(Debug, Deserialize)]
pub(super) struct Net {
    #[serde(default = "yes")]
    enabled: bool,
    policy: Option<Rules>,
    secrets: Option<Secrets>,
    /// What 0.7 says unasked: that the policy is to hold.
    #[serde(default = "yes")]
    strict: bool,
    #[serde(flatten)]
    more: More,
}

#[derive(Debug, Deserialize)]
struct Rules {
    default_egress: String,
    #[serde(default)]
    rules: Vec<Rule>,
}

/// One of an access list; without a destination it is for all, without protocols or ports for all of those.
#[derive(Debug, Deserialize)]
struct Rule {
    direction: String,
    action: String,
    destination: Value,
    #[serde(default)]
    protocols: Vec<String>,
    #[serde(default)]
    ports: Vec<Ports>,
}

#[derive(Debug, Deserialize)]
struct Ports {
    start: u16,
    end: u16,
}

impl Rules {
    /// Whether they are what 0.7 makes of the profile "public", which it also does when asked for none: names of the host,
    /// and whatever is public.
    fn public(&self) -> bool {
        let to = |rule: &Rule, group: &str| {
            (rule.direction.as_str(), rule.action.as_str()) == ("egress", "allow")
                && rule.destination == json!({ "group": group })
        };
        let names = |rule: &Rule| {
            to(rule, "host")
                && !rule.ports.is_empty()
                && rule.ports.iter().all(|of| (of.start, of.end) == (53, 53))
        };
        let all = |rule: &Rule| to(rule, "public") && rule.ports.is_empty() && rule.protocols.is_empty();
        self.default_egress == "deny"
            && self.rules.iter().any(all)
            && self.rules.iter().all(|rule| names(rule) || all(rule))
    }
}

#[derive(Debug, Deserialize)]
struct Secrets {
    #[serde(default)]
    entries: Vec<Value>,
}

fn yes() -> bool {
    true
}

impl Net {
    /// In our own terms.
    pub(super) fn network(self) -> Result<Network, Problem> {
        if let Some(name) = self.more.asks() {
            return Err(none(&format!("network.{}", name.escape_debug())));
        }
        Ok(match self {
            Self { secrets: Some(secrets), .. } if !secrets.entries.is_empty() => {
                return Err(none("secrets"));
            }
            Self { strict: false, .. } => return Err(none("policies for their network that need not hold")),
            Self { enabled: false, .. } => Network::None,
            Self { policy: None, .. } => Network::Public,
            Self { policy: Some(policy), .. } if policy.public() => Network::Public,
            Self { policy: Some(Rules { rules, .. }), .. } if !rules.is_empty() => {
                return Err(none("rules for their network but all, none and the default"));
            }
            Self { policy: Some(policy), .. } if policy.default_egress == "allow" => Network::Open,
            Self { .. } => Network::None,
        })
    }
}
