//! What guests for tests do on request: the ways in which a guest can misbehave, and how it passes time.
//!
//! Each example of this package is a guest whose calls name the behaviour, so that one binding can misbehave and behave
//! again. It knows nothing of the host's limits: it goes on until something stops it.

#![expect(clippy::panic, reason = "a guest that panics is what these are for")]

use std::{hint::black_box, time::Duration};

use platform_sdk::{Problem, context};
use serde::Deserialize;

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

/// Loops in the guest's own code.
pub fn forever() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Traps.
///
/// # Panics
/// Always.
pub fn trap() -> ! {
    panic!("trapped on request")
}

/// Takes memory and keeps it, without end.
pub fn hoard() -> ! {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(black_box(vec![1; 64 << 10]));
    }
}

/// Calls itself without end, on the stack that the host gives: nothing of it is in the guest's memory.
#[must_use]
#[inline(never)]
pub fn descend(depth: u64) -> u64 {
    if depth == u64::MAX { 0 } else { descend(depth + 1).rotate_left(7) ^ depth }
}

/// Is busy for `time`, by the clock of the call's deadline; beyond the deadline when `time` is longer.
pub fn busy(time: Duration) {
    let end = context::remaining().checked_sub(time);
    while end.is_none_or(|end| context::remaining() > end) {}
}

/// A number in text; 0 when it is none.
#[must_use]
pub fn number(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}
