//! Places in a document: JSON Pointer (RFC 6901). Every member has one, whatever its name, dots and slashes included;
//! differences (RFC 6902) and schemas name places the same way.

use std::{fmt, str::FromStr};

use serde_json::{Map, Value};

use crate::{DEPTH_MAX, SECRET, secret};

/// Longest pointer, in bytes.
const BYTES_MAX: usize = 1024;

/// A place in a document; the empty one is the whole document.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer(Vec<String>);

/// Why a text is no pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPointer {
    /// It is too long.
    #[error("the path has {0} bytes, more than {BYTES_MAX}")]
    TooLong(usize),
    /// It leads deeper than any document.
    #[error("the path leads more than {DEPTH_MAX} levels deep")]
    TooDeep,
    /// It does not start as one.
    #[error(
        "the path `{0}` does not start with `/`; write for example `/limits/requests`, and nothing for the whole document"
    )]
    Start(String),
    /// A `~` that stands for nothing.
    #[error("the path `{0}` holds a `~` that is neither `~0`, which stands for `~`, nor `~1`, which stands for `/`")]
    Escape(String),
}

/// What is in the way of a write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{at}` {what}")]
pub struct Obstacle {
    at: Pointer,
    what: String,
}

impl Pointer {
    /// Whether it leads into a secret value, which has no inside.
    #[must_use]
    pub fn enters_secret(&self) -> bool {
        self.0.iter().any(|token| token == SECRET)
    }

    /// Whether it is the whole document.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The place of a member or an item below this one.
    #[must_use]
    pub fn child(&self, token: impl Into<String>) -> Self {
        let mut tokens = self.0.clone();
        tokens.push(token.into());
        Self(tokens)
    }

    /// The place `levels` deep on the way to this one.
    #[must_use]
    pub fn ancestor(&self, levels: usize) -> Self {
        Self(self.0.iter().take(levels).cloned().collect())
    }

    /// How deep it leads.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.0.len()
    }

    /// Whether `other` is this place or lies below it.
    #[must_use]
    pub fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// What is there; none when nothing is.
    #[must_use]
    pub fn get<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(document, |here, token| match here {
            Value::Object(members) => members.get(token),
            Value::Array(items) => items.get(index(token)?),
            _ => None,
        })
    }

    /// Puts a value there. Objects on the way are made where nothing is; `-` appends to an array.
    ///
    /// # Errors
    /// Something that holds no such place is in the way; the document may then be half changed.
    pub fn set(&self, document: &mut Value, value: Value) -> Result<(), Obstacle> {
        let mut here = document;
        for (level, token) in self.0.iter().enumerate() {
            let obstacle = |what: String| Obstacle { at: self.ancestor(level), what };
            let last = level + 1 == self.0.len();
            if secret(here).is_some() {
                return Err(obstacle("is a secret value, which holds nothing".to_owned()));
            }
            here = match here {
                Value::Object(members) => members.entry(token.as_str()).or_insert_with(|| Value::Object(Map::new())),
                Value::Array(items) => {
                    let count = items.len();
                    if token == "-" || index(token) == Some(count) {
                        items.push(Value::Object(Map::new()));
                    }
                    let place = if token == "-" { Some(count) } else { index(token) };
                    place.and_then(|place| items.get_mut(place)).ok_or_else(|| {
                        let token: String = token.escape_debug().take(60).collect();
                        obstacle(format!("is an array of {count}, which has no place `{token}`; `-` appends"))
                    })?
                }
                other => return Err(obstacle(format!("is {}, which holds nothing", kind(other)))),
            };
            if last {
                break;
            }
        }
        *here = value;
        Ok(())
    }

    /// Takes out what is there; none when nothing is. The whole document can't be taken out of itself.
    pub fn remove(&self, document: &mut Value) -> Option<Value> {
        let (last, way) = self.0.split_last()?;
        let parent = way.iter().try_fold(document, |here, token| match here {
            Value::Object(members) => members.get_mut(token),
            Value::Array(items) => items.get_mut(index(token)?),
            _ => None,
        })?;
        match parent {
            Value::Object(members) => members.remove(last),
            Value::Array(items) => {
                let place = index(last).filter(|place| *place < items.len())?;
                Some(items.remove(place))
            }
            _ => None,
        }
    }
}

/// A place in an array: digits without a leading zero.
fn index(token: &str) -> Option<usize> {
    let plain = token == "0" || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()));
    if plain { token.parse().ok() } else { None }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

impl FromStr for Pointer {
    type Err = InvalidPointer;

