//! From an HTTP request to the message of a method.
//!
//! Owns how path, query and body become fields; must not know what the method does. Invariant: whatever the request
//! holds becomes a field or an error that names it: nothing is ignored, nothing is set twice.

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use percent_encoding::percent_decode_str;
use platform_proto::json;
use prost_reflect::{
    Cardinality, DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage,
    Value,
};

use super::table::{Binding, Operation, RequestBody, field_path};
use crate::fault::Fault;

/// Deepest nesting of a JSON body. Each level of `google.protobuf.Struct` costs three of protobuf's hundred.
const JSON_DEPTH_MAX: usize = 32;
/// The one structured value that has a form in a query.
pub(crate) const TIMESTAMP: &str = "google.protobuf.Timestamp";
/// Most query parameters.
const QUERY_PARAMETERS_MAX: usize = 256;

/// The binding of `operation` that the request's body and the answer it accepts call for.
///
/// # Errors
/// 415 when no binding takes such a body.
pub(crate) fn choose<'a>(operation: &'a Operation, headers: &HeaderMap, has_body: bool) -> Result<&'a Binding, Fault> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(unsupported("compressed bodies are not taken: send the body as it is, without `Content-Encoding`"));
    }
    if headers.get_all(header::ACCEPT).iter().any(|accept| accept.as_bytes().starts_with(b"application/octet-stream"))
        && let Some(raw) = operation.bindings.iter().find(|binding| binding.answers_raw())
    {
        return Ok(raw);
    }
    let json = operation.bindings.iter().find(|binding| !binding.request.is_raw() && !binding.answers_raw());
    let raw = operation.bindings.iter().find(|binding| binding.request.is_raw());
    let choice = match media_type(headers) {
        MediaType::Json => json.or(raw),
        MediaType::None => json.or(raw.filter(|_| !has_body)),
        MediaType::Raw => raw.or(json.filter(|_| !has_body)),
        MediaType::Other => json.filter(|_| !has_body),
    };
    choice.ok_or_else(|| {
        unsupported(match raw {
            Some(_) => "send `Content-Type: application/json`, or `application/octet-stream` for the bare bytes",
            None => "send `Content-Type: application/json`",
        })
    })
}

/// Builds the message from what the path captured, the query and the body.
pub(crate) fn build(
    operation: &Operation, binding: &Binding, captures: Vec<String>, query: &str, headers: &HeaderMap, body: &Bytes,
) -> Result<DynamicMessage, Fault> {
    let mut message = match &binding.request {
        RequestBody::None if !body.is_empty() => {
            return Err(Fault::invalid("UNEXPECTED_BODY", "this method takes no body: use the query"));
        }
        RequestBody::All if !body.is_empty() => from_json(&operation.rpc.input, body)?,
        RequestBody::None | RequestBody::All => DynamicMessage::new(operation.rpc.input.clone()),
        RequestBody::Field(field) => {
            let mut message = DynamicMessage::new(operation.rpc.input.clone());
            set_body_field(&mut message, field, headers, body)?;
            message
        }
    };
    for (name, value) in parameters(query)? {
        set_parameter(&mut message, operation, binding, &name, &value)?;
    }
    for (path, text) in operation.variables.iter().zip(captures) {
        set_captured(&mut message, path, &text)?;
    }
    Ok(message)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MediaType {
    None,
    Json,
    Raw,
    Other,
}

fn media_type(headers: &HeaderMap) -> MediaType {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return MediaType::None };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "" => MediaType::None,
        "application/json" => MediaType::Json,
        "application/octet-stream" | "application/wasm" => MediaType::Raw,
        json if json.starts_with("application/") && json.ends_with("+json") => MediaType::Json,
        _ => MediaType::Other,
    }
}

