//! What nothing names any more is removed: blobs that no manifest of their repository names, and bytes that are no repository's.
//!
//! Must not know who pushed them. Invariant: nothing is removed that a manifest names, or that is just being pushed, by whichever daemon: each removal is a
//! commit on the condition that what it was decided by is the same still.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use platform_base::clock;
use platform_runtime::Digest;
use platform_storage::{Condition, Entry, Write};
use serde_json::json;

use crate::{
    error::Result,
    name::RepositoryName,
    store::Store,
    table::{Kept, Linked, key, put, read, unchanged},
};

/// Longest that the removal of bytes takes, after which others may push them again.
const LEAVING: Duration = Duration::from_secs(600);

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    pub(crate) links: usize,
    pub(crate) blobs: usize,
}

impl Store {
    /// Removes blobs that have been there for `age_ms` and that no manifest names.
    pub(crate) async fn sweep(&self, age_ms: u64) -> Result<Swept> {
        let mut swept = Swept::default();
        let oldest_ms = clock::unix_ms().saturating_sub(age_ms);
        let mut old: BTreeMap<RepositoryName, Vec<(Digest, Entry)>> = BTreeMap::new();
        for entry in self.table.under(key::LINKS).await? {
            let Some((digest, repository)) = parts(&entry.key) else { continue };
            if read::<Linked>(&entry)?.at_ms <= oldest_ms {
                old.entry(repository).or_default().push((digest, entry));
            }
        }
        for (repository, links) in old {
            swept.links += self.unlink(&repository, links).await?;
        }
        let kept: BTreeSet<Digest> =
            self.table.under(key::LINKS).await?.iter().filter_map(|entry| Some(parts(&entry.key)?.0)).collect();
        for digest in self.blobs.all().await?.difference(&kept) {
            swept.blobs += usize::from(self.forget(*digest).await?);
        }
        Ok(swept)
    }

    /// Takes blobs from a repository that none of its manifests names.
    async fn unlink(&self, repository: &RepositoryName, links: Vec<(Digest, Entry)>) -> Result<usize> {
        let head_key = key::head(repository);
        let head = self.table.get(&head_key).await?;
        let mut named = BTreeSet::new();
        for entry in self.table.under(&key::manifests(repository)).await? {
            named.extend(read::<Kept>(&entry)?.blobs);
        }
        let mut removed = 0;
        for (digest, entry) in links.into_iter().filter(|(digest, _)| !named.contains(digest)) {
            // A manifest that was pushed meanwhile renewed the head.
            let writes = vec![
                Write::Check { key: head_key.clone(), condition: unchanged(head.as_ref()) },
                Write::Delete { key: key::link(digest, repository), condition: Condition::At(entry.revision) },
            ];
            removed += usize::from(self.table.commit(writes).await?);
        }
        Ok(removed)
    }

    /// Removes bytes that no repository has; whether they were removed. Whoever pushes them meanwhile waits, or was first.
    async fn forget(&self, digest: Digest) -> Result<bool> {
        let leaving = key::leaving(digest);
        let claim = match put(leaving.clone(), &json!({}), Condition::Absent)? {
            Write::Put { key, value, condition, .. } => Write::Put { key, value, condition, ttl: Some(LEAVING) },
            other => other,
        };
        if !self.table.commit(vec![claim]).await? {
            return Ok(false);
        }
        let removed = if self.table.page(&key::links(digest), None, 1).await?.is_empty() {
            self.blobs.remove(digest).await.map(|()| true)
        } else {
            Ok(false)
        };
        let mut writes = vec![Write::Delete { key: leaving, condition: Condition::Always }];
        if matches!(removed, Ok(true)) {
            writes.push(Write::Delete { key: key::report(digest), condition: Condition::Always });
        }
        self.table.commit(writes).await?;
        removed
    }
}

/// Digest and repository of a link's key.
fn parts(key: &str) -> Option<(Digest, RepositoryName)> {
    let (digest, repository) = key.strip_prefix(key::LINKS)?.split_once('@')?;
    Some((digest.parse().ok()?, repository.parse().ok()?))
}
