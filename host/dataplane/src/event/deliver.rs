//! Deliveries: when the broker is asked for them, and what is said of them.
//!
//! Invariant: nobody waits in the broker. A consumer waits here, for news of its topic, for a verdict on a delivery of its
//! subscription, or for the next delivery to be due.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt};
use platform_base::clock;
use platform_capability::{
    Call, CallContext,
    event::{self, Delivery, Received, Settlement, Verdict},
};
use tokio::sync::Notify;

use super::{DAY_MS, Event, Result, ask, check_name, check_names, check_text, refused};
use crate::provider::Watched;

/// Most deliveries that are handed out or settled at once.
const DELIVERIES_MAX: u32 = 256;
/// Deliveries that a stream asks for at once: as many may wait unseen when its reader is slow.
const STREAM_DELIVERIES: u32 = 32;
/// Longest reason of a rejection, in bytes.
const REASON_BYTES_MAX: usize = 512;
/// Longest that a consumer waits before it asks again, for verdicts that another daemon was told of.
const IDLE: Duration = Duration::from_secs(5);
/// Time that the broker is given.
const TIME: Duration = Duration::from_secs(10);
/// As many consumers as this wait without waking each other; more do now and then, to no harm.
const PLACES: usize = 256;

/// Where consumers of a subscription are told that something was said of its deliveries.
pub(super) struct Settled {
    hash: RandomState,
    places: Vec<Notify>,
}

impl Default for Settled {
    fn default() -> Self {
        Self { hash: RandomState::new(), places: (0..PLACES).map(|_| Notify::new()).collect() }
    }
}

impl fmt::Debug for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settled").finish_non_exhaustive()
    }
}

impl Settled {
    fn place(&self, namespace: &str, topic: &str, subscription: &str) -> Option<&Notify> {
        let hash = self.hash.hash_one((namespace, topic, subscription));
        self.places.get(usize::try_from(hash % PLACES as u64).unwrap_or_default())
    }

    /// Tells whoever waits.
    pub(super) fn tell(&self, namespace: &str, topic: &str, subscription: &str) {
        if let Some(place) = self.place(namespace, topic, subscription) {
            place.notify_waiters();
        }
    }
}

/// A consumer of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// The topic.
    pub topic: String,
    /// Name of the subscription.
    pub subscription: String,
    /// Which consumer of a fan-out; empty for a subscription that its consumers share.
    pub name: String,
}

impl Consumer {
    fn check(&self) -> Result<()> {
        check_names(&self.topic, &self.subscription)?;
        if self.name.is_empty() { Ok(()) } else { check_name("consumer", &self.name) }
    }
}

/// Which delivery is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Sequence of the event.
    pub sequence: u64,
    /// Which delivery of it.
    pub attempt: u32,
}

type News = Pin<Box<dyn Stream<Item = Watched<Event>> + Send>>;

impl Event {
    /// Deliveries that are to be made now, or the first that come within `wait`; at most `limit`.
    ///
    /// # Errors
    /// See [`CallError`](crate::CallError).
    pub async fn receive(&self, call: &Call, consumer: &Consumer, limit: u32, wait: Duration) -> Result<Vec<Delivery>> {
        consumer.check()?;
        let limit = limit.clamp(1, DELIVERIES_MAX);
        let found = self.hand_out(call, consumer, limit).await?.deliveries;
        let wait = wait.min(call.remaining());
        if !found.is_empty() || wait.is_zero() {
            return Ok(found);
        }
        let mut deliveries = self.consume(call, consumer.clone()).await?;
        // Giving up between two questions loses nothing: what was handed out and not taken comes again.
        match tokio::time::timeout(wait, deliveries.next(limit)).await {
            Ok(found) => found,
            Err(_over) => Ok(Vec::new()),
        }
    }

