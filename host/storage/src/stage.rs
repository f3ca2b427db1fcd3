//! Works out what a group of requests changes: conditions, revisions, changes, expiries, sequences.
//!
//! Owns the rules of tables ([`Stage::commit`]) and journals (`stage/journal`); must not know threads, files or who
//! asked. Invariant: a request that is refused has staged nothing, and later requests of the group see what earlier
//! ones staged.

mod expiry;
mod journal;

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    time::Duration,
};

use crate::{
    Change, Condition, Entry, Error, Options, Result, Write,
    backend::{Op, View},
    codec::{self, Expiry, Journal, Row, Space, Stored, Table},
    registry::Registry,
};

/// Most changes that one group drops from a table's log beyond those it adds.
const DROPPED_AT_ONCE: usize = 1024;

/// What a group of requests changes, before it is made.
pub(crate) struct Stage<'a> {
    view: &'a dyn View,
    registry: &'a Registry,
    options: &'a Options,
    now_ms: u64,
    now_ns: u64,
    ids: u32,
    rows: HashMap<Vec<u8>, Option<Row>>,
    tables: HashMap<Vec<u8>, Staged<Table>>,
    journals: HashMap<Vec<u8>, Staged<Journal>>,
    ops: BTreeMap<(Space, Vec<u8>), Option<bytes::Bytes>>,
    first_expiry: u64,
}

/// State of a table or journal as far as the group has come.
#[derive(Debug, Clone, Copy)]
struct Staged<T> {
    state: T,
    changed: bool,
}

/// What is to be made, and shown once it is.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The batch.
    pub(crate) ops: Vec<Op>,
    /// Name, id and new tip of what changed.
    pub(crate) tips: Vec<(Vec<u8>, u32, u64)>,
    /// Earliest expiry that was added, [`u64::MAX`] without one.
    pub(crate) first_expiry: u64,
}

impl<'a> Stage<'a> {
    /// Nothing staged, on top of `view`.
    pub(crate) fn new(view: &'a dyn View, registry: &'a Registry, options: &'a Options) -> Self {
        let now_ns = options.clock.unix_ns();
        Self {
            view,
            registry,
            options,
            now_ms: now_ns / 1_000_000,
            now_ns,
            ids: registry.next_id(),
            rows: HashMap::new(),
            tables: HashMap::new(),
            journals: HashMap::new(),
            ops: BTreeMap::new(),
            first_expiry: u64::MAX,
        }
    }

    /// Stages a commit; its revision. See [`Storage::commit`](crate::Storage::commit).
    pub(crate) fn commit(&mut self, name: &[u8], writes: Vec<Write>) -> Result<u64> {
        let id = self.table(name)?.id;
        let mut rows = Vec::with_capacity(writes.len());
        let mut expired = Vec::new();
        for write in &writes {
            let (key, _) = condition(write);
            let row = self.row(id, key)?;
            if row.as_ref().is_some_and(|row| row.expired(self.now_ms)) {
                expired.push(key.to_owned());
                rows.push(None);
            } else {
                rows.push(row);
            }
        }
        // Whoever watches learns that the old key went before a new one takes its place.
        self.expire(name, &expired)?;
        for (write, row) in writes.iter().zip(&rows) {
            holds(condition(write).1, row.as_ref())?;
        }
        let mut table = self.table(name)?;
        let revision = table.revision + 1;
        let mut position = 0;
        for (write, old) in writes.into_iter().zip(rows) {
            match write {
                Write::Put { key, value, ttl, .. } => {
                    let row = Row { revision, expires_ms: self.expires(ttl), value };
                    let change = Change::Put(row.clone().entry(key.clone()));
                    self.set_row(id, &key, old.as_ref(), Some(row));
                    self.log(&mut table, revision, &mut position, &change);
                }
                Write::Delete { key, .. } => {
                    if let Some(old) = old {
                        self.set_row(id, &key, Some(&old), None);
                        self.log(&mut table, revision, &mut position, &Change::Delete { key, revision });
                    }
                }
                Write::Touch { key, ttl } => {
                    if let Some(old) = old {
                        let row = Row { expires_ms: self.expires(ttl), ..old.clone() };
                        self.set_row(id, &key, Some(&old), Some(row));
                    }
                }
            }
        }
        if position > 0 {
            table.revision = revision;
            self.tables.insert(name.to_vec(), Staged { state: table, changed: true });
        }
        Ok(table.revision)
    }

