//! Topics as plugins publish to them and take from them.
//!
//! Owns the way from a plugin's import to the capability. Must not know how events are kept. Invariant: who may only read neither publishes, nor
//! is handed what others would then not get.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use platform_capability::{
    Call,
    event::{self, Delivery, Error, NewEvent as New, Receipt as Settling, Subscriber, Verdict},
};

use super::{Consumer, Event, EventError, NewEvent, Receipt, Result};
use crate::{error::CallError, provider::ProviderError};

impl Event {
    /// The capability for plugins that import it.
    pub(crate) fn backend(&self) -> Arc<dyn event::Backend> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl event::Backend for Event {
    async fn publish(&self, call: &Call, topic: &str, events: Vec<New>) -> Result<Vec<event::PublishOutcome>, Error> {
        self.provider.check_writes(call).map_err(|error| told(error.map(EventError::from)))?;
        let events = events.into_iter().map(new).collect();
        let outcomes = self.publish(call, topic, events).await.map_err(told)?;
        let outcome = |outcome: super::Outcome| event::PublishOutcome { id: outcome.id, published: outcome.published };
        Ok(outcomes.into_iter().map(outcome).collect())
    }

    async fn read(
        &self, call: &Call, topic: &str, from: u64, limit: u32, reverse: bool,
    ) -> Result<(Vec<event::Event>, bool), Error> {
        self.read(call, topic, from, limit, reverse).await.map_err(told)
    }

    async fn receive(&self, call: &Call, from: Subscriber<'_>, limit: u32) -> Result<Vec<Delivery>, Error> {
        self.provider.check_writes(call).map_err(|error| told(error.map(EventError::from)))?;
        self.receive(call, &consumer(from), limit, Duration::ZERO).await.map_err(told)
    }

    async fn settle(
        &self, call: &Call, from: Subscriber<'_>, receipts: &[Settling], verdict: Verdict,
    ) -> Result<Vec<bool>, Error> {
        self.provider.check_writes(call).map_err(|error| told(error.map(EventError::from)))?;
        let receipts: Vec<Receipt> =
            receipts.iter().map(|&Settling { sequence, attempt }| Receipt { sequence, attempt }).collect();
        let (settled, _) = self.settle(call, &consumer(from), &receipts, verdict).await.map_err(told)?;
        Ok(receipts.iter().map(|receipt| settled.contains(&receipt.sequence)).collect())
    }
}

fn new(event: New) -> NewEvent {
    let New { id, type_, origin, root, parent, content_type, metadata, data } = event;
    NewEvent { id, kind: type_, origin, root, parent, content_type, metadata: metadata.into_iter().collect(), data }
}

fn consumer(from: Subscriber<'_>) -> Consumer {
    let Subscriber { topic, subscription, consumer } = from;
    Consumer { topic: topic.to_owned(), subscription: subscription.to_owned(), name: consumer.to_owned() }
}

/// What a plugin learns of a failed call.
fn told(error: CallError<EventError>) -> Error {
    match error {
        CallError::Capability(EventError::NotFound(what)) => Error::NotFound(what),
        CallError::Capability(EventError::Exists(what)) => Error::Exists(what),
        CallError::Capability(EventError::Compacted(oldest)) => Error::Compacted(oldest),
        CallError::Capability(EventError::TooLarge(what)) => Error::TooLarge(what),
        CallError::Capability(EventError::Invalid(what)) => Error::Invalid(what),
        CallError::Capability(error @ (EventError::Unfiltered { .. } | EventError::Unavailable(_))) => {
            Error::Unavailable(error.to_string())
        }
        CallError::Capability(EventError::Other(why)) => Error::Other(why),
        other => Error::unavailable(other.to_string()),
    }
}
