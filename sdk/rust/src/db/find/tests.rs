//! The search over a table in memory, against a filter over all of its records.

use proptest::prelude::*;

use super::*;
use crate::db::{Kind, Stamp};

/// Records, and how many rows are given at once at most.
struct Memory(Vec<Record>, u32);

impl Memory {
    fn page(&self, mut rows: Vec<Row>, after: impl Fn(&Row) -> bool, descending: bool, limit: u32) -> Result<Vec<Row>> {
        rows.sort_by(|a, b| {
            let values = a.value.as_ref().zip(b.value.as_ref()).and_then(|(a, b)| compare(a, b));
            values.unwrap_or(Ordering::Equal).then_with(|| a.id.cmp(&b.id))
        });
        if descending {
            rows.reverse();
        }
        rows.retain(after);
        rows.truncate(limit.min(self.1) as usize);
        Ok(rows)
    }

    fn row(&self, value: impl Fn(&Record) -> Option<Option<Value>>) -> Vec<Row> {
        let row = |record: &Record| {
            Some(Row { value: value(record)?, id: record.stamp.id.clone(), record: Some(record.clone()) })
        };
        self.0.iter().filter_map(row).collect()
    }
}

impl Rows for Memory {
    fn by_id(&mut self, after: Option<&str>, descending: bool, limit: u32) -> Result<Vec<Row>> {
        let later = |row: &Row| after.is_none_or(|after| if descending { *row.id < *after } else { *row.id > *after });
        self.page(self.row(|_| Some(None)), later, descending, limit)
    }

    fn by_index(
        &mut self, index: &Index, range: &Range, after: Option<(&Value, &str)>, descending: bool, limit: u32,
    ) -> Result<Vec<Row>> {
        let within = |value: &Value| {
            let lower = match &range.lower {
                Bound::Included(lower) => compare(value, lower) != Some(Ordering::Less),
                Bound::Excluded(lower) => compare(value, lower) == Some(Ordering::Greater),
                Bound::Unbounded => true,
            };
            lower
                && match &range.upper {
                    Bound::Included(upper) => compare(value, upper) != Some(Ordering::Greater),
                    Bound::Excluded(upper) => compare(value, upper) == Some(Ordering::Less),
                    Bound::Unbounded => true,
                }
        };
        let later = |row: &Row| {
            let (Some((value, id)), Some(held)) = (after, &row.value) else { return true };
            let order = compare(held, value).unwrap_or(Ordering::Equal).then_with(|| row.id.as_str().cmp(id));
            order == if descending { Ordering::Less } else { Ordering::Greater }
        };
        let rows =
            self.row(|record| Some(Some(field(&record.metadata, &index.field).filter(|value| within(value))?.clone())));
        self.page(rows, later, descending, limit)
    }
}

fn record(id: u32, age: Option<i8>, name: &str) -> Record {
    let mut metadata = vec![Field { name: "name".into(), value: Value::Text(name.into()) }];
    metadata.extend(age.map(|age| Field { name: "age".into(), value: Value::Number(age.into()) }));
    let stamp = Stamp { id: format!("{id:03}"), created_ns: 0, updated_ns: 0, revision: 1 };
    Record { stamp, metadata, data: Vec::new() }
}

fn filters() -> impl Strategy<Value = Filter> {
    let number = (-3_i8..4).prop_map(|number| Value::Number(number.into()));
    let name = "[ab]{0,2}";
    prop_oneof![
        number.clone().prop_map(|value| Filter { field: "age".into(), test: Test::Equals(value) }),
        number.clone().prop_map(|value| Filter { field: "age".into(), test: Test::Less(value) }),
        number.clone().prop_map(|value| Filter { field: "age".into(), test: Test::AtMost(value) }),
        number.clone().prop_map(|value| Filter { field: "age".into(), test: Test::Greater(value) }),
        number.clone().prop_map(|value| Filter { field: "age".into(), test: Test::AtLeast(value) }),
        proptest::collection::vec(number, 1..4)
            .prop_map(|values| Filter { field: "age".into(), test: Test::AnyOf(values) }),
        name.prop_map(|text| Filter { field: "name".into(), test: Test::StartsWith(text) }),
        name.prop_map(|text| Filter { field: "name".into(), test: Test::Equals(Value::Text(text)) }),
    ]
}

