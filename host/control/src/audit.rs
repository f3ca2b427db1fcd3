//! The audit trail: who asked for what, and what became of it.
//!
//! Invariant: a record never keeps an action from being done. One that can't be written is logged instead.

use std::sync::Arc;

use bytes::Bytes;
use platform_storage::{Error as StorageError, Item, Scope, Storage};
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::{
    error::{Error, Result},
    followed::OWNER,
};

const JOURNAL: &str = "audit";
/// Records that are kept, at least.
const RECORDS_MAX: u64 = 100_000;
/// Records between two trims.
const TRIM_EVERY: u64 = 1000;
/// Records read at once.
const BATCH: u64 = 500;
/// Records that are told of at once.
const TOLD_AT_ONCE: usize = 100;
/// Longest text of a record, in characters.
const TEXT_CHARS_MAX: usize = 2000;

/// One change that was made or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Number of the record.
    pub sequence: u64,
    /// When: unix time in nanoseconds.
    pub time_ns: u64,
    /// What happened.
    pub event: AuditEvent,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// Who asked: a subject, `config` for the configuration file, or `daemon` for a daemon itself.
    pub caller: String,
    /// What was asked: `install`, `grant`, `bind`, `rollout`, `promote`, `abort`, `unbind`, `rollback`, `uninstall`, `revoke` or
    /// `withdraw`; `stop` for a rollout that stopped by itself.
    pub action: String,
    /// Slot or plugin that it was about.
    pub subject: String,
    /// Whether it was done.
    pub done: bool,
    /// What changed, or why it was refused.
    pub detail: String,
}

/// The audit trail.
#[derive(Debug)]
pub(crate) struct Audit {
    storage: Arc<dyn Storage>,
    scope: Scope,
}

impl Audit {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, scope: Scope::new(OWNER, "") }
    }

    /// Writes what became of an action.
    pub(crate) async fn note<T>(
        &self, caller: &str, action: &str, subject: &str, result: &Result<T>, detail: impl FnOnce(&T) -> String,
    ) {
        let text = |text: &str| text.chars().take(TEXT_CHARS_MAX).collect::<String>();
        let (done, detail) = match result {
            Ok(value) => (true, detail(value)),
            Err(error) => (false, error.to_string()),
        };
        let event = AuditEvent {
            caller: text(caller),
            action: action.to_owned(),
            subject: text(subject),
            done,
            detail: text(&detail),
        };
        tracing::info!(caller = event.caller, action, subject = event.subject, done, detail = event.detail, "audit");
        let appended = match serde_json::to_vec(&event) {
            Ok(data) => self.storage.append(&self.scope, JOURNAL, vec![Bytes::from(data)]).await,
            Err(error) => Err(StorageError::Invalid(error.to_string())),
        };
        match appended {
            Ok(sequence) if sequence % TRIM_EVERY == 0 => {
                let before = sequence.saturating_sub(RECORDS_MAX);
                if let Err(error) = self.storage.trim(&self.scope, JOURNAL, before).await {
                    tracing::warn!(%error, "the audit trail could not be trimmed");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, ?event, "the audit trail could not be written"),
        }
    }

    /// Records after a number, the oldest first; waits up to `wait` for the first one.
    pub(crate) async fn after(&self, number: u64, wait: Duration) -> Result<Vec<AuditRecord>> {
        let (first, _) = self.storage.bounds(&self.scope, JOURNAL).await?;
        let from = first.max(number.saturating_add(1));
        let items = self.storage.read(&self.scope, JOURNAL, from, TOLD_AT_ONCE, wait).await?;
        items.into_iter().map(|item| record(&item)).collect()
    }

    /// Records before the number `before` (none: all), the newest first, at most `limit`, about `subject` unless that is
    /// empty.
    pub(crate) async fn read(&self, before: Option<u64>, limit: usize, subject: &str) -> Result<Vec<AuditRecord>> {
        let (first, last) = self.storage.bounds(&self.scope, JOURNAL).await?;
        let mut end = before.map_or(last + 1, |before| before.min(last + 1));
        let mut records = Vec::new();
        while end > first && records.len() < limit {
            let from = end.saturating_sub(BATCH).max(first);
            let count = usize::try_from(end - from).unwrap_or(usize::MAX);
            let items = match self.storage.read(&self.scope, JOURNAL, from, count, Duration::ZERO).await {
                Ok(items) => items,
                // What was trimmed in the meantime is the oldest, and the last to be read.
                Err(StorageError::Compacted(_)) => break,
                Err(error) => return Err(error.into()),
            };
            for item in items.into_iter().rev().filter(|item| item.sequence < end) {
                let record = record(&item)?;
                if subject.is_empty() || is_about(&record.event.subject, subject) {
                    records.push(record);
                    if records.len() == limit {
                        break;
                    }
                }
            }
            end = from;
        }
        Ok(records)
    }
}

fn record(item: &Item) -> Result<AuditRecord> {
    let event = serde_json::from_slice(&item.data)
        .map_err(|error| Error::Record { key: format!("{JOURNAL} {}", item.sequence), why: error.to_string() })?;
    Ok(AuditRecord { sequence: item.sequence, time_ns: item.time_ns, event })
}

/// A plugin's name stands for all of its versions.
fn is_about(recorded: &str, subject: &str) -> bool {
    recorded == subject || recorded.split_once('@').is_some_and(|(name, _)| name == subject)
}

#[cfg(test)]
mod tests {
    use platform_storage::{Memory, Options};

    use super::*;

    #[tokio::test]
    async fn records_come_newest_first_in_pages_and_by_subject() {
        let audit = Audit::new(Arc::new(Memory::new(Options::default())));
        assert_eq!(audit.read(None, 10, "").await.unwrap(), []);
        for number in 0..1100 {
            let subject = if number % 2 == 0 { "kv.store" } else { "auth@0.1.0" };
            audit.note("ada", "bind", subject, &Ok(number), ToString::to_string).await;
        }
        audit.note("eve", "bind", "kv.store", &Err::<(), _>(Error::Stopping), |()| String::new()).await;
        let page = audit.read(None, 3, "").await.unwrap();
        assert_eq!(page.iter().map(|record| record.sequence).collect::<Vec<_>>(), [1101, 1100, 1099]);
        assert!(!page[0].event.done && page[0].event.detail.contains("stopping"));
        let next = audit.read(Some(1099), 2, "").await.unwrap();
        assert_eq!(next.iter().map(|record| record.sequence).collect::<Vec<_>>(), [1098, 1097]);
        let auth = audit.read(None, 1000, "auth").await.unwrap();
        assert_eq!(auth.len(), 550);
        assert_eq!(auth.last().unwrap().sequence, 2);
    }
}
