//! CloudEvents on their way in, as our events; `platform_webhook::cloudevents` is their way out.
//!
//! Owns the mapping and the three content modes; must not know where events go. Attributes that we have no place for are kept
//! as metadata under their names. Invariant: what is no event by the standard is refused with the attribute at fault.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;
use platform_dataplane::NewEvent;
use platform_webhook::cloudevents::{PARENT, PREFIX, ROOT, VERSION, is_attribute, is_json};
use serde_json::Value;

use crate::fault::Fault;

/// The events of a request, in whichever mode it is.
pub(super) fn incoming(headers: &HeaderMap, body: &Bytes) -> Result<Vec<NewEvent>, Fault> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/cloudevents+json" => Ok(vec![of_json(parse(body)?)?]),
        "application/cloudevents-batch+json" => match parse(body)? {
            Value::Array(events) => events.into_iter().map(of_json).collect(),
            _ => Err(invalid("a batch is an array of events")),
        },
        other if other.starts_with("application/cloudevents") => {
            let message = format!("`{other}` is not spoken here: use JSON, or the binary mode");
            Err(Fault::invalid("UNSUPPORTED_MEDIA_TYPE", message).http(http::StatusCode::UNSUPPORTED_MEDIA_TYPE))
        }
        _ => Ok(vec![of_headers(headers, content_type, body)?]),
    }
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::invalid("INVALID_CLOUDEVENT", message)
}

fn parse(body: &Bytes) -> Result<Value, Fault> {
    let text = std::str::from_utf8(body).map_err(|error| invalid(format!("the body is no UTF-8: {error}")))?;
    platform_document::parse(text).map_err(|error| invalid(error.to_string()))
}

/// An event in the structured mode.
fn of_json(value: Value) -> Result<NewEvent, Fault> {
    let Value::Object(mut members) = value else { return Err(invalid("an event is an object")) };
    let data = (members.remove("data"), members.remove("data_base64"));
    let mut attributes = BTreeMap::new();
    for (name, value) in members {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text,
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => {
                return Err(invalid(format!("`{name}` is no text, number or truth value")));
            }
        };
        attributes.insert(name, text);
    }
    let declared = attributes.get("datacontenttype").map(String::as_str).unwrap_or_default();
    let (content_type, data) = match data {
        (None, None) => (declared.to_owned(), Vec::new()),
        (Some(data), None) => match data {
            // What is declared to be no JSON is the text itself.
            Value::String(text) if !declared.is_empty() && !is_json(declared) => (declared.to_owned(), text.into()),
            data => {
                let declared = if declared.is_empty() { "application/json" } else { declared };
                (declared.to_owned(), data.to_string().into_bytes())
            }
        },
        (None, Some(Value::String(text))) => {
            let data = STANDARD.decode(text).map_err(|error| invalid(format!("`data_base64`: {error}")))?;
            (declared.to_owned(), data)
        }
        (None, Some(_)) => return Err(invalid("`data_base64` is no text")),
        (Some(_), Some(_)) => return Err(invalid("an event has `data` or `data_base64`, not both")),
    };
    attributes.remove("datacontenttype");
    assemble(attributes, content_type, data)
}

/// An event in the binary mode.
fn of_headers(headers: &HeaderMap, content_type: &str, body: &Bytes) -> Result<NewEvent, Fault> {
    let mut attributes = BTreeMap::new();
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix(PREFIX) else { continue };
        let text = value.to_str().ok().and_then(|value| percent_decode_str(value).decode_utf8().ok());
        let text = text.ok_or_else(|| invalid(format!("`{name}` is no text")))?;
        attributes.insert(attribute.to_owned(), text.into_owned());
    }
    if attributes.is_empty() {
        let message = "the request is no event: there are neither `ce-` headers nor a type `application/cloudevents`";
        return Err(invalid(message));
    }
    assemble(attributes, content_type.to_owned(), body.to_vec())
}

