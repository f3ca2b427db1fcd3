//! Lines and leases in storage: how a line is read without those whose leases ended, and how it is written.
//!
//! Must not know what callers ask for. Invariant: a place is taken from somebody whose lease ended only by a commit that
//! holds that lease to have ended, so a clock that goes back never leaves two who hold.

use std::collections::{BTreeMap, BTreeSet};

use platform_sdk::{
    codec::Malformed,
    context,
    storage::{self, Check, Condition, Delete, Put, Table, Write},
    sync::{Error, Lock, Place, Result},
};

use crate::{key, line::Line, record::Lease};

/// Everything of a namespace; storage keeps namespaces apart.
pub(crate) const TABLE: Table = Table::new("locks");
/// How long what is left of an empty line stays. Tokens go by revisions after that, so it only has to outlast any call.
const EMPTY_MS: u64 = 3_600_000;
/// Waiting places whose leases are looked at with those that are held.
const WINDOW: usize = 16;
/// Most leases that are found to have ended in one commit.
const GONE_MAX: usize = 400;
/// Most keys of one read, or entries of one scan.
const PAGE: u32 = 1000;

/// A line, and what is to be made of it.
pub(crate) struct Step<'a> {
    name: &'a str,
    /// The line without those whose leases ended, those who can hold holding.
    pub(crate) line: Line,
    condition: Condition,
    /// Revision of the line as it was read.
    revision: u64,
    changed: bool,
    /// Leases that have ended.
    gone: BTreeSet<String>,
    /// Leases of which places were given up.
    left: BTreeSet<String>,
}

impl<'a> Step<'a> {
    /// Reads a line; `suspect` is a lease that may have ended.
    pub(crate) fn read(name: &'a str, suspect: Option<&str>) -> Result<Self> {
        let found = TABLE.get(&key::name(name))?;
        let (line, condition, revision) = match &found {
            Some(entry) => {
                (Line::decode(&entry.value).map_err(damaged)?, Condition::At(entry.revision), entry.revision)
            }
            None => (Line::default(), Condition::Absent, 0),
        };
        let (gone, left) = (BTreeSet::new(), BTreeSet::new());
        let mut step = Self { name, line, condition, revision, changed: false, gone, left };
        step.settle(suspect)?;
        Ok(step)
    }

    /// Leaves out those whose leases ended, and lets those hold who can.
    pub(crate) fn settle(&mut self, suspect: Option<&str>) -> Result<()> {
        let mut known = BTreeMap::new();
        let mut ask: BTreeSet<String> = self.line.held().map(|place| place.lease.clone()).collect();
        ask.extend(suspect.map(str::to_owned));
        loop {
            let waiting = self.line.places.iter().filter(|place| !place.held).take(WINDOW);
            ask.extend(waiting.map(|place| place.lease.clone()).filter(|lease| !known.contains_key(lease)));
            if ask.is_empty() {
                return Ok(());
            }
            look_up(&std::mem::take(&mut ask), &mut known)?;
            let ended = |place: &Place| known.get(&place.lease) == Some(&false);
            for place in &self.line.places {
                if self.gone.len() < GONE_MAX && ended(place) {
                    self.gone.insert(place.lease.clone());
                }
            }
            let before = self.line.places.len();
            self.line.places.retain(|place| !self.gone.contains(&place.lease));
            self.changed |= self.line.places.len() != before;
            let held = self.line.held().count();
            let unknown = self.line.advance(|lease| known.get(lease) == Some(&true));
            self.changed |= self.line.held().count() != held;
            if unknown.is_none() {
                return Ok(());
            }
        }
    }

    /// Whether there may be more whose leases ended than one commit takes.
    pub(crate) fn is_cut(&self) -> bool {
        self.gone.len() >= GONE_MAX
    }

    /// Takes a place out of the line.
    pub(crate) fn remove(&mut self, token: u64) {
        if let Some(place) = self.line.find(token) {
            self.left.insert(place.lease.clone());
        }
        self.line.places.retain(|place| place.token != token);
    }

