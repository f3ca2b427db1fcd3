//! `platform:event`: what brokers and filters export, the candidate that filters ask about, and what users of the capability import.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use platform_runtime::{Functions, function::Row};
use wasmtime::component::Resource;

pub use crate::bindings::platform::event::{
    filter::{Outcome, Transformation},
    topics::{NewEvent, Outcome as PublishOutcome, Receipt},
    types::{
        Delivery, Draft, Error, Event, Published, Query, Received, Settlement, Start, Subscription,
        SubscriptionSettings, Topic, TopicSettings, Verdict,
    },
};
use crate::{
    bindings::platform::event::{candidates, topics, types},
    context::Call,
    functions::{LIFECYCLE, functions},
    guest::Guest,
    plugin::{Configure, Load, Save, SelfTest},
};

/// The interface that a provider exports.
pub const INTERFACE: &str = "platform:event/broker@0.1.0";

functions! { "platform:event/broker@0.1.0" from LIFECYCLE;
    /// Makes or changes a topic.
    PutTopic = "put-topic" (&'a str, TopicSettings, bool) -> (Result<Topic, Error>,);
    /// Reads a topic.
    GetTopic = "get-topic" (&'a str) -> (Result<Topic, Error>,);
    /// Lists topics.
    ListTopics = "list-topics" (&'a str, Option<&'a str>, u32) -> (Result<Vec<Topic>, Error>,);
    /// Removes a topic.
    DeleteTopic = "delete-topic" (&'a str) -> (Result<(), Error>,);
    /// Keeps events.
    Publish = "publish" (&'a str, &'a [Arc<Draft>]) -> (Result<Vec<Published>, Error>,);
    /// Events in order.
    Read = "read" (&'a str, u64, u32, bool) -> (Result<(Vec<Event>, bool), Error>,);
    /// Events by what they are.
    Find = "find" (&'a Query, Option<&'a str>, u32) -> (Result<(Vec<Event>, Option<String>), Error>,);
    /// Makes a subscription.
    CreateSubscription = "create-subscription" (&'a str, &'a str, Start, &'a SubscriptionSettings) -> (Result<Subscription, Error>,);
    /// Reads a subscription.
    GetSubscription = "get-subscription" (&'a str, &'a str) -> (Result<Subscription, Error>,);
    /// Lists subscriptions.
    ListSubscriptions = "list-subscriptions" (&'a str, Option<&'a str>, u32) -> (Result<Vec<Subscription>, Error>,);
    /// Removes a subscription.
    DeleteSubscription = "delete-subscription" (&'a str, &'a str) -> (Result<(), Error>,);
    /// Sends a subscription elsewhere.
    Seek = "seek" (&'a str, &'a str, Start) -> (Result<Subscription, Error>,);
    /// Hands out deliveries.
    Receive = "receive" (&'a str, &'a str, &'a str, u32) -> (Result<Received, Error>,);
    /// Records verdicts on deliveries.
    Settle = "settle" (&'a str, &'a str, &'a str, &'a [Settlement]) -> (Result<Vec<bool>, Error>,);
    /// Waits for events.
    Changes = "changes" (&'a str, u64, u32, u32) -> (Result<Vec<Event>, Error>,);
    /// The last revision.
    Revision = "revision" () -> (Result<u64, Error>,);
}

/// What the host calls in a provider.
pub const FUNCTIONS: Functions<Guest> = &[
    Row::required::<Configure>(),
    Row::required::<SelfTest>(),
    Row::optional::<Save>(),
    Row::optional::<Load>(),
    Row::required::<PutTopic>(),
    Row::required::<GetTopic>(),
    Row::required::<ListTopics>(),
    Row::required::<DeleteTopic>(),
    Row::required::<Publish>(),
    Row::required::<Read>(),
    Row::required::<Find>(),
    Row::required::<CreateSubscription>(),
    Row::required::<GetSubscription>(),
    Row::required::<ListSubscriptions>(),
    Row::required::<DeleteSubscription>(),
    Row::required::<Seek>(),
    Row::required::<Receive>(),
    Row::required::<Settle>(),
    Row::required::<Changes>(),
    Row::required::<Revision>(),
];

/// What filters export.
pub mod filter {
    use super::{Candidate, Configure, Functions, Guest, LIFECYCLE, Outcome, Resource, Row, SelfTest, functions};

    /// The interface that a filter exports.
    pub const INTERFACE: &str = "platform:event/filter@0.1.0";

    functions! { "platform:event/filter@0.1.0" from LIFECYCLE;
        /// Is this event kept, and how?
        Filter = "filter" (&'a str, &'a str, &'a str, &'a str, Resource<Candidate>) -> (Outcome,);
    }

    /// What the host calls in a filter.
    pub const FUNCTIONS: Functions<Guest> =
        &[Row::required::<Configure>(), Row::required::<SelfTest>(), Row::required::<Filter>()];
}

/// The event that the current call is about. It has no state of its own: the event is that of the [`Guest`].
#[derive(Debug)]
pub enum Candidate {}

/// The handle under which a filter sees the event of its call.
#[must_use]
pub fn candidate() -> Resource<Candidate> {
    Resource::new_borrow(0)
}

impl candidates::HostCandidate for Guest {
    fn id(&mut self, _: Resource<Candidate>) -> String {
        self.draft.as_ref().map(|draft| draft.id.clone()).unwrap_or_default()
    }

    fn root(&mut self, _: Resource<Candidate>) -> String {
        self.draft.as_ref().map(|draft| draft.root.clone()).unwrap_or_default()
    }

    fn parent(&mut self, _: Resource<Candidate>) -> Option<String> {
        self.draft.as_ref()?.parent.clone()
    }

    fn metadata(&mut self, _: Resource<Candidate>, name: String) -> Option<String> {
        let metadata = &self.draft.as_ref()?.metadata;
        metadata.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    fn content_type(&mut self, _: Resource<Candidate>) -> String {
        self.draft.as_ref().map(|draft| draft.content_type.clone()).unwrap_or_default()
    }

    fn data(&mut self, _: Resource<Candidate>) -> Vec<u8> {
        self.draft.as_ref().map(|draft| draft.data.clone()).unwrap_or_default()
    }

    fn has_role(&mut self, _: Resource<Candidate>, name: String) -> bool {
        self.call.caller.as_ref().is_some_and(|caller| caller.roles.contains(&name))
    }

    fn drop(&mut self, _: Resource<Candidate>) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// Topics for guests that import them: answers under the grants and the context of the importer.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// See `platform:event/topics`.
    async fn publish(&self, call: &Call, topic: &str, events: Vec<NewEvent>) -> Result<Vec<PublishOutcome>, Error>;
    /// See `platform:event/topics`.
    async fn read(
        &self, call: &Call, topic: &str, from: u64, limit: u32, reverse: bool,
    ) -> Result<(Vec<Event>, bool), Error>;
    /// See `platform:event/topics`.
    async fn receive(&self, call: &Call, from: Subscriber<'_>, limit: u32) -> Result<Vec<Delivery>, Error>;
    /// See `platform:event/topics`.
    async fn settle(
        &self, call: &Call, from: Subscriber<'_>, receipts: &[Receipt], verdict: Verdict,
    ) -> Result<Vec<bool>, Error>;
}

/// Who takes events of a subscription.
#[derive(Debug, Clone, Copy)]
pub struct Subscriber<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The subscription.
    pub subscription: &'a str,
    /// Which consumer of a fan-out; empty for a subscription that its consumers share.
    pub consumer: &'a str,
}

impl Guest {
    fn event(&self) -> Result<&dyn Backend, Error> {
        let backend = self.parts.event.as_deref();
        backend.ok_or_else(|| Error::Unavailable("the plugin has no `event` grant".to_owned()))
    }
}

impl topics::Host for Guest {
    async fn publish(&mut self, topic: String, events: Vec<NewEvent>) -> Result<Vec<PublishOutcome>, Error> {
        self.event()?.publish(&self.nested(), &topic, events).await
    }

    async fn read(&mut self, topic: String, from: u64, limit: u32, reverse: bool) -> Result<(Vec<Event>, bool), Error> {
        self.event()?.read(&self.nested(), &topic, from, limit, reverse).await
    }

    async fn receive(
        &mut self, topic: String, subscription: String, consumer: String, limit: u32,
    ) -> Result<Vec<Delivery>, Error> {
        let from = Subscriber { topic: &topic, subscription: &subscription, consumer: &consumer };
        self.event()?.receive(&self.nested(), from, limit).await
    }

    async fn settle(
        &mut self, topic: String, subscription: String, consumer: String, receipts: Vec<Receipt>, verdict: Verdict,
    ) -> Result<Vec<bool>, Error> {
        let from = Subscriber { topic: &topic, subscription: &subscription, consumer: &consumer };
        self.event()?.settle(&self.nested(), from, &receipts, verdict).await
    }
}

impl candidates::Host for Guest {}
impl types::Host for Guest {}
