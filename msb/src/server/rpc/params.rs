//! What a call's parameters have in common.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use super::{Call, Problem};
use crate::{name::Name, sandbox::Key};

/// Which sandbox.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Which {
    sandbox: Option<String>,
    namespace: Option<String>,
}

impl Which {
    /// The sandbox that is meant, if its caller may.
    pub(super) fn key(self, call: &Call) -> Result<Key, Problem> {
        let sandbox =
            self.sandbox.ok_or_else(|| Problem::Bad("Missing required 'sandbox' parameter".into()))?;
        let name: Name = sandbox.parse()?;
        let namespace = self.namespace.map(|text| text.parse()).transpose()?;
        Ok(call.caller.key(namespace, name)?)
    }
}

/// The parameters of a call as a type.
pub(super) fn read<T: DeserializeOwned>(params: Value) -> Result<T, Problem> {
    serde_json::from_value(params).map_err(|error| Problem::Bad(format!("Invalid parameters: {error}")))
}

/// Seconds, or none where they are null.
pub(super) fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let seconds = Option::<f64>::deserialize(from)?;
    seconds
        .map(|seconds| {
            Duration::try_from_secs_f64(seconds)
                .ok()
                .filter(|time| !time.is_zero())
                .ok_or_else(|| serde::de::Error::custom("a timeout is a number of seconds above 0"))
        })
        .transpose()
}

/// As it is told to who waited: without a fraction where there is none.
pub(super) fn told(time: Duration) -> String {
    format!("{}", time.as_secs_f64())
}
