//! Topics: made, changed, listed, removed. Owns what retention means: which events of a topic are still there.
//!
//! Invariant: an event that retention has let go is shown to nobody, whether or not its bytes are gone yet.

use std::time::Duration;

use platform_sdk::{
    context,
    event::{Error, Event, Result, Topic, TopicSettings},
    storage::{Condition, Delete, Entry, Put, Write},
};

use crate::{
    TABLE, contended, damaged,
    key::{self, Place},
    record::{Head, Stored},
};

/// Time that is left to an answer when the rest of a removal is put off.
const RESERVE: Duration = Duration::from_millis(500);
/// Most keys that are removed at once.
const REMOVED_AT_ONCE: u32 = 500;
/// Removed topics whose rest is looked after by one call.
const GONE_AT_ONCE: u32 = 4;

/// A topic as it was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) head: Head,
    /// Revision of its record.
    pub(crate) revision: u64,
}

impl Found {
    /// The topic in an entry of the table.
    pub(crate) fn of(entry: &Entry) -> Result<Self> {
        let head = Head::decode(&entry.value).map_err(damaged)?;
        let name = key::last_name(&entry.key).to_owned();
        Ok(Self { place: Place::new(&name, head.number), name, head, revision: entry.revision })
    }

    /// An event in an entry of the table; none when retention has let it go.
    pub(crate) fn event(&self, entry: &Entry, now_ms: u64) -> Result<Option<Event>> {
        let sequence = key::last_number(&entry.key).ok_or_else(|| damaged(platform_sdk::codec::Malformed))?;
        let Stored { time_ms, offset, content } = Stored::decode(&entry.value).map_err(damaged)?;
        if !self.keeps(sequence, time_ms, offset, now_ms) {
            return Ok(None);
        }
        let topic = self.name.clone();
        Ok(Some(Event { topic, sequence, time_ms, revision: entry.revision, content }))
    }

    /// Whether retention keeps an event.
    pub(crate) fn keeps(&self, sequence: u64, time_ms: u64, offset: u64, now_ms: u64) -> bool {
        let (head, settings) = (&self.head, &self.head.settings);
        sequence >= head.first
            // One that is newer than this record is counted by no rule yet.
            && (sequence >= head.next
                || (settings.count.is_none_or(|count| head.next - sequence <= count)
                    && settings.bytes.is_none_or(|bytes| {
                        head.end.saturating_sub(offset) <= bytes || sequence + 1 == head.next
                    })))
            && settings.age_ms.is_none_or(|age| time_ms.saturating_add(age) > now_ms)
    }

    /// The oldest event that is kept, with its offset.
    pub(crate) fn oldest(&self, now_ms: u64) -> Result<Option<(u64, u64)>> {
        let mut after = self.place.event(self.head.first.saturating_sub(1));
        if let Some(count) = self.head.settings.count {
            after = after.max(self.place.event(self.head.next.saturating_sub(count.saturating_add(1))));
        }
        loop {
            let entries = TABLE.scan(&self.place.events(), Some(&after), 8)?;
            let Some(last) = entries.last() else { return Ok(None) };
            after.clone_from(&last.key);
            for entry in &entries {
                let Some(sequence) = key::last_number(&entry.key) else { continue };
                let stored = Stored::decode(&entry.value).map_err(damaged)?;
                if self.keeps(sequence, stored.time_ms, stored.offset, now_ms) {
                    return Ok(Some((sequence, stored.offset)));
                }
            }
        }
    }

    /// What is told of it.
    fn told(&self) -> Result<Topic> {
        let head = &self.head;
        let settings = &head.settings;
        let limited = settings.age_ms.is_some() || settings.count.is_some() || settings.bytes.is_some();
        let oldest = if limited { self.oldest(context::time_ms())? } else { Some((head.first, head.start)) };
        let (first, start) = oldest.unwrap_or((head.next, head.end));
        Ok(Topic {
            name: self.name.clone(),
            settings: *settings,
            created_ms: head.created_ms,
            first,
            last: head.next - 1,
            bytes: head.end.saturating_sub(start),
        })
    }
}

/// The topic of this name.
pub(crate) fn load(name: &str) -> Result<Found> {
    platform_sdk::event::check_name("topic", name)?;
    find(name)?.ok_or_else(|| missing(name))
}

