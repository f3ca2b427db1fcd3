//! What a request is for, split into segments.
//!
//! A target that starts with `/` is a URL path. Gateways and services read unusual paths in different ways, and each
//! difference is a way around a rule, so a path is accepted only when all of them read it alike. Refused are: empty
//! segments (`//`), `.` and `..`, encoded or not, path parameters (`;`), backslashes, control characters, a raw `?` or
//! `#`, and percent-encoding that is broken or hides `/`, `\`, `%` or a control character. All else is percent-decoded
//! before it is compared. A single `/` at the end makes no difference.
//!
//! Any other target is the name of a resource, as the asker wrote it: it is split at `/` and compared byte for byte.

use std::fmt;

/// More segments than any real path has.
const MAX_SEGMENTS: usize = 64;
/// Longer than the request line that common gateways accept.
const MAX_BYTES: usize = 8192;

/// A target and where its segments end; borrowed, so that a call allocates only for encoded paths.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) is_path: bool,
    /// Without the `/` at the start of a path and the one at its end.
    pub(crate) text: &'a str,
    ends: [u16; MAX_SEGMENTS],
    count: usize,
}

/// Why a target is refused before any rule is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suspicion {
    TooLong,
    Control,
    Encoding,
    Dots,
    EmptySegment,
    Delimiter,
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the path is too long",
            Self::Control => "the path has a control character",
            Self::Encoding => "the path is encoded in a way that services read differently",
            Self::Dots => "the path has a segment `.` or `..`",
            Self::EmptySegment => "the path has an empty segment",
            Self::Delimiter => "the path has a character that services read differently",
        })
    }
}

impl<'a> Target<'a> {
    /// Splits a target; `decoded` holds the text of encoded paths.
    pub(crate) fn parse(text: &'a str, decoded: &'a mut String) -> Result<Self, Suspicion> {
        if text.len() > MAX_BYTES {
            return Err(Suspicion::TooLong);
        }
        let Some(path) = text.strip_prefix('/') else {
            if text.bytes().any(|byte| byte.is_ascii_control()) {
                return Err(Suspicion::Control);
            }
            return Self::split(text, false);
        };
        let path = if path.contains('%') {
            *decoded = decode(path)?;
            decoded.as_str()
        } else {
            path
        };
        for byte in path.bytes() {
            match byte {
                0..=0x1f | 0x7f => return Err(Suspicion::Control),
                b'\\' | b'?' | b'#' | b';' => return Err(Suspicion::Delimiter),
                _ => {}
            }
        }
        // `//` alone: nothing would be left after the last `/` went, but it was not the root.
        if path == "/" {
            return Err(Suspicion::EmptySegment);
        }
        let target = Self::split(path.strip_suffix('/').unwrap_or(path), true)?;
        for index in 0..target.count {
            match target.segment(index) {
                Some("") => return Err(Suspicion::EmptySegment),
                Some("." | "..") => return Err(Suspicion::Dots),
                _ => {}
            }
        }
        Ok(target)
    }

    fn split(text: &'a str, is_path: bool) -> Result<Self, Suspicion> {
        let mut target = Self { is_path, text, ends: [0; MAX_SEGMENTS], count: 0 };
        if text.is_empty() {
            return Ok(target);
        }
        for (at, byte) in text.bytes().enumerate() {
            if byte == b'/' {
                target.end_segment(at)?;
            }
        }
        target.end_segment(text.len())?;
        Ok(target)
    }

    fn end_segment(&mut self, at: usize) -> Result<(), Suspicion> {
        let end = self.ends.get_mut(self.count).ok_or(Suspicion::TooLong)?;
        *end = u16::try_from(at).ok().ok_or(Suspicion::TooLong)?;
        self.count += 1;
        Ok(())
    }

    /// A segment by its place; the root has none.
    pub(crate) fn segment(&self, index: usize) -> Option<&'a str> {
        let ends = self.ends.get(..self.count)?;
        let end = usize::from(*ends.get(index)?);
        let start = index.checked_sub(1).and_then(|previous| ends.get(previous)).map_or(0, |end| usize::from(*end) + 1);
        self.text.get(start..end)
    }
}