    /// The batch and what to show after it.
    pub(crate) fn plan(mut self) -> Result<Plan> {
        self.drop_changes()?;
        let mut tips = Vec::new();
        for (name, Staged { state, changed }) in std::mem::take(&mut self.tables) {
            if changed {
                self.ops.insert((Space::Names, name.clone()), Some(state.seal(&name)));
                tips.push((name, state.id, state.revision));
            }
        }
        for (name, Staged { state, changed }) in std::mem::take(&mut self.journals) {
            if changed {
                self.ops.insert((Space::Names, name.clone()), Some(state.seal(&name)));
                tips.push((name, state.id, state.next - 1));
            }
        }
        let ops = self.ops.into_iter().map(|((space, key), value)| Op { space, key, value }).collect();
        Ok(Plan { ops, tips, first_expiry: self.first_expiry })
    }

    fn table(&mut self, name: &[u8]) -> Result<Table> {
        if let Some(staged) = self.tables.get(name) {
            return Ok(staged.state);
        }
        let state = match self.view.load(Space::Names, name)? {
            Some(state) => state,
            None => Table { id: self.new_id(), ..Table::default() },
        };
        self.tables.insert(name.to_vec(), Staged { state, changed: false });
        Ok(state)
    }

    fn new_id(&mut self) -> u32 {
        let id = self.ids;
        self.ids += 1;
        id
    }

    fn row(&self, id: u32, key: &str) -> Result<Option<Row>> {
        let key = codec::row_key(id, key);
        match self.rows.get(&key) {
            Some(row) => Ok(row.clone()),
            None => self.view.load(Space::Rows, &key),
        }
    }

    /// Replaces a row and its place among the expiries.
    fn set_row(&mut self, id: u32, key: &str, old: Option<&Row>, new: Option<Row>) {
        let (before, after) = (old.and_then(|row| row.expires_ms), new.as_ref().and_then(|row| row.expires_ms));
        if before != after {
            if let Some(expires_ms) = before {
                self.ops.insert((Space::Expiries, codec::expiry_key(expires_ms, id, key)), None);
            }
            if let Some(expires_ms) = after {
                let expiry = codec::expiry_key(expires_ms, id, key);
                let sealed = Expiry.seal(&expiry);
                self.ops.insert((Space::Expiries, expiry), Some(sealed));
                self.first_expiry = self.first_expiry.min(expires_ms);
            }
        }
        let key = codec::row_key(id, key);
        let sealed = new.as_ref().map(|row| row.seal(&key));
        self.ops.insert((Space::Rows, key.clone()), sealed);
        self.rows.insert(key, new);
    }

    fn log(&mut self, table: &mut Table, revision: u64, position: &mut u32, change: &Change) {
        let key = codec::change_key(table.id, revision, *position);
        let sealed = change.seal(&key);
        *position += 1;
        table.changes += 1;
        table.bytes += weight(change);
        self.ops.insert((Space::Changes, key), Some(sealed));
    }

    /// Drops the oldest changes of each table that keeps too many. Those of one revision stay or go together.
    fn drop_changes(&mut self) -> Result<()> {
        let options = self.options;
        let over = |table: &Table| table.changes > options.changes_kept || table.bytes > options.changes_bytes;
        let (view, ops) = (self.view, &mut self.ops);
        for staged in self.tables.values_mut().filter(|staged| staged.changed) {
            let table = &mut staged.state;
            if !over(table) {
                continue;
            }
            let (from, to) =
                (codec::change_key(table.id, table.floor + 1, 0), codec::after_all(&table.id.to_be_bytes()));
            let mut dropped = 0;
            view.each(Space::Changes, &from, &to, |key, change: Change| {
                if change.revision() > table.floor {
                    if !over(table) || dropped >= DROPPED_AT_ONCE {
                        return Ok(ControlFlow::Break(()));
                    }
                    table.floor = change.revision();
                }
                dropped += 1;
                table.changes = table.changes.saturating_sub(1);
                table.bytes = table.bytes.saturating_sub(weight(&change));
                ops.insert((Space::Changes, key.to_vec()), None);
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(())
    }

    fn expires(&self, ttl: Option<Duration>) -> Option<u64> {
        let ms = |ttl: Duration| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        ttl.map(|ttl| self.now_ms.saturating_add(ms(ttl)))
    }
}

fn weight(change: &Change) -> u64 {
    let value = if let Change::Put(Entry { value, .. }) = change { value.len() } else { 0 };
    (change.key().len() + value) as u64
}

fn condition(write: &Write) -> (&str, Condition) {
    match write {
        Write::Put { key, condition, .. } | Write::Delete { key, condition } => (key, *condition),
        Write::Touch { key, .. } => (key, Condition::Present),
    }
}

fn holds(condition: Condition, row: Option<&Row>) -> Result<()> {
    let revision = row.map_or(0, |row| row.revision);
    let holds = match condition {
        Condition::Always => true,
        Condition::Absent => row.is_none(),
        Condition::Present => row.is_some(),
        Condition::At(wanted) => row.is_some() && revision == wanted,
    };
    if holds { Ok(()) } else { Err(Error::Conflict(revision)) }
}
