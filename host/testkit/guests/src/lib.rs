//! What guests for tests do on request: the ways in which a guest can misbehave, and how it passes time.
//!
//! Each example of this package is a guest whose calls name the behaviour, so that one binding can misbehave and behave
//! again. It knows nothing of the host's limits: it goes on until something stops it.

mod acts;

use platform_sdk::Problem;
use serde::Deserialize;

pub use acts::{busy, forever, hoard, trap};

/// What a function of a guest's life does instead of its work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ill {
    /// Its work.
    #[default]
    No,
    /// It never returns.
    Loops,
    /// It traps.
    Traps,
    /// It returns a problem that points at `/ill`.
    Refuses,
}

impl Ill {
    /// Does it.
    ///
    /// # Errors
    /// For [`Ill::Refuses`].
    ///
    /// # Panics
    /// For [`Ill::Traps`].
    pub fn act(self) -> Result<(), Problem> {
        match self {
            Self::No => Ok(()),
            Self::Loops => forever(),
            Self::Traps => trap(),
            Self::Refuses => Err(Problem::new("refused as the settings ask").at("/ill")),
        }
    }
}

/// Calls itself without end, on the stack that the host gives: nothing of it is in the guest's memory.
#[must_use]
#[inline(never)]
pub fn descend(depth: u64) -> u64 {
    if depth == u64::MAX { 0 } else { descend(depth + 1).rotate_left(7) ^ depth }
}

/// A number in text; 0 when it is none.
#[must_use]
pub fn number(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}
