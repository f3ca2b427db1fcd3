//! The event capability: topics, events and subscriptions, whatever component keeps them.
//!
//! Owns what every broker must do alike: names and limits, who published, filters, and how long anybody waits. Must not know
//! how events are kept. Invariant: what is answered as published or acknowledged was answered so by the broker.

mod deliver;
mod error;
mod filters;
mod follow;
mod lane;
mod publish;
mod served;
mod tell;
mod tree;

use std::sync::{Arc, OnceLock, Weak};

use platform_capability::{
    Call, Name, SlotKind,
    event::{self, Error, Query, Start, Subscription, SubscriptionSettings, Topic, TopicSettings},
};

pub use deliver::{Consumer, Deliveries, Receipt, renewed};
pub use error::EventError;
pub use publish::{NewEvent, Outcome};
pub use tell::platform_event;
pub use tree::{Node, Tree};

use deliver::Settled;
use lane::Lanes;
use tell::Tellers;

use crate::{
    error::CallError,
    plane::Plane,
    provider::{Capability, LIMIT_MAX, Provider},
};

type Result<T, E = CallError<EventError>> = std::result::Result<T, E>;

/// Longest time that ids are remembered, that a delivery may take or be put off, in milliseconds.
const DAY_MS: u64 = 86_400_000;
/// Shortest time that a delivery may take, in milliseconds.
const ACK_WAIT_MS_MIN: u64 = 100;
/// Most types that a selection names.
const TYPES_MAX: usize = 32;
/// Most deliveries that may wait for an acknowledgement.
const PENDING_MAX: u32 = 1000;
/// Longest type or id, in bytes.
const TYPE_BYTES_MAX: usize = 256;

/// The topic in which the host tells what changed; nobody else publishes there.
pub const PLATFORM_TOPIC: &str = "platform";

/// Typed calls to `event.broker`, or to `event.broker/NAMESPACE` where it is bound.
#[derive(Debug, Clone)]
pub struct Event {
    provider: Arc<Provider<Self>>,
    lanes: Arc<Lanes>,
    settled: Arc<Settled>,
    /// Set once changes are to be told of.
    tellers: Arc<OnceLock<Tellers>>,
}

impl Event {
    pub(crate) fn new(plane: Weak<Plane>) -> Self {
        Self { provider: Provider::new(plane), lanes: Arc::default(), settled: Arc::default(), tellers: Arc::default() }
    }

    /// Makes a topic, or changes how it is kept.
    ///
    /// # Errors
    /// See [`CallError`]; so for all methods.
    pub async fn put_topic(&self, call: &Call, name: &str, settings: TopicSettings, create: bool) -> Result<Topic> {
        check_name("topic", name)?;
        let zero = [settings.age_ms, settings.count, settings.bytes].contains(&Some(0));
        if zero {
            return Err(refused("a retention of 0 keeps nothing; leave it out, or give at least 1"));
        }
        if settings.window_ms > DAY_MS {
            return Err(refused(format!("a window of {} ms is longer than a day", settings.window_ms)));
        }
        ask(self.provider.write::<event::PutTopic, _>(call, (name, settings, create)).await)
    }

    /// A topic.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn topic(&self, call: &Call, name: &str) -> Result<Topic> {
        check_name("topic", name)?;
        ask(self.provider.call::<event::GetTopic, _>(call, (name,)).await)
    }

    /// Topics with `prefix` and after `after`, in byte order of names, at most `limit`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn topics(&self, call: &Call, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Topic>> {
        if !prefix.is_empty() {
            check_name("prefix", prefix)?;
        }
        ask(self.provider.call::<event::ListTopics, _>(call, (prefix, after, limit.clamp(1, LIMIT_MAX))).await)
    }

    /// Removes a topic with its events and subscriptions.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn delete_topic(&self, call: &Call, name: &str) -> Result<()> {
        check_name("topic", name)?;
        ask(self.provider.write::<event::DeleteTopic, _>(call, (name,)).await)
    }

    /// Events of a topic from a sequence on, or back from it, at most `limit`, and whether there are more.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn read(
        &self, call: &Call, topic: &str, from: u64, limit: u32, reverse: bool,
    ) -> Result<(Vec<event::Event>, bool)> {
        check_name("topic", topic)?;
        let limit = limit.clamp(1, LIMIT_MAX);
        ask(self.provider.call::<event::Read, _>(call, (topic, from, limit, reverse)).await)
    }

    /// One event.
    ///
    /// # Errors
    /// There is none of this sequence, or no longer; see [`CallError`].
    pub async fn get(&self, call: &Call, topic: &str, sequence: u64) -> Result<event::Event> {
        let (found, _) = self.read(call, topic, sequence, 1, false).await?;
        let missing = || EventError::NotFound(format!("the topic `{topic}` has no event {sequence}, or no longer"));
        found.into_iter().find(|event| event.sequence == sequence).ok_or_else(missing).map_err(CallError::Capability)
    }

    /// Events that a query asks for, by time, and where to go on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn find(
        &self, call: &Call, query: &Query, after: Option<&str>, limit: u32,
    ) -> Result<(Vec<event::Event>, Option<String>)> {
        if let Some(topic) = &query.topic {
            check_name("topic", topic)?;
        } else if query.root.is_none() {
            return Err(refused("a search names a topic or a root"));
        }
        if let Some(root) = &query.root {
            check_text("root", root, TYPE_BYTES_MAX)?;
        }
        check_types(&query.types)?;
        ask(self.provider.call::<event::Find, _>(call, (query, after, limit.clamp(1, LIMIT_MAX))).await)
    }

    /// Makes a subscription.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn create_subscription(
        &self, call: &Call, topic: &str, name: &str, start: Start, settings: &SubscriptionSettings,
    ) -> Result<Subscription> {
        check_names(topic, name)?;
        check_settings(topic, settings)?;
        ask(self.provider.call::<event::CreateSubscription, _>(call, (topic, name, start, settings)).await)
    }

    /// A subscription.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn subscription(&self, call: &Call, topic: &str, name: &str) -> Result<Subscription> {
        check_names(topic, name)?;
        ask(self.provider.call::<event::GetSubscription, _>(call, (topic, name)).await)
    }

    /// Subscriptions of a topic after one, in byte order of names, at most `limit`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn subscriptions(
        &self, call: &Call, topic: &str, after: Option<&str>, limit: u32,
    ) -> Result<Vec<Subscription>> {
        check_name("topic", topic)?;
        ask(self.provider.call::<event::ListSubscriptions, _>(call, (topic, after, limit.clamp(1, LIMIT_MAX))).await)
    }

    /// Removes a subscription.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn delete_subscription(&self, call: &Call, topic: &str, name: &str) -> Result<()> {
        check_names(topic, name)?;
        ask(self.provider.call::<event::DeleteSubscription, _>(call, (topic, name)).await)?;
        self.settled.tell(&call.namespace, topic, name);
        Ok(())
    }

    /// Sends a subscription to another place.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn seek(&self, call: &Call, topic: &str, name: &str, start: Start) -> Result<Subscription> {
        check_names(topic, name)?;
        let subscription = ask(self.provider.call::<event::Seek, _>(call, (topic, name, start)).await)?;
        self.settled.tell(&call.namespace, topic, name);
        Ok(subscription)
    }
}

