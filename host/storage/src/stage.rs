//! Works out what a group of requests changes: conditions, revisions, changes, expiries, sequences.
//!
//! Owns the rules of tables ([`Stage::commit`]) and journals (`stage/journal`); must not know threads, files or who
//! asked. Invariant: a request that is refused has staged nothing, and later requests of the group see what earlier
//! ones staged.

mod expiry;
mod journal;
mod restore;

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    time::Duration,
};

use crate::{
    Change, Condition, Conflict, Entry, Error, Options, Result, Usage, Write,
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

/// One write of a commit: the row before and after it, and whether that is a change.
#[derive(Debug)]
struct Made {
    key: String,
    old: Option<Row>,
    new: Option<Row>,
    counts: bool,
}

impl Made {
    /// What the table holds after it.
    fn usage(&self, before: Usage) -> Usage {
        let weigh =
            |row: &Option<Row>| row.as_ref().map_or((0, 0), |row| (1, (self.key.len() + row.value.len()) as u64));
        let ((gone, less), (come, more)) = (weigh(&self.old), weigh(&self.new));
        Usage { keys: (before.keys + come).saturating_sub(gone), bytes: (before.bytes + more).saturating_sub(less) }
    }
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
    /// Position of the view that it was worked out on.
    pub(crate) position: u64,
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

    /// Stages a commit; its revision. See [`Storage::commit_within`](crate::Storage::commit_within).
    pub(crate) fn commit(&mut self, name: &[u8], writes: Vec<Write>, limit: Usage) -> Result<u64> {
        let id = self.table(name)?.id;
        let mut rows = Vec::with_capacity(writes.len());
        let mut expired = Vec::new();
        for write in &writes {
            let (key, _) = write.condition();
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
            holds(write, row.as_ref())?;
        }
        let mut table = self.table(name)?;
        let made: Vec<_> =
            writes.into_iter().zip(rows).map(|(write, old)| self.make(table.revision + 1, write, old)).collect();
        let usage = made.iter().fold(table.usage, |usage, made| made.usage(usage));
        within(table.usage, usage, limit)?;
        table.usage = usage;
        let mut position = 0;
        let revision = table.revision + 1;
        for Made { key, old, new, counts } in made {
            self.set_row(id, &key, old.as_ref(), new.clone());
            if counts {
                let change = match new {
                    Some(row) => Change::Put(row.entry(key)),
                    None => Change::Delete { key, revision },
                };
                self.log(&mut table, revision, &mut position, &change);
            }
        }
        if position > 0 {
            table.revision = revision;
            self.tables.insert(name.to_vec(), Staged { state: table, changed: true });
        }
        Ok(table.revision)
    }

    /// What a write makes of the row that it found.
    fn make(&self, revision: u64, write: Write, old: Option<Row>) -> Made {
        let (key, new, counts) = match write {
            Write::Put { key, value, ttl, .. } => {
                (key, Some(Row { revision, expires_ms: self.expires(ttl), value }), true)
            }
            Write::Replace { key, value, .. } => {
                let expires_ms = old.as_ref().and_then(|old| old.expires_ms);
                (key, Some(Row { revision, expires_ms, value }), true)
            }
            Write::Delete { key, .. } => (key, None, old.is_some()),
            Write::Touch { key, ttl } => {
                (key, old.clone().map(|old| Row { expires_ms: self.expires(ttl), ..old }), false)
            }
            Write::Check { key, .. } => (key, old.clone(), false),
        };
        Made { key, old, new, counts }
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
        Ok(Plan { ops, tips, first_expiry: self.first_expiry, position: self.view.position() })
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
        if old == new.as_ref() {
            return;
        }
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

/// Refuses what would hold more than the limit and more than before.
fn within(before: Usage, after: Usage, limit: Usage) -> Result<()> {
    for (what, before, after, limit) in
        [("keys", before.keys, after.keys, limit.keys), ("bytes", before.bytes, after.bytes, limit.bytes)]
    {
        if after > limit && after > before {
            return Err(Error::Full(format!("{after} {what} would be kept, the limit is {limit}")));
        }
    }
    Ok(())
}

fn weight(change: &Change) -> u64 {
    let value = if let Change::Put(Entry { value, .. }) = change { value.len() } else { 0 };
    (change.key().len() + value) as u64
}

fn holds(write: &Write, row: Option<&Row>) -> Result<()> {
    let (key, condition) = write.condition();
    let revision = row.map_or(0, |row| row.revision);
    let holds = match condition {
        Condition::Always => true,
        Condition::Absent => row.is_none(),
        Condition::Present => row.is_some(),
        Condition::At(wanted) => row.is_some() && revision == wanted,
    };
    if holds { Ok(()) } else { Err(Conflict { key: key.to_owned(), revision }.into()) }
}
