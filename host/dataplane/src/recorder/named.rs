//! [`Named`]: names with their values, in one piece of memory, because many decisions are read and of each few facts are asked for.

use std::{collections::BTreeMap, fmt, ops::Range};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, MapAccess, Visitor},
};

/// Names with their values; of a name that comes twice, the last value counts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Name, value, name, value.
    text: String,
    /// Where each name ends, and its value.
    ends: Vec<(usize, usize)>,
}

impl Named {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().rev().find(|(given, _)| *given == name).map(|(_, value)| value)
    }

    /// All of them, in the order that they were given.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        (0..self.ends.len()).filter_map(|index| {
            let (name, value) = self.ends.get(index)?;
            let begin = index.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |before| before.1);
            Some((self.part(begin..*name)?, self.part(*name..*value)?))
        })
    }

    /// All of them, apart.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn part(&self, range: Range<usize>) -> Option<&str> {
        self.text.get(range)
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Named {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(pairs: T) -> Self {
        let mut named = Self::default();
        for (name, value) in pairs {
            named.text.push_str(name.as_ref());
            let end = named.text.len();
            named.text.push_str(value.as_ref());
            named.ends.push((end, named.text.len()));
        }
        named
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Pairs)
    }
}

/// What the headers of most requests come to, so that room for them is made once.
const TEXT_BYTES: usize = 256;
const PAIRS: usize = 8;

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Named;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names with their values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Named, A::Error> {
        let mut named = Named { text: String::with_capacity(TEXT_BYTES), ends: Vec::with_capacity(PAIRS) };
        while let Some(end) = pairs.next_key_seed(Push(&mut named.text))? {
            let value = pairs.next_value_seed(Push(&mut named.text))?;
            named.ends.push((end, value));
        }
        Ok(named)
    }
}

/// Adds a text to a longer one, and says where it ends there.
struct Push<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Push<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Push<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<usize, E> {
        self.0.push_str(text);
        Ok(self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_again(map: BTreeMap<String, String>) {
            let named: Named = map.iter().collect();
            let text = serde_json::to_string(&named).unwrap();
            prop_assert_eq!(&text, &serde_json::to_string(&map).unwrap());
            let read: Named = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, &named);
            prop_assert_eq!(read.to_map(), map.clone());
            for (name, value) in &map {
                prop_assert_eq!(read.get(name), Some(value.as_str()));
            }
            prop_assert_eq!((read.is_empty(), read.get("no such name\0")), (map.is_empty(), None));
        }
    }

    #[test]
    fn the_last_value_of_a_name_counts_and_others_are_texts() {
        let twice: Named = serde_json::from_str(r#"{"a":"1","b":"","a":"2"}"#).unwrap();
        assert_eq!((twice.get("a"), twice.get("b"), twice.to_map().len()), (Some("2"), Some(""), 2));
        for bad in ["[]", r#"{"a":1}"#, r#"{"a":null}"#, r#"{"a":"1""#] {
            assert!(serde_json::from_str::<Named>(bad).is_err(), "{bad}");
        }
    }
}