impl Capability for Event {
    const KIND: SlotKind = SlotKind::EventBroker;
    type Error = Error;
    type Change = event::Event;
    type Revision = event::Revision;
    type Changes = event::Changes;

    fn selects(selector: &str, change: &event::Event) -> bool {
        selector.is_empty() || change.topic == selector
    }
}

fn ask<T>(answer: Result<T, CallError<Error>>) -> Result<T> {
    answer.map_err(|error| error.map(EventError::from))
}

fn refused(why: impl Into<String>) -> CallError<EventError> {
    CallError::Capability(EventError::Invalid(why.into()))
}

fn check_name(what: &str, name: &str) -> Result<()> {
    name.parse::<Name>().map(drop).map_err(|error| refused(format!("{what}: {error}")))
}

fn check_names(topic: &str, subscription: &str) -> Result<()> {
    check_name("topic", topic)?;
    check_name("subscription", subscription)
}

/// Text that may be part of a key.
fn check_text(what: &str, text: &str, most: usize) -> Result<()> {
    if text.is_empty() {
        return Err(refused(format!("the {what} is empty")));
    }
    check_length(what, text, most)?;
    if text.chars().any(char::is_control) {
        return Err(refused(format!("the {what} `{}` holds control characters", text.escape_debug())));
    }
    Ok(())
}

fn check_length(what: &str, text: &str, most: usize) -> Result<()> {
    if text.len() > most {
        let why = format!("the {what} has {} bytes, more than {most}", text.len());
        return Err(CallError::Capability(EventError::TooLarge(why)));
    }
    Ok(())
}

fn check_types(types: &[String]) -> Result<()> {
    if types.len() > TYPES_MAX {
        let why = format!("{} types are named, more than {TYPES_MAX}; use `PREFIX*`", types.len());
        return Err(CallError::Capability(EventError::TooLarge(why)));
    }
    types.iter().try_for_each(|kind| check_text("type", kind, TYPE_BYTES_MAX))
}

fn check_settings(topic: &str, settings: &SubscriptionSettings) -> Result<()> {
    check_types(&settings.types)?;
    check_name("dead-letter topic", &settings.dead_letter)?;
    if settings.dead_letter == topic || settings.dead_letter == PLATFORM_TOPIC {
        return Err(refused(format!("`{}` can't be the dead-letter topic of `{topic}`", settings.dead_letter)));
    }
    if !(ACK_WAIT_MS_MIN..=DAY_MS).contains(&settings.ack_wait_ms) {
        let why = format!("{} ms to acknowledge is not within {ACK_WAIT_MS_MIN} ms and a day", settings.ack_wait_ms);
        return Err(refused(why));
    }
    if !(1..=PENDING_MAX).contains(&settings.pending_max) {
        let why = format!("{} deliveries that may wait are not within 1 to {PENDING_MAX}", settings.pending_max);
        return Err(refused(why));
    }
    Ok(())
}

/// Whether a type is among those that are asked for: names, or what they start with before a `*`; none for all.
fn selects(types: &[String], kind: &str) -> bool {
    let matches = |wanted: &String| match wanted.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => kind == wanted,
    };
    types.is_empty() || types.iter().any(matches)
}
