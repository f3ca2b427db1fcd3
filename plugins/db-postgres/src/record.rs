//! Records as rows: `id, created, updated, revision, metadata, data`, in this order.

use platform_sdk::db::{Change, Error, Field, Record, Result, Stamp, Value, arrange};
use serde_json::{Map, Number, Value as Json};

use crate::server::Row;

/// The columns of a record.
pub(crate) const fn columns() -> &'static str {
    "id, created, updated, revision, metadata::text, data"
}

/// The record of a row.
pub(crate) fn read(row: &Row) -> Result<Record> {
    let stamp =
        Stamp { id: row.text(0)?, created_ns: row.count(1)?, updated_ns: row.count(2)?, revision: row.count(3)? };
    Ok(Record { stamp, metadata: fields(&row.text(4)?)?, data: row.data(5) })
}

/// The change of a row, which has database and table after the record.
pub(crate) fn change(row: &Row) -> Result<Change> {
    let now = if row.has(4) { Some(read(row)?) } else { None };
    Ok(Change { database: row.text(6)?, table: row.text(7)?, id: row.text(0)?, revision: row.count(3)?, now })
}

/// Metadata as JSON.
pub(crate) fn json(metadata: &[Field]) -> String {
    let json = |value: &Value| match value {
        Value::Text(text) => Json::String(text.clone()),
        Value::Number(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Value::Boolean(boolean) => Json::Bool(*boolean),
    };
    Json::Object(metadata.iter().map(|field| (field.name.clone(), json(&field.value))).collect()).to_string()
}

fn fields(json: &str) -> Result<Vec<Field>> {
    let odd = || Error::Other("the PostgreSQL server holds metadata that is none; nobody else may write there".into());
    let members: Map<String, Json> = serde_json::from_str(json).map_err(|_malformed| odd())?;
    let field = |(name, json): (String, Json)| {
        let value = match json {
            Json::String(text) => Value::Text(text),
            Json::Number(number) => Value::Number(number.as_f64().ok_or_else(odd)?),
            Json::Bool(boolean) => Value::Boolean(boolean),
            _ => return Err(odd()),
        };
        Ok(Field { name, value })
    };
    let mut fields = members.into_iter().map(field).collect::<Result<Vec<_>>>()?;
    arrange(&mut fields);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_comes_back() {
        let field = |name: &str, value| Field { name: name.into(), value };
        let metadata = vec![
            field("a", Value::Number(0.1)),
            field("b", Value::Number(1e300)),
            field("c", Value::Text("ü\"\n".into())),
            field("d", Value::Boolean(true)),
            field("e", Value::Number(-9_007_199_254_740_993.0)),
        ];
        assert_eq!(fields(&json(&metadata)).unwrap(), metadata);
    }
}
