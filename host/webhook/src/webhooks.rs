//! [`Webhooks`]: all webhooks of a daemon.
//!
//! What runs follows from what is kept: whoever creates, pauses or deletes a webhook writes its record, and every daemon that
//! shares the storage reads of it there. Invariant: a webhook that is kept as active has one worker, and no other has any.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use platform_base::{TaskGroup, clock};
use platform_capability::Call;
use platform_dataplane::{Plane, Sealed};
use platform_storage::Storage;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    attempt::Sender,
    config::Config,
    connect::{self, ConnectError},
    error::WebhookError,
    lease::{self, Lease},
    progress::{Progress, Tally},
    record::{Key, Mode, State, Webhook},
    sign::Secret,
    table::{Kept, News, Table},
    target::{self, InvalidTarget},
    worker::Worker,
};

/// Wait for changes of what is kept.
const WAIT: Duration = Duration::from_secs(30);
/// Wait after a failure of storage.
const PAUSE: Duration = Duration::from_secs(1);
/// Time for a look at where a new target leads.
const LOOK: Duration = Duration::from_secs(2);
/// Longest attempt unless the webhook says otherwise, and its bounds, in milliseconds.
const TIMEOUT_MS: (u64, std::ops::RangeInclusive<u64>) = (15_000, 100..=60_000);
/// Attempts at the same time unless the webhook says otherwise, and their bounds.
const CONCURRENCY: (u32, std::ops::RangeInclusive<u32>) = (8, 1..=64);
/// Shortest and longest wait after a failed attempt unless the webhook says otherwise, and their bounds, in milliseconds.
const RETRY_MS: (u64, u64, std::ops::RangeInclusive<u64>) = (5_000, 3_600_000, 10..=86_400_000);

type Result<T, E = WebhookError> = std::result::Result<T, E>;

/// What webhooks stand on.
#[derive(Debug)]
pub struct Parts {
    /// The slots.
    pub plane: Arc<Plane>,
    /// Where webhooks are kept.
    pub storage: Arc<dyn Storage>,
    /// Owner of the workers.
    pub tasks: TaskGroup,
    /// Settings.
    pub config: Config,
    /// Whether other daemons use the same storage.
    pub shared: bool,
}

/// A webhook to be made. What is left out is as it is for most.
#[derive(Clone, Default)]
pub struct NewWebhook {
    /// Where events are posted to.
    pub url: String,
    /// How they stand in the request.
    pub mode: Mode,
    /// What requests are signed with; one is made when none is given.
    pub secret: Option<String>,
    /// Requests are not signed.
    pub unsigned: bool,
    /// Longest attempt, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Attempts at the same time.
    pub concurrency: Option<u32>,
    /// Wait after the first failed attempt, in milliseconds.
    pub retry_ms_min: Option<u64>,
    /// Longest wait after a failed attempt, in milliseconds.
    pub retry_ms_max: Option<u64>,
}

impl fmt::Debug for NewWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewWebhook").field("mode", &self.mode).field("unsigned", &self.unsigned).finish_non_exhaustive()
    }
}

/// A webhook, and what is known of its deliveries.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// The topic.
    pub topic: String,
    /// The subscription.
    pub subscription: String,
    /// The webhook.
    pub webhook: Webhook,
    /// Its deliveries by this daemon.
    pub progress: Progress,
}

/// A webhook that was made.
pub struct Created {
    /// The webhook.
    pub status: Status,
    /// What requests are signed with, when that was made here. It is not told again.
    pub secret: Option<String>,
}

impl fmt::Debug for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Created").field("status", &self.status).finish_non_exhaustive()
    }
}

/// All webhooks.
pub struct Webhooks {
    plane: Arc<Plane>,
    storage: Arc<dyn Storage>,
    tasks: TaskGroup,
    config: Arc<Config>,
    shared: bool,
    table: Table,
    sender: Sender,
    attempts: Arc<Semaphore>,
    known: Mutex<BTreeMap<Key, Known>>,
}

/// A webhook as this daemon has it.
struct Known {
    kept: Kept,
    tally: Arc<Tally>,
    stop: CancellationToken,
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Webhooks {
    /// Webhooks that do not deliver before [`Webhooks::start`].
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { plane, storage, tasks, config, shared } = parts;
        let config = Arc::new(config);
        Arc::new(Self {
            sender: Sender::new(&config, plane.trust().clone()),
            plane,
            table: Table::new(Arc::clone(&storage)),
            storage,
            tasks,
            shared,
            attempts: Arc::new(Semaphore::new(config.attempts_max.clamp(1, Semaphore::MAX_PERMITS))),
            known: Mutex::default(),
            config,
        })
    }

