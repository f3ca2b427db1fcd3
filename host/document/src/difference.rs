//! What differs between two documents: as a patch that leads from one to the other, and as the places that differ.

use std::collections::BTreeSet;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::{Pointer, secret};

/// Most places that are told; ancestors stand for them where there would be more.
const PLACES_MAX: usize = 64;
/// Most bytes of places that are told.
const PLACES_BYTES_MAX: usize = 4 << 10;

/// One step of a JSON Patch (RFC 6902).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Something new.
    Add {
        /// Where.
        #[serde(serialize_with = "text")]
        path: Pointer,
        /// What.
        value: Value,
    },
    /// Something that goes.
    Remove {
        /// Where.
        #[serde(serialize_with = "text")]
        path: Pointer,
    },
    /// Something else in its place.
    Replace {
        /// Where.
        #[serde(serialize_with = "text")]
        path: Pointer,
        /// What.
        value: Value,
    },
}

fn text<S: Serializer>(pointer: &Pointer, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(pointer)
}

/// The steps that lead from one document to another; none when they are the same.
#[must_use]
pub fn difference(before: Option<&Value>, after: Option<&Value>) -> Vec<Operation> {
    let path = Pointer::default();
    let mut steps = Vec::new();
    match (before, after) {
        (Some(before), Some(after)) => walk(&path, before, after, &mut steps),
        (None, Some(after)) => steps.push(Operation::Add { path, value: after.clone() }),
        (Some(_), None) => steps.push(Operation::Remove { path }),
        (None, None) => {}
    }
    steps
}

fn walk(path: &Pointer, before: &Value, after: &Value, steps: &mut Vec<Operation>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) if !is_secret(before) && !is_secret(after) => {
            let gone = old.keys().filter(|name| !new.contains_key(*name));
            steps.extend(gone.map(|name| Operation::Remove { path: path.child(name) }));
            for (name, value) in new {
                match old.get(name) {
                    Some(old) => walk(&path.child(name), old, value, steps),
                    None => steps.push(Operation::Add { path: path.child(name), value: value.clone() }),
                }
            }
        }
        (Value::Array(old), Value::Array(new)) => walk_items(path, old, new, steps),
        (old, new) if old == new => {}
        (_, new) => steps.push(Operation::Replace { path: path.clone(), value: new.clone() }),
    }
}

fn is_secret(value: &Value) -> bool {
    secret(value).is_some()
}

/// What both ends have in common stays; between them items are compared one by one.
fn walk_items(path: &Pointer, old: &[Value], new: &[Value], steps: &mut Vec<Operation>) {
    let start = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old, new) = (old.get(start..).unwrap_or_default(), new.get(start..).unwrap_or_default());
    let end = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old, new) = (old.get(..old.len() - end).unwrap_or_default(), new.get(..new.len() - end).unwrap_or_default());
    let both = old.len().min(new.len());
    let at = |place: usize| path.child((start + place).to_string());
    for (place, (old, new)) in old.iter().zip(new).enumerate() {
        walk(&at(place), old, new, steps);
    }
    // From the end, so that each step finds its place where the document before has it.
    steps.extend((both..old.len()).rev().map(|place| Operation::Remove { path: at(place) }));
    let added = new.iter().enumerate().skip(both);
    steps.extend(added.map(|(place, value)| Operation::Add { path: at(place), value: value.clone() }));
}

/// The places whose value differs, the deepest that say it, in order. At most 64: where there would be more, ancestors
/// stand for them, whose values differ as well. An array that got longer or shorter is one place.
#[must_use]
pub fn touched(before: Option<&Value>, after: Option<&Value>) -> Vec<Pointer> {
    let mut places = Vec::new();
    match (before, after) {
        (Some(before), Some(after)) => places_of(&Pointer::default(), before, after, &mut places),
        (None, None) => {}
        _ => places.push(Pointer::default()),
    }
    let mut levels = places.iter().map(Pointer::levels).max().unwrap_or_default();
    loop {
        let coarse: BTreeSet<Pointer> = places.iter().map(|place| place.ancestor(levels)).collect();
        let bytes: usize = coarse.iter().map(|place| place.to_string().len()).sum();
        if levels == 0 || (coarse.len() <= PLACES_MAX && bytes <= PLACES_BYTES_MAX) {
            return coarse.into_iter().collect();
        }
        levels -= 1;
    }
}

