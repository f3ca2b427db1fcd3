//! [`Mistake`]: what is wrong in a configuration file, and where.
//!
//! Owns how a parser's error becomes a sentence; must not know the settings. Invariant: the sentence names the file, the
//! line and the column, and for an unknown key the one that was probably meant.

use std::{
    fmt::{self, Write as _},
    path::{Path, PathBuf},
};

/// What is wrong in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Mistake {
    file: PathBuf,
    place: Option<(usize, usize)>,
    what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, " line {line} column {column}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl Mistake {
    /// A mistake that has no single place in the file.
    pub(crate) fn new(file: &Path, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place: None, what: what.into() }
    }

    /// The parser's error about `text`.
    pub(crate) fn parsed(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let place = error.span().map(|span| position(text, span.start));
        Self { file: file.to_owned(), place, what: sentence(error.message()) }
    }
}

/// Line and column of a byte, both from 1.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..text.floor_char_boundary(byte)).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

/// The parser's words; an unknown field becomes an unknown key with a suggestion.
fn sentence(message: &str) -> String {
    let message = message.trim().replace('\n', "; ");
    let Some(rest) = message.strip_prefix("unknown field `") else { return message };
    let Some((unknown, rest)) = rest.split_once('`') else { return message };
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let mut text = format!("unknown key `{unknown}`");
    match nearest(unknown, &known) {
        Some(meant) => {
            let _ = write!(text, "; did you mean `{meant}`?");
        }
        None if known.is_empty() => text.push_str("; there are no keys here"),
        None => {
            let _ = write!(text, "; the keys here are `{}`", known.join("`, `"));
        }
    }
    text
}

/// The known key that a typing mistake away.
fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let allowed = (unknown.chars().count() / 3).max(1);
    let unknown = unknown.replace('-', "_").to_lowercase();
    let near = known.iter().map(|key| (strsim::damerau_levenshtein(&unknown, key), *key));
    near.filter(|(distance, _)| *distance <= allowed).min().map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Outer {
        server: Inner,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Inner {
        address: Option<String>,
        limit: Option<u32>,
    }

    fn mistake(text: &str) -> String {
        let error = toml::from_str::<Outer>(text).unwrap_err();
        Mistake::parsed(Path::new("platform.toml"), text, &error).to_string()
    }

    #[test]
    fn a_slip_gets_a_suggestion_with_its_place() {
        assert_eq!(
            mistake("[server]\n  adress = \"x\"\n"),
            "`platform.toml` line 2 column 3: unknown key `adress`; did you mean `address`?"
        );
        assert!(mistake("[server]\nAddress = 1\n").ends_with("did you mean `address`?"));
    }

    #[test]
    fn a_strange_key_gets_the_list() {
        assert!(
            mistake("[server]\nzzz = 1\n")
                .ends_with("line 2 column 1: unknown key `zzz`; the keys here are `address`, `limit`")
        );
    }

    #[test]
    fn other_mistakes_have_a_place_too() {
        assert!(mistake("[server]\nlimit = -1\n").starts_with("`platform.toml` line 2 column 9: "));
        assert!(mistake("[server\n").starts_with("`platform.toml` line 1 "));
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(position("é = 1\nüü", 9), (2, 2));
        assert_eq!(position("", 0), (1, 1));
        assert_eq!(position("a", 99), (1, 2));
    }
}
