//! Merging: JSON Merge Patch (RFC 7386).

use serde_json::{Map, Value};

use crate::secret;

/// Merges `patch` into `target`: objects member by member, a null removes, everything else replaces.
pub fn merge(target: &mut Value, patch: Value) {
    if secret(&patch).is_some() {
        *target = patch;
        return;
    }
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() || secret(target).is_some() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_replaced_as_a_whole() {
        for (patch, expected) in
            [(json!({"b": 1}), json!({"b": 1})), (json!({"$secret": "y"}), json!({"$secret": "y"}))]
        {
            let mut target = json!({"$secret": "x"});
            merge(&mut target, patch);
            assert_eq!(target, expected);
        }
        let mut target = json!({"a": 1});
        merge(&mut target, json!({"$secret": "y"}));
        assert_eq!(target, json!({"$secret": "y"}));
    }

    #[test]
    fn the_examples_of_rfc_7386() {
        for (target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut merged = target.clone();
            merge(&mut merged, patch.clone());
            assert_eq!(merged, expected, "{target} with {patch}");
        }
    }
}
