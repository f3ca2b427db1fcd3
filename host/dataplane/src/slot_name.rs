//! Names of slots.

use std::{fmt, str::FromStr};

use platform_capability::{InvalidName, Name, SlotKind, UnknownSlot};
use serde::{Deserialize, Serialize};

/// `KIND` or `KIND/QUALIFIER`. A qualified slot serves one namespace, database, policy or service; where it is not bound the plain
/// one of its kind does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SlotName {
    /// What the slot is for.
    pub kind: SlotKind,
    /// Whom it serves; all whom no other serves when there is none.
    pub qualifier: Option<Name>,
}

impl SlotName {
    /// The plain slot of a kind.
    #[must_use]
    pub fn plain(kind: SlotKind) -> Self {
        Self { kind, qualifier: None }
    }
}

/// The text names no slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSlotName {
    /// There is no such kind.
    #[error(transparent)]
    Kind(#[from] UnknownSlot),
    /// What comes after the slash is no name.
    #[error(transparent)]
    Qualifier(#[from] InvalidName),
}

impl FromStr for SlotName {
    type Err = InvalidSlotName;

    fn from_str(text: &str) -> Result<Self, InvalidSlotName> {
        match text.split_once('/') {
            None => Ok(Self::plain(text.parse()?)),
            Some((kind, qualifier)) => Ok(Self { kind: kind.parse()?, qualifier: Some(qualifier.parse()?) }),
        }
    }
}

impl TryFrom<String> for SlotName {
    type Error = InvalidSlotName;

    fn try_from(text: String) -> Result<Self, InvalidSlotName> {
        text.parse()
    }
}

impl From<SlotName> for String {
    fn from(name: SlotName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.qualifier {
            None => write!(f, "{}", self.kind),
            Some(qualifier) => write!(f, "{}/{qualifier}", self.kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_bad_ones_are_refused() {
        for good in ["kv.store", "auth.policy/payments", "router.policy/checkout.v2"] {
            assert_eq!(good.parse::<SlotName>().unwrap().to_string(), good);
        }
        for bad in ["", "kv", "kv.store/", "kv.store/../x", "auth.policy/a/b"] {
            assert!(bad.parse::<SlotName>().is_err(), "{bad}");
        }
    }
}
