//! Reads settings, a JSON text, into the type that the plugin declared. Its invariant: an error names the setting.

use std::any::TypeId;

use serde::{Deserialize, de::DeserializeOwned};
use serde_path_to_error::{Path, Segment};

use crate::Problem;

/// What `()` means as settings: an object without members.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Parses `text` as the host passes it to `configure`; `()` stands for no settings at all.
///
/// # Errors
/// When the text is no JSON or does not fit `T`; the problem points to the setting at fault.
///
/// ```
/// #[derive(Debug, serde::Deserialize)]
/// struct Settings { limit: u8 }
///
/// let problem = platform_sdk::settings::parse::<Settings>(r#"{"limit": 300}"#).unwrap_err();
/// assert_eq!(problem.pointer(), Some("/limit"));
/// ```
pub fn parse<T: DeserializeOwned + 'static>(text: &str) -> Result<T, Problem> {
    if TypeId::of::<T>() == TypeId::of::<()>() {
        read::<Nothing>(text)?;
        return read("null");
    }
    read(text)
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let at = pointer(error.path());
        let problem = problem(error.inner());
        if at.is_empty() { problem } else { problem.at(at) }
    })?;
    json.end().map_err(|error| problem(&error))?;
    Ok(value)
}

/// The text of a data error without its line and column: the pointer says it better, and operators rarely write the
/// JSON text by hand.
fn problem(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    if !error.is_data() {
        return Problem::new(format!("settings are not JSON: {text}"));
    }
    Problem::new(text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message))
}

/// A path as JSON pointer (RFC 6901).
fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                pointer.push('/');
                pointer.push_str(&index.to_string());
            }
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            // A variant is a member only in some representations, and an unknown segment has no name.
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only what is refused matters here")]
    struct Settings {
        #[serde(default)]
        rules: Vec<BTreeMap<String, u8>>,
    }

    fn refused(text: &str) -> (String, Option<String>) {
        parse::<Settings>(text).unwrap_err().into_parts()
    }

    #[test]
    fn points_to_the_setting() {
        let (message, at) = refused(r#"{"rules": [{}, {"a/b~c": "x"}]}"#);
        assert_eq!(at.as_deref(), Some("/rules/1/a~1b~0c"));
        assert_eq!(message, "invalid type: string \"x\", expected u8");
    }

    #[test]
    fn names_unknown_settings() {
        let (message, at) = refused(r#"{"rule": []}"#);
        assert_eq!(message, "unknown field `rule`, expected `rules`");
        assert_eq!(at.as_deref(), Some("/rule"));
    }

    #[test]
    fn refuses_what_is_no_json() {
        for text in ["", "{", "{} {}", "\u{0}"] {
            assert!(refused(text).0.starts_with("settings are not JSON: "), "{text:?}");
        }
        assert!(parse::<Settings>(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn nothing_takes_an_empty_object() {
        assert_eq!(parse::<()>("{}"), Ok(()));
        assert_eq!(parse::<()>(r#"{"a": 1}"#).unwrap_err().pointer(), Some("/a"));
        assert!(parse::<()>("").is_err());
    }
}