proptest! {
    #[test]
    fn pages_hold_what_matches_once_and_in_order(
        ages in proptest::collection::vec((proptest::option::of(-3_i8..4), "[ab]{0,3}"), 0..40),
        filters in proptest::collection::vec(filters(), 0..4),
        order in prop_oneof![Just(""), Just("id"), Just("age"), Just("name")],
        (indexed, descending) in any::<(u8, bool)>(), limit in 1_u32..6, offset in 0_u32..5, at_once in 1_u32..9,
    ) {
        let records: Vec<Record> = (0..).zip(&ages).map(|(id, (age, name))| record(id, *age, name)).collect();
        let both = [("age", Kind::Number), ("name", Kind::Text)];
        let indexes: Vec<Index> = both
            .into_iter()
            .enumerate()
            .filter(|(bit, (field, _))| order == *field || indexed & (1 << bit) != 0)
            .map(|(_, (field, kind))| Index { field: field.into(), kind, unique: false })
            .collect();
        let mut query = Query {
            filters, order_by: order.to_owned(), descending, offset, limit, after: None,
        };
        let mut rows = Memory(records.clone(), at_once);
        let (mut found, mut pages) = (Vec::new(), 0);
        let used = loop {
            let page = search(&mut rows, &indexes, &query).unwrap();
            prop_assert!(page.records.len() <= limit as usize);
            found.extend(page.records);
            pages += 1;
            prop_assert!(pages < 100);
            match page.next {
                Some(next) => query.after = Some(next),
                None => break page.used,
            }
        };
        let by = used.unwrap_or_default();
        let mut expected: Vec<Record> = records
            .into_iter()
            .filter(|record| query.filters.iter().all(|filter| passes(filter, &record.metadata)))
            .filter(|record| order.is_empty() || order == "id" || field(&record.metadata, order).is_some())
            .collect();
        expected.sort_by(|a, b| {
            let values = field(&a.metadata, &by).zip(field(&b.metadata, &by)).and_then(|(a, b)| compare(a, b));
            values.unwrap_or(Ordering::Equal).then_with(|| a.stamp.id.cmp(&b.stamp.id))
        });
        if descending {
            expected.reverse();
        }
        let expected: Vec<String> = expected.into_iter().skip(offset as usize).map(|record| record.stamp.id).collect();
        let found: Vec<String> = found.into_iter().map(|record| record.stamp.id).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_search_that_leaves_too_much_out_is_refused() {
    let records: Vec<Record> = (0..=MAX_LEFT_OUT).map(|id| record(id, None, "a")).collect();
    let filters = vec![Filter { field: "name".into(), test: Test::Equals(Value::Text("b".into())) }];
    let query = Query { filters, order_by: String::new(), descending: false, offset: 0, limit: 1, after: None };
    let found = search(&mut Memory(records, 1000), &[], &query);
    assert!(matches!(found, Err(Error::Unindexed(why)) if why.contains("`name`")));
}

#[test]
fn what_follows_a_prefix_is_no_surrogate_and_no_end() {
    assert_eq!(successor("a\u{d7ff}").as_deref(), Some("a\u{e000}"));
    assert_eq!(successor("a\u{10ffff}").as_deref(), Some("b"));
    assert_eq!(successor("\u{10ffff}"), None);
}

#[test]
fn forged_places_are_refused() {
    let index = Index { field: "age".into(), kind: Kind::Number, unique: false };
    for place in ["", "x", "i", "xzz.a", "x00", "x8000000000000000"] {
        assert!(place_of(&index, place).is_err(), "{place}");
    }
    assert!(place_of(&index, "xbff0000000000000.a.b").is_ok());
}
