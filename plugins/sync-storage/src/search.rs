//! Looking through lines: lists, changes, and what leases left behind.
//!
//! Invariant: no change is told before every line in which a lease ended was passed on to who waits there.

use std::collections::{BTreeMap, BTreeSet};

use platform_sdk::{
    storage::{Change, Entry},
    sync::{Lock, Result},
};

use crate::{
    key,
    line::Line,
    revision_of,
    store::{self, TABLE, damaged, look_up},
};

/// Locks whose name starts with a prefix, after one, at most so many.
pub(crate) fn locks(prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Lock>> {
    let prefix = key::name(prefix);
    let mut after = after.map(key::name);
    let mut locks = Vec::new();
    loop {
        let entries = TABLE.scan(&prefix, after.as_deref(), limit)?;
        let Some(last) = entries.last() else { return Ok(locks) };
        after = Some(last.key.clone());
        let mut lines = entries.iter().map(read).collect::<Result<Vec<_>>>()?;
        let mut known = BTreeMap::new();
        let held = lines.iter().flat_map(|(_, line, _)| line.held());
        look_up(&held.map(|place| place.lease.clone()).collect::<BTreeSet<_>>(), &mut known)?;
        for (name, line, revision) in &mut lines {
            line.places.retain(|place| !place.held || known.get(&place.lease) == Some(&true));
            if !line.places.is_empty() {
                locks.push(store::lock(name, line, *revision));
            }
            if locks.len() >= limit as usize {
                return Ok(locks);
            }
        }
    }
}

/// The lines among changes whose name starts with a prefix.
pub(crate) fn changed(prefix: &str, changes: &[Change]) -> Result<Vec<Lock>> {
    let prefix = key::name(prefix);
    let lines = changes.iter().filter_map(|change| match change {
        Change::Put(entry) if entry.key.starts_with(&prefix) => Some(entry),
        // What is deleted was empty, which is no change.
        Change::Put(_) | Change::Delete(_) => None,
    });
    lines.map(|entry| read(entry).map(|(name, line, revision)| store::lock(&name, &line, revision))).collect()
}

/// Settles the lines of the leases that ended by these changes.
pub(crate) fn pass_on(changes: &[Change]) -> Result<()> {
    // What was given up goes in one commit with the line.
    let lines: BTreeSet<u64> = changes
        .iter()
        .filter(|change| matches!(change, Change::Put(entry) if entry.key.starts_with(key::NAMES)))
        .map(revision_of)
        .collect();
    for change in changes {
        if let Change::Delete((deleted, revision)) = change
            && let Some(lease) = key::lease_of(deleted)
            && !lines.contains(revision)
        {
            store::settle_places_of(lease)?;
        }
    }
    Ok(())
}

/// Settles lines in which leases ended unnoticed, of so many places after one; where to go on.
pub(crate) fn sweep(after: Option<&str>, count: u32) -> Result<Option<String>> {
    let entries = TABLE.scan(key::PLACES, after, count)?;
    let places: Vec<_> = entries.iter().filter_map(|entry| key::place_of(&entry.key)).collect();
    let mut known = BTreeMap::new();
    look_up(&places.iter().map(|(lease, _)| (*lease).to_owned()).collect(), &mut known)?;
    for (lease, name) in places {
        if known.get(lease) == Some(&false) {
            store::settled(name, Some(lease))?;
        }
    }
    Ok(entries.last().map(|last| last.key.clone()))
}

fn read(entry: &Entry) -> Result<(String, Line, u64)> {
    let name = entry.key.strip_prefix(key::NAMES).unwrap_or_default().to_owned();
    Ok((name, Line::decode(&entry.value).map_err(damaged)?, entry.revision))
}
