//! `config.store` over the platform's durable tables: every version of a configuration, what it held, and their order in
//! time.
//!
//! Its invariant: a version, what it holds and its places in the indexes are one commit, against the version before it.

use platform_sdk::{
    Problem,
    codec::Malformed,
    config::{Change, Content, Error, Result, Store, Version, check_content, check_id, check_limit},
    export,
    storage::{self, Condition, Delete, Entry, Put, Table, Write},
};
use serde::Deserialize;

mod key;
mod record;

use key::Order;
use record::Head;

/// Everything of a namespace; storage keeps namespaces apart.
const TABLE: Table = Table::new("configurations");

/// How often a read is tried again when what it was led to has gone meanwhile.
const TRIES: u32 = 16;
/// Most old versions that go with one commit, when fewer are kept than before.
const COMPACTED_AT_ONCE: u64 = 8;
/// Most versions with their differences that are held at once.
const PAGE_MAX: u32 = 250;

/// How much is kept.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Versions kept of each configuration.
    versions_kept: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { versions_kept: 1000 }
    }
}

/// The store has no state of its own.
struct Durable(Settings);

export!(
    config::Store for Durable,
    mode = "reused",
    grants = ["storage"],
    settings_schema = include_str!("../settings.schema.json")
);

impl Store for Durable {
    type Settings = Settings;

    fn configure(settings: Settings) -> std::result::Result<Self, Problem> {
        if settings.versions_kept == 0 {
            return Err(Problem::new("at least the current version has to be kept").at("/versions_kept"));
        }
        Ok(Self(settings))
    }

    fn self_test(&mut self) -> std::result::Result<(), Problem> {
        TABLE.revision().map(drop).map_err(|error| Problem::new(format!("storage does not answer: {error}")))
    }

    fn get(&mut self, id: &str, number: Option<u64>) -> Result<Option<(Version, Content)>> {
        check_id(id)?;
        for _ in 0..TRIES {
            let Some(Head { version, oldest }) = head(id)?.map(|(head, _)| head) else { return Ok(None) };
            let wanted = number.unwrap_or(version.number);
            if wanted == 0 || wanted > version.number {
                return Ok(None);
            }
            if wanted < oldest {
                return Err(Error::Compacted(oldest));
            }
            let version = if wanted == version.number { Some(version) } else { read_version(id, wanted)?.map(light) };
            let content = TABLE.get(&key::content(id, wanted))?;
            if let (Some(version), Some(content)) = (version, content) {
                return Ok(Some((version, record::decode_content(&content.value).map_err(damaged)?)));
            }
        }
        Err(Error::Unavailable(format!("`{id}` was changed by others {TRIES} times in a row; try again")))
    }

