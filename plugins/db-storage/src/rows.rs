//! The rows of a table, by id and by index, forth and back.

use std::{cmp::Ordering, ops::Bound};

use platform_sdk::{
    codec::Malformed,
    db::{ANSWER_BYTES, Index, Range, Result, Row, Rows, Value, compare},
    storage::{self, Entry},
};

use crate::{
    TABLE, damaged,
    key::{self, Place},
    read,
    record::Held,
};

/// A table, and its indexes that can be used.
pub(crate) struct Shelf<'a> {
    pub(crate) place: Place<'a>,
    pub(crate) indexes: &'a [Held],
}

impl Rows for Shelf<'_> {
    fn by_id(&mut self, after: Option<&str>, descending: bool, limit: u32) -> Result<Vec<Row>> {
        if descending {
            let after = after.map(|id| self.place.back(id));
            let found = TABLE.scan(&self.place.all('o'), after.as_deref(), limit)?;
            return self.fetch(found.iter().map(|entry| Ok((None, id(entry)?))).collect::<Result<_>>()?);
        }
        let prefix = self.place.all('r');
        let after = after.map(|id| self.place.record(id));
        let row = |entry: Entry| {
            let id = entry.key.strip_prefix(&prefix).ok_or_else(|| damaged(Malformed))?.to_owned();
            Ok(Row { value: None, record: Some(read(&id, &entry)?), id })
        };
        TABLE.scan(&prefix, after.as_deref(), limit)?.into_iter().map(row).collect()
    }

    fn by_index(
        &mut self, index: &Index, range: &Range, after: Option<(&Value, &str)>, descending: bool, limit: u32,
    ) -> Result<Vec<Row>> {
        let Some(held) = self.indexes.iter().find(|held| held.index.field == index.field) else {
            return Ok(Vec::new());
        };
        let prefix = self.place.index(if descending { 'y' } else { 'x' }, held.number);
        let (begin, end) = if descending { (&range.upper, &range.lower) } else { (&range.lower, &range.upper) };
        let start = match (after, begin) {
            (Some((value, id)), _) => Some(key::at(value, id, descending)),
            (None, Bound::Included(value)) => Some(key::beside(value, descending, false)),
            (None, Bound::Excluded(value)) => Some(key::beside(value, descending, true)),
            (None, Bound::Unbounded) => None,
        };
        let start = start.map(|start| format!("{prefix}{start}"));
        let mut places = Vec::new();
        for entry in TABLE.scan(&prefix, start.as_deref(), limit)? {
            let place = entry.key.strip_prefix(&prefix).unwrap_or_default();
            let value = key::value(index, place, descending).ok_or_else(|| damaged(Malformed))?;
            let beyond = if descending { Ordering::Less } else { Ordering::Greater };
            let over = match end {
                Bound::Included(end) => compare(&value, end) == Some(beyond),
                Bound::Excluded(end) => compare(&value, end).is_some_and(|order| order == beyond || order.is_eq()),
                Bound::Unbounded => false,
            };
            if over {
                break;
            }
            places.push((Some(value), id(&entry)?));
        }
        self.fetch(places)
    }
}

fn id(entry: &Entry) -> Result<String> {
    String::from_utf8(entry.value.clone()).map_err(|_not_utf8| damaged(Malformed))
}

impl Shelf<'_> {
    /// The records of places; fewer when they are too much for one answer, and at least one.
    fn fetch(&self, places: Vec<(Option<Value>, String)>) -> Result<Vec<Row>> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<String> = places.iter().map(|(_, id)| self.place.record(id)).collect();
        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
        let found = match TABLE.get_many(&names) {
            Err(storage::Error::TooLarge(_)) => {
                let (mut found, mut bytes) = (Vec::new(), 0);
                for name in names {
                    let entry = TABLE.get(name)?;
                    bytes += entry.as_ref().map_or(0, |entry| entry.value.len());
                    found.push(entry);
                    if bytes > ANSWER_BYTES {
                        break;
                    }
                }
                found
            }
            found => found?,
        };
        let row = |(found, (value, id)): (Option<Entry>, (Option<Value>, String))| {
            Ok(Row { value, record: found.map(|entry| read(&id, &entry)).transpose()?, id })
        };
        found.into_iter().zip(places).map(row).collect()
    }
}
