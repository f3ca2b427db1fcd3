//! A search over the rows of a table: which index it goes by, what it leaves out, where it goes on.
//!
//! Must not know how rows are kept. Invariant: every store that gives rows in order finds the same records in the same order,
//! page by page.

use std::{cmp::Ordering, ops::Bound};

use super::{
    ANSWER_BYTES, Error, Field, Filter, Found, Index, MAX_LEFT_OUT, Query, Record, Result, Test, Value, compare,
    decode, encode, field, kind,
};

/// Most rows that are asked for at once.
const ROWS_MAX: u32 = 200;

/// Values of a field, from one to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// Where it begins.
    pub lower: Bound<Value>,
    /// Where it ends.
    pub upper: Bound<Value>,
}

/// A row of an index, or of a table by id.
#[derive(Debug, Clone)]
pub struct Row {
    /// What the index has; none in a row by id.
    pub value: Option<Value>,
    /// The record's id.
    pub id: String,
    /// The record; none when it went meanwhile.
    pub record: Option<Record>,
}

/// The rows of a table. An answer holds at least one row unless there are no more.
pub trait Rows {
    /// Rows by id, after one.
    ///
    /// # Errors
    /// See [`Error`].
    fn by_id(&mut self, after: Option<&str>, descending: bool, limit: u32) -> Result<Vec<Row>>;

    /// Rows by the value of a field and then by id, after one.
    ///
    /// # Errors
    /// See [`Error`].
    fn by_index(
        &mut self, index: &Index, range: &Range, after: Option<(&Value, &str)>, descending: bool, limit: u32,
    ) -> Result<Vec<Row>>;
}

/// How a search goes through a table.
enum Plan<'a> {
    /// Nothing can match.
    Nothing,
    /// By id.
    Ids,
    /// By an index, range after range.
    Index(&'a Index, Vec<Range>),
}

/// Searches `rows`, which has the `indexes`.
///
/// # Errors
/// [`Error::Unindexed`] when the order asked for has no index, or too much would be left out; those of `rows`.
pub fn search(rows: &mut impl Rows, indexes: &[Index], query: &Query) -> Result<Found> {
    let plan = plan(indexes, query)?;
    let used = if let Plan::Index(index, _) = &plan { Some(index.field.clone()) } else { None };
    let found = Found { records: Vec::new(), next: None, scanned: 0, used };
    let offset = if query.after.is_none() { query.offset } else { 0 };
    let mut search = Search { query, found, offset, left_out: 0, bytes: 0 };
    match plan {
        Plan::Nothing => {}
        Plan::Ids => {
            let mut after =
                query.after.as_deref().map(|place| place.strip_prefix('i').ok_or_else(forged)).transpose()?;
            let mut last;
            loop {
                let page = rows.by_id(after, query.descending, search.wanted())?;
                let Some(end) = page.last().map(|row| row.id.clone()) else { break };
                if search.take(page)? {
                    return Ok(search.found);
                }
                last = end;
                after = Some(&last);
            }
        }
        Plan::Index(index, ranges) => {
            let mut after = query.after.as_deref().map(|place| place_of(index, place)).transpose()?;
            for range in ranges {
                if after.as_ref().is_some_and(|(value, _)| is_behind(&range, value, query.descending)) {
                    continue;
                }
                loop {
                    let place = after.as_ref().map(|(value, id)| (value, id.as_str()));
                    let page = rows.by_index(index, &range, place, query.descending, search.wanted())?;
                    let Some(end) = page.last() else { break };
                    after = end.value.clone().map(|value| (value, end.id.clone()));
                    if search.take(page)? {
                        return Ok(search.found);
                    }
                }
                after = None;
            }
        }
    }
    search.found.next = None;
    Ok(search.found)
}

struct Search<'a> {
    query: &'a Query,
    found: Found,
    offset: u32,
    left_out: u32,
    bytes: usize,
}

