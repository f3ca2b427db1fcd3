//! Patterns of `MATCH`, `KEYS` and `CONFIG GET`, as Redis reads them.
//!
//! Owns `*`, `?`, `[...]` and `\`; must not know what is matched. Invariant: matching takes time within the product of both
//! lengths, whatever the pattern.

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// Any number of bytes.
    Any,
    /// One byte.
    One,
    /// This byte.
    Byte(u8),
    /// One byte of these ranges, or of none of them.
    Set { ranges: Vec<(u8, u8)>, negated: bool },
}

impl Token {
    fn accepts(&self, byte: u8) -> bool {
        match self {
            Self::Any => false,
            Self::One => true,
            Self::Byte(wanted) => byte == *wanted,
            Self::Set { ranges, negated } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte)) != *negated
            }
        }
    }
}

impl Glob {
    /// Every text is a pattern.
    pub(super) fn new(pattern: &[u8]) -> Self {
        let mut tokens = Vec::new();
        let mut rest = pattern;
        while let [first, after @ ..] = rest {
            rest = after;
            tokens.push(match first {
                b'*' => {
                    if tokens.last() == Some(&Token::Any) {
                        continue;
                    }
                    Token::Any
                }
                b'?' => Token::One,
                b'[' => {
                    let (token, after) = set(rest);
                    rest = after;
                    token
                }
                b'\\' if !rest.is_empty() => {
                    let byte = rest.first().copied().unwrap_or(b'\\');
                    rest = rest.get(1..).unwrap_or_default();
                    Token::Byte(byte)
                }
                other => Token::Byte(*other),
            });
        }
        Self(tokens)
    }

    /// Text that everything that matches starts with.
    pub(super) fn prefix(&self) -> String {
        let literal = self.0.iter().map_while(|token| if let Token::Byte(byte) = token { Some(*byte) } else { None });
        let bytes: Vec<u8> = literal.collect();
        // A byte that is not the end of a character is no loss: a shorter prefix only lets more be looked at.
        match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default()).into_owned()
            }
        }
    }

    /// Whether all of `text` matches.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let (mut token, mut byte) = (0, 0);
        // Where to go on when what follows the last `*` does not match: one byte later.
        let mut star: Option<(usize, usize)> = None;
        while byte < text.len() || token < self.0.len() {
            let accepted = match (self.0.get(token), text.get(byte)) {
                (Some(Token::Any), _) => {
                    star = Some((token, byte));
                    token += 1;
                    continue;
                }
                (Some(wanted), Some(given)) => wanted.accepts(*given),
                _ => false,
            };
            if accepted {
                token += 1;
                byte += 1;
            } else {
                match star {
                    Some((at, from)) if from < text.len() => {
                        (token, byte) = (at + 1, from + 1);
                        star = Some((at, from + 1));
                    }
                    _ => return false,
                }
            }
        }
        true
    }
}

/// What stands behind `[`, up to `]` or the end.
fn set(pattern: &[u8]) -> (Token, &[u8]) {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut ranges = Vec::new();
    loop {
        match rest {
            [] => break,
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [b'\\', byte, after @ ..] => {
                ranges.push((*byte, *byte));
                rest = after;
            }
            [low, b'-', high, after @ ..] if *high != b']' => {
                ranges.push((*low.min(high), *low.max(high)));
                rest = after;
            }
            [byte, after @ ..] => {
                ranges.push((*byte, *byte));
                rest = after;
            }
        }
    }
    (Token::Set { ranges, negated }, rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::new(pattern.as_bytes()).matches(text.as_bytes())
    }

    #[test]
    fn patterns_mean_what_redis_says() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("h?llo", "hallo", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hello", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("[\\]]", "]", true),
            ("[a", "a", true),
            ("[]", "a", false),
            ("*a*b", "xaxxb", true),
            ("*a*b", "xaxxbc", false),
            ("a**", "a", true),
            ("a\\", "a\\", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn prefixes_are_what_comes_before_the_first_wildcard() {
        for (pattern, prefix) in
            [("users/*", "users/"), ("a\\*b?", "a*b"), ("*", ""), ("plain", "plain"), ("é[a]", "é")]
        {
            assert_eq!(Glob::new(pattern.as_bytes()).prefix(), prefix);
        }
        assert_eq!(Glob::new(b"a\xc3*").prefix(), "a");
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        assert!(!matches(&("*a".repeat(500) + "*b"), &"a".repeat(1024)));
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_escaped(text: Vec<u8>, pattern: Vec<u8>) {
            let escaped: Vec<u8> = text.iter().flat_map(|byte| [b'\\', *byte]).collect();
            prop_assert!(Glob::new(&escaped).matches(&text));
            let _ = Glob::new(&pattern).matches(&text);
        }
    }
}