fn unsupported(message: &'static str) -> Fault {
    Fault::invalid("UNSUPPORTED_MEDIA_TYPE", message).http(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

fn set_body_field(
    message: &mut DynamicMessage, field: &FieldDescriptor, headers: &HeaderMap, body: &Bytes,
) -> Result<(), Fault> {
    if json::is_json(field) {
        let text =
            std::str::from_utf8(body).map_err(|_no_text| Fault::invalid("INVALID_JSON", "the body is no UTF-8"))?;
        message.set_field(field, Value::String(text.to_owned()));
        return Ok(());
    }
    let json = media_type(headers) == MediaType::Json;
    if field.kind() == Kind::Bytes && !json {
        message.set_field(field, Value::Bytes(body.clone()));
        return Ok(());
    }
    // Wrapped in an object, so that one JSON reader takes fields of every kind.
    let name = serde_json::to_string(field.json_name()).unwrap_or_default();
    let object = [b"{", name.as_bytes(), b":", body, b"}"].concat();
    *message = from_json(&message.descriptor(), &object)?;
    Ok(())
}

/// A message from its JSON form; unknown fields, trailing text and deep nesting are errors.
fn from_json(descriptor: &MessageDescriptor, json: &[u8]) -> Result<DynamicMessage, Fault> {
    if depth(json) > JSON_DEPTH_MAX {
        let message = format!("the body nests deeper than {JSON_DEPTH_MAX} levels");
        return Err(Fault::invalid("TOO_DEEP", message));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(descriptor.clone(), &mut deserializer, &options)
        .and_then(|message| deserializer.end().map(|()| message))
        .map_err(|error| Fault::invalid("INVALID_JSON", format!("the body is no `{}`: {error}", descriptor.name())))
}

/// How deep arrays and objects nest. Counts without parsing, so that a hostile body costs one pass and no stack.
fn depth(json: &[u8]) -> usize {
    let (mut deepest, mut depth, mut in_string, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn parameters(query: &str) -> Result<Vec<(String, String)>, Fault> {
    let mut parameters = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if parameters.len() == QUERY_PARAMETERS_MAX {
            let message = format!("the query has more than {QUERY_PARAMETERS_MAX} parameters");
            return Err(Fault::invalid("TOO_MANY_PARAMETERS", message));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameters.push((decode(name)?, decode(value)?));
    }
    Ok(parameters)
}

fn decode(text: &str) -> Result<String, Fault> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    match decoded {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(Fault::invalid("INVALID_QUERY", format!("`{text}` in the query is no UTF-8 once decoded"))),
    }
}

fn set_parameter(
    message: &mut DynamicMessage, operation: &Operation, binding: &Binding, name: &str, text: &str,
) -> Result<(), Fault> {
    let unknown = || {
        let known: Vec<_> = operation.rpc.input.fields().map(|field| format!("`{}`", field.json_name())).collect();
        let message = format!("there is no parameter `{name}`; known are {}", known.join(", "));
        Fault::invalid("UNKNOWN_PARAMETER", message)
    };
    if matches!(binding.request, RequestBody::All) {
        let message = format!("`{name}` belongs in the body: this method takes nothing from the query");
        return Err(Fault::invalid("UNEXPECTED_PARAMETER", message));
    }
    let (path, key) = map_key(name);
    let fields = field_path(&operation.rpc.input, path).map_err(|_no_such_field| unknown())?;
    let elsewhere = operation.variables.contains(&fields)
        || matches!(&binding.request, RequestBody::Field(body) if fields.first() == Some(body));
    if elsewhere {
        let message = format!("`{name}` is set by the path or the body already");
        return Err(Fault::invalid("DUPLICATE_FIELD", message));
    }
    set_path(message, &fields, key, text, name)
}

/// `labels[zone]` is the entry `zone` of the map `labels`.
fn map_key(name: &str) -> (&str, Option<&str>) {
    match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
        Some((path, key)) => (path, Some(key)),
        None => (name, None),
    }
}

fn set_path(
    message: &mut DynamicMessage, path: &[FieldDescriptor], key: Option<&str>, text: &str, name: &str,
) -> Result<(), Fault> {
    let duplicate =
        || Fault::invalid("DUPLICATE_FIELD", format!("`{name}` is given twice, or excludes another parameter"));
    let Some((field, inner)) = path.split_first() else { return Ok(()) };
    if !inner.is_empty() {
        let Some(message) = message.get_field_mut(field).as_message_mut() else { return Ok(()) };
        return set_path(message, inner, key, text, name);
    }
    if let Some(oneof) = field.containing_oneof()
        && oneof.fields().any(|member| message.has_field(&member))
    {
        return Err(duplicate());
    }
    if field.is_map() != key.is_some() {
        let message = format!("`{name}` is a map: give its entries as `{}[KEY]=VALUE`", field.json_name());
        return Err(Fault::invalid("INVALID_PARAMETER", message));
    }
    if let (Some(key), Kind::Message(entry)) = (key, field.kind()) {
        let value = scalar(&entry.map_entry_value_field(), text, name)?;
        let Some(map) = message.get_field_mut(field).as_map_mut() else { return Ok(()) };
        return match map.insert(MapKey::String(key.to_owned()), value) {
            None => Ok(()),
            Some(_) => Err(duplicate()),
        };
    }
    let value = scalar(field, text, name)?;
    if field.is_list() {
        if let Some(list) = message.get_field_mut(field).as_list_mut() {
            list.push(value);
        }
        return Ok(());
    }
    if message.has_field(field) {
        return Err(duplicate());
    }
    message.set_field(field, value);
    Ok(())
}

/// Sets what the path captured. The body may repeat it, and must not contradict it.
fn set_captured(message: &mut DynamicMessage, path: &[FieldDescriptor], text: &str) -> Result<(), Fault> {
    let Some((field, inner)) = path.split_first() else { return Ok(()) };
    if !inner.is_empty() {
        let Some(message) = message.get_field_mut(field).as_message_mut() else { return Ok(()) };
        return set_captured(message, inner, text);
    }
    let value = scalar(field, text, field.json_name())?;
    if message.has_field(field) && *message.get_field(field) != value {
        let text = format!("the path says `{}` is `{text}`, the body says otherwise", field.json_name());
        return Err(Fault::invalid("DUPLICATE_FIELD", text));
    }
    message.set_field(field, value);
    Ok(())
}

/// One value of a field that is no message, from text.
fn scalar(field: &FieldDescriptor, text: &str, name: &str) -> Result<Value, Fault> {
    let parsed = match field.kind() {
        Kind::String => Some(Value::String(text.to_owned())),
        Kind::Bool => text.parse().ok().map(Value::Bool),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => text.parse().ok().map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => text.parse().ok().map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => text.parse().ok().map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => text.parse().ok().map(Value::U64),
        Kind::Float => text.parse().ok().map(Value::F32),
        Kind::Double => text.parse().ok().map(Value::F64),
        Kind::Enum(kind) => kind.get_value_by_name(text).map(|value| Value::EnumNumber(value.number())),
        Kind::Message(kind) if kind.full_name() == TIMESTAMP => text.parse().ok().map(|time| timestamp(&kind, time)),
        // Binary and other structured values have no form in a query: they belong in a body.
        Kind::Bytes | Kind::Message(_) => None,
    };
    let kind = match field.kind() {
        Kind::Enum(kind) => kind.name().to_owned(),
        kind => format!("{kind:?}").to_lowercase(),
    };
    let many = if field.cardinality() == Cardinality::Repeated { "each " } else { "" };
    parsed.ok_or_else(|| {
        Fault::invalid("INVALID_PARAMETER", format!("{many}`{name}` has to be of type {kind}, not `{text}`"))
    })
}

fn timestamp(kind: &MessageDescriptor, time: prost_types::Timestamp) -> Value {
    let mut message = DynamicMessage::new(kind.clone());
    message.set_field_by_name("seconds", Value::I64(time.seconds));
    message.set_field_by_name("nanos", Value::I32(time.nanos));
    Value::Message(message)
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;
    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::transcode::table::{Found, Table};

    fn request(method: &Method, uri: &str, content_type: &str, body: &[u8]) -> Result<String, String> {
        let table = Table::new(&DescriptorPool::decode(platform_proto::FILE_DESCRIPTOR_SET).unwrap()).unwrap();
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let Found::Operation(operation, captures) = table.find(method, path) else { panic!("no operation at {path}") };
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        }
        let built = choose(operation, &headers, !body.is_empty()).and_then(|binding| {
            let body = Bytes::copy_from_slice(body);
            build(operation, binding, captures.unwrap(), query, &headers, &body)
        });
        match built {
            Ok(message) => Ok(serde_json::to_string(&message).unwrap()),
            Err(fault) => Err(format!("{} {}", fault.reason(), fault.message())),
        }
    }

    #[test]
    fn json_bodies_become_messages() {
        let put = |body: &str| request(&Method::PUT, "/v1/kv/a", "application/json; charset=utf-8", body.as_bytes());
        assert_eq!(put(r#"{"value":"aGk=","ttlMs":"5"}"#).unwrap(), r#"{"key":"a","value":"aGk=","ttlMs":"5"}"#);
        assert_eq!(
            put(r#"{"value":"aGk=","if_absent":true}"#).unwrap(),
            r#"{"key":"a","value":"aGk=","ifAbsent":true}"#
        );
        assert_eq!(put(r#"{"key":"a"}"#).unwrap(), r#"{"key":"a"}"#);
        for (body, reason) in [
            (r#"{"key":"b"}"#, "DUPLICATE_FIELD"),
            (r#"{"valeu":""}"#, "INVALID_JSON"),
            (r#"{"ifAbsent":true,"ifPresent":true}"#, "INVALID_JSON"),
            (r#"{"value":"a"} x"#, "INVALID_JSON"),
            (r#"{"value":"#, "INVALID_JSON"),
            (r#"{"ttlMs":-1}"#, "INVALID_JSON"),
            ("[]", "INVALID_JSON"),
            (&"[".repeat(33), "TOO_DEEP"),
        ] {
            let error = put(body).unwrap_err();
            assert!(error.starts_with(reason), "{body}: {error}");
        }
    }

    #[test]
    fn raw_bodies_take_the_rest_from_the_query() {
        let raw = "application/octet-stream";
        let put = request(&Method::PUT, "/v1/kv/a?ifRevision=7&ttl_ms=5", raw, b"hi").unwrap();
        assert_eq!(put, r#"{"key":"a","value":"aGk=","ifRevision":"7","ttlMs":"5"}"#);
        let install = request(&Method::POST, "/v1/plugins?dryRun=true&name=x", "application/wasm", b"\0asm").unwrap();
        assert_eq!(install, r#"{"component":"AGFzbQ==","name":"x","dryRun":true}"#);
        let json = request(&Method::POST, "/v1/plugins", "application/json", br#""AGFzbQ==""#).unwrap();
        assert_eq!(json, r#"{"component":"AGFzbQ=="}"#);
        for (uri, content_type, reason) in [
            ("/v1/kv/a?value=x", raw, "DUPLICATE_FIELD"),
            ("/v1/kv/a?key=x", raw, "DUPLICATE_FIELD"),
            ("/v1/kv/a?ifAbsent=true&ifPresent=true", raw, "DUPLICATE_FIELD"),
            ("/v1/kv/a?ifAbsent=yes", raw, "INVALID_PARAMETER"),
            ("/v1/kv/a?nothing=1", raw, "UNKNOWN_PARAMETER"),
            ("/v1/kv/a?%ff=1", raw, "INVALID_QUERY"),
            ("/v1/kv/a", "application/x-www-form-urlencoded", "UNSUPPORTED_MEDIA_TYPE"),
            ("/v1/kv/a?ttlMs=5", "application/json", "INVALID_JSON"),
        ] {
            let error = request(&Method::PUT, uri, content_type, b"hi").unwrap_err();
            assert!(error.starts_with(reason), "{uri}: {error}");
        }
    }

    #[test]
    fn queries_become_messages() {
        let get = |uri| request(&Method::GET, uri, "", b"");
        assert_eq!(get("/v1/kv?prefix=a%2Fb+c&limit=7&pageToken=").unwrap(), r#"{"prefix":"a/b c","limit":7}"#);
        let select = get("/v1/router/shop:select?labels[zone]=a&labels%5Btier%5D=b&attempt=1").unwrap();
        let select: serde_json::Value = serde_json::from_str(&select).unwrap();
        let expected = serde_json::json!({"service": "shop", "labels": {"zone": "a", "tier": "b"}, "attempt": 1});
        assert_eq!(select, expected);
        for (uri, reason) in [
            ("/v1/kv?limit=-1", "INVALID_PARAMETER"),
            ("/v1/kv?limit=1&limit=2", "DUPLICATE_FIELD"),
            ("/v1/router/shop:select?labels=a", "INVALID_PARAMETER"),
            ("/v1/router/shop:select?zone[a]=a", "INVALID_PARAMETER"),
            ("/v1/router/shop:select?labels[a]=1&labels[a]=2", "DUPLICATE_FIELD"),
            (&format!("/v1/kv?{}", "limit&".repeat(300)), "TOO_MANY_PARAMETERS"),
        ] {
            let error = get(uri).unwrap_err();
            assert!(error.starts_with(reason), "{uri}: {error}");
        }
        let error = request(&Method::GET, "/v1/kv/a", "application/json", b"{}").unwrap_err();
        assert!(error.starts_with("UNEXPECTED_BODY"), "{error}");
    }

    #[test]
    fn json_bodies_of_json_fields_stay_as_they_are() {
        let body = r#"{"a": [1, 18446744073709551615]}"#;
        let set = |uri: &str| request(&Method::PUT, uri, "application/json", body.as_bytes()).unwrap();
        let set: serde_json::Value = serde_json::from_str(&set("/v1/config/app?path=/x&ifVersion=3")).unwrap();
        assert_eq!((&set["value"], &set["path"], &set["ifVersion"]), (&body.into(), &"/x".into(), &"3".into()));
        let audit = request(&Method::GET, "/v1/config:audit?from=2026-01-02T03:04:05Z", "", b"").unwrap();
        assert_eq!(audit, r#"{"from":"2026-01-02T03:04:05Z"}"#);
        let error = request(&Method::GET, "/v1/config:audit?from=yesterday", "", b"").unwrap_err();
        assert!(error.starts_with("INVALID_PARAMETER"), "{error}");
    }

    #[test]
    fn depth_ignores_strings() {
        for (json, expected) in [("", 0), ("[]", 1), (r#"{"a":["[[\"[",1]}"#, 2), ("]]][", 1), (r#""\\"["#, 1)] {
            assert_eq!(depth(json.as_bytes()), expected, "{json}");
        }
    }

    proptest! {
        #[test]
        fn no_request_panics(query in "\\PC{0,80}", body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = request(&Method::PUT, &format!("/v1/kv/a?{query}"), "application/json", &body);
            let _ = request(&Method::PUT, &format!("/v1/kv/a?{query}"), "application/octet-stream", &body);
            let _ = request(&Method::GET, &format!("/v1/router/shop:select?{query}"), "", b"");
        }
    }
}