fn assemble(mut attributes: BTreeMap<String, String>, content_type: String, data: Vec<u8>) -> Result<NewEvent, Fault> {
    let mut take = |name: &str| {
        let value = attributes.remove(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| invalid(format!("`{name}` is missing")))
    };
    let version = take("specversion")?;
    if version != VERSION {
        return Err(invalid(format!("`specversion` is `{}`, not `{VERSION}`", version.escape_debug())));
    }
    let (id, origin, kind) = (take("id")?, take("source")?, take("type")?);
    let (root, parent) = (attributes.remove(ROOT), attributes.remove(PARENT));
    if let Some(wrong) = attributes.keys().find(|name| !is_attribute(name)) {
        return Err(invalid(format!("`{}` is no name of an attribute; use a-z and 0-9", wrong.escape_debug())));
    }
    if let Some(time) = attributes.get("time")
        && time.parse::<prost_types::Timestamp>().is_err()
    {
        return Err(invalid(format!("`time` is `{}`, which is no time of RFC 3339", time.escape_debug())));
    }
    Ok(NewEvent {
        id,
        kind,
        origin,
        root: root.unwrap_or_default(),
        parent: parent.unwrap_or_default(),
        content_type,
        metadata: attributes,
        data,
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use platform_capability::event::{Draft, Event};
    use platform_webhook::cloudevents::structured;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn request(headers: &[(&str, &str)], body: &str) -> Result<Vec<NewEvent>, Fault> {
        let pairs = headers.iter().map(|(name, value)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        });
        incoming(&pairs.collect(), &Bytes::copy_from_slice(body.as_bytes()))
    }

    fn kept(event: NewEvent) -> Event {
        let NewEvent { id, kind, origin, root, parent, content_type, metadata, data } = event;
        let content = Draft {
            root: if root.is_empty() { id.clone() } else { root },
            id,
            deduplicated: true,
            type_: kind,
            origin,
            parent: Some(parent).filter(|parent| !parent.is_empty()),
            publisher: None,
            content_type,
            metadata: metadata.into_iter().collect(),
            data,
        };
        Event { topic: "t".to_owned(), sequence: 7, time_ms: 0, revision: 1, content }
    }

    const JSON: [(&str, &str); 1] = [("content-type", "application/cloudevents+json; charset=utf-8")];

    #[test]
    fn structured_events_come_back_as_they_were() {
        for (given, data) in [
            (json!({"data": {"a": [1, 2]}}), &b"{\"a\":[1,2]}"[..]),
            (json!({"data": "hello", "datacontenttype": "text/plain"}), b"hello"),
            (json!({"data": "hello", "datacontenttype": "application/json"}), b"\"hello\""),
            (json!({"data_base64": "/wA=", "datacontenttype": "image/png"}), b"\xff\0"),
            (json!({"subject": "s", "traceparent": "00-a", "time": "2026-01-02T03:04:05Z"}), b""),
        ] {
            let mut event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"});
            event.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
            let found = request(&JSON, &event.to_string()).unwrap().remove(0);
            assert_eq!(found.data, data, "{event}");
            let out = Value::Object(structured(&kept(found)));
            for (name, value) in event.as_object().unwrap() {
                assert_eq!(out.get(name), Some(value), "{name} of {out}");
            }
        }
    }

    #[test]
    fn binary_events_are_their_headers_and_body() {
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/s"),
            ("ce-type", "t"),
            ("ce-subject", "Euro%20%E2%82%AC"),
            ("ce-rootid", "0"),
            ("content-type", "text/plain"),
        ];
        let found = request(&headers, "hello").unwrap().remove(0);
        assert_eq!((found.metadata["subject"].as_str(), found.root.as_str()), ("Euro €", "0"));
        let out = Value::Object(structured(&kept(found)));
        for (name, value) in [("id", "1"), ("source", "/s"), ("subject", "Euro €"), ("rootid", "0"), ("data", "hello")]
        {
            assert_eq!(out[name], value, "{name}");
        }
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"});
        for (name, value) in [
            ("specversion", json!("0.3")),
            ("id", json!("")),
            ("source", json!(null)),
            ("type", json!({})),
            ("Subject", json!("s")),
            ("time", json!("yesterday")),
            ("data_base64", json!("!")),
            ("data_base64", json!(1)),
        ] {
            let mut event = event.clone();
            event[name] = value;
            assert_eq!(request(&JSON, &event.to_string()).unwrap_err().reason(), "INVALID_CLOUDEVENT", "{event}");
        }
        for (kind, body) in [
            ("application/cloudevents+json", "[]"),
            ("application/cloudevents+json", "{"),
            ("application/cloudevents-batch+json", "{}"),
            ("application/cloudevents+json", &"[".repeat(10_000)),
            ("text/plain", "hello"),
        ] {
            assert!(request(&[("content-type", kind)], body).is_err(), "{kind} {body:.10}");
        }
        let avro = request(&[("content-type", "application/cloudevents+avro")], "").unwrap_err();
        assert_eq!(avro.http_status(), 415);
    }

    proptest! {
        #[test]
        fn no_body_panics(body in "\\PC{0,80}") {
            let _ = request(&JSON, &body);
            let _ = request(&[("content-type", "application/cloudevents-batch+json")], &body);
        }
    }
}