    /// Writes the line, and what goes with it; the revision.
    pub(crate) fn commit(&self, with: &[Write<'_>]) -> storage::Result<u64> {
        let (own, record) = (key::name(self.name), self.line.encode());
        let ttl_ms = self.line.places.is_empty().then_some(EMPTY_MS);
        let ended: Vec<String> = self.gone.iter().map(|lease| key::lease(lease)).collect();
        let left = self.gone.union(&self.left).filter(|lease| !self.line.has(lease));
        let places: Vec<String> = left.map(|lease| key::place(lease, self.name)).collect();
        let mut writes = vec![Write::Put(Put { key: &own, value: &record, condition: self.condition, ttl_ms })];
        writes.extend(ended.iter().map(|key| Write::Check(Check { key, condition: Condition::Absent })));
        writes.extend(places.iter().map(|key| Write::Delete(Delete { key, condition: Condition::Always })));
        writes.extend_from_slice(with);
        TABLE.commit(&writes)
    }
}

/// The line of a name once it is settled and written so, and its revision. Of `suspect`, a lease that may have ended,
/// nothing is left.
pub(crate) fn settled(name: &str, suspect: Option<&str>) -> Result<(Line, u64)> {
    for () in context::attempts() {
        let step = Step::read(name, suspect)?;
        if !step.changed {
            if let Some(lease) = suspect.filter(|lease| !step.line.has(lease)) {
                TABLE.delete(&key::place(lease, name), Condition::Always)?;
            }
            return Ok((step.line, step.revision));
        }
        match step.commit(&[]) {
            Ok(_) if step.is_cut() => {}
            Ok(revision) => return Ok((step.line, revision)),
            Err(storage::Error::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(busy(name))
}

/// Settles every line in which places hang on a lease that has ended.
pub(crate) fn settle_places_of(lease: &str) -> Result<()> {
    let prefix = key::place(lease, "");
    let mut after: Option<String> = None;
    loop {
        let places = TABLE.scan(&prefix, after.as_deref(), PAGE)?;
        let Some(last) = places.last() else { return Ok(()) };
        after = Some(last.key.clone());
        for (_, name) in places.iter().filter_map(|place| key::place_of(&place.key)) {
            settled(name, Some(lease))?;
        }
    }
}

/// A lease, and when it ends in unix milliseconds.
pub(crate) fn lease(id: &str) -> Result<Option<(Lease, u64)>> {
    let Some(entry) = TABLE.get(&key::lease(id))? else { return Ok(None) };
    let lease = Lease::decode(&entry.value).map_err(damaged)?;
    Ok(Some((lease, entry.expires_ms.unwrap_or(u64::MAX))))
}

/// Looks up which leases are there.
pub(crate) fn look_up(leases: &BTreeSet<String>, known: &mut BTreeMap<String, bool>) -> Result<()> {
    let leases: Vec<&String> = leases.iter().collect();
    for some in leases.chunks(PAGE as usize) {
        let keys: Vec<String> = some.iter().map(|lease| key::lease(lease)).collect();
        let found = TABLE.get_many(&keys.iter().map(String::as_str).collect::<Vec<_>>())?;
        known.extend(some.iter().zip(found).map(|(lease, entry)| ((*lease).clone(), entry.is_some())));
    }
    Ok(())
}

/// A line as observers see it.
pub(crate) fn lock(name: &str, line: &Line, revision: u64) -> Lock {
    Lock { name: name.to_owned(), revision, held: line.held().cloned().collect(), waiting: line.waiting() }
}

pub(crate) fn busy(name: &str) -> Error {
    Error::Unavailable(format!("`{}` was changed by others again and again; try again", name.escape_debug()))
}

pub(crate) fn damaged(_: Malformed) -> Error {
    Error::Other("a stored line or lease is damaged or from a newer version of the plugin".into())
}
