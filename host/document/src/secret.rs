//! Secret values: an object whose only member is `$secret` stands for a value that is not shown.
//!
//! Must not know how values are encrypted. Invariant: such an object is one value: no path, difference or merge leads into it.

use serde_json::Value;

use crate::Pointer;

/// The one member of an object that stands for a secret value.
pub const SECRET: &str = "$secret";

/// What stands for a secret value; none for any other.
#[must_use]
pub fn secret(value: &Value) -> Option<&Value> {
    match value {
        Value::Object(members) if members.len() == 1 => members.get(SECRET),
        _ => None,
    }
}

/// Whether a value holds an object with a member of that name, in any form.
#[must_use]
pub fn mentions_secret(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.contains_key(SECRET) || members.values().any(mentions_secret),
        Value::Array(items) => items.iter().any(mentions_secret),
        _ => false,
    }
}

/// Replaces what stands for secret values, wherever it is.
///
/// # Errors
/// The first of `replace`; the value is then half changed.
pub fn replace_secrets<E>(value: &mut Value, replace: &mut impl FnMut(&Value) -> Result<Value, E>) -> Result<(), E> {
    if let Some(found) = secret(value) {
        *value = replace(found)?;
        return Ok(());
    }
    match value {
        Value::Object(members) => members.values_mut().try_for_each(|member| replace_secrets(member, replace)),
        Value::Array(items) => items.iter_mut().try_for_each(|item| replace_secrets(item, replace)),
        _ => Ok(()),
    }
}

/// Where a value holds secrets.
#[must_use]
pub fn secret_places(value: &Value) -> Vec<Pointer> {
    fn look(at: &Pointer, value: &Value, found: &mut Vec<Pointer>) {
        match value {
            _ if secret(value).is_some() => found.push(at.clone()),
            Value::Object(members) => members.iter().for_each(|(name, member)| look(&at.child(name), member, found)),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(place, item)| look(&at.child(place.to_string()), item, found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    look(&Pointer::default(), value, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_found_wherever_they_are() {
        let mut value = json!({"a": {"$secret": 1}, "b": [{"$secret": 2}, {"c": 3}], "d": {"$secret": 4, "e": 5}});
        assert!(mentions_secret(&value));
        assert_eq!(secret_places(&value), ["/a".parse().unwrap(), "/b/0".parse().unwrap()]);
        let mut found = Vec::new();
        replace_secrets(&mut value, &mut |secret| {
            found.push(secret.clone());
            Ok::<_, ()>(json!("gone"))
        })
        .unwrap();
        assert_eq!(found, [json!(1), json!(2)]);
        assert_eq!(value, json!({"a": "gone", "b": ["gone", {"c": 3}], "d": {"$secret": 4, "e": 5}}));
        assert!(!mentions_secret(&json!({"a": ["$secret"]})));
    }
}
