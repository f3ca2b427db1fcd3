//! What names, records and queries may be.
//!
//! Must not know who asks. Invariant: what passes here no provider refuses for its form.

use std::collections::HashSet;

use platform_capability::{
    Name,
    db::{Content, Error, Field, Index, Query, Test, Value},
};

use super::{Db, Place, Result};
use crate::{error::CallError, provider::Capability};

/// Most writes of one transaction.
pub(super) const WRITES_MAX: usize = 100;
/// Most bytes of one transaction.
pub(super) const COMMIT_BYTES_MAX: usize = 12 << 20;
/// Longest name of a database, table or field, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Longest id, in bytes.
const ID_BYTES_MAX: usize = 128;
/// Largest data of a record, in bytes.
const DATA_BYTES_MAX: usize = 4 << 20;
/// Largest text of a field, in bytes.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Most fields of a record.
const FIELDS_MAX: usize = 64;
/// Most indexes of a table.
const INDEXES_MAX: usize = 8;
/// Most filters of a query.
const FILTERS_MAX: usize = 16;
/// Most values that a field may be one of.
const VALUES_MAX: usize = 100;
/// Most matches that are passed over.
const OFFSET_MAX: u32 = 10_000;

fn large<T>(why: String) -> Result<T> {
    Err(CallError::Capability(Error::TooLarge(why)))
}

/// A name of a database or table.
pub(super) fn name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Db::refused(format!("the {what} has no name")));
    }
    if name.len() > NAME_BYTES_MAX {
        return large(format!("the name of the {what} has {} bytes, more than {NAME_BYTES_MAX}", name.len()));
    }
    match name.parse::<Name>() {
        Ok(_) => Ok(()),
        Err(error) => Err(Db::refused(format!("the {what}: {error}"))),
    }
}

/// The names of a table and its database.
pub(super) fn place(place: Place<'_>) -> Result<()> {
    name("database", place.database)?;
    name("table", place.table)
}

/// An id.
pub(super) fn id(id: &str) -> Result<()> {
    if id.is_empty() {
        return Err(Db::refused("the id is empty"));
    }
    if id.len() > ID_BYTES_MAX {
        return large(format!("the id has {} bytes, more than {ID_BYTES_MAX}", id.len()));
    }
    if id.chars().any(char::is_control) {
        return Err(Db::refused(format!("the id `{}` holds control characters", id.escape_debug())));
    }
    Ok(())
}

fn field(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
        let why = format!("`{}` is no field: 1 to 64 letters, digits, `.`, `_` and `-` are", shown.escape_debug());
        return Err(Db::refused(why));
    }
    Ok(())
}

fn value(field: &str, value: &Value) -> Result<usize> {
    match value {
        Value::Text(text) if text.len() > TEXT_BYTES_MAX => {
            large(format!("the text of `{field}` has {} bytes, more than {TEXT_BYTES_MAX}", text.len()))
        }
        Value::Text(text) if text.contains('\0') => Err(Db::refused(format!("the text of `{field}` holds NUL"))),
        Value::Number(number) if !number.is_finite() => Err(Db::refused(format!("`{field}` is no finite number"))),
        Value::Text(text) => Ok(text.len()),
        Value::Number(_) | Value::Boolean(_) => Ok(8),
    }
}

/// A number of things, at least one.
pub(super) fn count(what: &str, count: usize, most: usize) -> Result<()> {
    match count {
        0 => Err(Db::refused(format!("there are no {what}"))),
        count if count > most => large(format!("there are {count} {what}, more than {most}")),
        _ => Ok(()),
    }
}

/// What a record is to hold; its bytes.
pub(super) fn content(content: &Content) -> Result<usize> {
    let Content { metadata, data } = content;
    if data.len() > DATA_BYTES_MAX {
        return large(format!("the data has {} bytes, more than {DATA_BYTES_MAX}", data.len()));
    }
    if metadata.len() > FIELDS_MAX {
        return large(format!("the record has {} fields, more than {FIELDS_MAX}", metadata.len()));
    }
    let (mut bytes, mut names) = (data.len(), HashSet::with_capacity(metadata.len()));
    for Field { name, value: held } in metadata {
        field(name)?;
        bytes += name.len() + value(name, held)?;
        if !names.insert(name) {
            return Err(Db::refused(format!("the field `{name}` is there twice")));
        }
    }
    Ok(bytes)
}

/// The indexes of a table.
pub(super) fn indexes(indexes: &[Index]) -> Result<()> {
    if indexes.len() > INDEXES_MAX {
        return large(format!("there are {} indexes, more than {INDEXES_MAX}", indexes.len()));
    }
    let mut fields = HashSet::with_capacity(indexes.len());
    for index in indexes {
        field(&index.field)?;
        if !fields.insert(&index.field) {
            return Err(Db::refused(format!("the field `{}` is indexed twice", index.field)));
        }
    }
    Ok(())
}

/// What is looked for.
pub(super) fn query(query: &Query) -> Result<()> {
    if query.filters.len() > FILTERS_MAX {
        return large(format!("there are {} filters, more than {FILTERS_MAX}", query.filters.len()));
    }
    if !query.order_by.is_empty() {
        field(&query.order_by)?;
    }
    if query.offset > OFFSET_MAX {
        return large(format!("the offset is {}, more than {OFFSET_MAX}; go on with `page_token`", query.offset));
    }
    for filter in &query.filters {
        field(&filter.field)?;
        match &filter.test {
            Test::Equals(held) | Test::Less(held) | Test::AtMost(held) | Test::Greater(held) | Test::AtLeast(held) => {
                value(&filter.field, held)?;
            }
            Test::AnyOf(values) => {
                count("values", values.len(), VALUES_MAX)?;
                for held in values {
                    value(&filter.field, held)?;
                }
            }
            Test::StartsWith(text) => {
                value(&filter.field, &Value::Text(text.clone()))?;
            }
        }
    }
    Ok(())
}
