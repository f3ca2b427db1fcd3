//! Keys of the table. `!` ends a part: it sorts before every character of an id, so that keys sort part by part.
//!
//! | key | holds |
//! |---|---|
//! | `head!ID` | the current version, and the oldest that is kept |
//! | `version!ID!NUMBER` | a version |
//! | `content!ID!NUMBER` | what it holds |
//! | `time!TIME!ID!NUMBER` | nothing: versions in order of time |
//! | `newest!TIME!ID!NUMBER` | nothing: the same backwards, with times counted down |

/// Key of the current version.
pub(crate) fn head(id: &str) -> String {
    format!("head!{id}")
}

/// What the keys of current versions start with.
pub(crate) const HEADS: &str = "head!";

/// Key of a version.
pub(crate) fn version(id: &str, number: u64) -> String {
    format!("version!{id}!{number:016x}")
}

/// What the keys of versions start with: those of one configuration, or of all whose id starts with what stands before a
/// `*`.
pub(crate) fn versions(selector: &str) -> String {
    match selector.strip_suffix('*') {
        Some(prefix) => format!("version!{prefix}"),
        None => format!("version!{selector}!"),
    }
}

/// Key of what a version holds.
pub(crate) fn content(id: &str, number: u64) -> String {
    format!("content!{id}!{number:016x}")
}

/// The orders that versions of all configurations come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Oldest first.
    Time,
    /// Newest first.
    Newest,
}

impl Order {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Time, Self::Newest];

    /// What its keys start with.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::Time => "time!",
            Self::Newest => "newest!",
        }
    }

    /// Key of a version.
    pub(crate) fn key(self, time_ms: u64, id: &str, number: u64) -> String {
        format!("{}!{id}!{number:016x}", self.start(time_ms))
    }

    /// Before the keys of a time, and after those of the time before it.
    pub(crate) fn start(self, time_ms: u64) -> String {
        let place = match self {
            Self::Time => time_ms,
            Self::Newest => u64::MAX - time_ms,
        };
        format!("{}{place:016x}", self.prefix())
    }

    /// Time, id and number of a key; none of one that is not of this order.
    pub(crate) fn parts(self, key: &str) -> Option<(u64, &str, u64)> {
        let mut parts = key.strip_prefix(self.prefix())?.split('!');
        let (place, id, number) = (parts.next()?, parts.next()?, parts.next()?);
        let place = hexadecimal(place)?;
        let time_ms = match self {
            Self::Time => place,
            Self::Newest => u64::MAX - place,
        };
        parts.next().is_none().then_some((time_ms, id, hexadecimal(number)?))
    }
}

fn hexadecimal(text: &str) -> Option<u64> {
    let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits { u64::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_sort_by_time_and_come_back(one: (u64, u64), two: (u64, u64), id in "[A-Za-z0-9._-]{1,8}") {
            for order in Order::ALL {
                let key = order.key(one.0, &id, one.1);
                prop_assert_eq!(order.parts(&key), Some((one.0, id.as_str(), one.1)));
                prop_assert!(order.start(one.0) < key);
                let other = order.key(two.0, &id, two.1);
                let expected = if order == Order::Time { one.0.cmp(&two.0) } else { two.0.cmp(&one.0) };
                prop_assert_eq!(key.cmp(&other), expected.then(one.1.cmp(&two.1)));
            }
        }

        #[test]
        fn versions_of_one_id_are_not_those_of_another(id in "[A-Za-z0-9._-]{1,8}", other in "[A-Za-z0-9._-]{1,8}") {
            prop_assert_eq!(version(&id, 1).starts_with(&versions(&other)), id == other);
            let selector = format!("{id}*");
            prop_assert!(version(&id, 1).starts_with(&versions(&selector)));
        }
    }

    #[test]
    fn other_texts_are_no_keys() {
        for wrong in ["", "time!", "time!0!a!0", "newest!0000000000000000!a!0000000000000000!", "head!a"] {
            assert_eq!(Order::Time.parts(wrong), None, "{wrong}");
        }
    }
}
