//! [`Marketplace`]: the parts of it, put together.
//!
//! Owns their life. Must not know what they do.

use std::{path::PathBuf, sync::Arc, time::Duration};

use parking_lot::RwLock;
use platform_base::TaskGroup;
use platform_signing::Policy;
use platform_storage::Storage;
use tokio::sync::{Notify, Semaphore};

use crate::{
    blobs::{Blobs, blocking, folder},
    config::{Config, Limits},
    downloads::Downloads,
    error::{Error, Result},
    store::Store,
    tester::Tester,
    traffic::Traffic,
    uploads::Uploads,
};

/// Longest between two looks at what nothing names any more.
const SWEEP_MAX: Duration = Duration::from_secs(3600);
/// Shortest.
const SWEEP_MIN: Duration = Duration::from_secs(1);

/// How often counts are written.
const COUNTS: Duration = Duration::from_secs(5);
/// Components that are inspected at once; each may be 64 MiB.
const INSPECTIONS_MAX: usize = 2;

/// What the marketplace is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where everything but large bytes is kept.
    pub storage: Arc<dyn Storage>,
    /// The folder in which `marketplace/` is.
    pub data_dir: PathBuf,
    /// Owner of what runs beside requests.
    pub tasks: TaskGroup,
    /// The settings.
    pub config: Config,
    /// Whose signatures count.
    pub policy: Policy,
    /// What tries components; none are tried without.
    pub tester: Option<Tester>,
}

/// The registry and its index.
#[derive(Debug)]
pub struct Marketplace {
    pub(crate) store: Store,
    pub(crate) uploads: Uploads,
    pub(crate) config: Config,
    pub(crate) policy: RwLock<Arc<Policy>>,
    pub(crate) judge_again: Notify,
    pub(crate) try_again: Notify,
    /// Where components are tried.
    pub(crate) trials: PathBuf,
    pub(crate) inspections: Semaphore,
    pub(crate) downloads: Downloads,
    pub(crate) traffic: Arc<Traffic>,
}

impl Marketplace {
    /// Opens what is kept, removes what an earlier end left unfinished, and keeps it tidy from now on.
    ///
    /// # Errors
    /// The folder can't be used.
    pub async fn open(parts: Parts) -> Result<Arc<Self>> {
        let mut config = parts.config;
        config.limits.manifest_bytes = config.limits.manifest_bytes.min(Limits::MANIFEST_BYTES_MAX);
        let (root, limits, storage) =
            (parts.data_dir.join("marketplace"), config.limits.clone(), Arc::clone(&parts.storage));
        let trials = root.join("trials");
        let trials = std::path::absolute(&trials).map_err(|error| Error::disk(&trials, &error))?;
        let (blobs, uploads) = blocking(move || {
            folder(&root)?;
            Ok((Blobs::open(root.join("blobs"), storage)?, Uploads::open(root.join("uploads"), limits)?))
        })
        .await?;
        let marketplace = Arc::new(Self {
            store: Store::new(parts.storage, blobs),
            uploads,
            config,
            policy: RwLock::new(Arc::new(parts.policy)),
            judge_again: Notify::new(),
            try_again: Notify::new(),
            trials,
            inspections: Semaphore::new(INSPECTIONS_MAX),
            downloads: Downloads::default(),
            traffic: Arc::default(),
        });
        let (counts, stop) = (Arc::clone(&marketplace), parts.tasks.token());
        parts.tasks.spawn("marketplace counts", async move {
            while stop.run_until_cancelled(tokio::time::sleep(COUNTS)).await.is_some() {
                counts.write_counts().await;
            }
            counts.write_counts().await;
        });
        parts.tasks.spawn_until_cancelled("marketplace signatures", Arc::clone(&marketplace).keep_judging());
        parts.tasks.spawn_until_cancelled("marketplace sweep", Arc::clone(&marketplace).tidy());
        if let Some(tester) = parts.tester.filter(|_| marketplace.config.trials) {
            let trials = Arc::clone(&marketplace);
            parts.tasks.spawn_until_cancelled("marketplace trials", async move { trials.keep_trying(tester).await });
        }
        Ok(marketplace)
    }

    async fn write_counts(&self) {
        if let Err(error) = self.downloads.write(&self.store.table).await {
            tracing::warn!(%error, "some downloads of the marketplace were not counted");
        }
    }

    /// Judges everything at the start, and when other signatures count.
    async fn keep_judging(self: Arc<Self>) {
        loop {
            if let Err(error) = self.judge_all().await {
                tracing::warn!(%error, "some versions in the marketplace are listed as they were judged before");
            }
            self.judge_again.notified().await;
        }
    }

    async fn tidy(self: Arc<Self>) {
        if let Err(error) = self.store.blobs.share().await {
            tracing::warn!(%error, "other daemons can't get some blobs of the marketplace until the next start");
        }
        let age_ms = self.config.limits.upload_ms;
        loop {
            self.uploads.drop_old();
            match self.store.sweep(age_ms).await {
                Ok(swept) if swept.blobs > 0 => tracing::info!(?swept, "removed blobs that no manifest names"),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "blobs that no manifest names stay for now"),
            }
            tokio::time::sleep(Duration::from_millis(age_ms).clamp(SWEEP_MIN, SWEEP_MAX)).await;
        }
    }
}
