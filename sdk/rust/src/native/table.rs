//! Tables in memory, one set for each thread and namespace. They follow `wit/storage/table.wit` except that changes
//! never wait.

use std::{cell::RefCell, collections::BTreeMap};

use super::context;
use crate::{
    context::time_ms,
    fence::Fences,
    storage::{Change, Condition, Conflict, Entry, Error, Fence, Result, Usage, Write},
};

#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<String, Entry>,
    changes: Vec<Change>,
    revision: u64,
    fences: Fences,
}

thread_local! {
    static TABLES: RefCell<BTreeMap<(String, String), Table>> = const { RefCell::new(BTreeMap::new()) };
}

/// Calls with a table from which what expired is gone.
fn with<T>(table: &str, call: impl FnOnce(&mut Table) -> T) -> T {
    TABLES.with(|tables| {
        let mut tables = tables.borrow_mut();
        let table = tables.entry((context::namespace(), table.to_owned())).or_default();
        table.expire();
        call(table)
    })
}

fn check(key: &str, condition: Condition, entry: Option<&Entry>) -> Result<()> {
    if key.is_empty() || key.len() > 1024 {
        return Err(Error::Invalid("a key has 1 to 1024 bytes".into()));
    }
    let revision = entry.map_or(0, |entry| entry.revision);
    let holds = match condition {
        Condition::Always => true,
        Condition::Absent => entry.is_none(),
        Condition::Present => entry.is_some(),
        Condition::At(wanted) => entry.is_some() && revision == wanted,
    };
    if holds { Ok(()) } else { Err(Error::Conflict(Conflict { key: key.to_owned(), revision })) }
}

fn expires_ms(ttl_ms: Option<u64>) -> Option<u64> {
    ttl_ms.map(|ttl| time_ms().saturating_add(ttl))
}

fn change_of(change: &Change) -> (&str, u64) {
    match change {
        Change::Put(entry) => (&entry.key, entry.revision),
        Change::Delete((key, revision)) => (key, *revision),
    }
}

impl Table {
    fn expire(&mut self) {
        let now = time_ms();
        let due = |entry: &Entry| entry.expires_ms.is_some_and(|expires| expires <= now);
        let gone: Vec<String> =
            self.entries.values().filter(|entry| due(entry)).map(|entry| entry.key.clone()).collect();
        for key in gone {
            self.revision += 1;
            self.entries.remove(&key);
            self.changes.push(Change::Delete((key, self.revision)));
        }
    }

    fn check(&self, write: &Write<'_>) -> Result<()> {
        match write {
            Write::Put(put) => check(put.key, put.condition, self.entries.get(put.key)),
            Write::Delete(delete) => check(delete.key, delete.condition, self.entries.get(delete.key)),
            Write::Replace(replace) => check(replace.key, replace.condition, self.entries.get(replace.key)),
            Write::Touch(touch) => check(touch.key, Condition::Present, self.entries.get(touch.key)),
            Write::Check(one) => check(one.key, one.condition, self.entries.get(one.key)),
        }
    }

    fn usage(&self) -> Usage {
        let bytes = self.entries.values().map(|entry| entry.key.len() + entry.value.len()).sum::<usize>();
        Usage { keys: self.entries.len() as u64, bytes: bytes as u64 }
    }