impl Search<'_> {
    /// How many rows are asked for next.
    fn wanted(&self) -> u32 {
        let found = u32::try_from(self.found.records.len()).unwrap_or(u32::MAX);
        let wanted = self.query.limit.saturating_sub(found).saturating_add(self.offset).saturating_add(1);
        if self.query.filters.len() > 1 || self.found.used.is_none() { wanted.max(64) } else { wanted }.min(ROWS_MAX)
    }

    /// Takes what matches; whether that was enough.
    fn take(&mut self, page: Vec<Row>) -> Result<bool> {
        let mut last = None;
        for row in page {
            let place = place(row.value.as_ref(), &row.id);
            let full = self.found.records.len() >= self.query.limit as usize || self.bytes >= ANSWER_BYTES;
            if full || (self.left_out >= MAX_LEFT_OUT && !self.found.records.is_empty()) {
                // Where it was when it was full; there is at least this row after it.
                self.found.next = last.or_else(|| self.found.next.take());
                return Ok(true);
            }
            if self.left_out >= MAX_LEFT_OUT {
                return Err(self.refused());
            }
            self.found.scanned += 1;
            let matching = row.record.filter(|record| {
                let there = |filter: &Filter| passes(filter, &record.metadata);
                // A record may have been given another value since its row was read.
                let same = self.found.used.as_deref().zip(row.value.as_ref());
                self.query.filters.iter().all(there)
                    && same.is_none_or(|(name, value)| field(&record.metadata, name) == Some(value))
            });
            match matching {
                None => self.left_out += 1,
                Some(_) if self.offset > 0 => self.offset -= 1,
                Some(record) => {
                    self.bytes += size(&record);
                    self.found.records.push(record);
                }
            }
            last = Some(place);
        }
        // Kept for when the next page begins with what is too much.
        self.found.next = last;
        Ok(false)
    }

    fn refused(&self) -> Error {
        let fields: Vec<String> = self.query.filters.iter().map(|filter| format!("`{}`", filter.field)).collect();
        Error::Unindexed(format!(
            "{MAX_LEFT_OUT} records were looked at and none of them matched; declare an index on {}, or narrow the search",
            if fields.is_empty() { "a field of the filters".to_owned() } else { fields.join(" or ") }
        ))
    }
}

fn size(record: &Record) -> usize {
    let text = |field: &Field| if let Value::Text(text) = &field.value { text.len() } else { 8 };
    record.data.len() + record.metadata.iter().map(|field| field.name.len() + text(field)).sum::<usize>()
}

fn forged() -> Error {
    Error::Invalid("the place to go on after is none that this query gave".into())
}

fn place(value: Option<&Value>, id: &str) -> String {
    match value {
        Some(value) => format!("x{}.{id}", encode(value)),
        None => format!("i{id}"),
    }
}

fn place_of(index: &Index, place: &str) -> Result<(Value, String)> {
    let (form, id) = place.strip_prefix('x').and_then(|place| place.split_once('.')).ok_or_else(forged)?;
    Ok((decode(index.kind, form).ok_or_else(forged)?, id.to_owned()))
}

/// Whether all of a range comes before a value.
fn is_behind(range: &Range, value: &Value, descending: bool) -> bool {
    let (end, wanted) = if descending { (&range.lower, Ordering::Greater) } else { (&range.upper, Ordering::Less) };
    match end {
        Bound::Included(end) | Bound::Excluded(end) => compare(end, value) == Some(wanted),
        Bound::Unbounded => false,
    }
}

/// Whether a record's metadata passes.
fn passes(filter: &Filter, metadata: &[Field]) -> bool {
    let Some(held) = field(metadata, &filter.field) else { return false };
    let is = |value: &Value, wanted: &[Ordering]| compare(held, value).is_some_and(|order| wanted.contains(&order));
    match &filter.test {
        Test::Equals(value) => is(value, &[Ordering::Equal]),
        Test::Less(value) => is(value, &[Ordering::Less]),
        Test::AtMost(value) => is(value, &[Ordering::Less, Ordering::Equal]),
        Test::Greater(value) => is(value, &[Ordering::Greater]),
        Test::AtLeast(value) => is(value, &[Ordering::Greater, Ordering::Equal]),
        Test::AnyOf(values) => values.iter().any(|value| is(value, &[Ordering::Equal])),
        Test::StartsWith(prefix) => matches!(held, Value::Text(text) if text.starts_with(prefix)),
    }
}

