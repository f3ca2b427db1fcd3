//! [`Downloads`]: how often components were pulled.
//!
//! Owns the count; must not know who pulled. Counted in memory and written from time to time, so that a pull waits for no disk; a crash loses the last few seconds.

use std::collections::HashMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    error::Result,
    listing::Listing,
    name::{InvalidName, RepositoryName},
    table::{Table, key, put, read, unchanged},
};

/// Names that are counted between two writes; more are left out.
const NAMES_MAX: usize = 10_000;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Count {
    pulls: u64,
}

/// How often components were pulled since the last write.
#[derive(Debug, Default)]
pub(crate) struct Downloads(Mutex<HashMap<RepositoryName, u64>>);

impl Downloads {
    /// Counts one.
    pub(crate) fn count(&self, repository: &RepositoryName) {
        let mut counts = self.0.lock();
        if counts.len() < NAMES_MAX || counts.contains_key(repository) {
            let count = counts.entry(repository.clone()).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Notes in listings how often they were pulled.
    pub(crate) async fn note(&self, table: &Table, listings: &mut [Listing]) -> Result<()> {
        if listings.is_empty() {
            return Ok(());
        }
        let names: Vec<RepositoryName> =
            listings.iter().map(|listing| listing.name.parse()).collect::<Result<_, InvalidName>>()?;
        let keys: Vec<String> = names.iter().map(key::downloads).collect();
        let held = table.all(&keys).await?;
        for ((listing, name), entry) in listings.iter_mut().zip(&names).zip(held) {
            let kept: Count = entry.as_ref().map(read).transpose()?.unwrap_or_default();
            listing.downloads = kept.pulls.saturating_add(self.0.lock().get(name).copied().unwrap_or(0));
        }
        Ok(())
    }

    /// Writes what was counted.
    pub(crate) async fn write(&self, table: &Table) -> Result<()> {
        let counts: Vec<(RepositoryName, u64)> = self.0.lock().drain().collect();
        for (repository, more) in counts {
            let key = key::downloads(&repository);
            loop {
                let held = table.get(&key).await?;
                let before: Count = held.as_ref().map(read).transpose()?.unwrap_or_default();
                let count = Count { pulls: before.pulls.saturating_add(more) };
                if table.commit(vec![put(key.clone(), &count, unchanged(held.as_ref()))?]).await? {
                    break;
                }
            }
        }
        Ok(())
    }
}