    /// Deliveries of a subscription, for as long as the stream is read.
    ///
    /// # Errors
    /// There is no such subscription; see [`CallError`](crate::CallError).
    pub async fn deliveries(
        &self, call: &Call, consumer: Consumer,
    ) -> Result<impl Stream<Item = Result<Vec<Delivery>>> + Send + 'static + use<>> {
        let deliveries = self.consume(call, consumer).await?;
        Ok(futures::stream::unfold(Some(deliveries), |deliveries| async move {
            let mut deliveries = deliveries?;
            let item = deliveries.next(STREAM_DELIVERIES).await;
            let deliveries = item.is_ok().then_some(deliveries);
            Some((item, deliveries))
        }))
    }

    /// Deliveries of a subscription, for a consumer that says each time how many it takes.
    ///
    /// # Errors
    /// There is no such subscription; see [`CallError`](crate::CallError).
    pub async fn consume(&self, call: &Call, consumer: Consumer) -> Result<Deliveries> {
        consumer.check()?;
        let call = renewed(call);
        ask(self.provider.call::<event::GetSubscription, _>(&call, (&consumer.topic, &consumer.subscription)).await)?;
        let news = self.news(&call, &consumer.topic).await?;
        Ok(Deliveries { event: self.clone(), call, consumer, news })
    }

    /// Tells of events of a topic that are published from now on.
    pub(super) async fn news(&self, call: &Call, topic: &str) -> Result<News> {
        let revision = ask(self.provider.revision(&renewed(call)).await)?;
        Ok(Box::pin(ask(self.provider.watch(call, topic, revision))?))
    }

    async fn hand_out(&self, call: &Call, consumer: &Consumer, limit: u32) -> Result<Received> {
        let Consumer { topic, subscription, name } = consumer;
        ask(self.provider.call::<event::Receive, _>(call, (topic, subscription, name, limit)).await)
    }

    /// Records a verdict on deliveries; those that were waiting for one, and those that were not.
    ///
    /// # Errors
    /// See [`CallError`](crate::CallError).
    pub async fn settle(
        &self, call: &Call, consumer: &Consumer, receipts: &[Receipt], verdict: Verdict,
    ) -> Result<(Vec<u64>, Vec<u64>)> {
        consumer.check()?;
        if receipts.is_empty() || receipts.len() > DELIVERIES_MAX as usize {
            return Err(refused(format!("{} receipts at once; give 1 to {DELIVERIES_MAX}", receipts.len())));
        }
        match &verdict {
            Verdict::Nak(delay_ms) if *delay_ms > DAY_MS => {
                return Err(refused("a delivery is put off for a day at most"));
            }
            Verdict::Reject(why) => check_text("reason", why, REASON_BYTES_MAX)?,
            Verdict::Ack | Verdict::Nak(_) | Verdict::Extend => {}
        }
        let mut sequences: Vec<u64> = receipts.iter().map(|receipt| receipt.sequence).collect();
        sequences.sort_unstable();
        if sequences.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(refused("each receipt has to be of an event of its own"));
        }
        let settlement = |receipt: &Receipt| {
            let Receipt { sequence, attempt } = *receipt;
            Settlement { sequence, attempt, verdict: verdict.clone() }
        };
        let settlements: Vec<Settlement> = receipts.iter().map(settlement).collect();
        let Consumer { topic, subscription, name } = consumer;
        let params = (topic.as_str(), subscription.as_str(), name.as_str(), settlements.as_slice());
        // A rejection publishes: whoever follows the dead letters is told.
        let known = if matches!(verdict, Verdict::Reject(_)) {
            ask(self.provider.write::<event::Settle, _>(call, params).await)?
        } else {
            ask(self.provider.call::<event::Settle, _>(call, params).await)?
        };
        self.settled.tell(&call.namespace, topic, subscription);
        let (mut settled, mut unknown) = (Vec::new(), Vec::new());
        for (receipt, known) in receipts.iter().zip(known.into_iter().chain(std::iter::repeat(false))) {
            if known { settled.push(receipt.sequence) } else { unknown.push(receipt.sequence) }
        }
        Ok((settled, unknown))
    }
}

/// A consumer that waits for deliveries.
pub struct Deliveries {
    event: Event,
    call: Call,
    consumer: Consumer,
    news: News,
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

impl Deliveries {
    /// The next deliveries, at most `limit` and never none. What was handed out to a question that is dropped comes again
    /// when its time is over.
    ///
    /// # Errors
    /// See [`CallError`](crate::CallError).
    pub async fn next(&mut self, limit: u32) -> Result<Vec<Delivery>> {
        let limit = limit.clamp(1, DELIVERIES_MAX);
        let event = self.event.clone();
        let Consumer { topic, subscription, .. } = &self.consumer;
        let Some(settled) = event.settled.place(&self.call.namespace, topic, subscription) else {
            return Err(refused("there is no place to wait"));
        };
        loop {
            // Listens before it asks: what happens in between wakes it.
            let mut told = std::pin::pin!(settled.notified());
            told.as_mut().enable();
            let received = event.hand_out(&renewed(&self.call), &self.consumer, limit).await?;
            if !received.deliveries.is_empty() {
                return Ok(received.deliveries);
            }
            if received.more {
                continue;
            }
            let due = received.due_ms.map(|due_ms| Duration::from_millis(due_ms.saturating_sub(clock::unix_ms())));
            let lost = tokio::select! {
                () = told => false,
                () = tokio::time::sleep(due.unwrap_or(IDLE).min(IDLE)) => false,
                news = self.news.next() => !matches!(news, Some(Ok(_))),
            };
            if lost {
                // The watch broke off, as after an exchange for a broker with revisions of its own.
                self.news = event.news(&self.call, &self.consumer.topic).await?;
            }
        }
    }
}

/// The same caller with time of its own: a stream outlives the call that opened it.
#[must_use]
pub fn renewed(call: &Call) -> Call {
    Arc::new(CallContext { deadline: clock::now() + TIME, time_ns: clock::unix_ns(), ..call.as_ref().clone() })
}
