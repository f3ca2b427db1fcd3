//! Our events as CloudEvents 1.0 (<https://cloudevents.io>), on their way out.
//!
//! Owns the mapping of attributes, and the structured and the binary mode; must not know where events go. Metadata whose name
//! is no attribute stays here. Invariant: an event that came in as a CloudEvent has the same id, source, type and data again.

use std::{collections::BTreeMap, fmt::Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use platform_capability::event::Event;
use serde_json::{Map, Value};

/// Version of the standard.
pub const VERSION: &str = "1.0";
/// Prefix of attributes among headers.
pub const PREFIX: &str = "ce-";
/// Attribute that holds the root of a chain of causes.
pub const ROOT: &str = "rootid";
/// Attribute that holds the parent.
pub const PARENT: &str = "parentid";
/// Media type of the structured mode.
pub const STRUCTURED: &str = "application/cloudevents+json";

/// Whether a media type is one of JSON.
#[must_use]
pub fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.ends_with("/json") || kind.ends_with("+json")
}

/// Whether a name is one of an attribute.
#[must_use]
pub fn is_attribute(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// The attributes of an event, data apart.
fn attributes(event: &Event) -> BTreeMap<String, String> {
    let content = &event.content;
    // What says what the data is comes from the event itself.
    let named = |name: &str| is_attribute(name) && !["datacontenttype", "data"].contains(&name);
    let mut attributes: BTreeMap<String, String> =
        content.metadata.iter().filter(|(name, _)| named(name)).cloned().collect();
    let time: prost_types::Timestamp = (std::time::UNIX_EPOCH + std::time::Duration::from_millis(event.time_ms)).into();
    attributes.entry("time".to_owned()).or_insert(time.to_string());
    // The standard wants a source; events that were published by other means need not have one.
    let source = if content.origin.is_empty() { format!("/topics/{}", event.topic) } else { content.origin.clone() };
    let ours = [
        ("specversion", VERSION.to_owned()),
        ("id", content.id.clone()),
        ("source", source),
        ("type", content.type_.clone()),
        ("sequence", event.sequence.to_string()),
        (ROOT, content.root.clone()),
    ];
    attributes.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    if let Some(parent) = &content.parent {
        attributes.insert(PARENT.to_owned(), parent.clone());
    }
    attributes
}

/// An event in the structured mode.
#[must_use]
pub fn structured(event: &Event) -> Map<String, Value> {
    let content = &event.content;
    let mut members: Map<String, Value> =
        attributes(event).into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    if !content.content_type.is_empty() {
        members.insert("datacontenttype".to_owned(), Value::String(content.content_type.clone()));
    }
    if content.data.is_empty() {
        return members;
    }
    let text = std::str::from_utf8(&content.data).ok();
    let json = text.filter(|_| is_json(&content.content_type)).and_then(|text| platform_document::parse(text).ok());
    let (name, data) = match (json, text) {
        (Some(json), _) => ("data", json),
        (None, Some(text)) if !content.content_type.is_empty() && !is_json(&content.content_type) => {
            ("data", Value::String(text.to_owned()))
        }
        _ => ("data_base64", Value::String(STANDARD.encode(&content.data))),
    };
    members.insert(name.to_owned(), data);
    members
}

/// The headers of an event in the binary mode, whose body is the data; none when its content type can't be a header.
#[must_use]
pub fn binary(event: &Event) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in attributes(event) {
        let name = HeaderName::from_bytes(format!("{PREFIX}{name}").as_bytes()).ok()?;
        headers.insert(name, HeaderValue::from_str(&encode(&value)).ok()?);
    }
    let kind = &event.content.content_type;
    if !kind.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(kind).ok()?);
    }
    Some(headers)
}

/// What is no printable ASCII, a space, a double quote or a percent sign is percent-encoded, as the binding to HTTP says.
fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for character in value.chars() {
        if character.is_ascii_graphic() && !['"', '%'].contains(&character) {
            encoded.push(character);
            continue;
        }
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use platform_capability::event::Draft;
    use proptest::prelude::*;

    use super::*;

    fn event(metadata: &[(&str, &str)], content_type: &str, data: &[u8]) -> Event {
        let content = Draft {
            id: "o7".to_owned(),
            deduplicated: true,
            type_: "order.placed".to_owned(),
            origin: "/shop".to_owned(),
            root: "o7".to_owned(),
            parent: None,
            publisher: None,
            content_type: content_type.to_owned(),
            metadata: metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            data: data.to_vec(),
        };
        Event { topic: "t".to_owned(), sequence: 7, time_ms: 0, revision: 1, content }
    }

    #[test]
    fn attributes_are_headers_and_nothing_else_is() {
        let headers = binary(&event(
            &[("subject", "Euro € 50%"), ("Not An Attribute", "x"), ("datacontenttype", "y"), ("id", "forged")],
            "application/json",
            b"{}",
        ))
        .unwrap();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "o7"),
            ("ce-source", "/shop"),
            ("ce-type", "order.placed"),
            ("ce-subject", "Euro%20%E2%82%AC%2050%25"),
            ("ce-sequence", "7"),
            ("ce-time", "1970-01-01T00:00:00Z"),
            ("content-type", "application/json"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        assert!(!headers.contains_key("ce-datacontenttype") && headers.len() == 9, "{headers:?}");
        assert_eq!(binary(&event(&[], "text/plain\r\nx: y", b"")), None);
    }

    #[test]
    fn data_is_what_its_type_says() {
        for (kind, data, name, expected) in [
            ("application/json", &b"{\"a\":1}"[..], "data", serde_json::json!({"a": 1})),
            ("application/json", b"{", "data_base64", "ew==".into()),
            ("text/plain", b"a", "data", "a".into()),
            ("", b"a", "data_base64", "YQ==".into()),
            ("image/png", b"\xff", "data_base64", "/w==".into()),
        ] {
            assert_eq!(structured(&event(&[], kind, data)).get(name), Some(&expected), "{kind}");
        }
    }

    proptest! {
        #[test]
        fn values_come_back_from_headers(value: String) {
            let encoded = encode(&value);
            prop_assert!(HeaderValue::from_str(&encoded).is_ok());
            prop_assert_eq!(percent_decode_str(&encoded).decode_utf8().unwrap(), value);
        }
    }
}
