//! Durations, sizes and `KEY=VALUE` pairs as they are written on the command line and in the configuration.
//!
//! Owns their syntax; must not know what they are used for. Invariant: what does not parse names the forms that do.

use std::time::{Duration, UNIX_EPOCH};

use platform_base::clock;
use prost_types::Timestamp;

/// Reads `250ms`, `5s`, `2m`, `1h` or `7d`.
///
/// # Errors
/// A sentence for the user.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!("`{text}` is no duration; write a whole number and a unit, such as `250ms`, `5s`, `2m`, `1h` or `7d`")
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok().ok_or_else(wrong)?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

/// Reads a duration that is more than nothing.
///
/// # Errors
/// A sentence for the user.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(format!("`{text}` is no time at all; give at least `1ms`")),
        duration => Ok(duration),
    }
}

/// Milliseconds of a duration, as the interfaces count them.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Reads a number of bytes: `65536`, `64KiB`, `16MiB` or `1GiB`.
///
/// # Errors
/// A sentence for the user.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size; write bytes as `65536`, `64KiB`, `16MiB` or `1GiB`");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok().ok_or_else(wrong)?;
    let unit: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

/// Reads `KEY=VALUE`; the value may be empty and may hold further `=`.
///
/// # Errors
/// A sentence for the user.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is no pair; write `KEY=VALUE`")),
    }
}

/// Reads a moment: `2026-01-31T12:00:00Z`, or how long ago, such as `1h`.
///
/// # Errors
/// A sentence for the user.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago: Duration = duration(text).map_err(|_no_duration| {
        format!("`{text}` is no time; write it as `2026-01-31T12:00:00Z`, or how long ago, such as `1h`")
    })?;
    let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
    let then = Duration::from_millis(clock::unix_ms().saturating_sub(ago));
    Ok((UNIX_EPOCH + then).into())
}

/// A size for people.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, size) in UNITS {
        if bytes >= size {
            let tenths = bytes.saturating_mul(10) / size;
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "5", "s", "-1s", "1.5s", "5 s", "5S", "99999999999999999999s", "18446744073709551615d", "５s"]
        {
            assert!(duration(wrong).unwrap_err().contains(&format!("`{wrong}`")), "{wrong}");
        }
        assert!(positive_duration("0s").is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("65536"), Ok(65_536));
        assert_eq!(bytes("16MiB"), Ok(16 << 20));
        for wrong in ["", "MiB", "1MB", "-1", "20000000000GiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(human_bytes(0), "0 B");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_bytes(u64::MAX).split(' ').next_back(), Some("GiB"));
    }

    #[test]
    fn pairs() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("a").is_err());
        assert!(pair("=b").is_err());
    }
}
