//! The system's errors in words for people.
//!
//! Knows no situation. Invariant: the number that a person can do nothing with is left out.

use std::io;

/// What the system said, such as `no such file or directory`.
pub(crate) fn of(error: &io::Error) -> String {
    lower(&error.to_string())
}

/// The same of an error's text.
pub(crate) fn lower(text: &str) -> String {
    let words = text.split(" (os error").next().unwrap_or(text);
    let mut letters = words.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_left_out() {
        assert_eq!(of(&io::Error::from_raw_os_error(2)), "no such file or directory");
        assert_eq!(lower("Connection refused (os error 111)"), "connection refused");
        assert_eq!(lower(""), "");
    }
}