/// Percent-decodes a path that stays the same path: nothing that is decoded may end a segment or be decoded again.
fn decode(path: &str) -> Result<String, Suspicion> {
    let hex = |digit: Option<u8>| digit.and_then(|digit| char::from(digit).to_digit(16)).ok_or(Suspicion::Encoding);
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let value = u8::try_from(hex(bytes.next())? << 4 | hex(bytes.next())?).unwrap_or_default();
        if matches!(value, b'/' | b'\\' | b'%' | 0..=0x1f | 0x7f) {
            return Err(Suspicion::Encoding);
        }
        decoded.push(value);
    }
    String::from_utf8(decoded).ok().ok_or(Suspicion::Encoding)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Vec<String>, Suspicion> {
        let mut decoded = String::new();
        let target = Target::parse(text, &mut decoded)?;
        Ok((0..).map_while(|index| target.segment(index)).map(ToString::to_string).collect())
    }

    #[test]
    fn splits_paths_and_names() {
        assert_eq!(parse("/").unwrap(), Vec::<String>::new());
        assert_eq!(parse("").unwrap(), Vec::<String>::new());
        assert_eq!(parse("/a/b/").unwrap(), ["a", "b"]);
        assert_eq!(parse("/a%20b/%c3%a9").unwrap(), ["a b", "\u{e9}"]);
        assert_eq!(parse("order:42/../x//y%2f").unwrap(), ["order:42", "..", "x", "", "y%2f"], "a name is no path");
    }

    #[test]
    fn refuses_paths_with_two_readings() {
        for (path, suspicion) in [
            ("//", Suspicion::EmptySegment),
            ("//a", Suspicion::EmptySegment),
            ("/a//b", Suspicion::EmptySegment),
            ("/a//", Suspicion::EmptySegment),
            ("/a/../admin", Suspicion::Dots),
            ("/a/.", Suspicion::Dots),
            ("/..", Suspicion::Dots),
            ("/a/%2e%2E/admin", Suspicion::Dots),
            ("/a/.%2e", Suspicion::Dots),
            ("/a%2fb", Suspicion::Encoding),
            ("/a%5Cb", Suspicion::Encoding),
            ("/%252e%252e/x", Suspicion::Encoding),
            ("/a%00", Suspicion::Encoding),
            ("/a%", Suspicion::Encoding),
            ("/a%4", Suspicion::Encoding),
            ("/a%+1", Suspicion::Encoding),
            ("/a%zz", Suspicion::Encoding),
            ("/%ff", Suspicion::Encoding),
            ("/%c0%af", Suspicion::Encoding),
            ("/admin;x=1/y", Suspicion::Delimiter),
            ("/admin%3bx", Suspicion::Delimiter),
            ("/a\\b", Suspicion::Delimiter),
            ("/a?b", Suspicion::Delimiter),
            ("/a%3Fb", Suspicion::Delimiter),
            ("/a#b", Suspicion::Delimiter),
            ("/a\nb", Suspicion::Control),
            ("a\u{0}", Suspicion::Control),
        ] {
            assert_eq!(parse(path), Err(suspicion), "{path:?}");
        }
        assert_eq!(parse(&"/a".repeat(65)), Err(Suspicion::TooLong));
        assert_eq!(parse(&"/".repeat(9000)), Err(Suspicion::TooLong));
        assert!(parse(&"/a".repeat(64)).is_ok());
    }

    proptest! {
        #[test]
        fn no_accepted_path_climbs(path in "/[a./%2eE\\\\;]{0,24}") {
            if let Ok(segments) = parse(&path) {
                for segment in segments {
                    prop_assert!(!segment.is_empty() && segment != "." && segment != "..");
                    prop_assert!(!segment.contains(['/', '\\', ';']));
                }
            }
        }

        #[test]
        fn encoding_a_segment_changes_nothing(segment in "[a-zA-Z0-9 @:+é-]{1,12}") {
            let encoded: String = segment.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(parse(&format!("/x/{encoded}")).unwrap(), vec!["x".to_owned(), segment]);
        }
    }
}
