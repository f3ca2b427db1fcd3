//! Answers from one view: entries, changes, items.
//!
//! Owns paging and the bounds of an answer; must not know waiting or writing. Invariant: an answer is the state at one
//! instant, never holds an expired key, and stays within the limits of the trait.

use std::ops::ControlFlow;

use crate::{
    Change, Entry, Error, Item, MAX_COMMIT_BYTES, Result, Usage,
    backend::View,
    codec::{self, Journal, Row, Space, Table},
};

/// The entry that a row is under its key, none when absent or expired.
pub(crate) fn entry(row: Option<Row>, key: &str, now_ms: u64) -> Option<Entry> {
    row.filter(|row| !row.expired(now_ms)).map(|row| row.entry(key.to_owned()))
}

/// What keys hold.
pub(crate) fn get_many(view: &dyn View, id: u32, keys: &[String], now_ms: u64) -> Result<Vec<Option<Entry>>> {
    let mut entries = Vec::with_capacity(keys.len());
    let mut bytes = 0;
    for key in keys {
        let entry = entry(view.load(Space::Rows, &codec::row_key(id, key))?, key, now_ms);
        bytes += entry.as_ref().map_or(0, |entry| entry.key.len() + entry.value.len());
        if bytes > MAX_COMMIT_BYTES {
            let why = format!("the {} keys hold more than {MAX_COMMIT_BYTES} bytes; read fewer at once", keys.len());
            return Err(Error::TooLarge(why));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// A page of entries.
pub(crate) fn scan(
    view: &dyn View, id: u32, prefix: &str, after: Option<&str>, limit: usize, now_ms: u64,
) -> Result<Vec<Entry>> {
    let all = codec::row_key(id, prefix);
    // The next possible key after `after` is itself with a zero byte behind it.
    let next = after.map(|after| [&codec::row_key(id, after)[..], &[0]].concat()).unwrap_or_default();
    let (from, to) = (all.clone().max(next), codec::after_all(&all));
    let mut entries = Vec::new();
    let mut bytes = 0;
    view.each(Space::Rows, &from, &to, |key, row: Row| {
        if row.expired(now_ms) {
            return Ok(ControlFlow::Continue(()));
        }
        let key = text(view, Space::Rows, key.get(4..).unwrap_or_default())?;
        bytes += key.len() + row.value.len();
        if !entries.is_empty() && bytes > MAX_COMMIT_BYTES {
            return Ok(ControlFlow::Break(()));
        }
        entries.push(row.entry(key));
        Ok(if entries.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(entries)
}

/// Changes of keys with `prefix` above `after`, and the revision up to which they are complete.
pub(crate) fn changes(
    view: &dyn View, name: &[u8], prefix: &str, after: u64, limit: usize,
) -> Result<(Vec<Change>, u64)> {
    let Some(table) = view.load::<Table>(Space::Names, name)? else { return Ok((Vec::new(), 0)) };
    if after != 0 && after < table.floor {
        return Err(Error::Compacted(table.floor));
    }
    let from = codec::change_key(table.id, after.max(table.floor).saturating_add(1), 0);
    let to = codec::after_all(&table.id.to_be_bytes());
    let mut changes: Vec<Change> = Vec::new();
    let mut bytes = 0;
    let mut complete = table.revision;
    // Changes of one revision come together, so an answer ends only where a revision does.
    let mut whole = 0;
    view.each(Space::Changes, &from, &to, |_, change: Change| {
        let started = changes.last().map(Change::revision);
        if started != Some(change.revision()) {
            whole = changes.len();
            if whole >= limit {
                complete = change.revision() - 1;
                return Ok(ControlFlow::Break(()));
            }
        }
        if !change.key().starts_with(prefix) {
            return Ok(ControlFlow::Continue(()));
        }
        bytes += change.key().len() + if let Change::Put(entry) = &change { entry.value.len() } else { 0 };
        if whole > 0 && bytes > MAX_COMMIT_BYTES {
            complete = change.revision() - 1;
            changes.truncate(whole);
            return Ok(ControlFlow::Break(()));
        }
        changes.push(change);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((changes, complete))
}

/// What a table holds; nothing when it was never written.
pub(crate) fn used(view: &dyn View, name: &[u8]) -> Result<Usage> {
    Ok(view.load::<Table>(Space::Names, name)?.map(|table| table.usage).unwrap_or_default())
}

/// State of a journal; that of an empty one when it was never written.
pub(crate) fn journal(view: &dyn View, name: &[u8]) -> Result<Journal> {
    Ok(view.load(Space::Names, name)?.unwrap_or_default())
}

/// Items from a sequence on.
pub(crate) fn items(view: &dyn View, name: &[u8], from: u64, limit: usize) -> Result<Vec<Item>> {
    let journal = journal(view, name)?;
    if from != 0 && from < journal.first {
        return Err(Error::Compacted(journal.first));
    }
    let start = from.max(journal.first);
    if start >= journal.next {
        return Ok(Vec::new());
    }
    let (first, last) = (codec::item_key(journal.id, start), codec::item_key(journal.id, journal.next));
    let mut items: Vec<Item> = Vec::new();
    let mut bytes = 0;
    view.each(Space::Items, &first, &last, |_, item: Item| {
        if item.sequence != start + items.len() as u64 {
            return Err(missing(view, start + items.len() as u64));
        }
        bytes += item.data.len();
        if !items.is_empty() && bytes > MAX_COMMIT_BYTES {
            return Ok(ControlFlow::Break(()));
        }
        items.push(item);
        Ok(if items.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    // Sequences are dense, so an item that is not found is one that was lost.
    if items.is_empty() { Err(missing(view, start)) } else { Ok(items) }
}

fn missing(view: &dyn View, sequence: u64) -> Error {
    Error::Corrupt(format!("`{}`: the item with sequence {sequence} is missing", view.place(Space::Items)))
}

fn text(view: &dyn View, space: Space, key: &[u8]) -> Result<String> {
    String::from_utf8(key.to_vec())
        .map_err(|_not_text| Error::Corrupt(format!("`{}`: a key is not UTF-8", view.place(space))))
}
