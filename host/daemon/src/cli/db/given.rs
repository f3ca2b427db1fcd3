//! Fields, values and data as people write them.
//!
//! Must not know what is done with them. Invariant: a value is of the kind that is said, text where none is.

use std::{collections::BTreeMap, path::PathBuf};

use bytes::Bytes;
use clap::Args;
use platform_proto::db::v1::{Kind, Record};
use prost_types::{Struct, Value, value::Kind as Json};

use crate::cli::{document, failure::Failure, input};

/// Largest data of a record.
const DATA_BYTES: u64 = 4 << 20;

/// What a record is to hold.
#[derive(Debug, Args)]
pub(crate) struct Given {
    /// A field of metadata; the kind is text, number or boolean.
    #[arg(long = "set", value_name = "FIELD[:KIND]=VALUE")]
    fields: Vec<String>,
    /// All metadata as a JSON object, or the name of a file that holds it.
    #[arg(long, value_name = "JSON|FILE", conflicts_with = "fields")]
    metadata: Option<String>,
    /// The data, as text.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    data: Option<String>,
    /// Reads the data from a file; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    data_file: Option<PathBuf>,
}

impl Given {
    /// Metadata and data.
    pub(crate) fn read(self) -> Result<(BTreeMap<String, Value>, Bytes), Failure> {
        let mut metadata = match &self.metadata {
            Some(text) => document::read(text)?.fields,
            None => BTreeMap::new(),
        };
        for text in &self.fields {
            let (field, value) = text
                .split_once('=')
                .ok_or_else(|| Failure::usage(format!("`{text}` is no field; write FIELD=VALUE")))?;
            let (field, value) = typed(field, value)?;
            metadata.insert(field, value);
        }
        let data = match (self.data, self.data_file) {
            (Some(text), _) => Bytes::from(text.into_bytes()),
            (None, Some(file)) => input::read(&file, DATA_BYTES)?.into(),
            (None, None) => Bytes::new(),
        };
        Ok((metadata, data))
    }
}

/// A kind as it is written.
pub(crate) fn kind(text: &str) -> Result<Kind, String> {
    match text {
        "text" => Ok(Kind::Text),
        "number" => Ok(Kind::Number),
        "boolean" => Ok(Kind::Boolean),
        other => Err(format!("`{other}` is no kind; there are `text`, `number` and `boolean`")),
    }
}

/// `FIELD[:KIND]` and a value of that kind.
pub(crate) fn typed(field: &str, value: &str) -> Result<(String, Value), Failure> {
    let (field, of) = match field.split_once(':') {
        Some((field, of)) => (field, kind(of).map_err(Failure::usage)?),
        None => (field, Kind::Text),
    };
    let wrong = |what: &str| Failure::usage(format!("`{value}` is no {what}, as `{field}` is said to be"));
    let json = match of {
        Kind::Text | Kind::Unspecified => Json::StringValue(value.to_owned()),
        Kind::Number => {
            Json::NumberValue(value.parse().ok().filter(|n: &f64| n.is_finite()).ok_or_else(|| wrong("number"))?)
        }
        Kind::Boolean => Json::BoolValue(value.parse().ok().ok_or_else(|| wrong("boolean"))?),
    };
    Ok((field.to_owned(), Value { kind: Some(json) }))
}

/// The metadata of a record, on one line.
pub(crate) fn shown(record: &Record) -> String {
    document::to_json(Struct { fields: record.metadata.clone() }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_of_the_kind_that_is_said() {
        assert_eq!(typed("a", "1").unwrap().1.kind, Some(Json::StringValue("1".into())));
        assert_eq!(typed("a:number", "1.5").unwrap(), ("a".into(), Value { kind: Some(Json::NumberValue(1.5)) }));
        assert_eq!(typed("a:boolean", "true").unwrap().1.kind, Some(Json::BoolValue(true)));
        for (field, value) in [("a:number", "x"), ("a:number", "inf"), ("a:boolean", "1"), ("a:date", "1")] {
            assert!(typed(field, value).is_err(), "{field} {value}");
        }
    }
}
