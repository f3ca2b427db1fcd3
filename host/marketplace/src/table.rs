//! [`Table`]: what is known of repositories, in one table of storage.
//!
//! Owns keys and records; must not know when they change. Everything is in one table, so that what belongs together changes in one commit. Each
//! repository has a record that all its changes renew on the condition that it is what they read: so each change saw all before it.

use std::sync::Arc;

use bytes::Bytes;
use platform_runtime::Digest;
use platform_storage::{Condition, Entry, MAX_LIMIT, Scope, Storage, Write};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    error::{Error, Result},
    name::{RepositoryName, Tag},
};

const OWNER: &str = "_marketplace";
const TABLE: &str = "registry";

/// What a repository is: there, and renewed by each change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Manifests that it holds.
    pub(crate) manifests: u64,
}

/// Where a tag leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tagged {
    pub(crate) digest: Digest,
    pub(crate) at_ms: u64,
    /// A version that was deleted: it is not there, and still is nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) gone: bool,
}

/// What is known of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) media_type: String,
    pub(crate) size: u64,
    pub(crate) at_ms: u64,
    /// Who pushed it.
    pub(crate) by: String,
    /// Blobs that it names.
    pub(crate) blobs: Vec<Digest>,
    /// What it refers to.
    pub(crate) subject: Option<Digest>,
    /// Whether it is a component's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_component: bool,
}

/// A blob of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Linked {
    pub(crate) size: u64,
    pub(crate) at_ms: u64,
}

/// What is kept of a component beside its versions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Beside {
    /// JSON Schema of its settings.
    #[serde(default)]
    pub(crate) settings_schema: Option<Value>,
}

/// Keys. No name, tag or digest holds an `@`.
pub(crate) mod key {
    use super::{Digest, RepositoryName, Tag};

    pub(crate) const REPOSITORIES: &str = "n:";
    pub(crate) const LINKS: &str = "b:";
    pub(crate) const LISTINGS: &str = "s:";

    pub(crate) fn head(repository: &RepositoryName) -> String {
        format!("{REPOSITORIES}{repository}")
    }

    pub(crate) fn tags(repository: &RepositoryName) -> String {
        format!("t:{repository}@")
    }

    pub(crate) fn tag(repository: &RepositoryName, tag: &Tag) -> String {
        format!("t:{repository}@{tag}")
    }

    pub(crate) fn manifests(repository: &RepositoryName) -> String {
        format!("i:{repository}@")
    }

    pub(crate) fn manifest(repository: &RepositoryName, digest: Digest) -> String {
        format!("i:{repository}@{digest}")
    }

    pub(crate) fn bytes(repository: &RepositoryName, digest: Digest) -> String {
        format!("m:{repository}@{digest}")
    }

    pub(crate) fn links(digest: Digest) -> String {
        format!("{LINKS}{digest}@")
    }

    pub(crate) fn link(digest: Digest, repository: &RepositoryName) -> String {
        format!("{LINKS}{digest}@{repository}")
    }

    /// There while the bytes of an upload are being kept; among the links, so that whoever looks for those finds it too.
    pub(crate) fn coming(digest: Digest, upload: &str) -> String {
        format!("{LINKS}{digest}@!{upload}")
    }

    pub(crate) fn referrers(repository: &RepositoryName, subject: Digest) -> String {
        format!("r:{repository}@{subject}@")
    }

    pub(crate) fn referrer(repository: &RepositoryName, subject: Digest, digest: Digest) -> String {
        format!("r:{repository}@{subject}@{digest}")
    }

    pub(crate) fn versions(repository: &RepositoryName) -> String {
        format!("l:{repository}@")
    }

    pub(crate) fn version(repository: &RepositoryName, tag: &Tag) -> String {
        format!("l:{repository}@{tag}")
    }

    pub(crate) fn listing(repository: &RepositoryName) -> String {
        format!("{LISTINGS}{repository}")
    }

    /// There for bytes that are a component.
    pub(crate) fn component(repository: &RepositoryName, component: Digest) -> String {
        format!("c:{repository}@{component}")
    }

    /// What came of trying a component.
    pub(crate) fn report(component: Digest) -> String {
        format!("e:{component}")
    }

    pub(crate) fn downloads(repository: &RepositoryName) -> String {
        format!("d:{repository}")
    }

    pub(crate) fn owner(folded: &str) -> String {
        format!("o:{folded}")
    }

    /// There while the bytes of a digest are removed.
    pub(crate) fn leaving(digest: Digest) -> String {
        format!("x:{digest}")
    }
}

/// The table.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    storage: Arc<dyn Storage>,
    scope: Scope,
}

impl Table {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, scope: Scope::new(OWNER, "") }
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<Entry>> {
        Ok(self.storage.get(&self.scope, TABLE, key).await?)
    }

    /// What a key holds.
    pub(crate) async fn record<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.get(key).await?.as_ref().map(read).transpose()
    }

    /// What keys hold, all of one moment.
    pub(crate) async fn all(&self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        Ok(self.storage.get_many(&self.scope, TABLE, &keys).await?)
    }

    /// A page of entries, and whether there may be more.
    pub(crate) async fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>> {
        Ok(self.storage.scan(&self.scope, TABLE, prefix, after, limit.clamp(1, MAX_LIMIT)).await?)
    }

    /// All entries under a prefix.
    pub(crate) async fn under(&self, prefix: &str) -> Result<Vec<Entry>> {
        let mut all = Vec::new();
        loop {
            let after = all.last().map(|entry: &Entry| entry.key.clone());
            let page = self.page(prefix, after.as_deref(), MAX_LIMIT).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// Makes all writes or none; whether their conditions held.
    pub(crate) async fn commit(&self, writes: Vec<Write>) -> Result<bool> {
        match self.storage.commit(&self.scope, TABLE, writes).await {
            Ok(_revision) => Ok(true),
            Err(platform_storage::Error::Conflict(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Reads a record.
pub(crate) fn read<T: DeserializeOwned>(entry: &Entry) -> Result<T> {
    serde_json::from_slice(&entry.value)
        .map_err(|error| Error::Unavailable(format!("the record `{}` is damaged: {error}", entry.key)))
}

/// The condition that an entry is what was read.
pub(crate) fn unchanged(entry: Option<&Entry>) -> Condition {
    entry.map_or(Condition::Absent, |entry| Condition::At(entry.revision))
}

/// A write of a record.
pub(crate) fn put<T: Serialize>(key: String, record: &T, condition: Condition) -> Result<Write> {
    let value = serde_json::to_vec(record).map_err(|error| Error::Unavailable(error.to_string()))?;
    Ok(Write::Put { key, value: Bytes::from(value), condition, ttl: None })
}
