//! A worker delivers for one webhook: takes deliveries, has them attempted, and settles them.
//!
//! Must not know how events are posted or kept. Invariants: a delivery is acknowledged after the target took it; while it is
//! in hand its time is extended, so that waiting costs no attempts; no more is in hand than is attempted.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use platform_base::clock;
use platform_capability::{
    Call, CallContext,
    event::{Delivery, SubscriptionSettings, Verdict},
};
use platform_dataplane::{CallError, Consumer, Deliveries, EventError, Events, Keys, Receipt};
use rand::Rng;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    attempt::{Address, Outcome, Sender},
    config::Config,
    progress::Tally,
    record::{Key, State, Webhook},
    sign::Secret,
    table::Table,
    target,
};

/// Time that the broker is given.
const TIME: Duration = Duration::from_secs(10);
/// Wait before it is tried again to take deliveries.
const PAUSE: Duration = Duration::from_secs(3);
/// How long attempts may still take when the worker stops; then they are given up, and come again.
const GRACE: Duration = Duration::from_secs(3);
/// How often it is tried to settle a delivery, and the first wait in between. What is not settled comes again.
const SETTLE: (u32, Duration) = (5, Duration::from_millis(100));
/// Longest reason that goes to the dead letters, in bytes.
const REASON_BYTES_MAX: usize = 400;

type Result<T, E = CallError<EventError>> = std::result::Result<T, E>;

/// What delivers for one webhook.
pub(crate) struct Worker {
    pub(crate) key: Key,
    pub(crate) webhook: Webhook,
    pub(crate) events: Events,
    pub(crate) table: Table,
    pub(crate) config: Arc<Config>,
    pub(crate) sender: Sender,
    pub(crate) attempts: Arc<Semaphore>,
    pub(crate) tally: Arc<Tally>,
}

/// Something that was waited for.
enum Step {
    /// Deliveries came.
    Received(Deliveries, Result<Vec<Delivery>>),
    /// An attempt ended.
    Attempted(Delivery, Outcome),
    /// A verdict was recorded, or could not be.
    Settled,
    /// The time of what is in hand began anew.
    Extended,
    /// The webhook was marked as gone, or could not be.
    Retired(bool),
}

impl Worker {
    /// Delivers until told to stop.
    pub(crate) async fn run(&self, keys: impl Fn() -> Arc<Keys> + Send + Sync, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let hindrance = match self.address(&keys()) {
                Err(why) => why,
                Ok(address) => match self.serve(&address, stop).await {
                    Ok(()) => break,
                    Err(error) => words(&error),
                },
            };
            tracing::debug!(webhook = %self.key, hindrance, "a webhook can't deliver now");
            self.tally.hindered(&hindrance);
            stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
        self.tally.stop();
    }

    /// Where to post, and what to sign with.
    fn address(&self, keys: &Keys) -> Result<Address, String> {
        let uri = target::parse(&self.webhook.url, &self.config).map_err(|error| error.to_string())?;
        let open =
            |sealed| keys.open(&self.key.place(), sealed).map(Secret::of_bytes).map_err(|error| error.to_string());
        Ok(Address {
            key: self.key.clone(),
            uri,
            mode: self.webhook.mode,
            secret: self.webhook.secret.as_ref().map(open).transpose()?,
            timeout: Duration::from_millis(self.webhook.timeout_ms),
        })
    }

    /// Delivers until told to stop, or until the broker fails.
    async fn serve(&self, address: &Address, stop: &CancellationToken) -> Result<()> {
        let Key { topic, subscription, .. } = &self.key;
        let settings = self.events.subscription(&self.call(), topic, subscription).await?.settings;
        let consumer = Consumer { topic: topic.clone(), subscription: subscription.clone(), name: String::new() };
        let deliveries = self.events.consume(&self.call(), consumer.clone()).await?;
        self.tally.hindered("");
        let desk = Desk { worker: self, address, consumer, settings, deferring: Mutex::new(()) };
        let mut round = Round {
            desk: &desk,
            deliveries: Some(deliveries),
            ready: VecDeque::new(),
            held: BTreeMap::new(),
            in_flight: 0,
            busy: 0,
            extending: false,
            rest_until: None,
            stop_at: None,
            steps: FuturesUnordered::new(),
        };
        round.run(stop).await
    }

