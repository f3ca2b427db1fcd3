//! The door: names, keys, values and batches are within their limits before anything else happens.
//!
//! Owns every rule about what may be stored; must not know how it is stored. Invariant: what passes here is never
//! refused for its form later.

use std::collections::HashSet;

use bytes::Bytes;

use crate::{
    Change, Error, Item, MAX_COMMIT_BYTES, MAX_COMMIT_WRITES, MAX_KEY_BYTES, MAX_LIMIT, MAX_NAME_BYTES,
    MAX_VALUE_BYTES, Result, Scope, Write, codec,
};

/// Most characters of a refused name that an error repeats.
const SHOWN: usize = 64;

/// The stored name of `table` in `scope`.
pub(crate) fn table(scope: &Scope, table: &str) -> Result<Vec<u8>> {
    named(codec::Kind::Table, "table", scope, table)
}

/// The stored name of `journal` in `scope`.
pub(crate) fn journal(scope: &Scope, journal: &str) -> Result<Vec<u8>> {
    named(codec::Kind::Journal, "journal", scope, journal)
}

fn named(kind: codec::Kind, what: &str, scope: &Scope, name: &str) -> Result<Vec<u8>> {
    text("owner", &scope.owner, MAX_NAME_BYTES)?;
    text(what, name, MAX_NAME_BYTES)?;
    // Calls that come without a namespace have an empty one.
    if !scope.namespace.is_empty() {
        text("namespace", &scope.namespace, MAX_NAME_BYTES)?;
    }
    Ok(codec::name(kind, scope, name))
}

/// A key that may be stored.
pub(crate) fn key(key: &str) -> Result<()> {
    text("key", key, MAX_KEY_BYTES)
}

/// A prefix that some key can start with.
pub(crate) fn prefix(prefix: &str) -> Result<()> {
    if prefix.is_empty() { Ok(()) } else { text("prefix", prefix, MAX_KEY_BYTES) }
}

/// The limit of an answer, cut to the largest.
pub(crate) fn limit(limit: usize) -> Result<usize> {
    if limit == 0 {
        return Err(Error::Invalid(format!("limit `0` asks for nothing; use 1 to {MAX_LIMIT}")));
    }
    Ok(limit.min(MAX_LIMIT))
}

/// The writes of one commit; their bytes.
pub(crate) fn writes(writes: &[Write]) -> Result<usize> {
    let mut bytes = 0;
    let mut keys = Vec::with_capacity(count("writes", writes.len())?);
    for write in writes {
        let (written, size, ttl) = match write {
            Write::Put { key, value, ttl, .. } => (key, value.len(), *ttl),
            Write::Replace { key, value, .. } => (key, value.len(), None),
            Write::Delete { key, .. } | Write::Check { key, .. } => (key, 0, None),
            Write::Touch { key, ttl } => (key, 0, *ttl),
        };
        key(written)?;
        if ttl.is_some_and(|ttl| ttl.as_millis() == 0) {
            return Err(Error::Invalid(format!(
                "time to live of key `{}` is below 1 ms; leave it out for a key that stays",
                shown(written)
            )));
        }
        bytes += written.len() + value("value", size)?;
        keys.push(written.as_str());
    }
    keys.sort_unstable();
    if let Some(twice) = keys.windows(2).find_map(|pair| if let [a, b] = pair { (a == b).then_some(a) } else { None }) {
        return Err(Error::Invalid(format!("key `{}` is written twice in one commit; use two commits", shown(twice))));
    }
    total(bytes)
}

/// Rows that come from another storage; their bytes.
pub(crate) fn rows(rows: &[Change]) -> Result<usize> {
    let mut bytes = 0;
    let mut keys = HashSet::with_capacity(count("rows", rows.len())?);
    for row in rows {
        key(row.key())?;
        let size = if let Change::Put(entry) = row { entry.value.len() } else { 0 };
        bytes += row.key().len() + value("value", size)?;
        if !keys.insert(row.key()) {
            return Err(Error::Invalid(format!("key `{}` is restored twice at once", shown(row.key()))));
        }
    }
    total(bytes)
}

/// Items that come from another storage; their bytes.
pub(crate) fn restored(first: u64, items: &[Item]) -> Result<usize> {
    let mut bytes = 0;
    let mut before: Option<&Item> = None;
    for item in items {
        let follows = before.is_none_or(|before| {
            before.sequence.checked_add(1) == Some(item.sequence) && before.time_ns <= item.time_ns
        });
        if item.sequence < first.max(1) || !follows {
            return Err(Error::Invalid(format!("item {} does not follow the one before it", item.sequence)));
        }
        before = Some(item);
        bytes += value("item", item.data.len())?;
    }
    count("items", items.len())?;
    total(bytes)
}

/// Keys that are read together.
pub(crate) fn keys(keys: &[&str]) -> Result<()> {
    if !(1..=MAX_LIMIT).contains(&keys.len()) {
        let why = format!("{} keys at once; read 1 to {MAX_LIMIT}", keys.len());
        return Err(if keys.is_empty() { Error::Invalid(why) } else { Error::TooLarge(why) });
    }
    keys.iter().try_for_each(|one| key(one))
}

