//! Names of plugins, namespaces, services and the like.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// 1 to 128 bytes of `[A-Za-z0-9._-]` that start with a letter or a digit and hold no `..`: safe as a file name, in a
/// URL and on a command line.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as shared text.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

/// The text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no name: {problem}")]
pub struct InvalidName {
    text: String,
    problem: &'static str,
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let problem = if text.is_empty() {
            "it is empty"
        } else if text.len() > 128 {
            "it is longer than 128 bytes"
        } else if !starts_well {
            "it has to start with a letter or a digit"
        } else if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            "letters, digits, `.`, `_` and `-` are allowed"
        } else if text.contains("..") {
            "it holds `..`"
        } else {
            return Ok(Self(text.into()));
        };
        Err(InvalidName { text: text.chars().take(140).collect(), problem })
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_everywhere() {
        for good in ["a", "kv-storage", "v1.2_x", "9lives", &"a".repeat(128)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "../x", "a..b", "a/b", "-a", ".a", "a b", "ü", "a\0", &"a".repeat(129)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
