//! Settings as people write them, and as the interface carries them.
//!
//! Owns the way between JSON or TOML text and `google.protobuf.Struct`; must not know what the settings mean. Invariant: a
//! value arrives as it was written, or is refused.

use std::{collections::BTreeMap, path::Path};

use prost_types::{ListValue, Struct, Value as Proto, value::Kind};
use serde_json::{Map, Number, Value};

use super::{failure::Failure, input};

/// Largest settings that are read.
const MOST_BYTES: u64 = 4 << 20;
/// Integers beyond this are not carried exactly: numbers travel as 64-bit floating point.
const MOST_EXACT: u64 = 1 << 53;

/// Reads an object: JSON text when it starts with `{`, else the name of a JSON or TOML file, `-` for standard input.
pub(crate) fn read(text: &str) -> Result<Struct, Failure> {
    if text.trim_start().starts_with('{') {
        return parse_json(text, "the settings");
    }
    let file = Path::new(text);
    let shown = input::shown(file);
    let place = format!("`{}`", shown.display());
    let bytes = input::read(file, MOST_BYTES)?;
    let content = String::from_utf8(bytes).map_err(|error| Failure::usage(format!("{place} is no text: {error}")))?;
    if file.extension().is_some_and(|extension| extension == "toml") {
        let value: Value = toml::from_str(&content)
            .map_err(|error| Failure::usage(format!("{place} is no TOML: {}", error.message())))?;
        return object(value, &place);
    }
    parse_json(&content, &place)
}

fn parse_json(text: &str, place: &str) -> Result<Struct, Failure> {
    let value = serde_json::from_str(text).map_err(|error| Failure::usage(format!("{place} is no JSON: {error}")))?;
    object(value, place)
}

fn object(value: Value, place: &str) -> Result<Struct, Failure> {
    match value {
        Value::Object(members) => to_struct(members),
        _ => Err(Failure::usage(format!("{place} must be one object, such as `{{\"rules\": []}}`"))),
    }
}

fn to_struct(members: Map<String, Value>) -> Result<Struct, Failure> {
    let fields: Result<BTreeMap<_, _>, Failure> =
        members.into_iter().map(|(name, value)| Ok((name, to_proto(value)?))).collect();
    Ok(Struct { fields: fields? })
}

fn to_proto(value: Value) -> Result<Proto, Failure> {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(number) => Kind::NumberValue(exact(&number)?),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => {
            let values: Result<Vec<_>, Failure> = values.into_iter().map(to_proto).collect();
            Kind::ListValue(ListValue { values: values? })
        }
        Value::Object(members) => Kind::StructValue(to_struct(members)?),
    };
    Ok(Proto { kind: Some(kind) })
}

fn exact(number: &Number) -> Result<f64, Failure> {
    let size = number.as_i64().map(i64::unsigned_abs).or_else(|| number.as_u64()).unwrap_or(0);
    match number.as_f64() {
        Some(value) if size <= MOST_EXACT => Ok(value),
        _ => Err(Failure::usage(format!(
            "the number `{number}` can't be carried exactly; write it as text: `\"{number}\"`"
        ))),
    }
}

/// The object as JSON; whole numbers without a decimal point.
pub(crate) fn to_json(object: Struct) -> Value {
    Value::Object(object.fields.into_iter().map(|(name, value)| (name, json(value))).collect())
}

fn json(value: Proto) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::NumberValue(number)) => {
            whole(number).or_else(|| Number::from_f64(number)).map_or(Value::Null, Value::Number)
        }
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(json).collect()),
        Some(Kind::StructValue(object)) => to_json(object),
    }
}

fn whole(number: f64) -> Option<Number> {
    #[expect(clippy::cast_precision_loss, reason = "2^53 is exact")]
    let exact = number.fract() == 0.0 && number.abs() <= MOST_EXACT as f64;
    // The text of a whole number of this size has no exponent.
    exact.then(|| format!("{number:.0}").parse::<i64>().ok().map(Number::from)).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-(1_i64 << 53)..=(1_i64 << 53)).prop_map(Value::from),
            (-1e9..1e9_f64).prop_map(|number| Value::from(number.trunc() + 0.5)),
            ".*".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::btree_map(".*", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn settings_survive_the_way(members in proptest::collection::btree_map(".*", values(), 0..4)) {
            let value = Value::Object(members.into_iter().collect());
            prop_assert_eq!(to_json(read(&value.to_string()).unwrap()), value);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(read("{").unwrap_err().message.contains("is no JSON"));
        assert!(read(r#"{"a": 9007199254740993}"#).unwrap_err().message.contains("`9007199254740993`"));
        assert!(read("/nowhere.json").unwrap_err().message.contains("`/nowhere.json`"));
    }

    #[test]
    fn files_are_json_or_toml() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let expected = serde_json::json!({"rules": [{"allow": true}]});
        assert_eq!(to_json(read(&file("a.json", r#"{"rules": [{"allow": true}]}"#)).unwrap()), expected);
        assert_eq!(to_json(read(&file("a.toml", "[[rules]]\nallow = true\n")).unwrap()), expected);
        assert!(read(&file("b.json", "[]")).unwrap_err().message.contains("must be one object"));
        assert!(read(&file("b.toml", "=")).unwrap_err().message.contains("is no TOML"));
    }
}