    fn commit(&mut self, id: &str, expected: u64, change: Change, content: Content) -> Result<Version> {
        check_id(id)?;
        check_content(&content)?;
        let found = head(id)?;
        let current = found.as_ref().map_or(0, |(head, _)| head.version.number);
        if current != expected {
            return Err(Error::Conflict(current));
        }
        let (oldest, condition) = match &found {
            Some((head, revision)) => (head.oldest, Condition::At(*revision)),
            None => (1, Condition::Absent),
        };
        let number = current + 1;
        let mut version = Version {
            id: id.to_owned(),
            number,
            revision: 0,
            has_document: content.document.is_some(),
            has_schema: content.schema.is_some(),
            staged: content.candidate.as_ref().map(|candidate| candidate.percent),
            change,
        };
        let gone = self.gone(id, oldest, number)?;
        let kept = oldest + gone.count;
        let time_ms = version.change.time_ms;
        let (head_key, head_record) = (key::head(id), Head::encode(&version, kept));
        let (version_key, version_record) = (key::version(id, number), record::encode_version(&version));
        let (content_key, content_record) = (key::content(id, number), record::encode_content(&content));
        let places = Order::ALL.map(|order| order.key(time_ms, id, number));
        let mut writes = vec![put(&head_key, &head_record, condition)];
        writes.push(put(&version_key, &version_record, Condition::Absent));
        writes.push(put(&content_key, &content_record, Condition::Absent));
        writes.extend(places.iter().map(|place| put(place, &[], Condition::Absent)));
        writes.extend(gone.keys.iter().map(|key| Write::Delete(Delete { key, condition: Condition::Always })));
        match TABLE.commit(&writes) {
            Ok(revision) => {
                version.revision = revision;
                Ok(version)
            }
            Err(storage::Error::Conflict(_)) => {
                Err(Error::Conflict(head(id)?.map_or(0, |(head, _)| head.version.number)))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn history(&mut self, id: &str, from: u64, to: u64, limit: u32, reverse: bool) -> Result<Vec<Version>> {
        check_id(id)?;
        let limit = u64::from(check_limit(limit)?.min(PAGE_MAX));
        let Some((head, _)) = head(id)? else { return Ok(Vec::new()) };
        let (mut first, mut last) = (from.max(head.oldest), to.min(head.version.number));
        if reverse {
            first = first.max(last.saturating_sub(limit - 1));
        } else {
            last = last.min(first.saturating_add(limit - 1));
        }
        let Some(count) = (last + 1).checked_sub(first).filter(|count| *count > 0) else { return Ok(Vec::new()) };
        let after = key::version(id, first.saturating_sub(1));
        let count = u32::try_from(count).unwrap_or(PAGE_MAX);
        let entries = TABLE.scan(&key::versions(id), Some(&after), count)?;
        let mut versions = entries.iter().map(version_of).collect::<Result<Vec<_>>>()?;
        versions.retain(|version| version.number <= last);
        if reverse {
            versions.reverse();
        }
        Ok(versions)
    }

    fn audit(
        &mut self, from_ms: u64, to_ms: u64, after: Option<&str>, limit: u32, reverse: bool,
    ) -> Result<Vec<(String, Version)>> {
        let limit = check_limit(limit)?;
        let order = if reverse { Order::Newest } else { Order::Time };
        let mut place = match after {
            None => order.start(if reverse { to_ms } else { from_ms }),
            Some(position) => {
                let place = format!("{}{position}", order.prefix());
                let invalid = || Error::Invalid("the position to go on after is none".into());
                order.parts(&place).ok_or_else(invalid)?;
                place
            }
        };
        let mut found = Vec::new();
        loop {
            let entries = TABLE.scan(order.prefix(), Some(&place), limit)?;
            let Some(last) = entries.last() else { return Ok(found) };
            place.clone_from(&last.key);
            for entry in entries {
                let (time_ms, id, number) = order.parts(&entry.key).ok_or_else(|| damaged(Malformed))?;
                if (!reverse && time_ms > to_ms) || (reverse && time_ms < from_ms) {
                    return Ok(found);
                }
                // It may have gone since the index was read.
                let Some(version) = read_version(id, number)? else { continue };
                let position = entry.key.strip_prefix(order.prefix()).unwrap_or_default().to_owned();
                found.push((position, version));
                if found.len() >= limit as usize {
                    return Ok(found);
                }
            }
        }
    }

    fn search(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Version>> {
        let after = after.map(key::head);
        let entries = TABLE.scan(&key::head(prefix), after.as_deref(), check_limit(limit)?)?;
        let version = |entry: &Entry| head_of(entry).map(|head| head.version);
        entries.iter().map(version).collect()
    }

    fn changes(&mut self, selector: &str, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Version>> {
        let limit = check_limit(limit)?.min(PAGE_MAX);
        let changes = TABLE.changes(&key::versions(selector), after, limit, wait_ms)?;
        // What is deleted are old versions that are no longer kept, which is no change of a configuration.
        let made = changes.iter().filter_map(|change| match change {
            storage::Change::Put(entry) => Some(version_of(entry).map(light)),
            storage::Change::Delete(_) => None,
        });
        made.collect()
    }

    fn revision(&mut self) -> Result<u64> {
        Ok(TABLE.revision()?)
    }
}

/// Old versions that go with a commit.
struct Gone {
    keys: Vec<String>,
    count: u64,
}

impl Durable {
    /// What goes when version `number` comes.
    fn gone(&self, id: &str, oldest: u64, number: u64) -> Result<Gone> {
        let first_kept = (number + 1).saturating_sub(self.0.versions_kept);
        let count = first_kept.saturating_sub(oldest).min(COMPACTED_AT_ONCE);
        let mut keys = Vec::new();
        for number in oldest..oldest + count {
            if let Some(version) = read_version(id, number)? {
                keys.extend(Order::ALL.map(|order| order.key(version.change.time_ms, id, number)));
            }
            keys.extend([key::version(id, number), key::content(id, number)]);
        }
        Ok(Gone { keys, count })
    }
}

/// The current version, and the revision of its record.
fn head(id: &str) -> Result<Option<(Head, u64)>> {
    let Some(entry) = TABLE.get(&key::head(id))? else { return Ok(None) };
    Ok(Some((head_of(&entry)?, entry.revision)))
}

fn head_of(entry: &Entry) -> Result<Head> {
    let id = entry.key.strip_prefix(key::HEADS).unwrap_or_default();
    Head::decode(id, entry.revision, &entry.value).map_err(damaged)
}

fn read_version(id: &str, number: u64) -> Result<Option<Version>> {
    TABLE.get(&key::version(id, number))?.as_ref().map(version_of).transpose()
}

fn version_of(entry: &Entry) -> Result<Version> {
    record::decode_version(&entry.key, entry.revision, &entry.value).map_err(damaged)
}

/// The version without its difference.
fn light(mut version: Version) -> Version {
    version.change.difference = None;
    version
}

fn put<'a>(key: &'a str, value: &'a [u8], condition: Condition) -> Write<'a> {
    Write::Put(Put { key, value, condition, ttl_ms: None })
}

fn damaged(_: Malformed) -> Error {
    Error::Other("a stored version is damaged or from a newer version of the plugin".into())
}

#[cfg(test)]
mod tests;
