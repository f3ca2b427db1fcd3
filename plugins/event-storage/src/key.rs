//! Keys of the table. `!` ends a part: it sorts before every character of a name, so that keys sort part by part. A topic
//! is its name and its number, which no later topic of that name has.
//!
//! | key | holds |
//! |---|---|
//! | `topic!NAME` | the topic: settings, and where its events begin and end |
//! | `event!TOPIC!SEQUENCE` | an event |
//! | `id!TOPIC!LENGTH!ID!ORIGIN` | the sequence of the event of that id and origin, for as long as duplicates are told |
//! | `root!LENGTH!ROOT!TIME!TOPIC!SEQUENCE` | nothing: what came of an event, by time |
//! | `subscription!TOPIC!NAME` | a subscription |
//! | `position!TOPIC!NAME!GENERATION!CONSUMER` | what a consumer is delivered next |
//! | `pending!TOPIC!NAME!GENERATION!CONSUMER!SEQUENCE` | a delivery that waits for an acknowledgement |
//! | `gone!TOPIC` | nothing: a removed topic whose keys are not all removed yet |

/// What the keys of topics start with.
pub(crate) const TOPICS: &str = "topic!";
/// What the keys of removed topics start with.
pub(crate) const GONE: &str = "gone!";

/// Key of a topic.
pub(crate) fn topic(name: &str) -> String {
    format!("{TOPICS}{name}")
}

/// A topic within other keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place(String);

impl Place {
    /// The topic of this name and number.
    pub(crate) fn new(name: &str, number: u64) -> Self {
        Self(format!("{name}!{number:016x}"))
    }

    /// The topic that a marker is of.
    pub(crate) fn of_gone(key: &str) -> Option<Self> {
        key.strip_prefix(GONE).map(|place| Self(place.to_owned()))
    }

    /// Marks the topic as removed.
    pub(crate) fn gone(&self) -> String {
        format!("{GONE}{}", self.0)
    }

    /// Key of an event.
    pub(crate) fn event(&self, sequence: u64) -> String {
        format!("event!{}!{sequence:016x}", self.0)
    }

    /// What the keys of events start with.
    pub(crate) fn events(&self) -> String {
        format!("event!{}!", self.0)
    }

    /// Key of an id among those of an origin. The length keeps one pair apart from another of the same text.
    pub(crate) fn id(&self, id: &str, origin: &str) -> String {
        format!("id!{}!{:03x}!{id}!{origin}", self.0, id.len())
    }

    /// Key of a place among what came of an event.
    pub(crate) fn root(&self, root: &str, time_ms: u64, sequence: u64) -> String {
        format!("{}{time_ms:016x}!{}!{sequence:016x}", roots(root), self.0)
    }

    /// Key of a subscription.
    pub(crate) fn subscription(&self, name: &str) -> String {
        format!("subscription!{}!{name}", self.0)
    }

    /// What the keys of subscriptions start with.
    pub(crate) fn subscriptions(&self) -> String {
        self.subscription("")
    }

    /// What the keys of positions of a subscription start with; the consumer follows.
    pub(crate) fn positions(&self, subscription: &str, generation: u64) -> String {
        format!("position!{}!{subscription}!{generation:016x}!", self.0)
    }

    /// What the keys of all deliveries of a subscription start with; consumer and sequence follow.
    pub(crate) fn pending(&self, subscription: &str, generation: u64) -> String {
        format!("pending!{}!{subscription}!{generation:016x}!", self.0)
    }

    /// What the keys that go with the topic start with, its events apart.
    pub(crate) fn all(&self) -> [String; 4] {
        ["id", "subscription", "position", "pending"].map(|kind| format!("{kind}!{}!", self.0))
    }
}

/// What the keys of all that came of an event start with. The length keeps one id apart from another that it begins.
pub(crate) fn roots(root: &str) -> String {
    format!("root!{:03x}!{root}!", root.len())
}

/// Time, topic and sequence of a key that starts with `prefix`, one of [`roots`].
pub(crate) fn root_parts<'a>(prefix: &str, key: &'a str) -> Option<(u64, &'a str, Place, u64)> {
    let mut parts = key.strip_prefix(prefix)?.split('!');
    let (time, name, number, sequence) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let place = Place::new(name, hexadecimal(number)?);
    parts.next().is_none().then_some((hexadecimal(time)?, name, place, hexadecimal(sequence)?))
}

/// The number at the end of a key.
pub(crate) fn last_number(key: &str) -> Option<u64> {
    hexadecimal(key.rsplit('!').next()?)
}

/// The name at the end of a key.
pub(crate) fn last_name(key: &str) -> &str {
    key.rsplit('!').next().unwrap_or_default()
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
        fn events_sort_by_sequence_within_their_topic(one: u64, two: u64, number: u64) {
            let place = Place::new("a", number);
            prop_assert_eq!(place.event(one).cmp(&place.event(two)), one.cmp(&two));
            prop_assert_eq!(last_number(&place.event(one)), Some(one));
            prop_assert!(!place.event(one).starts_with(&Place::new("a", number ^ 1).events()));
        }

        #[test]
        fn roots_come_back_and_are_apart(root in ".{1,9}", other in ".{1,9}", time: u64, number: u64, sequence: u64) {
            let place = Place::new("a.b", number);
            let key = place.root(&root, time, sequence);
            prop_assert_eq!(root_parts(&roots(&root), &key), Some((time, "a.b", place, sequence)));
            prop_assert_eq!(key.starts_with(&roots(&other)), root == other);
        }
    }

    #[test]
    fn other_texts_are_no_keys() {
        for wrong in ["", "root!001!a!", "root!001!a!0!a!0!0", "topic!a"] {
            assert_eq!(root_parts("root!001!a!", wrong), None, "{wrong}");
        }
    }
}
