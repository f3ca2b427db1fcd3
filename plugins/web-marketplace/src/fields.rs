//! Fields of queries and forms (`application/x-www-form-urlencoded`), and other text as browsers send it.
//!
//! Must not know what fields mean. Invariant: what is no UTF-8 is the caller's mistake, and nothing is guessed.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use platform_sdk::client::marketplace::Error;

/// Most fields of one form.
const FIELDS_MAX: usize = 256;
/// What stands for itself in the path and in the query of a link.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Fields in their order.
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let mut fields = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if fields.len() == FIELDS_MAX {
                return Err(Error::Invalid(format!("there are more than {FIELDS_MAX} fields")));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            fields.push((decoded(&name.replace('+', " "))?, decoded(&value.replace('+', " "))?));
        }
        Ok(Self(fields))
    }

    /// The first of a name; empty when there is none.
    pub(crate) fn first(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    /// The first of a name, which has to be there.
    pub(crate) fn needed(&self, name: &str) -> Result<&str, Error> {
        let value = self.first(name);
        if value.is_empty() { Err(Error::Invalid(format!("`{name}` is missing"))) } else { Ok(value) }
    }

    /// All of a name.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Text with its percent-encoding undone.
pub(crate) fn decoded(text: &str) -> Result<String, Error> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_error| Error::Invalid("what the address says is no UTF-8".to_owned()))
}

/// Text as a part of an address.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_browsers_write_them() {
        let fields = Fields::read("q=rate+limit&grant=kv&grant=network%3Ah%3A1&&empty&x=%zz").unwrap();
        assert_eq!(fields.first("q"), "rate limit");
        assert_eq!(fields.all("grant").collect::<Vec<_>>(), ["kv", "network:h:1"]);
        assert_eq!((fields.first("empty"), fields.first("none"), fields.first("x")), ("", "", "%zz"));
        assert!(fields.needed("empty").is_err() && fields.needed("q").is_ok());
    }

    #[test]
    fn what_is_no_text_is_refused() {
        assert!(Fields::read("q=%ff").is_err() && Fields::read("%c3=1").is_err() && decoded("/c/%fe").is_err());
        assert!(Fields::read(&"a&".repeat(FIELDS_MAX + 1)).is_err());
    }

    #[test]
    fn addresses_hold_nothing_that_means_something() {
        assert_eq!(encoded("team/a-b.c_1"), "team/a-b.c_1");
        assert_eq!(decoded(&encoded("\"><img src=x>&?#é")).unwrap(), "\"><img src=x>&?#é");
        assert!(!encoded("\"'<>&?# ").contains(['"', '\'', '<', '>', '&', '?', '#', ' ']));
    }
}
