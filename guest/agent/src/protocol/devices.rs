//! Device nodes of the container, and what it may do with them.

use serde::{Deserialize, Serialize};

/// One entry of `linux.devices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Absolute path in the container.
    pub path: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Major number (0 for a fifo).
    pub major: u32,
    /// Minor number (0 for a fifo).
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// `linux.devices[].type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// `c` and `u`
    Char,
    /// `b`
    Block,
    /// `p`
    Fifo,
}

/// One entry of `linux.resources.devices`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Or deny.
    pub allow: bool,
    /// All, if none.
    pub kind: Option<DeviceKind>,
    /// All, if none.
    pub major: Option<u32>,
    /// All, if none.
    pub minor: Option<u32>,
    /// Of what it speaks.
    pub access: DeviceAccess,
}

/// Kinds of access to a device, with the bits of `BPF_DEVCG_ACC_*` (linux/bpf.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAccess(u8);

impl DeviceAccess {
    /// `m`: make a node.
    pub const MAKE: Self = Self(1);
    /// `r`
    pub const READ: Self = Self(2);
    /// `w`
    pub const WRITE: Self = Self(4);
    /// `rwm`
    pub const ALL: Self = Self(7);

    /// Bits that mean nothing are dropped.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// Only those that mean something.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0 & Self::ALL.0
    }
}

/// Whether the last words of `rules` are that everything is allowed.
#[must_use]
pub fn allow_all(rules: &[DeviceRule]) -> bool {
    let everything = |rule: &DeviceRule| {
        rule.kind.is_none()
            && rule.major.is_none()
            && rule.minor.is_none()
            && rule.access == DeviceAccess::ALL
    };
    rules.iter().rev().take_while(|rule| rule.allow).any(everything)
}
