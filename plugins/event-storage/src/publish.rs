//! Publishing: one commit holds the events, their ids, their places, what retention lets go for them, and where the topic
//! then ends.
//!
//! Invariant: that commit is made against the topic as it was read, so sequences have no gaps and an id is kept once.

use std::collections::BTreeMap;

use platform_sdk::{
    context,
    event::{Draft, Error, MAX_PUBLISHED, Published, Result},
    storage::{self, Condition, Delete, Put, Write},
};

use crate::{
    TABLE, contended, damaged, key,
    record::{self, Head, Stored},
    topic::{self, Found},
};

/// Most bytes of data in one publish.
const BYTES_MAX: usize = 8 << 20;
/// Fewest events that a publish lets go when retention wants it; beyond that, twice as many as it brings.
const TRIMMED_MIN: usize = 16;
/// Most of them.
const TRIMMED_MAX: usize = 200;

/// Writes that are to be committed together. It owns what they borrow.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    writes: Vec<Owned>,
}

#[derive(Debug)]
enum Owned {
    Put(String, Vec<u8>, Condition, Option<u64>),
    Delete(String, Condition),
}

impl Batch {
    pub(crate) fn put(&mut self, key: String, value: Vec<u8>, condition: Condition, ttl_ms: Option<u64>) {
        self.writes.push(Owned::Put(key, value, condition, ttl_ms));
    }

    pub(crate) fn delete(&mut self, key: String, condition: Condition) {
        self.writes.push(Owned::Delete(key, condition));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Makes the writes; none when a condition does not hold.
    pub(crate) fn commit(&self) -> Result<Option<u64>> {
        let writes: Vec<Write<'_>> = self
            .writes
            .iter()
            .map(|write| match write {
                Owned::Put(key, value, condition, ttl_ms) => {
                    Write::Put(Put { key, value, condition: *condition, ttl_ms: *ttl_ms })
                }
                Owned::Delete(key, condition) => Write::Delete(Delete { key, condition: *condition }),
            })
            .collect();
        match TABLE.commit(&writes) {
            Ok(revision) => Ok(Some(revision)),
            Err(storage::Error::Conflict(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Keeps events.
pub(crate) fn publish(name: &str, drafts: &[Draft]) -> Result<Vec<Published>> {
    if drafts.is_empty() || drafts.len() > MAX_PUBLISHED {
        return Err(Error::TooLarge(format!("{} events at once; publish 1 to {MAX_PUBLISHED}", drafts.len())));
    }
    let bytes: usize = drafts.iter().map(|draft| draft.data.len()).sum();
    if bytes > BYTES_MAX {
        return Err(Error::TooLarge(format!("the events have {bytes} bytes, the limit is {BYTES_MAX}")));
    }
    for () in context::attempts() {
        let found = topic::load(name)?;
        let mut batch = Batch::default();
        let published = stage(&mut batch, &found, Condition::At(found.revision), drafts)?;
        if batch.is_empty() || batch.commit()?.is_some() {
            return Ok(published);
        }
    }
    Err(contended(name))
}

/// Stages events for a topic whose record is written on `condition`; what becomes of each.
pub(crate) fn stage(
    batch: &mut Batch, found: &Found, condition: Condition, drafts: &[Draft],
) -> Result<Vec<Published>> {
    let now_ms = context::time_ms();
    let mut known = known(found, drafts)?;
    let Found { name, place, head, .. } = found;
    let mut head = Head { brought: 0, ..head.clone() };
    let time_ms = now_ms.max(head.last_ms);
    let window_ms = head.settings.window_ms;
    let age_ms = head.settings.age_ms;
    let mut published = Vec::with_capacity(drafts.len());
    for draft in drafts {
        if draft.deduplicated
            && window_ms > 0
            && let Some((sequence, time_ms)) = known.get(&place.id(&draft.id, &draft.origin))
        {
            published.push(Published { sequence: *sequence, time_ms: *time_ms, duplicate: true });
            continue;
        }
        let sequence = head.next;
        let record = Stored::encode(time_ms, head.end, draft);
        head.next += 1;
        head.end += record.len() as u64;
        head.brought += 1;
        batch.put(place.event(sequence), record, Condition::Always, age_ms);
        batch.put(place.root(&draft.root, time_ms, sequence), Vec::new(), Condition::Always, age_ms);
        if draft.deduplicated && window_ms > 0 {
            let value = record::encode_sequence(sequence, time_ms);
            let key = place.id(&draft.id, &draft.origin);
            batch.put(key.clone(), value, Condition::Absent, Some(window_ms));
            known.insert(key, (sequence, time_ms));
        }
        published.push(Published { sequence, time_ms, duplicate: false });
    }
    if head.brought > 0 {
        head.last_ms = time_ms;
        trim(batch, found, &mut head, now_ms)?;
        batch.put(key::topic(name), head.encode(), condition, None);
    }
    Ok(published)
}

/// Sequences and times of the ids that the topic remembers, by their keys.
fn known(found: &Found, drafts: &[Draft]) -> Result<BTreeMap<String, (u64, u64)>> {
    let named = drafts.iter().filter(|draft| draft.deduplicated);
    let keys: Vec<String> = named.map(|draft| found.place.id(&draft.id, &draft.origin)).collect();
    if keys.is_empty() || found.head.settings.window_ms == 0 {
        return Ok(BTreeMap::new());
    }
    let entries = TABLE.get_many(&keys.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut known = BTreeMap::new();
    for (key, entry) in keys.into_iter().zip(entries) {
        let Some(entry) = entry else { continue };
        known.insert(key, record::decode_sequence(&entry.value).map_err(damaged)?);
    }
    Ok(known)
}

/// Lets events go that retention does not keep beside those that `head` has got.
fn trim(batch: &mut Batch, found: &Found, head: &mut Head, now_ms: u64) -> Result<()> {
    let settings = &head.settings;
    let too_many = settings.count.is_some_and(|count| head.next - head.first > count);
    let too_large = settings.bytes.is_some_and(|bytes| head.end - head.start > bytes);
    let too_old = settings.age_ms.is_some_and(|age| head.first_ms.saturating_add(age) <= now_ms);
    if !(too_many || too_large || too_old) {
        return Ok(());
    }
    let brought = usize::try_from(head.brought).unwrap_or(usize::MAX);
    let limit = brought.saturating_mul(2).clamp(TRIMMED_MIN, TRIMMED_MAX);
    let after = found.place.event(head.first.saturating_sub(1));
    let entries = TABLE.scan(&found.place.events(), Some(&after), u32::try_from(limit).unwrap_or(u32::MAX))?;
    let next = Found { head: head.clone(), ..found.clone() };
    // Where nothing is left of what was there, the new events are the first.
    (head.first, head.start, head.first_ms) = (found.head.next, found.head.end, now_ms);
    for entry in &entries {
        let stored = Stored::decode(&entry.value).map_err(damaged)?;
        let Some(sequence) = key::last_number(&entry.key) else { continue };
        (head.first, head.start, head.first_ms) = (sequence, stored.offset, stored.time_ms);
        if next.keeps(sequence, stored.time_ms, stored.offset, now_ms) {
            return Ok(());
        }
        for key in topic::event_keys(&found.place, entry) {
            batch.delete(key, Condition::Always);
        }
        (head.first, head.start) = (sequence + 1, stored.offset + entry.value.len() as u64);
    }
    Ok(())
}