/// The items of one append; their bytes.
pub(crate) fn items(items: &[Bytes]) -> Result<usize> {
    if count("items", items.len())? == 0 {
        return Err(Error::Invalid("an append needs at least one item".to_owned()));
    }
    let mut bytes = 0;
    for item in items {
        bytes += value("item", item.len())?;
    }
    total(bytes)
}

fn count(what: &str, count: usize) -> Result<usize> {
    if count > MAX_COMMIT_WRITES {
        return Err(Error::TooLarge(format!("{count} {what} at once; the limit is {MAX_COMMIT_WRITES}, split them")));
    }
    Ok(count)
}

fn value(what: &str, bytes: usize) -> Result<usize> {
    if bytes > MAX_VALUE_BYTES {
        return Err(Error::TooLarge(format!("{what} of {bytes} bytes; the limit is {MAX_VALUE_BYTES}")));
    }
    Ok(bytes)
}

fn total(bytes: usize) -> Result<usize> {
    if bytes > MAX_COMMIT_BYTES {
        return Err(Error::TooLarge(format!("{bytes} bytes at once; the limit is {MAX_COMMIT_BYTES}, split them")));
    }
    Ok(bytes)
}

fn text(what: &str, text: &str, most: usize) -> Result<()> {
    if text.is_empty() {
        return Err(Error::Invalid(format!("the {what} is empty; it needs 1 to {most} bytes")));
    }
    if text.len() > most {
        return Err(Error::TooLarge(format!("{what} `{}` has {} bytes; the limit is {most}", shown(text), text.len())));
    }
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Err(Error::Invalid(format!(
            "{what} `{}` holds the control character U+{:04X}; leave it out",
            shown(text),
            u32::from(control)
        )));
    }
    Ok(())
}

fn shown(text: &str) -> String {
    let start: String = text.chars().take(SHOWN).flat_map(char::escape_default).collect();
    if text.chars().nth(SHOWN).is_some() { start + "…" } else { start }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Condition;

    fn put(key: &str, bytes: usize) -> Write {
        Write::Put { key: key.into(), value: vec![0; bytes].into(), condition: Condition::Always, ttl: None }
    }

    #[test]
    fn limits_are_inclusive() {
        assert_eq!(writes(&[put(&"k".repeat(MAX_KEY_BYTES), MAX_VALUE_BYTES)]), Ok(MAX_KEY_BYTES + MAX_VALUE_BYTES));
        assert!(matches!(writes(&[put(&"k".repeat(MAX_KEY_BYTES + 1), 0)]), Err(Error::TooLarge(_))));
        assert!(matches!(writes(&[put("k", MAX_VALUE_BYTES + 1)]), Err(Error::TooLarge(_))));
        let many: Vec<_> = (0..=MAX_COMMIT_WRITES).map(|n| put(&format!("{n}"), 0)).collect();
        assert!(matches!(writes(&many), Err(Error::TooLarge(_))));
        assert!(writes(&many[1..]).is_ok());
        let heavy = [put("a", MAX_VALUE_BYTES), put("b", MAX_VALUE_BYTES)];
        assert!(matches!(writes(&heavy), Err(Error::TooLarge(_))), "the keys push it over");
    }

    #[test]
    fn forms_are_refused_by_name() {
        let touch = Write::Touch { key: "lease".into(), ttl: Some(Duration::from_micros(900)) };
        let refused = |result: Result<usize>| result.unwrap_err().to_string();
        assert!(refused(writes(&[touch])).contains("`lease`"));
        assert!(refused(writes(&[put("a", 1), put("b", 1), put("a", 1)])).contains("`a` is written twice"));
        assert!(refused(writes(&[put("line\nbreak", 1)])).contains("U+000A"));
        assert!(refused(items(&[])).contains("at least one"));
        assert_eq!(limit(0).unwrap_err(), Error::Invalid("limit `0` asks for nothing; use 1 to 1000".into()));
        assert_eq!(limit(usize::MAX), Ok(MAX_LIMIT));
    }

    #[test]
    fn errors_repeat_the_start_of_long_names_only() {
        let message = key(&"é".repeat(5000)).unwrap_err().to_string();
        assert!(message.len() < 600, "{message}");
    }

    #[test]
    fn scopes_and_names_do_not_run_together() {
        let one = table(&Scope::new("a", "b"), "c").unwrap();
        assert_ne!(one, table(&Scope::new("a", "bc"), "c").unwrap());
        assert_ne!(one, journal(&Scope::new("a", "b"), "c").unwrap());
        assert!(table(&Scope::new("a\0b", "c"), "d").is_err());
        assert!(table(&Scope::new("", "c"), "d").is_err());
        assert!(table(&Scope::new("a", ""), "d").is_ok());
    }
}