/// The topic of this name, if there is one.
pub(crate) fn find(name: &str) -> Result<Option<Found>> {
    TABLE.get(&key::topic(name))?.as_ref().map(Found::of).transpose()
}

fn missing(name: &str) -> Error {
    Error::NotFound(format!("there is no topic `{name}`"))
}

/// A topic that has no predecessor to be taken for.
pub(crate) fn fresh(settings: TopicSettings) -> Head {
    Head::new(context::time_ns(), settings, context::time_ms())
}

pub(crate) fn put(name: &str, settings: TopicSettings, create: bool) -> Result<Topic> {
    platform_sdk::event::check_name("topic", name)?;
    sweep_gone()?;
    let key = key::topic(name);
    for () in context::attempts() {
        let (head, condition) = match (find(name)?, create) {
            (Some(_), true) => return Err(Error::Exists(format!("there is a topic `{name}` already"))),
            (None, true) => (fresh(settings), Condition::Absent),
            (None, false) => return Err(missing(name)),
            (Some(found), false) => (Head { settings, brought: 0, ..found.head }, Condition::At(found.revision)),
        };
        match TABLE.put(&key, &head.encode(), condition, None) {
            Ok(revision) => {
                let place = Place::new(name, head.number);
                return Found { name: name.to_owned(), place, head, revision }.told();
            }
            Err(platform_sdk::storage::Error::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(contended(name))
}

pub(crate) fn get(name: &str) -> Result<Topic> {
    load(name)?.told()
}

pub(crate) fn list(prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Topic>> {
    let after = after.map(key::topic);
    let entries = TABLE.scan(&key::topic(prefix), after.as_deref(), limit)?;
    entries.iter().map(|entry| Found::of(entry)?.told()).collect()
}

pub(crate) fn delete(name: &str) -> Result<()> {
    for () in context::attempts() {
        let found = load(name)?;
        let (key, gone) = (key::topic(name), found.place.gone());
        let removed = TABLE.commit(&[
            Write::Delete(Delete { key: &key, condition: Condition::At(found.revision) }),
            Write::Put(Put { key: &gone, value: &[], condition: Condition::Always, ttl_ms: None }),
        ]);
        match removed {
            Ok(_) => return sweep_gone(),
            Err(platform_sdk::storage::Error::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(contended(name))
}

/// Removes what is left of removed topics, as far as time allows; the next call goes on.
fn sweep_gone() -> Result<()> {
    for entry in TABLE.scan(key::GONE, None, GONE_AT_ONCE)? {
        let Some(place) = Place::of_gone(&entry.key) else { continue };
        if !sweep_events(&place)? {
            return Ok(());
        }
        for prefix in place.all() {
            if !sweep(&prefix)? {
                return Ok(());
            }
        }
        TABLE.delete(&entry.key, Condition::Always)?;
    }
    Ok(())
}

/// Removes events with their places among what came of others; whether all are gone.
fn sweep_events(place: &Place) -> Result<bool> {
    while context::remaining() > RESERVE {
        let entries = TABLE.scan(&place.events(), None, REMOVED_AT_ONCE)?;
        if entries.is_empty() {
            return Ok(true);
        }
        remove(&entries.iter().flat_map(|entry| event_keys(place, entry)).collect::<Vec<_>>())?;
    }
    Ok(false)
}

/// The keys that go with an event; that of a damaged one alone.
pub(crate) fn event_keys(place: &Place, entry: &Entry) -> Vec<String> {
    let mut keys = vec![entry.key.clone()];
    if let (Some(sequence), Ok(stored)) = (key::last_number(&entry.key), Stored::decode(&entry.value)) {
        keys.push(place.root(&stored.content.root, stored.time_ms, sequence));
    }
    keys
}

/// Removes all keys with a prefix, as far as time allows; whether all are gone.
pub(crate) fn sweep(prefix: &str) -> Result<bool> {
    while context::remaining() > RESERVE {
        let entries = TABLE.scan(prefix, None, REMOVED_AT_ONCE)?;
        if entries.is_empty() {
            return Ok(true);
        }
        remove(&entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>())?;
    }
    Ok(false)
}

fn remove(keys: &[String]) -> Result<()> {
    let writes: Vec<_> = keys.iter().map(|key| Write::Delete(Delete { key, condition: Condition::Always })).collect();
    TABLE.commit(&writes)?;
    Ok(())
}
