//! [`Owner`]: whose a name is.
//!
//! Owns which names look alike; must not know how a signature is verified. Invariant: names that a reader could take for each other have one owner.

use std::collections::BTreeSet;

use platform_runtime::Digest;
use serde::{Deserialize, Serialize};

/// Who may publish under names that look alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// The names that are in use.
    pub(crate) names: BTreeSet<String>,
    /// Keys that signed the first version.
    pub(crate) keys: BTreeSet<Digest>,
}

/// What a name is to a reader in a hurry: separators, zeros and ones are what they look like. The grammar leaves nothing else to be mistaken.
pub(crate) fn folded(name: &str) -> String {
    let mut folded = String::with_capacity(name.len());
    for c in name.chars() {
        let c = match c {
            '.' | '_' => '-',
            '0' => 'o',
            '1' | 'i' => 'l',
            other => other,
        };
        if c != '-' || !folded.ends_with('-') {
            folded.push(c);
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::folded;

    #[test]
    fn names_that_look_alike_are_one() {
        for other in ["kv_storage", "kv.storage", "kv--storage", "kv__storage", "kv-st0rage"] {
            assert_eq!(folded(other), folded("kv-storage"), "{other}");
        }
        assert_eq!(folded("a1/b"), folded("al/b"));
        for other in ["kvstorage", "kv-storages", "team/kv-storage"] {
            assert_ne!(folded(other), folded("kv-storage"), "{other}");
        }
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(name in "[a-z0-9._/-]{0,40}") {
            prop_assert_eq!(folded(&folded(&name)), folded(&name));
        }
    }
}
