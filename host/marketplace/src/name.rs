//! Names of repositories, tags, and what a manifest is asked for by.
//!
//! Owns the grammar (OCI distribution 1.1, "Pulling manifests"); must not know what is there. Invariant: what parsed is safe as a part of a key
//! and of a URL; no name here is ever a path of a file.

use std::{fmt, str::FromStr};

use platform_runtime::Digest;

/// Longest name, as most clients have it.
const NAME_BYTES_MAX: usize = 255;
/// Longest tag.
const TAG_BYTES_MAX: usize = 128;
/// Most characters of what is wrong that an error repeats.
const SHOWN: usize = 100;

/// The text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// It is no name of a repository.
    #[error(
        "`{0}` is no name of a repository: write at most 255 lower-case letters and digits, with `.`, `_`, `__` or `-` between them and `/` between parts"
    )]
    Repository(String),
    /// It is no tag.
    #[error(
        "`{0}` is no tag: write at most 128 letters, digits, `_`, `.` and `-`, and begin with a letter, a digit or `_`"
    )]
    Tag(String),
    /// It is no digest.
    #[error("`{0}` is no digest that is known here: write `sha256:` and 64 hexadecimal digits in lower case")]
    Digest(String),
    /// It is no number.
    #[error("`{0}` is no number of entries")]
    Number(String),
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).flat_map(char::escape_default).collect()
}

/// Name of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(String);

impl RepositoryName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RepositoryName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.len() <= NAME_BYTES_MAX && text.split('/').all(is_part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::Repository(shown(text)))
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_part(part: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = part.split(is_plain).filter(|separator| !separator.is_empty());
    part.starts_with(is_plain)
        && part.ends_with(is_plain)
        && separators
            .into_iter()
            .all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-'))
}

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// The tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a version, and so never moves.
    #[must_use]
    pub fn is_version(&self) -> bool {
        platform_registry::version(&self.0).is_some()
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if starts && text.len() <= TAG_BYTES_MAX && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::Tag(shown(text)))
        }
    }
}

/// What a manifest is asked for by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The one that the tag leads to.
    Tag(Tag),
    /// The one with this digest.
    Digest(Digest),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl FromStr for Selector {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.contains(':') { digest(text).map(Self::Digest) } else { text.parse().map(Self::Tag) }
    }
}

/// A digest in the form that it has everywhere.
pub(crate) fn digest(text: &str) -> Result<Digest, InvalidName> {
    let digest: Option<Digest> = text.parse().ok();
    digest.filter(|digest| digest.to_string() == text).ok_or_else(|| InvalidName::Digest(shown(text)))
}

/// A number of entries, such as `n`.
pub(crate) fn number(text: &str) -> Result<usize, InvalidName> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| InvalidName::Number(shown(text)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        let long = "a".repeat(255);
        for good in ["a", "a/b/c", "kv-storage", "a--b", "a_b", "a__b", "a.b", "0", "library/0.1", long.as_str()] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "..",
            "../../x",
            "a/../b",
            "a..b",
            "a___b",
            "a._b",
            "-a",
            "a-",
            "A",
            "a b",
            "a%2fb",
            "é",
            "a@b",
            "a:b",
            long.as_str(),
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn references_are_tags_or_digests() {
        let digest = Digest::of(b"x").to_string();
        assert!(matches!(digest.parse(), Ok(Selector::Digest(_))));
        assert!(matches!("latest".parse(), Ok(Selector::Tag(_))));
        let upper = digest.to_uppercase().replace("SHA256", "sha256");
        for bad in ["", ".a", "-a", "a/b", "sha256:", "sha512:00", &upper, &"a".repeat(129)] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
        for (tag, is) in
            [("1.0.0", true), ("v1.2.3-rc.1", true), ("1.0.0_build", true), ("1.0", false), ("latest", false)]
        {
            assert_eq!(tag.parse::<Tag>().unwrap().is_version(), is, "{tag}");
        }
    }

    proptest! {
        #[test]
        fn what_the_grammar_makes_is_a_name(
            name in "[a-z0-9]{1,9}((\\.|_|__|-{1,3})[a-z0-9]{1,9}){0,3}(/[a-z0-9]{1,9}((\\.|_|__|-{1,3})[a-z0-9]{1,9}){0,3}){0,3}",
            tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}",
        ) {
            prop_assert_eq!(name.parse::<RepositoryName>().unwrap().to_string(), name);
            prop_assert_eq!(tag.parse::<Tag>().unwrap().to_string(), tag);
        }

        #[test]
        fn nothing_that_parses_leads_elsewhere(text in "\\PC{0,40}") {
            if let Ok(name) = text.parse::<RepositoryName>() {
                prop_assert!(!name.as_str().contains("..") && !name.as_str().starts_with('/'));
                prop_assert!(name.as_str().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@' && byte != b':'));
            }
            if let Ok(tag) = text.parse::<Tag>() {
                prop_assert!(!tag.as_str().contains(['/', '@', ':']));
            }
            if let Ok(digest) = digest(&text) {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
