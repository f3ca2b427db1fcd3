//! Slot `event.broker`: events in topics, handed out until they are acknowledged. Slot `event.filter`: is this event kept,
//! and how?

mod filter;

use serde::de::DeserializeOwned;

use crate::{
    Problem,
    bindings::event_broker::exports::platform::event::broker::Guest,
    export::{Adapter, Instance},
    storage,
};

pub use filter::{Candidate, Filter, Outcome, Transformation};

pub use crate::bindings::event_broker::platform::event::types::{
    Delivery, Draft, Error, Event, Published, Query, Received, Settlement, Start, Subscription, SubscriptionSettings,
    Topic, TopicSettings, Verdict,
};

/// Most events in one publish.
pub const MAX_PUBLISHED: usize = 128;
/// Most deliveries or settlements at once.
pub const MAX_DELIVERIES: u32 = 256;
/// Most events, topics or subscriptions in one answer.
pub const MAX_LIMIT: u32 = 1000;

/// Result of a call to a broker.
pub type Result<T> = std::result::Result<T, Error>;

/// Keeps events in topics and hands them out. Writes are linearizable within a topic; the namespace is the call's
/// ([`crate::context::namespace`]; [`storage`] is scoped to it already). Nothing waits but [`Broker::changes`]: the host
/// asks again when it knows of news, or when a delivery is due.
pub trait Broker: Sized + 'static {
    /// The settings, read from JSON; `()` for none.
    type Settings: DeserializeOwned + 'static;

    /// Makes the broker from its settings, once per instance. No import may be called.
    ///
    /// # Errors
    /// When the settings make no sense; the previous generation then stays.
    fn configure(settings: Self::Settings) -> std::result::Result<Self, Problem>;

    /// Checks itself before a generation takes traffic.
    ///
    /// # Errors
    /// When the broker would not work; the previous generation then stays.
    fn self_test(&mut self) -> std::result::Result<(), Problem> {
        Ok(())
    }

    /// Makes a topic, or changes how it is kept.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NotFound`]; see [`Error`] for the others.
    fn put_topic(&mut self, name: &str, settings: TopicSettings, create: bool) -> Result<Topic>;

    /// A topic.
    ///
    /// # Errors
    /// [`Error::NotFound`]; see [`Error`] for the others.
    fn get_topic(&mut self, name: &str) -> Result<Topic>;

    /// Topics whose name starts with `prefix` and is greater than `after`, in byte order, at most `limit`.
    ///
    /// # Errors
    /// See [`Error`].
    fn list_topics(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Topic>>;

    /// Removes a topic with its events and subscriptions.
    ///
    /// # Errors
    /// [`Error::NotFound`]; see [`Error`] for the others.
    fn delete_topic(&mut self, name: &str) -> Result<()>;

    /// Keeps all of the events or none, in this order.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such topic; see [`Error`] for the others.
    fn publish(&mut self, topic: &str, events: Vec<Draft>) -> Result<Vec<Published>>;

    /// Events of a topic from a sequence on, or back from it, at most `limit`, and whether there are more.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such topic; see [`Error`] for the others.
    fn read(&mut self, topic: &str, from: u64, limit: u32, reverse: bool) -> Result<(Vec<Event>, bool)>;

    /// Events that a query asks for, by time, and where to go on.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the position is none; see [`Error`] for the others.
    fn find(&mut self, query: Query, after: Option<&str>, limit: u32) -> Result<(Vec<Event>, Option<String>)>;

    /// Makes a subscription.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NotFound`]; see [`Error`] for the others.
    fn create_subscription(
        &mut self, topic: &str, name: &str, start: Start, settings: SubscriptionSettings,
    ) -> Result<Subscription>;

    /// A subscription.
    ///
    /// # Errors
    /// [`Error::NotFound`]; see [`Error`] for the others.
    fn get_subscription(&mut self, topic: &str, name: &str) -> Result<Subscription>;

    /// Subscriptions of a topic with a name greater than `after`, in byte order, at most `limit`.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such topic; see [`Error`] for the others.
    fn list_subscriptions(&mut self, topic: &str, after: Option<&str>, limit: u32) -> Result<Vec<Subscription>>;

    /// Removes a subscription.
    ///
    /// # Errors
    /// [`Error::NotFound`]; see [`Error`] for the others.
    fn delete_subscription(&mut self, topic: &str, name: &str) -> Result<()>;

    /// Sends a subscription to another place.
    ///
    /// # Errors
    /// [`Error::NotFound`]; see [`Error`] for the others.
    fn seek(&mut self, topic: &str, name: &str, start: Start) -> Result<Subscription>;

    /// Hands out what is to be delivered now, recorded before it is answered.
    ///
    /// # Errors
    /// [`Error::NotFound`]; see [`Error`] for the others.
    fn receive(&mut self, topic: &str, subscription: &str, consumer: &str, limit: u32) -> Result<Received>;

    /// Records verdicts; with each whether its delivery was waiting for one.
    ///
    /// # Errors
    /// [`Error::NotFound`]; see [`Error`] for the others.
    fn settle(
        &mut self, topic: &str, subscription: &str, consumer: &str, settlements: &[Settlement],
    ) -> Result<Vec<bool>>;

    /// Events with a revision greater than `after`, oldest first, of one topic or of all; large data left out. Waits up to
    /// `wait_ms` for the first one, or returns at once when the broker can't wait.
    ///
    /// # Errors
    /// [`Error::Compacted`] when `after` is older than what is kept; see [`Error`] for the others.
    fn changes(&mut self, selector: &str, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Event>>;

    /// Revision of the last write in the namespace, 0 when there was none.
    ///
    /// # Errors
    /// See [`Error`].
    fn revision(&mut self) -> Result<u64>;
}

/// Checks the name of a topic, subscription or consumer: 1 to 128 bytes of letters, digits, `.`, `_` and `-`.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(allowed) {
        return Err(Error::Invalid(format!("a {what} has 1 to 128 letters, digits, `.`, `_` and `-`")));
    }
    Ok(())
}

