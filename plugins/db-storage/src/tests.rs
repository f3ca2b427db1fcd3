//! What the store promises beyond its table, against the native stand-in for storage: indexes agree with records.

use std::collections::BTreeSet;

use platform_sdk::db::{Action, Content, Field, Kind, Test, Value, field};

use super::*;

const PLACE: Place<'static> = Place { database: "shop", table: "orders" };

fn index(field: &str, kind: Kind, unique: bool) -> Index {
    Index { field: field.into(), kind, unique }
}

fn put(id: &str, fields: &[(&str, Value)]) -> Write {
    let metadata = fields.iter().map(|(name, value)| Field { name: (*name).into(), value: value.clone() }).collect();
    let action = Action::Put(Content { metadata, data: id.as_bytes().to_vec() });
    Write { table: "orders".into(), id: id.into(), condition: platform_sdk::db::Condition::Always, action }
}

fn delete(id: &str) -> Write {
    let condition = platform_sdk::db::Condition::Always;
    Write { table: "orders".into(), id: id.into(), condition, action: Action::Delete }
}

fn commit(writes: Vec<Write>) -> Result<Vec<Option<Stamp>>> {
    Durable.commit("shop", writes)
}

fn declare(indexes: Vec<Index>) -> Result<()> {
    let mut ready = Durable.declare("shop", "orders", indexes)?.ready;
    while !ready {
        ready = Durable.build("shop", "orders")?;
    }
    Ok(())
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// Every key that the records and the declaration call for, and no other.
fn assert_agrees() {
    let (declared, _) = declaration(PLACE).unwrap().unwrap();
    assert!(declared.ready());
    let mut wanted = BTreeSet::from([PLACE.declaration()]);
    for entry in TABLE.scan("r/", None, 1000).unwrap() {
        let id = entry.key.strip_prefix("r/shop/orders/").unwrap();
        let record = read(id, &entry).unwrap();
        wanted.extend([entry.key.clone(), PLACE.back(id)]);
        for held in &declared.indexes {
            if let Some(value) = field(&record.metadata, &held.index.field) {
                wanted.extend(PLACE.entries(held.number, value, id));
                if held.index.unique {
                    wanted.insert(PLACE.owner(held.number, value));
                }
            }
        }
    }
    let found: BTreeSet<String> = TABLE.scan("", None, 1000).unwrap().into_iter().map(|entry| entry.key).collect();
    assert_eq!(found, wanted);
}

#[test]
fn indexes_agree_with_records_whatever_is_written() {
    let fields = |n: u64| {
        let mut fields = vec![("total", Value::Number((n % 7) as f64 - 3.0))];
        if !n.is_multiple_of(3) {
            fields.push(("mail", text(&format!("m{n}"))));
        }
        fields
    };
    for n in 0..20 {
        commit(vec![put(&format!("a{}", n % 9), &fields(n)), put(&format!("b{n}"), &fields(n + 100))]).unwrap();
    }
    declare(vec![index("total", Kind::Number, false), index("mail", Kind::Text, true)]).unwrap();
    assert_agrees();
    for n in 20..40 {
        commit(vec![put(&format!("a{}", n % 9), &fields(n)), delete(&format!("b{}", n - 20))]).unwrap();
        assert_agrees();
    }
    declare(vec![index("total", Kind::Number, true)]).unwrap_err();
    declare(vec![index("mail", Kind::Text, false)]).unwrap();
    assert_agrees();
    while !Durable.drop_table("shop", "orders").unwrap() {}
    assert!(TABLE.scan("", None, 10).unwrap().is_empty());
}

#[test]
fn a_unique_value_moves_within_a_transaction() {
    declare(vec![index("mail", Kind::Text, true)]).unwrap();
    commit(vec![put("a", &[("mail", text("x"))])]).unwrap();
    let met = commit(vec![put("b", &[("mail", text("x"))])]).unwrap_err();
    assert!(matches!(met, Error::Duplicate(met) if met.id == "a" && met.field == "mail"));
    commit(vec![put("b", &[("mail", text("x"))]), put("a", &[("mail", text("y"))])]).unwrap();
    commit(vec![put("c", &[("mail", text("x"))]), delete("b")]).unwrap();
    commit(vec![put("d", &[("mail", text("z"))]), put("e", &[("mail", text("z"))])]).unwrap_err();
    assert_agrees();
}

#[test]
fn an_index_that_a_record_can_not_be_in_is_given_up() {
    commit(vec![put("a", &[("mail", text("x"))]), put("b", &[("mail", text("x"))])]).unwrap();
    assert!(matches!(declare(vec![index("mail", Kind::Text, true)]), Err(Error::Duplicate(_))));
    assert!(matches!(declare(vec![index("mail", Kind::Number, false)]), Err(Error::Invalid(_))));
    while !Durable.build("shop", "orders").unwrap() {}
    assert_agrees();
    assert!(declaration(PLACE).unwrap().unwrap().0.indexes.is_empty());
}

#[test]
fn both_ways_through_an_index() {
    declare(vec![index("name", Kind::Text, false)]).unwrap();
    for name in ["", "a", "ab", "abc", "b", "ü", "a.b", "~"] {
        commit(vec![
            put(&format!("1{name}"), &[("name", text(name))]),
            put(&format!("2{name}"), &[("name", text(name))]),
        ])
        .unwrap();
    }
    let find = |test: Test, descending| {
        let filters = vec![platform_sdk::db::Filter { field: "name".into(), test }];
        let query = Query { filters, order_by: "name".into(), descending, offset: 0, limit: 100, after: None };
        let found = Durable.find("shop", "orders", &query).unwrap();
        found.records.into_iter().map(|record| record.stamp.id).collect::<Vec<_>>()
    };
    for descending in [false, true] {
        let turned = |mut ids: Vec<&str>| {
            if descending {
                ids.reverse();
            }
            ids.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(find(Test::StartsWith("ab".into()), descending), turned(vec!["1ab", "2ab", "1abc", "2abc"]));
        assert_eq!(find(Test::Less(text("a.b")), descending), turned(vec!["1", "2", "1a", "2a"]));
        assert_eq!(find(Test::AtMost(text("a")), descending), turned(vec!["1", "2", "1a", "2a"]));
        assert_eq!(find(Test::Greater(text("b")), descending), turned(vec!["1~", "2~", "1ü", "2ü"]));
        assert_eq!(find(Test::AtLeast(text("~")), descending), turned(vec!["1~", "2~", "1ü", "2ü"]));
        assert_eq!(find(Test::AnyOf(vec![text("b"), text("")]), descending), turned(vec!["1", "2", "1b", "2b"]));
    }
}