fn places_of(path: &Pointer, before: &Value, after: &Value, places: &mut Vec<Pointer>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) if !is_secret(before) && !is_secret(after) => {
            places.extend(old.keys().filter(|name| !new.contains_key(*name)).map(|name| path.child(name)));
            for (name, value) in new {
                match old.get(name) {
                    Some(old) => places_of(&path.child(name), old, value, places),
                    None => places.push(path.child(name)),
                }
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (place, (old, new)) in old.iter().zip(new).enumerate() {
                places_of(&path.child(place.to_string()), old, new, places);
            }
        }
        (old, new) if old == new => {}
        _ => places.push(path.clone()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    /// Takes the steps as RFC 6902 says.
    fn apply(document: &mut Value, steps: &[Operation]) {
        for step in steps {
            match step {
                Operation::Remove { path } => assert!(path.remove(document).is_some(), "{path}"),
                Operation::Replace { path, value } => {
                    assert!(path.get(document).is_some(), "{path}");
                    path.set(document, value.clone()).unwrap();
                }
                Operation::Add { path, value } => {
                    let parent = path.ancestor(path.levels() - 1);
                    if let Some(Value::Array(items)) = parent.get(document) {
                        let text = path.to_string();
                        let place: usize = text.rsplit('/').next().unwrap().parse().unwrap();
                        let mut items = items.clone();
                        items.insert(place, value.clone());
                        parent.set(document, Value::Array(items)).unwrap();
                    } else {
                        path.set(document, value.clone()).unwrap();
                    }
                }
            }
        }
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::Bool), (0..4_i64).prop_map(Value::from)];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::btree_map("[a-d/~]", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    #[test]
    fn steps_are_small_and_in_the_form_of_rfc_6902() {
        let before = json!({"a": {"b": 1, "c": 2}, "list": [1, 2, 3, 4], "gone": true});
        let after = json!({"a": {"b": 1, "c": 3}, "list": [1, 3, 4], "new": null});
        let steps = serde_json::to_value(difference(Some(&before), Some(&after))).unwrap();
        let expected = json!([
            {"op": "remove", "path": "/gone"},
            {"op": "replace", "path": "/a/c", "value": 3},
            {"op": "remove", "path": "/list/1"},
            {"op": "add", "path": "/new", "value": null},
        ]);
        assert_eq!(steps, expected);
        assert_eq!(difference(Some(&before), Some(&before)), []);
    }

    #[test]
    fn a_secret_is_one_value() {
        let (before, after) = (json!({"a": {"$secret": "x"}}), json!({"a": {"$secret": "y"}}));
        assert_eq!(touched(Some(&before), Some(&after)), ["/a".parse().unwrap()]);
        let steps = serde_json::to_value(difference(Some(&before), Some(&after))).unwrap();
        assert_eq!(steps, json!([{"op": "replace", "path": "/a", "value": {"$secret": "y"}}]));
    }

    #[test]
    fn many_places_become_their_ancestors() {
        let wide = |value: i64| {
            let members = |_| (0..50).map(|name| (name.to_string(), json!(value))).collect::<Map<_, _>>();
            json!({"a": members(()), "b": {"c": members(())}, "same": 1})
        };
        let places: Vec<_> = touched(Some(&wide(1)), Some(&wide(2))).iter().map(ToString::to_string).collect();
        assert_eq!(places.len(), 51, "{places:?}");
        assert!(places.contains(&"/b/c".to_owned()) && !places.contains(&"/same".to_owned()));
        assert_eq!(touched(None, Some(&json!(1))), [Pointer::default()]);
    }

    proptest! {
        #[test]
        fn steps_lead_from_one_to_the_other(before in document(), after in document()) {
            let mut walked = before.clone();
            apply(&mut walked, &difference(Some(&before), Some(&after)));
            prop_assert_eq!(walked, after);
        }

        /// What watches of a path stand on: a told place differs, and what lies beside all told places does not.
        #[test]
        fn places_differ_and_others_do_not(before in document(), after in document(), path in "(/[a-d0-3]){0,3}") {
            let places = touched(Some(&before), Some(&after));
            for place in &places {
                prop_assert_ne!(place.get(&before), place.get(&after), "{}", place);
            }
            let path: Pointer = path.parse().unwrap();
            let beside = !places.iter().any(|place| place.holds(&path) || path.holds(place));
            prop_assert!(!beside || path.get(&before) == path.get(&after));
        }
    }
}
