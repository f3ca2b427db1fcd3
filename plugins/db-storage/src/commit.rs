//! Transactions: what writes of records come to as writes of keys.

use std::collections::{BTreeMap, BTreeSet};

use platform_sdk::{
    context,
    db::{
        Action, Change, Content, Duplicate, Error, Field, Record, Result, Stamp, Value, Write, arrange, check, indexed,
    },
    storage::{self, Check, Condition, Delete, Put},
};

use crate::{
    TABLE, busy, damaged, declaration,
    key::{Place, SHIFT},
    read, read_all,
    record::{Declaration, Held, Origin, Shift, encode},
    shift, unchanged,
};

/// Makes all of the writes or none.
pub(crate) fn commit(database: &str, mut writes: Vec<Write>) -> Result<Vec<Option<Stamp>>> {
    for write in &mut writes {
        if let Action::Put(content) = &mut write.action {
            arrange(&mut content.metadata);
        }
    }
    for () in context::attempts() {
        let (draft, mut stamps, shift) = draft(database, &writes)?;
        match draft.make() {
            Ok(revision) => {
                for (stamp, write) in stamps.iter_mut().zip(&writes) {
                    if let (Some(stamp), Action::Put(_)) = (stamp, &write.action) {
                        stamp.revision = shift.of(revision);
                    }
                }
                return Ok(stamps);
            }
            Err(storage::Error::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(busy(database))
}

/// Writes of keys, and what must hold for them.
#[derive(Default)]
pub(crate) struct Draft {
    /// What keys get; none for those that go.
    values: BTreeMap<String, Option<Vec<u8>>>,
    conditions: BTreeMap<String, Condition>,
    /// Values of unique indexes that records give up: who has each.
    freed: BTreeMap<String, String>,
    /// Values of unique indexes that records take: who, of which table and field.
    taken: BTreeMap<String, Duplicate>,
}

impl Draft {
    /// A key gets a value, or goes.
    pub(crate) fn set(&mut self, key: String, value: Option<Vec<u8>>) {
        self.values.insert(key, value);
    }

    /// A key must be what was read.
    pub(crate) fn require(&mut self, key: String, revision: Option<u64>) {
        self.conditions.insert(key, unchanged(revision));
    }

    /// A record gives a place in an index up.
    pub(crate) fn leave(&mut self, place: Place<'_>, held: &Held, value: &Value, id: &str) {
        for key in place.entries(held.number, value, id) {
            self.set(key, None);
        }
        if held.index.unique {
            self.freed.insert(place.owner(held.number, value), id.to_owned());
        }
    }

    /// A record takes a place in an index.
    pub(crate) fn enter(&mut self, place: Place<'_>, held: &Held, value: &Value, id: &str) -> Result<()> {
        for key in place.entries(held.number, value, id) {
            self.set(key, Some(id.as_bytes().to_vec()));
        }
        if held.index.unique {
            let taker = Duplicate { table: place.table.to_owned(), field: held.index.field.clone(), id: id.to_owned() };
            if let Some(other) = self.taken.insert(place.owner(held.number, value), taker) {
                return Err(Error::Duplicate(other));
            }
        }
        Ok(())
    }

    /// Looks who has the values that are given up or taken, and settles who has them then.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let keys: BTreeSet<String> = self.freed.keys().chain(self.taken.keys()).cloned().collect();
        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
        for (key, found) in keys.iter().zip(read_all(&names)?) {
            let owner = found.as_ref().map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
            let free = owner.is_none() || self.freed.get(key) == owner.as_ref();
            match self.taken.get(key) {
                Some(taker) if !free && owner.as_ref() != Some(&taker.id) => {
                    return Err(Error::Duplicate(Duplicate { id: owner.unwrap_or_default(), ..taker.clone() }));
                }
                Some(taker) => {
                    let id = taker.id.as_bytes().to_vec();
                    self.set(key.clone(), Some(id));
                }
                // While an index is built, another may have the value that a record gives up.
                None if owner.is_some() && free => self.set(key.clone(), None),
                None => {}
            }
            self.require(key.clone(), found.map(|entry| entry.revision));
        }
        Ok(())
    }

    /// Writes it down, all or nothing.
    pub(crate) fn make(&self) -> storage::Result<u64> {
        let condition = |key: &String| self.conditions.get(key).copied().unwrap_or(Condition::Always);
        let values = self.values.iter().map(|(key, value)| match value {
            Some(value) => {
                storage::Write::Put(Put { key, value: value.as_slice(), condition: condition(key), ttl_ms: None })
            }
            None => storage::Write::Delete(Delete { key, condition: condition(key) }),
        });
        let checks = self.conditions.iter().filter(|(key, _)| !self.values.contains_key(*key));
        let checks = checks.map(|(key, condition)| storage::Write::Check(Check { key, condition: *condition }));
        let writes: Vec<storage::Write<'_>> = values.chain(checks).collect();
        TABLE.commit(&writes)
    }
}

/// Makes records what another store says that they are, with their stamps.
pub(crate) fn restore(changes: &[Change], revision: u64) -> Result<()> {
    for () in context::attempts() {
        let mut draft = Draft::default();
        for change in changes {
            restored(&mut draft, change)?;
        }
        draft.settle()?;
        if revision > 0 {
            let (_, at) = shift()?;
            let since = TABLE.revision()? + 1;
            let by = revision.cast_signed().saturating_sub(since.cast_signed());
            draft.require(SHIFT.to_owned(), at);
            draft.set(SHIFT.to_owned(), Some(Shift { by, since }.encode()));
        }
        match draft.make() {
            Ok(_) => return Ok(()),
            Err(storage::Error::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(busy("records"))
}

fn restored(draft: &mut Draft, change: &Change) -> Result<()> {
    let place = Place { database: &change.database, table: &change.table };
    let declared = declaration(place)?;
    let key = place.declaration();
    if declared.is_none() && change.now.is_some() {
        draft.set(key.clone(), Some(Declaration::default().encode()));
    }
    draft.require(key, declared.as_ref().map(|(_, revision)| *revision));
    let declared = declared.map(|(declared, _)| declared).unwrap_or_default();
    let entry = TABLE.get(&place.record(&change.id))?;
    let old = entry.as_ref().map(|entry| read(&change.id, entry)).transpose()?;
    draft.require(place.record(&change.id), entry.map(|entry| entry.revision));
    match &change.now {
        None => delete(draft, place, &declared, &change.id, old.as_ref()),
        Some(Record { stamp, metadata, data }) => {
            let form = encode(stamp, Origin::Elsewhere(stamp.revision), metadata, data);
            put(draft, place, &declared, &change.id, old.as_ref(), (metadata, form))?;
        }
    }
    Ok(())
}

/// What the writes come to against what is there now, and what its revision comes to.
fn draft(database: &str, writes: &[Write]) -> Result<(Draft, Vec<Option<Stamp>>, Shift)> {
    let tables: BTreeSet<&str> = writes.iter().map(|write| write.table.as_str()).collect();
    let tables: Vec<Place<'_>> = tables.into_iter().map(|table| Place { database, table }).collect();
    let mut keys = vec![SHIFT.to_owned()];
    keys.extend(tables.iter().map(|place| place.declaration()));
    keys.extend(writes.iter().map(|write| Place { database, table: &write.table }.record(&write.id)));
    let mut found = read_all(&keys.iter().map(String::as_str).collect::<Vec<_>>())?.into_iter();

    let mut draft = Draft::default();
    let shift = found.next().flatten();
    draft.require(SHIFT.to_owned(), shift.as_ref().map(|entry| entry.revision));
    let shift = shift.map_or(Ok(Shift::default()), |entry| Shift::decode(&entry.value).map_err(damaged))?;
    let mut declared: BTreeMap<&str, Declaration> = BTreeMap::new();
    for place in tables {
        let entry = found.next().flatten();
        let declaration = entry.as_ref().map(|entry| Declaration::decode(&entry.value).map_err(damaged)).transpose()?;
        if declaration.as_ref().is_some_and(|declaration| declaration.dropping) {
            return Err(Error::Unavailable(format!("`{}` is being dropped; try again", place.table)));
        }
        let key = place.declaration();
        draft.require(key.clone(), entry.map(|entry| entry.revision));
        let puts = |write: &Write| write.table == place.table && matches!(write.action, Action::Put(_));
        if declaration.is_none() && writes.iter().any(puts) {
            draft.set(key, Some(Declaration::default().encode()));
        }
        declared.insert(place.table, declaration.unwrap_or_default());
    }
    let mut stamps = Vec::with_capacity(writes.len());
    for write in writes {
        let place = Place { database, table: &write.table };
        let entry = found.next().flatten();
        let old = entry.as_ref().map(|entry| read(&write.id, entry)).transpose()?;
        let revision = entry.map(|entry| entry.revision);
        check(write, old.as_ref().map_or(0, |old| old.stamp.revision))?;
        draft.require(place.record(&write.id), revision);
        let none = Declaration::default();
        let declaration = declared.get(write.table.as_str()).unwrap_or(&none);
        stamps.push(record(&mut draft, place, declaration, write, old, shift)?);
    }
    draft.settle()?;
    Ok((draft, stamps, shift))
}

/// What one write comes to; the stamp of its record then.
fn record(
    draft: &mut Draft, place: Place<'_>, declaration: &Declaration, write: &Write, old: Option<Record>, shift: Shift,
) -> Result<Option<Stamp>> {
    let id = &write.id;
    match &write.action {
        Action::Check => Ok(old.map(|old| old.stamp)),
        Action::Delete => {
            delete(draft, place, declaration, id, old.as_ref());
            Ok(None)
        }
        Action::Put(Content { metadata, data }) => {
            let now = context::time_ns();
            let created_ns = old.as_ref().map_or(now, |old| old.stamp.created_ns);
            let updated_ns = old.as_ref().map_or(now, |old| now.max(old.stamp.updated_ns));
            let stamp = Stamp { id: id.clone(), created_ns, updated_ns, revision: 0 };
            let form = encode(&stamp, Origin::Here(shift), metadata, data);
            put(draft, place, declaration, id, old.as_ref(), (metadata, form))?;
            Ok(Some(stamp))
        }
    }
}

/// What an index has of a record as it was.
fn was<'a>(held: &Held, id: &str, old: Option<&'a Record>) -> Option<&'a Value> {
    indexed(&held.index, id, &old?.metadata).ok().flatten()
}

fn delete(draft: &mut Draft, place: Place<'_>, declaration: &Declaration, id: &str, old: Option<&Record>) {
    if old.is_none() {
        return;
    }
    draft.set(place.record(id), None);
    draft.set(place.back(id), None);
    for held in &declaration.indexes {
        if let Some(value) = was(held, id, old) {
            draft.leave(place, held, value, id);
        }
    }
}

fn put(
    draft: &mut Draft, place: Place<'_>, declaration: &Declaration, id: &str, old: Option<&Record>,
    (metadata, form): (&[Field], Vec<u8>),
) -> Result<()> {
    for held in &declaration.indexes {
        let (was, is) = (was(held, id, old), indexed(&held.index, id, metadata)?);
        // An index that is being built may lack what it should have.
        if was == is && held.ready {
            continue;
        }
        if let Some(value) = was.filter(|_| was != is) {
            draft.leave(place, held, value, id);
        }
        if let Some(value) = is {
            draft.enter(place, held, value, id)?;
        }
    }
    draft.set(place.record(id), Some(form));
    if old.is_none() {
        draft.set(place.back(id), Some(id.as_bytes().to_vec()));
    }
    Ok(())
}
