//! Which sandbox.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// A sandbox's name within its namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// Whose it is.
    pub namespace: Name,
    /// What it is called there.
    pub name: Name,
}

impl Key {
    /// `name` in the namespace of who names none.
    #[must_use]
    pub fn of(name: Name) -> Self {
        Self { namespace: Name::default_namespace(), name }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "{}/{}", self.namespace, self.name)
    }
}
