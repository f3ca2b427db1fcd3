//! `kv.store` over the platform's durable tables. It owns the difference between the two contracts: deletions that say
//! whether there was something, increments, and the quota of a namespace. Everything else passes through.
//!
//! Its invariant: every write is one commit whose condition and quota hold at that commit, so what it answers is what
//! happened.

use platform_sdk::{
    Problem, context, export,
    kv::{
        Action, Change, Condition, Conflict, Content, Entry, Error, Expiry, Fence, Quotas, Result, Store, Usage, Write,
        check_key, check_keys, check_limit, check_restored, check_writes, number,
    },
    storage::{self, Table},
};

/// The entries of a namespace; storage keeps namespaces apart.
const ENTRIES: Table = Table::new("entries");

/// The store has no state of its own.
struct Durable {
    quotas: Quotas,
}

export!(
    kv::Store for Durable,
    mode = "reused",
    grants = ["storage"],
    settings_schema = include_str!("../settings.schema.json")
);

impl Store for Durable {
    type Settings = Quotas;

    fn configure(quotas: Quotas) -> std::result::Result<Self, Problem> {
        Ok(Self { quotas })
    }

    fn self_test(&mut self) -> std::result::Result<(), Problem> {
        ENTRIES.revision().map(drop).map_err(|error| Problem::new(format!("storage does not answer: {error}")))
    }

    fn get(&mut self, key: &str) -> Result<Option<Entry>> {
        check_key(key)?;
        Ok(ENTRIES.get(key)?.map(entry))
    }

    fn get_many(&mut self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        check_keys(keys)?;
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        Ok(ENTRIES.get_many(&keys)?.into_iter().map(|found| found.map(entry)).collect())
    }

    fn put(&mut self, key: &str, value: Vec<u8>, condition: Condition, expiry: Expiry) -> Result<u64> {
        let action = Action::Put(Content { value, expiry });
        self.commit(vec![Write { key: key.to_owned(), condition, action }])
    }

    fn delete(&mut self, key: &str, condition: Condition) -> Result<Option<u64>> {
        check_key(key)?;
        if condition == Condition::Absent {
            // Nothing can be deleted when it holds; only what it says about the key is asked.
            return match ENTRIES.get(key)? {
                None => Ok(None),
                Some(found) => Err(conflict(key, found.revision)),
            };
        }
        let wanted = if condition == Condition::Always { Condition::Present } else { condition };
        match ENTRIES.delete(key, wanted.into()) {
            Ok(revision) => Ok(Some(revision)),
            Err(storage::Error::Conflict(_)) if condition == Condition::Always => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn commit(&mut self, writes: Vec<Write>) -> Result<u64> {
        check_writes(&writes)?;
        self.make(&writes.iter().map(bound).collect::<Vec<_>>())
    }

    fn increment(&mut self, key: &str, by: i64) -> Result<i64> {
        check_key(key)?;
        for () in context::attempts() {
            let found = ENTRIES.get(key)?;
            let old = found.as_ref().map_or(Ok(0), |found| number(&found.value))?;
            let new = old
                .checked_add(by)
                .ok_or_else(|| Error::Invalid(format!("{old} plus {by} does not fit in 64 bits")))?;
            let text = new.to_string();
            let condition = found.map_or(storage::Condition::Absent, |found| storage::Condition::At(found.revision));
            let replace = storage::Replace { key, value: text.as_bytes(), condition };
            match self.make(&[storage::Write::Replace(replace)]) {
                Err(Error::Conflict(_)) => {}
                done => return done.map(|_| new),
            }
        }
        Err(Error::Unavailable(format!("`{key}` was written by others again and again; try again")))
    }

    fn used(&mut self) -> Result<Usage> {
        let storage::Usage { keys, bytes } = ENTRIES.used()?;
        let quota = self.quotas.of(&context::namespace());
        Ok(Usage { keys, bytes, keys_quota: quota.keys, bytes_quota: quota.bytes })
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

    fn fences(&mut self, after: Option<&str>, limit: u32) -> Result<Vec<Fence>> {
        let found = ENTRIES.fences(after, check_limit(limit)?)?;
        Ok(found.into_iter().map(|storage::Fence { name, token }| Fence { name, token }).collect())
    }

    fn restore(&mut self, changes: Vec<Change>, fences: Vec<Fence>, revision: u64) -> Result<()> {
        check_restored(&changes, &fences)?;
        let rows: Vec<storage::Change> = changes.into_iter().map(row).collect();
        let fences: Vec<_> = fences.into_iter().map(|Fence { name, token }| storage::Fence { name, token }).collect();
        Ok(ENTRIES.restore(&rows.iter().collect::<Vec<_>>(), &fences.iter().collect::<Vec<_>>(), revision)?)
    }
}

impl Durable {
    /// Makes writes within the quota of the call's namespace.
    fn make(&self, writes: &[storage::Write<'_>]) -> Result<u64> {
        let quota = self.quotas.of(&context::namespace());
        let limit = storage::Usage { keys: quota.keys.unwrap_or(u64::MAX), bytes: quota.bytes.unwrap_or(u64::MAX) };
        Ok(ENTRIES.commit_within(writes, limit)?)
    }
}

/// A write as the table takes it.
fn bound(write: &Write) -> storage::Write<'_> {
    let (key, condition) = (write.key.as_str(), storage::Condition::from(write.condition));
    match &write.action {
        Action::Delete => storage::Write::Delete(storage::Delete { key, condition }),
        Action::Check => storage::Write::Check(storage::Check { key, condition }),
        Action::Put(Content { value, expiry: Expiry::Keep }) => {
            storage::Write::Replace(storage::Replace { key, value, condition })
        }
        Action::Put(Content { value, expiry }) => {
            let ttl_ms = if let Expiry::AfterMs(ttl) = expiry { Some(*ttl) } else { None };
            storage::Write::Put(storage::Put { key, value, condition, ttl_ms })
        }
    }
}

fn conflict(key: &str, revision: u64) -> Error {
    Error::Conflict(Conflict { key: key.to_owned(), revision })
}

fn entry(found: storage::Entry) -> Entry {
    keyed(found).1
}

fn keyed(found: storage::Entry) -> (String, Entry) {
    let storage::Entry { key, value, revision, expires_ms } = found;
    (key, Entry { value, revision, expires_ms })
}

fn row(Change { key, entry, revision }: Change) -> storage::Change {
    match entry {
        Some(Entry { value, revision, expires_ms }) => {
            storage::Change::Put(storage::Entry { key, value, revision, expires_ms })
        }
        None => storage::Change::Delete((key, revision)),
    }
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