    /// Delivers from now on.
    pub fn start(self: &Arc<Self>) {
        let this = Arc::clone(self);
        self.tasks.spawn_until_cancelled("webhooks", async move {
            loop {
                if let Err(error) = this.follow().await {
                    tracing::debug!(%error, "webhooks can't be read now");
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
    }

    /// Makes the webhook of a subscription.
    ///
    /// # Errors
    /// There is no such subscription, it has a webhook already, or an argument is not allowed; see [`WebhookError`].
    pub async fn create(&self, call: &Call, topic: &str, subscription: &str, new: NewWebhook) -> Result<Created> {
        let found = self.plane.event().subscription(call, topic, subscription).await?;
        if found.settings.fan_out {
            let why = "a webhook is one consumer: make a subscription of its own for it, without fan-out";
            return Err(WebhookError::Invalid(why.to_owned()));
        }
        self.check_target(&new.url).await?;
        let key = Key::new(&call.namespace, topic, subscription);
        self.check_room(&key)?;
        let mut webhook = build(&new)?;
        let mut made = None;
        if !new.unsigned {
            let secret = match &new.secret {
                Some(text) => Secret::parse(text).ok_or_else(|| {
                    let why = "the secret is none: write `whsec_` and 24 to 64 bytes in base64, or leave it out";
                    WebhookError::Invalid(why.to_owned())
                })?,
                None => {
                    let secret = Secret::random();
                    made = Some(secret.text());
                    secret
                }
            };
            let sealed: Sealed = self.plane.configurations().keys().seal(&key.place(), secret.bytes())?;
            webhook.secret = Some(sealed);
        }
        let revision = self.table.create(&key, &webhook).await?;
        let kept = Kept { key, webhook, revision };
        Ok(Created { status: self.status(kept), secret: made })
    }

    /// The webhook of a subscription.
    ///
    /// # Errors
    /// There is none; see [`WebhookError`].
    pub async fn get(&self, call: &Call, topic: &str, subscription: &str) -> Result<Status> {
        let kept = self.table.get(&Key::new(&call.namespace, topic, subscription)).await?;
        Ok(self.status(kept))
    }

    /// Webhooks of a topic, those of subscriptions after one, in byte order, at most `limit`.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn list(&self, call: &Call, topic: &str, after: Option<&str>, limit: u32) -> Result<Vec<Status>> {
        // A topic that exists is named as topics are, which a key may be made of.
        self.plane.event().topic(call, topic).await?;
        let prefix = Key::prefix(&call.namespace, topic);
        let after = after.map(|after| format!("{prefix}{after}"));
        let kept = self.table.list(&prefix, after.as_deref(), limit as usize).await?;
        Ok(kept.into_iter().map(|kept| self.status(kept)).collect())
    }

    /// Lets a webhook rest, or go on, also one whose target was gone.
    ///
    /// # Errors
    /// There is none; see [`WebhookError`].
    pub async fn pause(&self, call: &Call, topic: &str, subscription: &str, pause: bool) -> Result<Status> {
        let key = Key::new(&call.namespace, topic, subscription);
        let state = if pause { State::Paused } else { State::Active };
        let kept = self.table.change(&key, |webhook| webhook.state = state).await?;
        Ok(self.status(kept))
    }

    /// Removes a webhook. Its subscription stays, with what was not delivered.
    ///
    /// # Errors
    /// There is none; see [`WebhookError`].
    pub async fn delete(&self, call: &Call, topic: &str, subscription: &str) -> Result<()> {
        self.table.delete(&Key::new(&call.namespace, topic, subscription)).await
    }

    /// Removes what is left of webhooks whose subscription, or topic when none is given, was removed.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn forget(&self, call: &Call, topic: &str, subscription: Option<&str>) -> Result<()> {
        let of_topic = |key: &Key| key.namespace == call.namespace && key.topic == topic;
        let keys: Vec<Key> = match subscription {
            Some(subscription) => vec![Key::new(&call.namespace, topic, subscription)],
            None => self.known.lock().keys().filter(|key| of_topic(key)).cloned().collect(),
        };
        for key in keys {
            match self.table.delete(&key).await {
                Ok(()) | Err(WebhookError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// All webhooks as this daemon has them.
    #[must_use]
    pub fn all(&self) -> Vec<Status> {
        let known = self.known.lock();
        known.values().map(|known| status(known.kept.clone(), known.tally.told())).collect()
    }

    fn status(&self, kept: Kept) -> Status {
        let progress = self.known.lock().get(&kept.key).map(|known| known.tally.told());
        status(kept, progress.unwrap_or_default())
    }

    /// Refuses what leads inside now. Where it leads later is judged at each connection.
    async fn check_target(&self, url: &str) -> Result<()> {
        let uri = target::parse(url, &self.config)?;
        let Some((host, port)) = target::place(&uri) else { return Ok(()) };
        match tokio::time::timeout(LOOK, connect::resolve(host, port, &self.config)).await {
            Ok(Err(ConnectError::Inside(address))) => Err(InvalidTarget::Inside(address).into()),
            _ => Ok(()),
        }
    }

    fn check_room(&self, key: &Key) -> Result<()> {
        let known = self.known.lock();
        let here = known.keys().filter(|known| known.namespace == key.namespace).count();
        let Config { webhooks_max, webhooks_per_namespace_max, .. } = *self.config;
        if known.len() >= webhooks_max {
            let why =
                format!("there are {webhooks_max} webhooks already; delete some, or raise `webhooks.webhooks_max`");
            return Err(WebhookError::TooMany(why));
        }
        if here >= webhooks_per_namespace_max {
            let why = format!(
                "the namespace has {here} webhooks already; delete some, or raise `webhooks.webhooks_per_namespace_max`"
            );
            return Err(WebhookError::TooMany(why));
        }
        Ok(())
    }

    /// Makes what runs follow from what is kept, until storage fails or forgets.
    async fn follow(self: &Arc<Self>) -> Result<()> {
        let (all, mut revision) = self.table.all().await?;
        let gone: Vec<Key> = {
            let known = self.known.lock();
            known.keys().filter(|key| !all.iter().any(|kept| kept.key == **key)).cloned().collect()
        };
        gone.iter().for_each(|key| self.drop_worker(key));
        all.into_iter().for_each(|kept| self.place_worker(kept));
        while let Some((news, now)) = self.table.changes(revision, WAIT).await? {
            revision = now;
            for news in news {
                match news {
                    News::Kept(kept) => self.place_worker(*kept),
                    News::Gone(key) => self.drop_worker(&key),
                }
            }
        }
        Ok(())
    }

    fn drop_worker(&self, key: &Key) {
        if let Some(known) = self.known.lock().remove(key) {
            known.stop.cancel();
        }
    }

    fn place_worker(self: &Arc<Self>, kept: Kept) {
        let mut all = self.known.lock();
        let before = all.remove(&kept.key);
        let tally = match before {
            Some(before) if before.kept.revision >= kept.revision => {
                all.insert(kept.key.clone(), before);
                return;
            }
            Some(before) => {
                before.stop.cancel();
                before.tally
            }
            None => Arc::default(),
        };
        let stop = self.tasks.token().child_token();
        let known = Known { kept: kept.clone(), tally: Arc::clone(&tally), stop: stop.clone() };
        all.insert(kept.key.clone(), known);
        drop(all);
        if kept.webhook.state != State::Active {
            return;
        }
        let worker = Worker {
            key: kept.key,
            webhook: kept.webhook,
            events: self.plane.event().clone(),
            table: self.table.clone(),
            config: Arc::clone(&self.config),
            sender: self.sender.clone(),
            attempts: Arc::clone(&self.attempts),
            tally,
        };
        let this = Arc::clone(self);
        self.tasks.spawn("webhook", async move {
            if this.shared { this.take_turns(&worker, &stop).await } else { this.work(&worker, &stop).await }
        });
    }

    async fn work(&self, worker: &Worker, stop: &CancellationToken) {
        worker.run(|| self.plane.configurations().keys(), stop).await;
    }

    /// Works while this daemon has the lease.
    async fn take_turns(&self, worker: &Worker, stop: &CancellationToken) {
        loop {
            let lease = Lease::take(&self.storage, &worker.key, lease::TIME);
            let Some(mut lease) = stop.run_until_cancelled(lease).await else { return };
            let tenure = stop.child_token();
            let mut working = std::pin::pin!(self.work(worker, &tenure));
            tokio::select! {
                () = &mut working => {}
                () = lease.keep() => {
                    tracing::debug!(webhook = %worker.key, "the lease is lost");
                    tenure.cancel();
                    working.await;
                }
            }
            if stop.is_cancelled() {
                lease.give_back().await;
                return;
            }
        }
    }
}

fn status(kept: Kept, progress: Progress) -> Status {
    let Kept { key: Key { namespace, topic, subscription }, webhook, .. } = kept;
    Status { namespace, topic, subscription, webhook, progress }
}

/// The webhook that is asked for, unsigned as yet.
fn build(new: &NewWebhook) -> Result<Webhook> {
    let refused = |why: String| Err(WebhookError::Invalid(why));
    if new.unsigned && new.secret.is_some() {
        return refused("a webhook that is unsigned has no secret".to_owned());
    }
    let timeout_ms = new.timeout_ms.unwrap_or(TIMEOUT_MS.0);
    if !TIMEOUT_MS.1.contains(&timeout_ms) {
        return refused(format!("{timeout_ms} ms for an attempt are not within 100 and 60000"));
    }
    let concurrency = new.concurrency.unwrap_or(CONCURRENCY.0);
    if !CONCURRENCY.1.contains(&concurrency) {
        return refused(format!("{concurrency} attempts at the same time are not within 1 and 64"));
    }
    let retry_ms_min = new.retry_ms_min.unwrap_or(RETRY_MS.0);
    let retry_ms_max = new.retry_ms_max.unwrap_or(RETRY_MS.1.max(retry_ms_min));
    if !RETRY_MS.2.contains(&retry_ms_min) || !RETRY_MS.2.contains(&retry_ms_max) || retry_ms_min > retry_ms_max {
        return refused(format!(
            "waits of {retry_ms_min} to {retry_ms_max} ms after a failed attempt are not within 10 ms and a day, the shorter one first"
        ));
    }
    Ok(Webhook {
        url: new.url.clone(),
        mode: new.mode,
        secret: None,
        timeout_ms,
        concurrency,
        retry_ms_min,
        retry_ms_max,
        state: State::Active,
        created_ms: clock::unix_ms(),
    })
}