    fn from_str(text: &str) -> Result<Self, InvalidPointer> {
        let shown = || text.escape_debug().take(120).collect::<String>();
        if text.len() > BYTES_MAX {
            return Err(InvalidPointer::TooLong(text.len()));
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        let tokens = text.strip_prefix('/').ok_or_else(|| InvalidPointer::Start(shown()))?;
        let escaped = |token: &str| token.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
        if !tokens.split('/').all(escaped) {
            return Err(InvalidPointer::Escape(shown()));
        }
        let tokens: Vec<_> = tokens.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
        if tokens.len() > DEPTH_MAX {
            return Err(InvalidPointer::TooDeep);
        }
        Ok(Self(tokens))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|token| write!(f, "/{}", token.replace('~', "~0").replace('/', "~1")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Pointer {
        text.parse().unwrap()
    }

    #[test]
    fn the_examples_of_rfc_6901() {
        let document = json!({
            "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8
        });
        assert_eq!(at("").get(&document), Some(&document));
        for (pointer, expected) in [
            ("/foo", json!(["bar", "baz"])),
            ("/foo/0", json!("bar")),
            ("/", json!(0)),
            ("/a~1b", json!(1)),
            ("/c%d", json!(2)),
            ("/k\"l", json!(6)),
            ("/ ", json!(7)),
            ("/m~0n", json!(8)),
        ] {
            assert_eq!(at(pointer).get(&document), Some(&expected), "{pointer}");
        }
        for nothing in ["/foo/2", "/foo/00", "/foo/-", "/foo/x", "/foo/0/x", "/nothing"] {
            assert_eq!(at(nothing).get(&document), None, "{nothing}");
        }
    }

    #[test]
    fn writes_make_their_way() {
        let mut document = json!({"list": [1], "text": "x"});
        at("/a/b/c").set(&mut document, json!(1)).unwrap();
        at("/list/-").set(&mut document, json!(2)).unwrap();
        at("/list/2").set(&mut document, json!(3)).unwrap();
        at("/list/0").set(&mut document, json!(0)).unwrap();
        at("/list/-/deep").set(&mut document, json!(true)).unwrap();
        assert_eq!(document, json!({"a": {"b": {"c": 1}}, "list": [0, 2, 3, {"deep": true}], "text": "x"}));
        let error = at("/text/a").set(&mut document, json!(1)).unwrap_err();
        assert_eq!(error.to_string(), "`/text` is text, which holds nothing");
        let mut sealed = json!({"password": {"$secret": "x"}});
        assert!(at("/password/a").set(&mut sealed, json!(1)).is_err());
        at("/password").set(&mut sealed, json!(1)).unwrap();
        assert!(at("/list/9").set(&mut document, json!(1)).is_err());
        at("").set(&mut document, json!(7)).unwrap();
        assert_eq!(document, json!(7));
    }

    #[test]
    fn removals_take_what_is_there() {
        let mut document = json!({"a": {"b": 1}, "list": [1, 2]});
        assert_eq!(at("/a/b").remove(&mut document), Some(json!(1)));
        assert_eq!(at("/list/0").remove(&mut document), Some(json!(1)));
        for nothing in ["/a/b", "/list/7", "/list/-", "/list/0/x", ""] {
            assert_eq!(at(nothing).remove(&mut document), None, "{nothing}");
        }
        assert_eq!(document, json!({"a": {}, "list": [2]}));
    }

    #[test]
    fn other_texts_are_refused() {
        for wrong in ["a", "a/b", "limits.rps", "/~", "/~2", "/a~"] {
            assert!(wrong.parse::<Pointer>().is_err(), "{wrong}");
        }
        assert_eq!("/a".repeat(65).parse::<Pointer>(), Err(InvalidPointer::TooDeep));
        assert!(matches!(format!("/{}", "a".repeat(1024)).parse::<Pointer>(), Err(InvalidPointer::TooLong(1025))));
    }

    #[test]
    fn places_lie_below_places() {
        assert!(at("").holds(&at("/a")) && at("/a").holds(&at("/a")) && at("/a").holds(&at("/a/b")));
        assert!(!at("/a/b").holds(&at("/a")) && !at("/a").holds(&at("/ab")));
    }

    proptest! {
        #[test]
        fn texts_come_back(tokens in prop::collection::vec(".{0,6}", 0..6)) {
            let pointer = Pointer(tokens);
            prop_assert_eq!(pointer.to_string().parse::<Pointer>().unwrap(), pointer);
        }

        #[test]
        fn what_is_set_is_there(tokens in prop::collection::vec("[a-c/~]{0,2}", 0..6)) {
            let pointer = Pointer(tokens);
            let mut document = json!({});
            pointer.set(&mut document, json!(1)).unwrap();
            prop_assert_eq!(pointer.get(&document), Some(&json!(1)));
        }
    }
}
