//! Patterns for targets, segment by segment:
//!
//! | segment | matches |
//! |---|---|
//! | `orders` | that segment |
//! | `order-*` | a segment; `*` stands for any text in it, alone for a whole segment |
//! | `{id}` | any one segment |
//! | `{subject}` | the segment that is the caller's subject: what is the caller's own |
//! | `**` | any number of segments, none too |
//!
//! A pattern that starts with `/` matches paths, any other one matches names of resources; `**` alone matches both.

use platform_sdk::Problem;

use crate::{glob::Glob, target::Target};

/// A compiled pattern: the segments without a wildcard that it starts with as one text, which tells most patterns
/// apart in one comparison, then the others.
#[derive(Debug)]
pub(crate) struct Pattern {
    scope: Scope,
    prefix: Box<str>,
    prefix_segments: usize,
    rest: Vec<Segment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Paths,
    Names,
    Everything,
}

#[derive(Debug)]
enum Segment {
    Fits(Glob),
    One,
    Subject,
    Many,
}

impl Pattern {
    /// Compiles a pattern. A path pattern is written decoded, and like a path may end with one `/`.
    pub(crate) fn compile(text: &str) -> Result<Self, Problem> {
        if text.is_empty() {
            return Err(Problem::new("an empty pattern matches nothing; `**` matches everything"));
        }
        let (scope, inner) = match text.strip_prefix('/') {
            None if text == "**" => (Scope::Everything, text),
            None => (Scope::Names, text),
            Some(path) => {
                check_path(text, path)?;
                (Scope::Paths, path.strip_suffix('/').unwrap_or(path))
            }
        };
        let mut prefix: Vec<&str> = Vec::new();
        let mut rest: Vec<Segment> = Vec::new();
        let segments = if inner.is_empty() { None } else { Some(inner.split('/')) };
        for text in segments.into_iter().flatten() {
            let segment = segment(text)?;
            if rest.is_empty() && matches!(segment, Segment::Fits(_)) && !text.contains('*') {
                prefix.push(text);
            } else {
                rest.push(segment);
            }
        }
        Ok(Self { scope, prefix: prefix.join("/").into(), prefix_segments: prefix.len(), rest })
    }

    /// Whether all of the target fits, for a caller.
    pub(crate) fn matches(&self, target: &Target<'_>, subject: &str) -> bool {
        let in_scope = match self.scope {
            Scope::Everything => return true,
            Scope::Paths => target.is_path,
            Scope::Names => !target.is_path,
        };
        if !in_scope || !self.prefix_fits(target.text.as_bytes()) {
            return false;
        }
        let (mut at, mut next) = (0, self.prefix_segments);
        let mut many: Option<(usize, usize)> = None;
        // As in a glob: at a mismatch the last `**` takes one more segment.
        while let Some(text) = target.segment(next) {
            match self.rest.get(at) {
                Some(Segment::Many) => {
                    many = Some((at, next));
                    at += 1;
                }
                Some(segment) if segment.fits(text, subject) => {
                    at += 1;
                    next += 1;
                }
                _ => match &mut many {
                    None => return false,
                    Some((many_at, taken)) => {
                        *taken += 1;
                        (at, next) = (*many_at + 1, *taken);
                    }
                },
            }
        }
        self.rest.get(at..).is_some_and(|rest| rest.iter().all(|segment| matches!(segment, Segment::Many)))
    }

    /// Whether the text starts with the prefix as whole segments. Where a segment ends and its last character tell most
    /// texts apart, so they are looked at first.
    fn prefix_fits(&self, text: &[u8]) -> bool {
        let prefix = self.prefix.as_bytes();
        let Some(last) = prefix.len().checked_sub(1) else { return true };
        let ends_there = matches!(text.get(prefix.len()), None | Some(b'/'));
        ends_there && text.get(last) == prefix.get(last) && text.starts_with(prefix)
    }
}

impl Segment {
    fn fits(&self, text: &str, subject: &str) -> bool {
        match self {
            Self::Fits(glob) => glob.matches(text),
            Self::One => !text.is_empty(),
            Self::Subject => !subject.is_empty() && text == subject,
            Self::Many => true,
        }
    }
}