fn plan<'a>(indexes: &'a [Index], query: &Query) -> Result<Plan<'a>> {
    let by_id = query.order_by == "id";
    if !by_id && !query.order_by.is_empty() {
        let index = indexes.iter().find(|index| index.field == query.order_by).ok_or_else(|| {
            let field = &query.order_by;
            Error::Unindexed(format!("records can't be ordered by `{field}`: declare an index on it"))
        })?;
        return Ok(ranges(index, query));
    }
    // The narrowest first; only one value of a field leaves the order of ids alone.
    let narrowness = |index: &Index| {
        let tests = query.filters.iter().filter(|filter| filter.field == index.field).map(|filter| &filter.test);
        tests
            .filter_map(|test| match test {
                Test::Equals(_) => Some(if index.unique { 0 } else { 1 }),
                Test::AnyOf(_) if !by_id => Some(2),
                _ if !by_id => Some(3),
                _ => None,
            })
            .min()
    };
    let best = indexes.iter().filter_map(|index| Some((narrowness(index)?, index))).min_by_key(|(narrow, _)| *narrow);
    Ok(best.map_or(Plan::Ids, |(_, index)| ranges(index, query)))
}

fn ranges<'a>(index: &'a Index, query: &Query) -> Plan<'a> {
    let mut range = Range { lower: Bound::Unbounded, upper: Bound::Unbounded };
    let mut single: Option<Vec<Value>> = None;
    for filter in query.filters.iter().filter(|filter| filter.field == index.field) {
        let of_kind = |value: &Value| kind(value) == index.kind;
        let bound = match &filter.test {
            Test::Equals(value)
            | Test::Less(value)
            | Test::AtMost(value)
            | Test::Greater(value)
            | Test::AtLeast(value)
                if !of_kind(value) =>
            {
                return Plan::Nothing;
            }
            Test::Equals(value) => {
                single = Some(vec![value.clone()]);
                continue;
            }
            Test::AnyOf(values) => {
                single.get_or_insert_with(|| values.iter().filter(|value| of_kind(value)).cloned().collect());
                continue;
            }
            Test::Less(value) => Range { lower: Bound::Unbounded, upper: Bound::Excluded(value.clone()) },
            Test::AtMost(value) => Range { lower: Bound::Unbounded, upper: Bound::Included(value.clone()) },
            Test::Greater(value) => Range { lower: Bound::Excluded(value.clone()), upper: Bound::Unbounded },
            Test::AtLeast(value) => Range { lower: Bound::Included(value.clone()), upper: Bound::Unbounded },
            Test::StartsWith(_) if index.kind != super::Kind::Text => return Plan::Nothing,
            Test::StartsWith(prefix) => Range {
                lower: Bound::Included(Value::Text(prefix.clone())),
                upper: successor(prefix).map_or(Bound::Unbounded, |next| Bound::Excluded(Value::Text(next))),
            },
        };
        range = narrowed(range, bound);
    }
    let Some(mut values) = single else { return Plan::Index(index, vec![range]) };
    values.sort_by(|a, b| compare(a, b).unwrap_or(Ordering::Equal));
    values.dedup();
    if query.descending {
        values.reverse();
    }
    let exactly = |value: Value| Range { lower: Bound::Included(value.clone()), upper: Bound::Included(value) };
    Plan::Index(index, values.into_iter().map(exactly).collect())
}

/// The least text that is greater than all that start with `prefix`.
fn successor(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(last as u32 + 1) };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

fn narrowed(a: Range, b: Range) -> Range {
    let tighter = |a: Bound<Value>, b: Bound<Value>, tighter: Ordering| match (&a, &b) {
        (Bound::Unbounded, _) => b,
        (_, Bound::Unbounded) => a,
        (Bound::Included(x) | Bound::Excluded(x), Bound::Included(y) | Bound::Excluded(y)) => match compare(y, x) {
            Some(order) if order == tighter => b,
            Some(Ordering::Equal) if matches!(b, Bound::Excluded(_)) => b,
            _ => a,
        },
    };
    Range { lower: tighter(a.lower, b.lower, Ordering::Greater), upper: tighter(a.upper, b.upper, Ordering::Less) }
}

#[cfg(test)]
mod tests;