/// A limit that can be served: larger ones are cut to `most`.
///
/// # Errors
/// [`Error::Invalid`] when it is 0.
pub fn check_limit(limit: u32, most: u32) -> Result<u32> {
    if limit == 0 {
        return Err(Error::Invalid("the limit is 0, the least is 1".into()));
    }
    Ok(limit.min(most))
}

/// Whether a type is among those that are asked for: names, or what they start with before a `*`; none for all.
#[must_use]
pub fn selects(types: &[String], kind: &str) -> bool {
    let matches = |wanted: &String| match wanted.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => kind == wanted,
    };
    types.is_empty() || types.iter().any(matches)
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::Compacted(oldest) => Self::Compacted(oldest),
            storage::Error::TooLarge(what) | storage::Error::Full(what) => Self::TooLarge(what),
            storage::Error::Invalid(what) => Self::Invalid(what),
            storage::Error::Unavailable(why) => Self::Unavailable(why),
            storage::Error::Conflict(conflict) => {
                Self::Unavailable(format!("others wrote `{}` at the same time; try again", conflict.key))
            }
            storage::Error::Stale(seen) => {
                Self::Invalid(format!("the call is fenced, and token {seen} was seen already"))
            }
            storage::Error::Other(why) => Self::Other(why),
        }
    }
}

/// Calls the broker, or says that the host skipped `configure`.
fn with<P: Instance<State = P>, T>(call: impl FnOnce(&mut P) -> Result<T>) -> Result<T> {
    P::with(call).unwrap_or_else(|problem| Err(Error::Unavailable(problem.message().to_owned())))
}

impl<P: Broker + Instance<State = P>> Guest for Adapter<P> {
    fn put_topic(name: String, settings: TopicSettings, create: bool) -> Result<Topic> {
        with(|broker: &mut P| broker.put_topic(&name, settings, create))
    }

    fn get_topic(name: String) -> Result<Topic> {
        with(|broker: &mut P| broker.get_topic(&name))
    }

    fn list_topics(prefix: String, after: Option<String>, limit: u32) -> Result<Vec<Topic>> {
        with(|broker: &mut P| broker.list_topics(&prefix, after.as_deref(), limit))
    }

    fn delete_topic(name: String) -> Result<()> {
        with(|broker: &mut P| broker.delete_topic(&name))
    }

    fn publish(topic: String, events: Vec<Draft>) -> Result<Vec<Published>> {
        with(|broker: &mut P| broker.publish(&topic, events))
    }

    fn read(topic: String, from: u64, limit: u32, reverse: bool) -> Result<(Vec<Event>, bool)> {
        with(|broker: &mut P| broker.read(&topic, from, limit, reverse))
    }

    fn find(query: Query, after: Option<String>, limit: u32) -> Result<(Vec<Event>, Option<String>)> {
        with(|broker: &mut P| broker.find(query, after.as_deref(), limit))
    }

    fn create_subscription(
        topic: String, name: String, start: Start, settings: SubscriptionSettings,
    ) -> Result<Subscription> {
        with(|broker: &mut P| broker.create_subscription(&topic, &name, start, settings))
    }

    fn get_subscription(topic: String, name: String) -> Result<Subscription> {
        with(|broker: &mut P| broker.get_subscription(&topic, &name))
    }

    fn list_subscriptions(topic: String, after: Option<String>, limit: u32) -> Result<Vec<Subscription>> {
        with(|broker: &mut P| broker.list_subscriptions(&topic, after.as_deref(), limit))
    }

    fn delete_subscription(topic: String, name: String) -> Result<()> {
        with(|broker: &mut P| broker.delete_subscription(&topic, &name))
    }

    fn seek(topic: String, name: String, start: Start) -> Result<Subscription> {
        with(|broker: &mut P| broker.seek(&topic, &name, start))
    }

    fn receive(topic: String, subscription: String, consumer: String, limit: u32) -> Result<Received> {
        with(|broker: &mut P| broker.receive(&topic, &subscription, &consumer, limit))
    }

    fn settle(
        topic: String, subscription: String, consumer: String, settlements: Vec<Settlement>,
    ) -> Result<Vec<bool>> {
        with(|broker: &mut P| broker.settle(&topic, &subscription, &consumer, &settlements))
    }

    fn changes(selector: String, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Event>> {
        with(|broker: &mut P| broker.changes(&selector, after, limit, wait_ms))
    }

    fn revision() -> Result<u64> {
        with(|broker: &mut P| broker.revision())
    }
}
