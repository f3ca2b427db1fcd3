//! `kv.store` over the platform's durable tables. It owns the difference between the two contracts: expiry that is
//! kept, deletions that say whether there was something, and increments. Everything else passes through.
//!
//! Its invariant: every write is one commit whose condition holds at that commit, so what it answers is what happened.

use platform_sdk::{
    Problem, context, export,
    kv::{
        Change, Condition, Entry, Error, Expiry, Result, Store, check_expiry, check_key, check_limit, check_value,
        number,
    },
    storage::{self, Table},
};

/// The entries of a namespace; storage keeps namespaces apart.
const ENTRIES: Table = Table::new("entries");

/// How often a write that depends on what it read is tried again when another write came between.
const TRIES: u32 = 64;

/// The store has no state of its own.
struct Durable;

export!(kv::Store for Durable, mode = "reused", grants = ["storage"]);

impl Store for Durable {
    type Settings = ();

    fn configure((): ()) -> std::result::Result<Self, Problem> {
        Ok(Self)
    }

    fn self_test(&mut self) -> std::result::Result<(), Problem> {
        ENTRIES.revision().map(drop).map_err(|error| Problem::new(format!("storage does not answer: {error}")))
    }

    fn get(&mut self, key: &str) -> Result<Option<Entry>> {
        check_key(key)?;
        Ok(ENTRIES.get(key)?.map(entry))
    }

    fn put(&mut self, key: &str, value: Vec<u8>, condition: Condition, expiry: Expiry) -> Result<u64> {
        check_key(key)?;
        check_value(&value)?;
        check_expiry(expiry)?;
        let ttl_ms = match expiry {
            Expiry::Never => None,
            Expiry::AfterMs(ttl) => Some(ttl),
            Expiry::Keep => return put_keeping_expiry(key, &value, condition),
        };
        Ok(ENTRIES.put(key, &value, condition.into(), ttl_ms)?)
    }

    fn delete(&mut self, key: &str, condition: Condition) -> Result<Option<u64>> {
        check_key(key)?;
        if condition == Condition::Absent {
            // Nothing can be deleted when it holds; only what it says about the key is asked.
            return match ENTRIES.get(key)? {
                None => Ok(None),
                Some(found) => Err(Error::Conflict(found.revision)),
            };
        }
        let wanted = if condition == Condition::Always { Condition::Present } else { condition };
        match ENTRIES.delete(key, wanted.into()) {
            Ok(revision) => Ok(Some(revision)),
            Err(storage::Error::Conflict(_)) if condition == Condition::Always => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn increment(&mut self, key: &str, by: i64) -> Result<i64> {
        check_key(key)?;
        for _ in 0..TRIES {
            let found = ENTRIES.get(key)?;
            let old = found.as_ref().map_or(Ok(0), |found| number(&found.value))?;
            let new = old
                .checked_add(by)
                .ok_or_else(|| Error::Invalid(format!("{old} plus {by} does not fit in 64 bits")))?;
            match replace(key, new.to_string().as_bytes(), found.as_ref()) {
                Err(Error::Conflict(_)) => {}
                done => return done.map(|_| new),
            }
        }
        Err(contended(key))
    }

    fn scan(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<(String, Entry)>> {
        let found = ENTRIES.scan(prefix, after, check_limit(limit)?)?;
        Ok(found.into_iter().map(keyed).collect())
    }

    fn changes(&mut self, prefix: &str, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Change>> {
        let found = ENTRIES.changes(prefix, after, check_limit(limit)?, wait_ms)?;
        Ok(found.into_iter().map(change).collect())
    }

    fn revision(&mut self) -> Result<u64> {
        Ok(ENTRIES.revision()?)
    }
}

/// Writes a value under the expiry that the key has. The table takes a time to live with each write, so the entry is
/// read first and written only if it is still the same.
fn put_keeping_expiry(key: &str, value: &[u8], condition: Condition) -> Result<u64> {
    for _ in 0..TRIES {
        let found = ENTRIES.get(key)?;
        let revision = found.as_ref().map_or(0, |found| found.revision);
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => found.is_none(),
            Condition::Present => found.is_some(),
            Condition::At(wanted) => wanted == revision,
        };
        if !holds {
            return Err(Error::Conflict(revision));
        }
        match replace(key, value, found.as_ref()) {
            Err(Error::Conflict(_)) => {}
            done => return done,
        }
    }
    Err(contended(key))
}

/// Writes a value if the key still holds what was found, for as long as that had to live.
fn replace(key: &str, value: &[u8], found: Option<&storage::Entry>) -> Result<u64> {
    let condition = found.map_or(storage::Condition::Absent, |found| storage::Condition::At(found.revision));
    let expires_ms = found.and_then(|found| found.expires_ms);
    let ttl_ms = expires_ms.map(|expires| expires.saturating_sub(context::time_ms()).max(1));
    Ok(ENTRIES.put(key, value, condition, ttl_ms)?)
}

fn contended(key: &str) -> Error {
    Error::Unavailable(format!("`{key}` was written by others {TRIES} times in a row; try again"))
}

fn entry(found: storage::Entry) -> Entry {
    keyed(found).1
}

fn keyed(found: storage::Entry) -> (String, Entry) {
    let storage::Entry { key, value, revision, expires_ms } = found;
    (key, Entry { value, revision, expires_ms })
}

fn change(found: storage::Change) -> Change {
    match found {
        storage::Change::Put(found) => {
            let (key, entry) = keyed(found);
            Change { revision: entry.revision, key, entry: Some(entry) }
        }
        storage::Change::Delete((key, revision)) => Change { key, entry: None, revision },
    }
}

#[cfg(test)]
mod tests;
