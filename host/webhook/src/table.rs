//! The table of webhooks in storage.
//!
//! Must not know what a webhook does. Invariant: a change is made to what was read, or not at all.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use platform_storage::{Change, Condition, Entry, Error, MAX_LIMIT, Scope, Storage, Write};

use crate::{
    error::WebhookError,
    record::{Key, Webhook},
};

/// Owner of what is kept here, in storage.
pub(crate) const OWNER: &str = "_webhook";
const TABLE: &str = "webhooks";
/// How often a change is tried again when another came between.
const TRIES: u32 = 16;

type Result<T, E = WebhookError> = std::result::Result<T, E>;

/// A webhook, and the revision of the commit that wrote it.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) key: Key,
    pub(crate) webhook: Webhook,
    pub(crate) revision: u64,
}

impl Kept {
    fn of(entry: &Entry) -> Result<Self> {
        let damaged = |why: String| WebhookError::Damaged(format!("`{}`: {why}", entry.key.escape_debug()));
        let key = Key::parse(&entry.key).ok_or_else(|| damaged("its key is none".to_owned()))?;
        let webhook = serde_json::from_slice(&entry.value).map_err(|error| damaged(error.to_string()))?;
        Ok(Self { key, webhook, revision: entry.revision })
    }
}

/// What became of a webhook.
#[derive(Debug)]
pub(crate) enum News {
    /// It is there.
    Kept(Box<Kept>),
    /// It is not.
    Gone(Key),
}

#[derive(Debug, Clone)]
pub(crate) struct Table {
    storage: Arc<dyn Storage>,
    scope: Scope,
}

impl Table {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, scope: Scope::new(OWNER, "") }
    }

    pub(crate) async fn get(&self, key: &Key) -> Result<Kept> {
        let entry = self.storage.get(&self.scope, TABLE, &key.to_string()).await?;
        Kept::of(&entry.ok_or_else(|| missing(key))?)
    }

    /// Webhooks whose keys start with `prefix` and are greater than `after`, in byte order.
    pub(crate) async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Kept>> {
        let entries = self.storage.scan(&self.scope, TABLE, prefix, after, limit).await?;
        entries.iter().map(Kept::of).collect()
    }

    /// All webhooks, and the revision at which these are all. What can't be read is logged and left out.
    pub(crate) async fn all(&self) -> Result<(Vec<Kept>, u64)> {
        let revision = self.storage.revision(&self.scope, TABLE).await?;
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let entries = self.storage.scan(&self.scope, TABLE, "", after.as_deref(), MAX_LIMIT).await?;
            let Some(last) = entries.last() else { return Ok((found, revision)) };
            after = Some(last.key.clone());
            for entry in &entries {
                match Kept::of(entry) {
                    Ok(kept) => found.push(kept),
                    Err(error) => tracing::error!(%error, "a webhook does not deliver"),
                }
            }
        }
    }

    /// What changed after a revision, and the revision then; none when that is no longer known.
    pub(crate) async fn changes(&self, after: u64, wait: Duration) -> Result<Option<(Vec<News>, u64)>> {
        let changes = match self.storage.changes(&self.scope, TABLE, "", after, MAX_LIMIT, wait).await {
            Err(Error::Compacted(_)) => return Ok(None),
            changes => changes?,
        };
        let revision = changes.last().map_or(after, Change::revision);
        let news = changes.iter().filter_map(|change| match change {
            Change::Put(entry) => match Kept::of(entry) {
                Ok(kept) => Some(News::Kept(Box::new(kept))),
                Err(error) => {
                    tracing::error!(%error, "a webhook does not deliver");
                    None
                }
            },
            Change::Delete { key, .. } => Key::parse(key).map(News::Gone),
        });
        Ok(Some((news.collect(), revision)))
    }

    pub(crate) async fn create(&self, key: &Key, webhook: &Webhook) -> Result<u64> {
        self.put(key, webhook, Condition::Absent).await.map_err(|error| match error {
            WebhookError::Contended => {
                WebhookError::Exists { topic: key.topic.clone(), subscription: key.subscription.clone() }
            }
            other => other,
        })
    }

    /// Changes a webhook; what it then is.
    pub(crate) async fn change(&self, key: &Key, change: impl Fn(&mut Webhook)) -> Result<Kept> {
        for _ in 0..TRIES {
            let mut kept = self.get(key).await?;
            let before = kept.webhook.clone();
            change(&mut kept.webhook);
            if kept.webhook == before {
                return Ok(kept);
            }
            match self.put(key, &kept.webhook, Condition::At(kept.revision)).await {
                Ok(revision) => return Ok(Kept { revision, ..kept }),
                Err(WebhookError::Contended) => {}
                Err(error) => return Err(error),
            }
        }
        Err(WebhookError::Contended)
    }

    pub(crate) async fn delete(&self, key: &Key) -> Result<()> {
        let delete = Write::Delete { key: key.to_string(), condition: Condition::Present };
        match self.storage.commit(&self.scope, TABLE, vec![delete]).await {
            Ok(_) => Ok(()),
            Err(Error::Conflict(_)) => Err(missing(key)),
            Err(error) => Err(error.into()),
        }
    }

    async fn put(&self, key: &Key, webhook: &Webhook, condition: Condition) -> Result<u64> {
        let value = serde_json::to_vec(webhook).map_err(|error| WebhookError::Damaged(error.to_string()))?;
        let write = Write::Put { key: key.to_string(), value: Bytes::from(value), condition, ttl: None };
        Ok(self.storage.commit(&self.scope, TABLE, vec![write]).await?)
    }
}

fn missing(key: &Key) -> WebhookError {
    WebhookError::NotFound { topic: key.topic.clone(), subscription: key.subscription.clone() }
}
