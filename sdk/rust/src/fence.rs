//! The greatest fencing tokens that were seen, for providers that keep them themselves. What is written to
//! [`crate::storage`] needs none of this: there the host sees to it.
//!
//! ```
//! use platform_sdk::{context::Fence, fence::Fences};
//!
//! let of = |token| Fence { name: "orders".to_owned(), token };
//! let mut fences = Fences::default();
//! fences.check(Some(&of(7)))?;
//! fences.pass(Some(&of(7)));
//! assert_eq!(fences.check(Some(&of(6))), Err(7));
//! # Ok::<(), u64>(())
//! ```

use std::collections::BTreeMap;

use crate::context::Fence;

/// Tokens by the name of their lock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fences(BTreeMap<String, u64>);

impl Fences {
    /// Whether a write may be made. Nothing fences a call that carries no token.
    ///
    /// # Errors
    /// The greater token that was seen.
    pub fn check(&self, fence: Option<&Fence>) -> Result<(), u64> {
        let Some(fence) = fence else { return Ok(()) };
        match self.0.get(&fence.name) {
            Some(seen) if *seen > fence.token => Err(*seen),
            _ => Ok(()),
        }
    }

    /// Remembers the token of a write that was made.
    pub fn pass(&mut self, fence: Option<&Fence>) {
        if let Some(fence) = fence {
            let seen = self.0.entry(fence.name.clone()).or_default();
            *seen = fence.token.max(*seen);
        }
    }

    /// Names and tokens, for saving.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, token)| (name.as_str(), *token))
    }

    /// Whether no token was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, u64)> for Fences {
    fn from_iter<I: IntoIterator<Item = (String, u64)>>(tokens: I) -> Self {
        Self(tokens.into_iter().collect())
    }
}
