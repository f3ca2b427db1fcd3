//! Between the messages of records and queries and what the data plane takes.
//!
//! Must not know how calls are made. Invariant: a value arrives as it was sent, or is refused with the name of its field.

use std::collections::BTreeMap;

use platform_capability::db::{self, Field, Filter, Index, Kind, Query, Record, Test, Value};
use platform_proto::db::v1::{self as proto, filter};
use prost::Message;
use prost_types::{Timestamp, Value as Json, value::Kind as JsonKind};
use sha2::{Digest, Sha256};
use tonic::Status;

use crate::fault::Fault;

fn invalid(message: String) -> Status {
    Fault::invalid("INVALID_ARGUMENT", message).into()
}

/// A value of a field.
fn value(field: &str, json: Json) -> Result<Value, Status> {
    match json.kind {
        Some(JsonKind::StringValue(text)) => Ok(Value::Text(text)),
        Some(JsonKind::NumberValue(number)) => Ok(Value::Number(number)),
        Some(JsonKind::BoolValue(boolean)) => Ok(Value::Boolean(boolean)),
        Some(JsonKind::NullValue(_) | JsonKind::ListValue(_) | JsonKind::StructValue(_)) | None => {
            let field: String = field.chars().take(64).collect();
            let why = "is no text, number or boolean; put anything else into `data`";
            Err(invalid(format!("`{}` {why}", field.escape_debug())))
        }
    }
}

/// The metadata of a record.
pub(super) fn fields(metadata: BTreeMap<String, Json>) -> Result<Vec<Field>, Status> {
    metadata.into_iter().map(|(name, json)| Ok(Field { value: value(&name, json)?, name })).collect()
}

/// A record.
pub(super) fn record(record: Record) -> proto::Record {
    let Record { stamp, metadata, data } = record;
    let json = |value: Value| Json {
        kind: Some(match value {
            Value::Text(text) => JsonKind::StringValue(text),
            Value::Number(number) => JsonKind::NumberValue(number),
            Value::Boolean(boolean) => JsonKind::BoolValue(boolean),
        }),
    };
    proto::Record {
        id: stamp.id,
        created: Some(time(stamp.created_ns)),
        updated: Some(time(stamp.updated_ns)),
        revision: stamp.revision,
        metadata: metadata.into_iter().map(|field| (field.name, json(field.value))).collect(),
        data: data.into(),
    }
}

fn time(unix_ns: u64) -> Timestamp {
    let (seconds, nanos) = (unix_ns / 1_000_000_000, unix_ns % 1_000_000_000);
    Timestamp { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: i32::try_from(nanos).unwrap_or(0) }
}

/// An index that is declared.
pub(super) fn index(index: &proto::Index) -> Result<Index, Status> {
    let kind = match proto::Kind::try_from(index.kind) {
        Ok(proto::Kind::Unspecified | proto::Kind::Text) => Kind::Text,
        Ok(proto::Kind::Number) => Kind::Number,
        Ok(proto::Kind::Boolean) => Kind::Boolean,
        Err(_unknown) => return Err(invalid(format!("`{}` is no kind of index", index.kind))),
    };
    Ok(Index { field: index.field.clone(), kind, unique: index.unique })
}

/// A table.
pub(super) fn table(table: db::Table) -> proto::Table {
    let index = |index: Index| proto::Index {
        field: index.field,
        kind: match index.kind {
            Kind::Text => proto::Kind::Text,
            Kind::Number => proto::Kind::Number,
            Kind::Boolean => proto::Kind::Boolean,
        }
        .into(),
        unique: index.unique,
    };
    let db::Table { database, name, indexes, ready } = table;
    proto::Table { database, table: name, indexes: indexes.into_iter().map(index).collect(), ready }
}

/// What is looked for.
pub(super) fn query(find: &proto::FindRequest, limit: u32, after: Option<String>) -> Result<Query, Status> {
    let equals = find
        .metadata
        .iter()
        .map(|(name, json)| Ok(Filter { field: name.clone(), test: Test::Equals(value(name, json.clone())?) }));
    let filters = equals.chain(find.filters.iter().map(filter)).collect::<Result<Vec<_>, Status>>()?;
    let proto::FindRequest { order_by, descending, offset, .. } = find;
    Ok(Query { filters, order_by: order_by.clone(), descending: *descending, offset: *offset, limit, after })
}

fn filter(given: &proto::Filter) -> Result<Filter, Status> {
    let field = &given.field;
    let one = |json: &Json| value(field, json.clone());
    let test = match &given.test {
        Some(filter::Test::Equals(json)) => Test::Equals(one(json)?),
        Some(filter::Test::Less(json)) => Test::Less(one(json)?),
        Some(filter::Test::AtMost(json)) => Test::AtMost(one(json)?),
        Some(filter::Test::Greater(json)) => Test::Greater(one(json)?),
        Some(filter::Test::AtLeast(json)) => Test::AtLeast(one(json)?),
        Some(filter::Test::AnyOf(list)) => Test::AnyOf(list.values.iter().map(one).collect::<Result<_, _>>()?),
        Some(filter::Test::StartsWith(text)) => Test::StartsWith(text.clone()),
        None => return Err(invalid(format!("the filter of `{}` says nothing of it", field.escape_debug()))),
    };
    Ok(Filter { field: field.clone(), test })
}

/// What page tokens of a query begin with: another query, table, database or namespace has another.
pub(super) fn mark(namespace: &str, find: &proto::FindRequest) -> String {
    let query = proto::FindRequest { limit: 0, page_token: String::new(), ..find.clone() };
    let mut digest = Sha256::new();
    digest.update((namespace.len() as u64).to_le_bytes());
    digest.update(namespace);
    digest.update(query.encode_to_vec());
    let digest = digest.finalize();
    digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// The refusal of a token that another query gave.
pub(super) fn foreign() -> Status {
    Fault::invalid("INVALID_PAGE_TOKEN", "`page_token` is not one that a page of this query has given").into()
}