    fn call(&self) -> Call {
        Arc::new(CallContext::host(Arc::clone(&self.key.namespace), TIME))
    }

    /// How long a failed event waits: twice as long after each attempt, half of it by chance, so that events that failed
    /// together do not come together again.
    fn backoff(&self, attempt: u32) -> Duration {
        let doubled = self.webhook.retry_ms_min.saturating_mul(1 << attempt.saturating_sub(1).min(40));
        let wait_ms = doubled.min(self.webhook.retry_ms_max);
        Duration::from_millis(wait_ms / 2 + rand::rng().random_range(0..=wait_ms - wait_ms / 2))
    }
}

/// What the steps of a worker have in common.
struct Desk<'a> {
    worker: &'a Worker,
    address: &'a Address,
    consumer: Consumer,
    settings: SubscriptionSettings,
    /// Held by whoever changes when deliveries are due: an extension must not undo a wait.
    deferring: Mutex<()>,
}

impl Desk<'_> {
    async fn attempt(&self, delivery: Delivery) -> Step {
        // It is never closed.
        let _permit = self.worker.attempts.acquire().await;
        let _attempt = self.worker.tally.begin(delivery.event.sequence);
        let outcome = self.worker.sender.attempt(self.address, &delivery.event).await;
        Step::Attempted(delivery, outcome)
    }

    async fn settle(&self, receipt: Receipt, verdict: Verdict) -> Step {
        let _turn = match verdict {
            Verdict::Ack => None,
            _ => Some(self.deferring.lock().await),
        };
        let (tries, mut pause) = SETTLE;
        for _ in 0..tries {
            let worker = self.worker;
            match worker.events.settle(&worker.call(), &self.consumer, &[receipt], verdict.clone()).await {
                Ok(_) | Err(CallError::Capability(EventError::NotFound(_))) => break,
                Err(error) => {
                    tracing::debug!(webhook = %worker.key, error = words(&error), "a delivery can't be settled now");
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Step::Settled
    }

    async fn extend(&self, held: Vec<Receipt>) -> Step {
        let _turn = self.deferring.lock().await;
        let worker = self.worker;
        // What could not be extended comes again in time.
        let _ = worker.events.settle(&worker.call(), &self.consumer, &held, Verdict::Extend).await;
        Step::Extended
    }

    /// Leaves the event for whoever makes the webhook go on, and marks the target as gone.
    async fn retire(&self, receipt: Receipt) -> Step {
        self.settle(receipt, Verdict::Nak(0)).await;
        let changed = self.worker.table.change(&self.worker.key, |webhook| webhook.state = State::Gone).await;
        if let Err(error) = &changed {
            tracing::debug!(webhook = %self.worker.key, %error, "a webhook can't be marked as gone now");
        }
        Step::Retired(changed.is_ok())
    }
}

/// Everything that is under way.
struct Round<'a> {
    desk: &'a Desk<'a>,
    /// What asks the broker, while nobody does.
    deliveries: Option<Deliveries>,
    /// Deliveries that wait for their turn.
    ready: VecDeque<Delivery>,
    /// Attempts of deliveries in hand, by sequence.
    held: BTreeMap<u64, u32>,
    in_flight: usize,
    /// Verdicts that are being recorded.
    busy: usize,
    extending: bool,
    /// The target is left alone until then.
    rest_until: Option<Instant>,
    /// Nothing is taken any more, and at this time everything is given up.
    stop_at: Option<Instant>,
    steps: FuturesUnordered<BoxFuture<'a, Step>>,
}

impl<'a> Round<'a> {
    async fn run(&mut self, stop: &CancellationToken) -> Result<()> {
        let wait = Duration::from_millis(self.desk.settings.ack_wait_ms);
        let mut extend_at = None;
        loop {
            self.rest_until = self.rest_until.filter(|until| *until > clock::now());
            if self.stop_at.is_none() && self.rest_until.is_none() {
                self.fill();
            }
            extend_at = if self.held.is_empty() { None } else { extend_at.or_else(|| Some(clock::now() + wait / 3)) };
            tokio::select! {
                Some(step) = self.steps.next() => self.take(step)?,
                () = until(extend_at), if !self.extending => {
                    let receipt = |(sequence, attempt): (&u64, &u32)| Receipt { sequence: *sequence, attempt: *attempt };
                    let held = self.held.iter().map(receipt).collect();
                    (self.extending, extend_at) = (true, None);
                    self.steps.push(self.desk.extend(held).boxed());
                }
                () = until(self.rest_until), if self.stop_at.is_none() => {}
                () = until(self.stop_at) => return Ok(()),
                () = stop.cancelled(), if self.stop_at.is_none() => self.stop_at = Some(clock::now() + GRACE),
            }
            if self.stop_at.is_some() && self.in_flight == 0 && self.busy == 0 {
                return Ok(());
            }
        }
    }

    /// Begins as many attempts as may be made: while the target fails, one at a time.
    fn fill(&mut self) {
        let worker = self.desk.worker;
        let most = if worker.tally.is_failing() { 1 } else { worker.webhook.concurrency as usize };
        while self.in_flight < most
            && let Some(delivery) = self.ready.pop_front()
        {
            self.in_flight += 1;
            self.steps.push(self.desk.attempt(delivery).boxed());
        }
        if self.ready.is_empty()
            && self.in_flight < most
            && let Some(mut deliveries) = self.deliveries.take()
        {
            let limit = u32::try_from(most - self.in_flight).unwrap_or(u32::MAX);
            let receive = async move {
                let received = deliveries.next(limit).await;
                Step::Received(deliveries, received)
            };
            self.steps.push(receive.boxed());
        }
    }

    fn take(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Received(deliveries, received) => {
                self.deliveries = Some(deliveries);
                for delivery in received? {
                    self.held.insert(delivery.event.sequence, delivery.attempt);
                    self.ready.push_back(delivery);
                }
            }
            Step::Attempted(delivery, outcome) => {
                self.in_flight -= 1;
                self.held.remove(&delivery.event.sequence);
                self.busy += 1;
                let receipt = Receipt { sequence: delivery.event.sequence, attempt: delivery.attempt };
                let settling = match self.verdict(receipt, outcome) {
                    Some(verdict) => self.desk.settle(receipt, verdict).boxed(),
                    None => self.desk.retire(receipt).boxed(),
                };
                self.steps.push(settling);
            }
            Step::Settled => self.busy -= 1,
            Step::Retired(done) => {
                self.busy -= 1;
                if done {
                    self.stop_at = self.stop_at.or(Some(clock::now() + GRACE));
                }
            }
            Step::Extended => self.extending = false,
        }
        Ok(())
    }

    /// What is said of a delivery after its attempt; none when the target is gone.
    fn verdict(&mut self, receipt: Receipt, outcome: Outcome) -> Option<Verdict> {
        let (tally, settings) = (&self.desk.worker.tally, &self.desk.settings);
        match outcome {
            Outcome::Delivered(status) => {
                tally.end(Some(status));
                tally.delivered();
                Some(Verdict::Ack)
            }
            Outcome::Gone => {
                tally.end(Some(410));
                tally.hindered("the target answered 410: it is gone");
                None
            }
            Outcome::Rejected { status, why } => {
                tally.end(status);
                tally.rejected(&why);
                Some(Verdict::Reject(reason(&why)))
            }
            Outcome::Failed { status, why, rest } => {
                tally.end(status);
                if let Some(rest) = rest {
                    self.rest_until = self.rest_until.max(Some(clock::now() + rest));
                    tally.rests(rest);
                }
                let Receipt { sequence, attempt } = receipt;
                let again = self.desk.worker.backoff(attempt).max(rest.unwrap_or_default());
                tally.failed(sequence, &why, again);
                if settings.deliveries_max > 0 && attempt >= settings.deliveries_max {
                    tally.buried(sequence);
                    return Some(Verdict::Reject(reason(&format!("all {attempt} attempts failed; at last: {why}"))));
                }
                Some(Verdict::Nak(u64::try_from(again.as_millis()).unwrap_or(u64::MAX)))
            }
        }
    }
}

/// Waits until a time; for ever without one.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

fn words(error: &CallError<EventError>) -> String {
    match error {
        CallError::Capability(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// A reason that the broker takes.
fn reason(why: &str) -> String {
    let mut why: String = why.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    why.truncate(why.floor_char_boundary(REASON_BYTES_MAX));
    why
}
