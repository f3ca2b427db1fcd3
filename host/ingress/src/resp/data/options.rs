//! Times to live as commands give them.
//!
//! Owns their units, bounds and option words; must not know the commands. Invariant: a time that does not fit is refused
//! when it is read, never when it is used.

use platform_base::clock;

use super::integer;
use crate::resp::{draft::Life, refusal::Refusal};

/// What a time to live is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::resp) enum Unit {
    Seconds,
    Milliseconds,
}

/// When a key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::resp) enum When {
    /// So many milliseconds from now.
    In(i64),
    /// At this unix time in milliseconds.
    At(i64),
}

/// What becomes of the time to live of a key that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::resp) enum Change {
    /// It gets another.
    To(When),
    /// It stays for good.
    Persist,
}

impl When {
    /// From its number; `command` is for the refusal.
    pub(super) fn read(command: &'static str, number: &[u8], unit: Unit, absolute: bool) -> Result<Self, Refusal> {
        let number = integer(number)?;
        let factor = if unit == Unit::Seconds { 1000 } else { 1 };
        let ms = number.checked_mul(factor).ok_or(Refusal::ExpireTime(command))?;
        if absolute {
            return Ok(Self::At(ms));
        }
        let now = i64::try_from(clock::unix_ms()).unwrap_or(i64::MAX);
        // What is counted from now must have an end that can be told.
        now.checked_add(ms).filter(|_| ms < i64::MAX / 2).ok_or(Refusal::ExpireTime(command))?;
        Ok(Self::In(ms))
    }

    /// The same where only a time to come makes sense.
    pub(super) fn positive(command: &'static str, number: &[u8], unit: Unit, absolute: bool) -> Result<Self, Refusal> {
        match Self::read(command, number, unit, absolute)? {
            Self::In(ms) | Self::At(ms) if ms <= 0 => Err(Refusal::ExpireTime(command)),
            when => Ok(when),
        }
    }

    /// From an option such as `EX` and its number; none when the word is no such option.
    pub(super) fn option(command: &'static str, word: &[u8], number: Option<&[u8]>) -> Result<Option<Self>, Refusal> {
        let (unit, absolute) = match word.to_ascii_uppercase().as_slice() {
            b"EX" => (Unit::Seconds, false),
            b"PX" => (Unit::Milliseconds, false),
            b"EXAT" => (Unit::Seconds, true),
            b"PXAT" => (Unit::Milliseconds, true),
            _ => return Ok(None),
        };
        Self::positive(command, number.ok_or(Refusal::Syntax)?, unit, absolute).map(Some)
    }

    /// The moment, unix time in milliseconds; one before 1970 is 0.
    pub(super) fn at_ms(self, now_ms: u64) -> u64 {
        match self {
            Self::In(ms) => now_ms.saturating_add_signed(ms),
            Self::At(ms) => u64::try_from(ms).unwrap_or(0),
        }
    }

    /// The life of a value that goes then.
    pub(super) fn life(self, now_ms: u64) -> Life {
        Life::Until(self.at_ms(now_ms))
    }
}
