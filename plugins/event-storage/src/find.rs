//! Reading: events in order, by what they are, and as they come.

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use platform_sdk::{
    codec::Malformed,
    context,
    event::{Error, Event, Query, Result, selects},
    storage::Change,
};

use crate::{
    TABLE, damaged,
    key::{self, Place},
    record::Stored,
    topic::{self, Found},
};

/// Most bytes of data in one answer.
const BYTES_MAX: usize = 8 << 20;
/// Events that are read at once.
const PAGE: u32 = 250;
/// Pages that one call looks through.
const PAGES_MAX: u32 = 8;
/// Most data that a change carries.
const CHANGE_BYTES: usize = 16 << 10;

/// Events from a sequence on or back, and whether there are more.
pub(crate) fn read(name: &str, from: u64, limit: u32, reverse: bool) -> Result<(Vec<Event>, bool)> {
    let found = topic::load(name)?;
    let now_ms = context::time_ms();
    if reverse { back(&found, from, limit, now_ms) } else { forth(&found, from, limit, now_ms) }
}

fn forth(found: &Found, from: u64, limit: u32, now_ms: u64) -> Result<(Vec<Event>, bool)> {
    let mut after = found.place.event(from.max(found.head.first).saturating_sub(1));
    let (mut events, mut bytes) = (Vec::new(), 0);
    loop {
        let entries = TABLE.scan(&found.place.events(), Some(&after), limit)?;
        let Some(last) = entries.last() else { return Ok((events, false)) };
        after.clone_from(&last.key);
        for entry in &entries {
            let Some(event) = found.event(entry, now_ms)? else { continue };
            bytes += event.content.data.len();
            if !events.is_empty() && (bytes > BYTES_MAX || events.len() >= limit as usize) {
                return Ok((events, true));
            }
            events.push(event);
        }
    }
}

fn back(found: &Found, from: u64, limit: u32, now_ms: u64) -> Result<(Vec<Event>, bool)> {
    let last = if from == 0 { found.head.next - 1 } else { from.min(found.head.next - 1) };
    let lowest = last.saturating_sub(u64::from(limit) - 1).max(found.head.first);
    let mut after = found.place.event(lowest.saturating_sub(1));
    let (mut events, mut bytes, mut cut) = (VecDeque::new(), 0, false);
    'pages: loop {
        let entries = TABLE.scan(&found.place.events(), Some(&after), limit)?;
        let Some(end) = entries.last() else { break };
        after.clone_from(&end.key);
        for entry in &entries {
            let Some(event) = found.event(entry, now_ms)? else { continue };
            if event.sequence > last {
                break 'pages;
            }
            bytes += event.content.data.len();
            events.push_front(event);
            while bytes > BYTES_MAX && events.len() > 1 {
                let gone = events.pop_back();
                bytes -= gone.map_or(0, |event: Event| event.content.data.len());
                cut = true;
            }
        }
    }
    let more = cut || (lowest > found.head.first && !events.is_empty());
    Ok((events.into(), more))
}

/// Events that a query asks for, and where to go on.
pub(crate) fn find(query: &Query, after: Option<&str>, limit: u32) -> Result<(Vec<Event>, Option<String>)> {
    match (&query.root, &query.topic) {
        (Some(root), _) => of_root(query, root, after, limit),
        (None, Some(topic)) => of_topic(query, topic, after, limit),
        (None, None) => Err(Error::Invalid("a search names a topic or a root".into())),
    }
}

/// What came of an event, by time. The place of each is the end of its key.
fn of_root(query: &Query, root: &str, after: Option<&str>, limit: u32) -> Result<(Vec<Event>, Option<String>)> {
    let prefix = key::roots(root);
    let place = |position: &str| {
        let place = format!("{prefix}{position}");
        let known = key::root_parts(&prefix, &place).is_some();
        if known { Ok(place) } else { Err(Error::Invalid("the position to go on after is none".into())) }
    };
    let after = after.map(place).transpose()?;
    let mut places = if query.reverse {
        places_back(query, &prefix, after.as_deref(), limit)?
    } else {
        places_forth(query, &prefix, after.as_deref(), limit)?
    };
    let full = places.len() >= limit as usize;
    let mut events = Vec::new();
    let (mut topics, mut bytes, mut reached) = (BTreeMap::new(), 0, None);
    let now_ms = context::time_ms();
    for key in places.drain(..) {
        let (_, name, place, sequence) = key::root_parts(&prefix, &key).ok_or_else(|| damaged(Malformed))?;
        if query.topic.as_ref().is_none_or(|wanted| wanted == name)
            && let Some(event) = event_at(&mut topics, name, &place, sequence, now_ms)?
            && selects(&query.types, &event.content.type_)
        {
            bytes += event.content.data.len();
            if bytes > BYTES_MAX && !events.is_empty() {
                return Ok((events, reached));
            }
            events.push(event);
        }
        reached = key.strip_prefix(&prefix).map(ToOwned::to_owned);
    }
    Ok((events, reached.filter(|_| full)))
}

/// The event under a place, unless it or its topic has gone.
fn event_at(
    topics: &mut BTreeMap<String, Option<Found>>, name: &str, place: &Place, sequence: u64, now_ms: u64,
) -> Result<Option<Event>> {
    let found = match topics.entry(name.to_owned()) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(unknown) => unknown.insert(topic::find(name)?),
    };
    let Some(found) = found else { return Ok(None) };
    if found.place != *place {
        return Ok(None);
    }
    match TABLE.get(&place.event(sequence))? {
        Some(entry) => found.event(&entry, now_ms),
        None => Ok(None),
    }
}