/// A path pattern that no accepted path could match is a mistake: say so rather than never match.
fn check_path(text: &str, path: &str) -> Result<(), Problem> {
    let inner = path.strip_suffix('/').unwrap_or(path);
    if path == "/" || (!inner.is_empty() && inner.split('/').any(|segment| matches!(segment, "" | "." | ".."))) {
        return Err(Problem::new(format!("`{text}` has an empty segment, `.` or `..`, which no accepted path has")));
    }
    if let Some(found) = path.chars().find(|char| matches!(char, '%' | '?' | '#' | ';' | '\\') || char.is_control()) {
        let found = found.escape_debug();
        return Err(Problem::new(format!("`{text}` has `{found}`, which no decoded path has; write the path decoded")));
    }
    Ok(())
}

fn segment(text: &str) -> Result<Segment, Problem> {
    if text == "**" {
        return Ok(Segment::Many);
    }
    if text.contains("**") {
        return Err(Problem::new(format!("`**` is a whole segment, in `{text}` it is a part of one; use `*`")));
    }
    if text == "*" {
        return Ok(Segment::One);
    }
    match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some("subject") => Ok(Segment::Subject),
        Some(name) if !name.is_empty() && !name.contains(['{', '}']) => Ok(Segment::One),
        None if !text.contains(['{', '}']) => Ok(Segment::Fits(Glob::new(text))),
        _ => Err(Problem::new(format!("`{text}` has a brace that is no `{{parameter}}` of a whole segment"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, target: &str) -> bool {
        let mut decoded = String::new();
        let target = Target::parse(target, &mut decoded).unwrap();
        Pattern::compile(pattern).unwrap().matches(&target, "alice")
    }

    #[test]
    fn matches_segment_by_segment() {
        for (pattern, target, wanted) in [
            ("/orders", "/orders", true),
            ("/orders", "/orders/", true),
            ("/orders/", "/orders", true),
            ("/orders", "/orders/1", false),
            ("/orders", "/Orders", false),
            ("/orders", "orders", false),
            ("orders", "/orders", false),
            ("/orders/*", "/orders/1", true),
            ("/orders/*", "/orders", false),
            ("/orders/*", "/orders/1/lines", false),
            ("/orders/{id}/lines", "/orders/1/lines", true),
            ("/v*/x", "/v1/x", true),
            ("/*.json", "/a.json", true),
            ("/*.json", "/a/b.json", false),
            ("/**", "/", true),
            ("/**", "/a/b", true),
            ("/", "/", true),
            ("/", "/a", false),
            ("/admin/**", "/admin", true),
            ("/admin/**", "/administrator", false),
            ("/**/secret", "/a/b/secret", true),
            ("/**/secret/**", "/secret", true),
            ("/a/**/b/**/c", "/a/b/b/x/c", true),
            ("/a/**/b/**/c", "/a/x/c", false),
            ("/users/{subject}/**", "/users/alice/mail", true),
            ("/users/{subject}/**", "/users/bob/mail", false),
            ("/a b", "/a%20b", true),
            ("**", "/a", true),
            ("**", "order:1", true),
            ("order:*", "order:1", true),
            ("order:*", "invoice:1", false),
        ] {
            assert_eq!(fits(pattern, target), wanted, "`{pattern}` and `{target}`");
        }
    }

    #[test]
    fn the_own_segment_of_nobody_is_none() {
        let mut decoded = String::new();
        let target = Target::parse("x/", &mut decoded).unwrap();
        assert!(!Pattern::compile("x/{subject}").unwrap().matches(&target, ""));
    }

    #[test]
    fn refuses_patterns_that_could_never_match() {
        for pattern in ["", "//", "/a//b", "/a/../b", "/a%20b", "/a?b", "/a**", "/{", "/{}", "/a{b}", "/;x", "/\\"] {
            assert!(Pattern::compile(pattern).is_err(), "`{pattern}`");
        }
    }

    proptest! {
        #[test]
        fn a_path_matches_itself_and_its_prefixes(segments in prop::collection::vec("[a-z]{1,4}", 1..6), keep in 0_usize..6) {
            let path = format!("/{}", segments.join("/"));
            prop_assert!(fits(&path, &path));
            let prefix = segments[..keep.min(segments.len())].iter().map(|segment| format!("/{segment}")).collect::<String>();
            let pattern = format!("{prefix}/**");
            prop_assert!(fits(&pattern, &path));
        }
    }
}
