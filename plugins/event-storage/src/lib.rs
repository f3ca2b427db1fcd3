//! `event.broker` over the platform's durable tables: topics, their events, and who was delivered what.
//!
//! Its invariant: what belongs together is one commit of one table. A publish is its events, their ids, their places in the
//! tree of causes and the end of the topic; a delivery is its record and where the consumer goes on.

use platform_sdk::{
    Problem,
    codec::Malformed,
    event::{
        Broker, Draft, Error, Event, MAX_DELIVERIES, MAX_LIMIT, Published, Query, Received, Result, Settlement, Start,
        Subscription, SubscriptionSettings, Topic, TopicSettings, check_limit,
    },
    export,
    storage::Table,
};

mod delivery;
mod find;
mod key;
mod publish;
mod record;
mod subscription;
mod topic;

/// Everything of a namespace; storage keeps namespaces apart.
const TABLE: Table = Table::new("events");

/// The broker has no state of its own.
struct Durable;

export!(event::Broker for Durable, mode = "reused", grants = ["storage"]);

impl Broker for Durable {
    type Settings = ();

    fn configure((): ()) -> std::result::Result<Self, Problem> {
        Ok(Self)
    }

    fn self_test(&mut self) -> std::result::Result<(), Problem> {
        TABLE.revision().map(drop).map_err(|error| Problem::new(format!("storage does not answer: {error}")))
    }

    fn put_topic(&mut self, name: &str, settings: TopicSettings, create: bool) -> Result<Topic> {
        topic::put(name, settings, create)
    }

    fn get_topic(&mut self, name: &str) -> Result<Topic> {
        topic::get(name)
    }

    fn list_topics(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Topic>> {
        topic::list(prefix, after, check_limit(limit, MAX_LIMIT)?)
    }

    fn delete_topic(&mut self, name: &str) -> Result<()> {
        topic::delete(name)
    }

    fn publish(&mut self, topic: &str, events: Vec<Draft>) -> Result<Vec<Published>> {
        publish::publish(topic, &events)
    }

    fn read(&mut self, topic: &str, from: u64, limit: u32, reverse: bool) -> Result<(Vec<Event>, bool)> {
        find::read(topic, from, check_limit(limit, MAX_LIMIT)?, reverse)
    }

    fn find(&mut self, query: Query, after: Option<&str>, limit: u32) -> Result<(Vec<Event>, Option<String>)> {
        find::find(&query, after, check_limit(limit, MAX_LIMIT)?)
    }

    fn create_subscription(
        &mut self, topic: &str, name: &str, start: Start, settings: SubscriptionSettings,
    ) -> Result<Subscription> {
        subscription::create(topic, name, start, settings)
    }

    fn get_subscription(&mut self, topic: &str, name: &str) -> Result<Subscription> {
        subscription::get(topic, name)
    }

    fn list_subscriptions(&mut self, topic: &str, after: Option<&str>, limit: u32) -> Result<Vec<Subscription>> {
        subscription::list(topic, after, check_limit(limit, MAX_LIMIT)?)
    }

    fn delete_subscription(&mut self, topic: &str, name: &str) -> Result<()> {
        subscription::delete(topic, name)
    }

    fn seek(&mut self, topic: &str, name: &str, start: Start) -> Result<Subscription> {
        subscription::seek(topic, name, start)
    }

    fn receive(&mut self, topic: &str, subscription: &str, consumer: &str, limit: u32) -> Result<Received> {
        delivery::receive(topic, subscription, consumer, check_limit(limit, MAX_DELIVERIES)?)
    }

    fn settle(
        &mut self, topic: &str, subscription: &str, consumer: &str, settlements: &[Settlement],
    ) -> Result<Vec<bool>> {
        delivery::settle(topic, subscription, consumer, settlements)
    }

    fn changes(&mut self, selector: &str, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Event>> {
        find::changes(selector, after, check_limit(limit, MAX_LIMIT)?, wait_ms)
    }

    fn revision(&mut self) -> Result<u64> {
        Ok(TABLE.revision()?)
    }
}

fn contended(name: &str) -> Error {
    Error::Unavailable(format!("`{name}` was written by others again and again; try again"))
}

fn damaged(malformed: Malformed) -> Error {
    Error::Other(malformed.to_string())
}

#[cfg(test)]
mod tests;
