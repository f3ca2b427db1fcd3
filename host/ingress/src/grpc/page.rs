//! Pages of lists: their limit and the token of the next one.
//!
//! Owns the form of tokens; must not know what is listed. Invariant: a token is opaque to callers, and one that was not
//! made here is refused.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tonic::Status;

use crate::fault::Fault;

const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 1000;
/// Starts every token, so that another text is told from one.
const MARK: u8 = 1;

/// Which page is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// At most this many.
    pub(crate) limit: u32,
    /// Only what comes after this; none for the first page.
    pub(crate) after: Option<String>,
}

impl Page {
    /// The page that a request asks for.
    pub(crate) fn parse(limit: u32, token: &str) -> Result<Self, Status> {
        if limit > LIMIT_MAX {
            let message = format!("`limit` is {limit}, more than {LIMIT_MAX}");
            return Err(Fault::invalid("INVALID_LIMIT", message).into());
        }
        let limit = if limit == 0 { LIMIT_DEFAULT } else { limit };
        if token.is_empty() {
            return Ok(Self { limit, after: None });
        }
        let decoded = URL_SAFE_NO_PAD.decode(token).ok();
        let after = decoded.and_then(|bytes| match bytes.split_first() {
            Some((&MARK, after)) => String::from_utf8(after.to_vec()).ok(),
            _ => None,
        });
        let message = "`page_token` is not one that a page before has given";
        let after = after.ok_or_else(|| Status::from(Fault::invalid("INVALID_PAGE_TOKEN", message)))?;
        Ok(Self { limit, after: Some(after) })
    }

    /// The token of the page after one with `count` entries, the last of them `last`; empty when that was the last page.
    pub(crate) fn next(&self, count: usize, last: Option<&str>) -> String {
        match last {
            Some(last) if count >= self.limit as usize => token(last),
            _ => String::new(),
        }
    }
}

/// The token of the page that starts after `last`.
pub(crate) fn token(last: &str) -> String {
    let mut bytes = vec![MARK];
    bytes.extend_from_slice(last.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The number in the token of a page.
pub(crate) fn number(text: &str) -> Result<u64, Status> {
    let message = "`page_token` is not one that a page before has given";
    text.parse().map_err(|_no_number| Fault::invalid("INVALID_PAGE_TOKEN", message).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn limits_have_a_default_and_a_maximum() {
        assert_eq!(Page::parse(0, "").unwrap().limit, 50);
        assert_eq!(Page::parse(1000, "").unwrap().limit, 1000);
        assert!(Page::parse(1001, "").is_err());
    }

    proptest! {
        #[test]
        fn tokens_come_back(last in "\\PC{0,50}") {
            prop_assert_eq!(Page::parse(1, &token(&last)).unwrap().after, Some(last));
        }

        #[test]
        fn other_texts_are_refused(text in "[a-z]{1,8}") {
            prop_assert!(Page::parse(1, &text).is_err());
        }
    }
}