    fn usage_after(&self, writes: &[Write<'_>]) -> Usage {
        let mut usage = self.usage();
        for write in writes {
            let (key, new) = match write {
                Write::Put(put) => (put.key, Some(put.value)),
                Write::Replace(replace) => (replace.key, Some(replace.value)),
                Write::Delete(delete) => (delete.key, None),
                Write::Touch(_) | Write::Check(_) => continue,
            };
            if let Some(old) = self.entries.get(key) {
                usage.keys -= 1;
                usage.bytes -= (key.len() + old.value.len()) as u64;
            }
            if let Some(new) = new {
                usage.keys += 1;
                usage.bytes += (key.len() + new.len()) as u64;
            }
        }
        usage
    }

    /// Makes one write under `revision`; whether it counts as a change.
    fn apply(&mut self, write: &Write<'_>, revision: u64) -> bool {
        match write {
            Write::Put(put) => {
                let entry = Entry {
                    key: put.key.to_owned(),
                    value: put.value.to_vec(),
                    revision,
                    expires_ms: expires_ms(put.ttl_ms),
                };
                self.changes.push(Change::Put(entry.clone()));
                self.entries.insert(put.key.to_owned(), entry);
                true
            }
            Write::Replace(replace) => {
                let expires_ms = self.entries.get(replace.key).and_then(|old| old.expires_ms);
                let entry = Entry { key: replace.key.to_owned(), value: replace.value.to_vec(), revision, expires_ms };
                self.changes.push(Change::Put(entry.clone()));
                self.entries.insert(replace.key.to_owned(), entry);
                true
            }
            Write::Delete(delete) => {
                let gone = self.entries.remove(delete.key).is_some();
                if gone {
                    self.changes.push(Change::Delete((delete.key.to_owned(), revision)));
                }
                gone
            }
            Write::Touch(touch) => {
                if let Some(entry) = self.entries.get_mut(touch.key) {
                    entry.expires_ms = expires_ms(touch.ttl_ms);
                }
                false
            }
            Write::Check(_) => false,
        }
    }
}

pub(crate) fn get(table: &str, key: &str) -> Result<Option<Entry>> {
    with(table, |table| Ok(table.entries.get(key).cloned()))
}

pub(crate) fn get_many(table: &str, keys: &[&str]) -> Result<Vec<Option<Entry>>> {
    with(table, |table| Ok(keys.iter().map(|key| table.entries.get(*key).cloned()).collect()))
}

pub(crate) fn commit(table: &str, writes: &[Write<'_>]) -> Result<u64> {
    commit_within(table, writes, Usage { keys: u64::MAX, bytes: u64::MAX })
}

pub(crate) fn commit_within(table: &str, writes: &[Write<'_>], limit: Usage) -> Result<u64> {
    with(table, |table| {
        let fence = context::fencing();
        table.fences.check(fence.as_ref()).map_err(Error::Stale)?;
        writes.iter().try_for_each(|write| table.check(write))?;
        let (before, after) = (table.usage(), table.usage_after(writes));
        if after.keys > limit.keys.max(before.keys) || after.bytes > limit.bytes.max(before.bytes) {
            return Err(Error::Full(format!("{} keys of {} bytes would be kept", after.keys, after.bytes)));
        }
        let revision = table.revision + 1;
        for write in writes {
            if table.apply(write, revision) {
                table.revision = revision;
            }
        }
        table.fences.pass(fence.as_ref());
        Ok(table.revision)
    })
}

pub(crate) fn used(table: &str) -> Result<Usage> {
    with(table, |table| Ok(table.usage()))
}

pub(crate) fn scan(table: &str, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Entry>> {
    let matches =
        |entry: &&Entry| entry.key.starts_with(prefix) && after.is_none_or(|after| entry.key.as_str() > after);
    with(table, |table| Ok(table.entries.values().filter(matches).take(limit as usize).cloned().collect()))
}

pub(crate) fn changes(table: &str, prefix: &str, after: u64, limit: u32, _wait_ms: u32) -> Result<Vec<Change>> {
    with(table, |table| {
        let mut found: Vec<Change> = Vec::new();
        for change in &table.changes {
            let (key, revision) = change_of(change);
            let cut = found.len() >= limit as usize && found.last().is_some_and(|last| change_of(last).1 != revision);
            if cut {
                break;
            }
            if revision > after && key.starts_with(prefix) {
                found.push(change.clone());
            }
        }
        Ok(found)
    })
}

pub(crate) fn revision(table: &str) -> Result<u64> {
    with(table, |table| Ok(table.revision))
}

pub(crate) fn fences(table: &str, after: Option<&str>, limit: u32) -> Result<Vec<Fence>> {
    let fence = |(name, token): (&str, u64)| Fence { name: name.to_owned(), token };
    with(table, |table| {
        let later = table.fences.iter().filter(|(name, _)| after.is_none_or(|after| *name > after));
        Ok(later.take(limit as usize).map(fence).collect())
    })
}

pub(crate) fn restore(table: &str, changes: &[&Change], fences: &[&Fence], revision: u64) -> Result<()> {
    with(table, |table| {
        for change in changes {
            match change {
                Change::Put(entry) => table.entries.insert(entry.key.clone(), entry.clone()),
                Change::Delete((key, _)) => table.entries.remove(key),
            };
        }
        for Fence { name, token } in fences {
            table.fences.pass(Some(&crate::context::Fence { name: name.clone(), token: *token }));
        }
        if revision > 0 {
            table.revision = table.revision.max(revision);
            table.changes.clear();
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::storage::{Change, Condition, Conflict, Error, Put, Table, Write};

    const TABLE: Table = Table::new("t");

    fn put<'a>(key: &'a str, condition: Condition) -> Write<'a> {
        Write::Put(Put { key, value: b"v", condition, ttl_ms: None })
    }

    #[test]
    fn commits_all_or_nothing() {
        assert_eq!(TABLE.commit(&[put("a", Condition::Absent), put("b", Condition::Always)]), Ok(1));
        let refused = TABLE.commit(&[put("c", Condition::Always), put("a", Condition::Absent)]);
        assert_eq!(refused, Err(Error::Conflict(Conflict { key: "a".into(), revision: 1 })));
        assert_eq!(TABLE.get("c"), Ok(None));
        assert_eq!(TABLE.changes("", 0, 1, 0).unwrap().len(), 2, "a commit is not cut");
    }

    #[test]
    fn expires_with_a_revision() {
        TABLE.put("a", b"v", Condition::Always, Some(10)).unwrap();
        crate::native::advance(Duration::from_millis(9));
        assert!(TABLE.touch("a", Some(10)).is_ok());
        crate::native::advance(Duration::from_millis(10));
        assert_eq!(TABLE.touch("a", Some(10)), Err(Error::Conflict(Conflict { key: "a".into(), revision: 0 })));
        assert_eq!(TABLE.changes("", 1, 10, 0), Ok(vec![Change::Delete(("a".into(), 2))]));
    }
}
