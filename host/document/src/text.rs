//! Documents as text: what is read is bounded and loses nothing, what is written is the same for the same document.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use crate::{BYTES_MAX, DEPTH_MAX};

/// How much longer than a document its text may be: blanks and escapes are not kept.
const BLANKS: usize = 4;

/// Why a text is no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidJson {
    /// It is too large.
    #[error("it is {0} bytes; {BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// It is nested too deeply.
    #[error("it is nested more than {DEPTH_MAX} deep")]
    TooDeep,
    /// A whole number that 64 bits do not hold: reading it would change it.
    #[error("the number `{0}` does not fit in 64 bits; write it as text")]
    Number(String),
    /// It is no JSON, or an object names a member twice.
    #[error("it is no JSON: {0}")]
    Syntax(String),
}

/// Reads a document.
///
/// # Errors
/// What is wrong with the text. Nothing is parsed before size and depth are known.
pub fn parse(text: &str) -> Result<Value, InvalidJson> {
    if text.len() > BYTES_MAX * BLANKS {
        return Err(InvalidJson::TooLarge(text.len()));
    }
    measure(text)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| InvalidJson::Syntax(error.to_string().chars().take(300).collect()))?;
    if text.len() > BYTES_MAX {
        let size = canonical(&value).len();
        if size > BYTES_MAX {
            return Err(InvalidJson::TooLarge(size));
        }
    }
    Ok(value)
}

/// The text of a document: no blanks, members in byte order of their names.
#[must_use]
pub fn canonical(value: &Value) -> String {
    value.to_string()
}

/// The SHA-256 of a document's canonical text, in hexadecimal.
#[must_use]
pub fn checksum(canonical: &str) -> String {
    format!("{:x}", Sha256::digest(canonical))
}

/// Whether a value is nested no deeper than `left`.
#[must_use]
pub fn is_within(value: &Value, left: usize) -> bool {
    match value {
        Value::Array(items) => left > 0 && items.iter().all(|item| is_within(item, left - 1)),
        Value::Object(members) => left > 0 && members.values().all(|member| is_within(member, left - 1)),
        _ => true,
    }
}

/// One pass without a stack: a hostile text costs its length.
fn measure(text: &str) -> Result<(), InvalidJson> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut number: Option<usize> = None;
    for (place, byte) in text.bytes().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        let of_number = byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
        match (number, of_number) {
            (None, true) if byte.is_ascii_digit() || byte == b'-' => number = Some(place),
            (Some(start), false) => {
                check_number(text.get(start..place).unwrap_or_default())?;
                number = None;
            }
            _ => {}
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(InvalidJson::TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    number.map_or(Ok(()), |start| check_number(text.get(start..).unwrap_or_default()))
}

fn check_number(token: &str) -> Result<(), InvalidJson> {
    let whole = token.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if !whole || token.len() < 19 || token.parse::<i64>().is_ok() || token.parse::<u64>().is_ok() {
        return Ok(());
    }
    Err(InvalidJson::Number(token.chars().take(60).collect()))
}

/// Reads a value and refuses an object that names a member twice: keeping one of them would lose the other.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("the number is out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(Self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if members.contains_key(&name) {
                let name: String = name.escape_debug().take(100).collect();
                return Err(A::Error::custom(format!("an object names `{name}` twice")));
            }
            let value = access.next_value_seed(Self)?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ten_thousand_levels_are_an_error_before_any_recursion() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
            assert_eq!(parse(&deep), Err(InvalidJson::TooDeep));
            let most = format!("{}1{}", open.repeat(DEPTH_MAX), close.repeat(DEPTH_MAX));
            assert!(is_within(&parse(&most).unwrap(), DEPTH_MAX));
            let one_more = format!("{open}{most}{close}");
            assert_eq!(parse(&one_more), Err(InvalidJson::TooDeep));
        }
        assert!(parse(&format!("\"{}\"", "[".repeat(10_000))).is_ok(), "brackets in text nest nothing");
    }

    #[test]
    fn nothing_is_lost_without_a_word() {
        assert!(matches!(parse("123456789012345678901234567890"), Err(InvalidJson::Number(_))));
        assert!(matches!(parse("[-9223372036854775809]"), Err(InvalidJson::Number(_))));
        assert_eq!(
            parse("[18446744073709551615,-9223372036854775808]").unwrap().to_string(),
            "[18446744073709551615,-9223372036854775808]"
        );
        for wrong in ["", "{\"a\":1,\"a\":2}", "1e400", "[1,]", "nul", "\"\\ud800\"", "1 2", "01", "'a'"] {
            assert!(matches!(parse(wrong), Err(InvalidJson::Syntax(_))), "{wrong}");
        }
    }

    #[test]
    fn size_counts_without_blanks() {
        let text = format!("\"{}\"", "a".repeat(BYTES_MAX - 2));
        assert!(parse(&text).is_ok());
        assert!(parse(&format!("  {text}  ")).is_ok());
        let larger = format!("\"{}\"", "a".repeat(BYTES_MAX - 1));
        assert_eq!(parse(&larger), Err(InvalidJson::TooLarge(BYTES_MAX + 1)));
        assert!(matches!(parse(&" ".repeat(BYTES_MAX * BLANKS + 1)), Err(InvalidJson::TooLarge(_))));
    }

    #[test]
    fn the_same_document_has_the_same_text() {
        let one = canonical(&parse("{ \"b\": [1, 2.50], \"a\": null }").unwrap());
        assert_eq!(one, r#"{"a":null,"b":[1,2.5]}"#);
        assert_eq!(checksum("{}"), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\]{}\",:0-9eE+\\-. a\\\\]{0,60}") {
            if let Ok(value) = parse(&text) {
                prop_assert_eq!(parse(&canonical(&value)).unwrap(), value);
            }
        }
    }
}
