//! The rows of a table, by id and by the column of an index, forth and back.

use std::ops::Bound;

use platform_sdk::db::{ANSWER_BYTES, Index, Kind, Range, Result, Row, Rows, Value};

use crate::{
    declare::Shape,
    record::{columns, read},
    server::{Parameter, Session},
};

/// A table, none when there is none, and the connection to look into it.
pub(crate) struct Shelf<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) schema: &'a str,
    pub(crate) shape: Option<&'a Shape>,
}

impl Rows for Shelf<'_> {
    fn by_id(&mut self, after: Option<&str>, descending: bool, limit: u32) -> Result<Vec<Row>> {
        let Some(shape) = self.shape else { return Ok(Vec::new()) };
        let values: Vec<Parameter<'_>> = after.map(Parameter::Text).into_iter().collect();
        let condition = if after.is_some() { format!("id {} $1", later(descending)) } else { "true".to_owned() };
        let statement = statement((self.schema, shape.number), "id", &condition, descending, limit);
        let row = |row: &crate::server::Row| {
            let record = read(row)?;
            Ok(Row { value: None, id: record.stamp.id.clone(), record: Some(record) })
        };
        self.session.run(&statement, &values)?.iter().map(row).collect()
    }

    fn by_index(
        &mut self, index: &Index, range: &Range, after: Option<(&Value, &str)>, descending: bool, limit: u32,
    ) -> Result<Vec<Row>> {
        let Some(shape) = self.shape else { return Ok(Vec::new()) };
        let Some(column) = shape.columns.iter().find(|column| column.index.field == index.field) else {
            return Ok(Vec::new());
        };
        let name = format!("f_{}", column.number);
        let (mut values, mut conditions) = (Vec::new(), vec![format!("{name} IS NOT NULL")]);
        for (bound, or_equal, strictly) in [(&range.lower, ">=", ">"), (&range.upper, "<=", "<")] {
            let (sign, value) = match bound {
                Bound::Included(value) => (or_equal, value),
                Bound::Excluded(value) => (strictly, value),
                Bound::Unbounded => continue,
            };
            values.push(parameter(value));
            conditions.push(format!("{name} {sign} ${}", values.len()));
        }
        if let Some((value, id)) = after {
            values.extend([parameter(value), Parameter::Text(id)]);
            let (value, id, sign) = (values.len() - 1, values.len(), later(descending));
            conditions.push(format!("({name}, id) {sign} (${value}, ${id})"));
        }
        let statement = statement((self.schema, shape.number), &name, &conditions.join(" AND "), descending, limit);
        let row = |row: &crate::server::Row| {
            let value = match index.kind {
                Kind::Text => Value::Text(row.text(6)?),
                Kind::Number => Value::Number(row.number(6)?),
                Kind::Boolean => Value::Boolean(row.boolean(6)?),
            };
            let record = read(row)?;
            Ok(Row { value: Some(value), id: record.stamp.id.clone(), record: Some(record) })
        };
        self.session.run(&statement, &values)?.iter().map(row).collect()
    }
}

const fn later(descending: bool) -> &'static str {
    if descending { "<" } else { ">" }
}

const fn parameter(value: &Value) -> Parameter<'_> {
    match value {
        Value::Text(text) => Parameter::Text(text.as_str()),
        Value::Number(number) => Parameter::Number(*number),
        Value::Boolean(boolean) => Parameter::Boolean(*boolean),
    }
}

/// Rows in the order of a column and then of ids, as many as fit into an answer, and at least one.
fn statement((schema, table): (&str, i64), column: &str, condition: &str, descending: bool, limit: u32) -> String {
    let (way, shown) = (if descending { "DESC" } else { "ASC" }, columns());
    let order = format!("ORDER BY {column} {way}, id {way}");
    format!(
        "SELECT {shown}, {column} FROM (SELECT *, sum(octet_length(data)) OVER ({order}) - octet_length(data) AS before FROM \
         (SELECT * FROM {schema}.records_{table} WHERE {condition} {order} LIMIT {limit}) picked) sized \
         WHERE before < {ANSWER_BYTES} {order}"
    )
}
