//! Which of the daemons that share a storage delivers for a webhook.
//!
//! Must not know what is done under a lease. Invariant: whoever has a lease stops acting on it well before another can take
//! it. A daemon that hangs in between makes no more of it than that events arrive twice.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use platform_base::clock;
use platform_storage::{Condition, Error, Scope, Storage, Write};

use crate::{record::Key, table::OWNER};

const TABLE: &str = "leases";
/// How long a lease is good for.
pub(crate) const TIME: Duration = Duration::from_secs(15);

/// A lease on a webhook.
#[derive(Debug)]
pub(crate) struct Lease {
    storage: Arc<dyn Storage>,
    scope: Scope,
    key: String,
    time: Duration,
    revision: u64,
}

impl Lease {
    /// Waits until nobody else has the lease, and takes it.
    pub(crate) async fn take(storage: &Arc<dyn Storage>, key: &Key, time: Duration) -> Self {
        let scope = Scope::new(OWNER, "");
        let lease = Self { storage: Arc::clone(storage), scope, key: key.to_string(), time, revision: 0 };
        loop {
            match lease.put(Condition::Absent).await {
                Ok(revision) => return Self { revision, ..lease },
                Err(error) => {
                    if !matches!(error, Error::Conflict(_)) {
                        tracing::debug!(%error, webhook = lease.key, "the lease can't be taken now");
                    }
                    tokio::time::sleep(time / 5).await;
                }
            }
        }
    }

    /// Renews it until it is lost.
    pub(crate) async fn keep(&mut self) {
        let mut renewed = clock::now();
        loop {
            tokio::time::sleep(self.time / 5).await;
            let begun = clock::now();
            match tokio::time::timeout(self.time / 3, self.put(Condition::At(self.revision))).await {
                Ok(Ok(revision)) => (self.revision, renewed) = (revision, begun),
                Ok(Err(Error::Conflict(_))) => return,
                Ok(Err(_)) | Err(_) if clock::now().saturating_duration_since(renewed) > self.time / 2 => return,
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    /// Gives it back, so that another need not wait.
    pub(crate) async fn give_back(self) {
        let delete = Write::Delete { key: self.key, condition: Condition::At(self.revision) };
        // Else it expires.
        let _ = self.storage.commit(&self.scope, TABLE, vec![delete]).await;
    }

    async fn put(&self, condition: Condition) -> Result<u64, Error> {
        let put = Write::Put { key: self.key.clone(), value: Bytes::new(), condition, ttl: Some(self.time) };
        self.storage.commit(&self.scope, TABLE, vec![put]).await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use platform_storage::{Memory, Options};

    use super::*;

    #[tokio::test]
    async fn one_has_it_and_another_when_it_is_given_back_or_over() {
        let storage: Arc<dyn Storage> = Arc::new(Memory::new(Options::default()));
        let key = Key::new(&Arc::from("default"), "orders", "billing");
        let time = Duration::from_millis(500);
        let mut first = Lease::take(&storage, &key, time).await;
        let second = Lease::take(&storage, &key, time);
        tokio::pin!(second);
        let kept = tokio::time::timeout(time * 3, async {
            tokio::select! { () = first.keep() => "lost", _ = &mut second => "taken" }
        });
        assert!(kept.await.is_err(), "who renews keeps it");
        first.give_back().await;
        let mut second = second.await;
        assert!(Lease::take(&storage, &key, time).now_or_never().is_none());
        // Who does not renew has it no longer.
        let third = Lease::take(&storage, &key, time).await;
        second.keep().await;
        drop(third);
    }
}
