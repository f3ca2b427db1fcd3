//! Text with `*` for any run of characters. Matching takes time in proportion to the product of the lengths at worst,
//! whatever the text: hostile input can't make it explode.

/// A compiled glob.
#[derive(Debug)]
pub(crate) struct Glob {
    text: Box<str>,
    kind: Kind,
    ignore_case: bool,
}

/// The shapes that most globs have are compared without a search.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Exact,
    /// `*` alone: anything but nothing.
    Any,
    /// One `*`, at the end.
    Prefix,
    Other,
}

impl Glob {
    /// A glob that tells upper from lower case.
    pub(crate) fn new(text: &str) -> Self {
        let kind = match text.find('*') {
            None => Kind::Exact,
            Some(0) if text.len() == 1 => Kind::Any,
            Some(at) if at + 1 == text.len() => Kind::Prefix,
            Some(_) => Kind::Other,
        };
        let kept = if matches!(kind, Kind::Prefix) { text.trim_end_matches('*') } else { text };
        Self { text: kept.into(), kind, ignore_case: false }
    }

    /// A glob that takes ASCII upper and lower case for the same.
    pub(crate) fn ignoring_case(text: &str) -> Self {
        Self { ignore_case: true, ..Self::new(text) }
    }

    /// Whether all of `text` fits. Only the empty glob fits the empty text.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let (glob, text) = (self.text.as_bytes(), text.as_bytes());
        match self.kind {
            Kind::Exact => self.same(glob, text),
            Kind::Any => !text.is_empty(),
            Kind::Prefix => text.get(..glob.len()).is_some_and(|start| self.same(glob, start)),
            Kind::Other => !text.is_empty() && self.search(glob, text),
        }
    }

    fn same(&self, left: &[u8], right: &[u8]) -> bool {
        if self.ignore_case { left.eq_ignore_ascii_case(right) } else { left == right }
    }

    /// Bytes are compared one by one; at a mismatch the last `*` takes one more byte. Earlier ones never need to.
    fn search(&self, glob: &[u8], text: &[u8]) -> bool {
        let (mut at, mut next) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while let Some(byte) = text.get(next) {
            match glob.get(at) {
                Some(b'*') => {
                    star = Some((at, next));
                    at += 1;
                }
                Some(wanted) if wanted == byte || (self.ignore_case && wanted.eq_ignore_ascii_case(byte)) => {
                    at += 1;
                    next += 1;
                }
                _ => match &mut star {
                    None => return false,
                    Some((star_at, taken)) => {
                        *taken += 1;
                        (at, next) = (*star_at + 1, *taken);
                    }
                },
            }
        }
        glob.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matches_whole_texts() {
        for (glob, text, fits) in [
            ("svc/checkout", "svc/checkout", true),
            ("svc/checkout", "svc/checkout2", false),
            ("svc/*", "svc/a/b", true),
            ("svc/*", "svc/", true),
            ("svc/*", "svc", false),
            ("*@example.com", "eve@example.com.evil", false),
            ("*@example.com", "a@example.com", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("*", "x", true),
            ("*", "", false),
            ("**", "", false),
            ("", "", true),
            ("", "x", false),
            ("s\u{e9}*", "s\u{e9}x", true),
        ] {
            assert_eq!(Glob::new(glob).matches(text), fits, "`{glob}` and `{text}`");
        }
        assert!(Glob::ignoring_case("Get*").matches("gEt"));
        assert!(Glob::ignoring_case("g*T").matches("get"));
    }

    #[test]
    fn hostile_globs_end_soon() {
        assert!(!Glob::new(&"*a".repeat(500)).matches(&"a".repeat(499)));
    }

    /// What a glob means, said in the simplest way.
    fn means(glob: &[u8], text: &[u8]) -> bool {
        match glob.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|taken| means(rest, &text[taken..])),
            Some((byte, rest)) => text.split_first().is_some_and(|(first, tail)| first == byte && means(rest, tail)),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(glob in "[ab*]{0,8}", text in "[ab]{1,8}") {
            prop_assert_eq!(Glob::new(&glob).matches(&text), means(glob.as_bytes(), text.as_bytes()));
        }
    }
}