fn places_forth(query: &Query, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>> {
    // `"` follows `!`, so that this sorts after all keys of the time before.
    let start = query.from_ms.checked_sub(1).map(|time| format!("{prefix}{time:016x}\""));
    let after = after.map(ToOwned::to_owned).max(start);
    let entries = TABLE.scan(prefix, after.as_deref(), limit)?;
    let within = |key: &String| key::root_parts(prefix, key).is_some_and(|(time, ..)| time <= query.to_ms);
    Ok(entries.into_iter().map(|entry| entry.key).take_while(within).collect())
}

/// Storage only scans forth, and what came of one event is not that much: the last places before a position.
fn places_back(query: &Query, prefix: &str, before: Option<&str>, limit: u32) -> Result<Vec<String>> {
    let mut after = query.from_ms.checked_sub(1).map(|time| format!("{prefix}{time:016x}\""));
    let mut places = VecDeque::new();
    loop {
        let entries = TABLE.scan(prefix, after.as_deref(), 1000)?;
        let Some(last) = entries.last() else { break };
        after = Some(last.key.clone());
        for entry in entries {
            let late = key::root_parts(prefix, &entry.key).is_none_or(|(time, ..)| time > query.to_ms);
            if late || before.is_some_and(|before| entry.key.as_str() >= before) {
                return Ok(places.into());
            }
            places.push_front(entry.key);
            places.truncate(limit as usize);
        }
    }
    Ok(places.into())
}

/// Events of a topic by time. The place of each is its sequence.
fn of_topic(query: &Query, name: &str, after: Option<&str>, limit: u32) -> Result<(Vec<Event>, Option<String>)> {
    let found = topic::load(name)?;
    let position = |text: &str| {
        text.parse::<u64>().ok().ok_or_else(|| Error::Invalid("the position to go on after is none".into()))
    };
    let after = after.map(position).transpose()?;
    let now_ms = context::time_ms();
    let mut from = match (after, query.reverse) {
        (Some(after), false) => after.saturating_add(1),
        (Some(after), true) => after.saturating_sub(1),
        (None, false) => at_time(&found, query.from_ms)?,
        (None, true) if query.to_ms == u64::MAX => found.head.next - 1,
        (None, true) => at_time(&found, query.to_ms + 1)? - 1,
    };
    let (mut events, mut bytes) = (Vec::new(), 0);
    for _ in 0..PAGES_MAX {
        if query.reverse && from == 0 {
            return Ok((events, None));
        }
        let (page, more) =
            if query.reverse { back(&found, from, PAGE, now_ms)? } else { forth(&found, from, PAGE, now_ms)? };
        for event in page {
            let over = if query.reverse { event.time_ms < query.from_ms } else { event.time_ms > query.to_ms };
            if over {
                return Ok((events, None));
            }
            let sequence = event.sequence;
            if selects(&query.types, &event.content.type_) {
                bytes += event.content.data.len();
                if !events.is_empty() && (bytes > BYTES_MAX || events.len() >= limit as usize) {
                    let reached = if query.reverse { sequence + 1 } else { sequence - 1 };
                    return Ok((events, Some(reached.to_string())));
                }
                events.push(event);
            }
            from = if query.reverse { sequence - 1 } else { sequence + 1 };
        }
        if !more {
            return Ok((events, None));
        }
    }
    let reached = if query.reverse { from + 1 } else { from - 1 };
    Ok((events, Some(reached.to_string())))
}

/// Sequence of the first event that is not before a time.
pub(crate) fn at_time(found: &Found, time_ms: u64) -> Result<u64> {
    let (mut low, mut high) = (found.head.first, found.head.next);
    while low < high {
        let middle = low + (high - low) / 2;
        // One that has expired was before any that has not.
        let before = match TABLE.get(&found.place.event(middle))? {
            Some(entry) => Stored::decode(&entry.value).map_err(damaged)?.time_ms < time_ms,
            None => true,
        };
        if before {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Events with a revision greater than `after`. They are told by the records of topics: what retention removes is no news.
pub(crate) fn changes(selector: &str, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Event>> {
    let mut ranges: BTreeMap<String, (Found, u64, u64)> = BTreeMap::new();
    let (mut count, mut revision) = (0_u64, 0);
    for change in TABLE.changes(&key::topic(selector), after, limit, wait_ms)? {
        let Change::Put(entry) = change else { continue };
        // What one commit brought to several topics is told together.
        if count >= u64::from(limit) && entry.revision != revision {
            break;
        }
        revision = entry.revision;
        let found = Found::of(&entry)?;
        if !selector.is_empty() && found.name != selector {
            continue;
        }
        count += found.head.brought;
        let (from, to) = (found.head.next - found.head.brought, found.head.next);
        match ranges.get_mut(&found.name) {
            Some(range) if range.0.place == found.place => (range.0, range.2) = (found, to),
            _ => drop(ranges.insert(found.name.clone(), (found, from, to))),
        }
    }
    let mut events = Vec::new();
    for (found, mut from, to) in ranges.into_values() {
        while from < to {
            let entries = TABLE.scan(&found.place.events(), Some(&found.place.event(from.saturating_sub(1))), PAGE)?;
            let Some(last) = entries.last().and_then(|entry| key::last_number(&entry.key)) else { break };
            for entry in &entries {
                // Age is for the reader to look at: what was published has happened.
                if let Some(mut event) = found.event(entry, 0)?.filter(|event| event.sequence < to) {
                    if event.content.data.len() > CHANGE_BYTES {
                        event.content.data = Vec::new();
                    }
                    events.push(event);
                }
            }
            from = last + 1;
        }
    }
    events.sort_by_key(|event| (event.revision, event.sequence));
    Ok(events)
}
