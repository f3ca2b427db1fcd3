//! Subscriptions: made, told, sent elsewhere, removed.
//!
//! Invariant: a subscription that was sent elsewhere has another generation, so nothing of before is taken for it.

use platform_sdk::{
    context,
    event::{Error, Result, Start, Subscription, SubscriptionSettings, check_name},
    storage::{self, Condition},
};

use crate::{
    TABLE, contended, damaged, find, key,
    record::{Position, Subscribed},
    topic::{self, Found},
};

/// Most keys that are counted at once.
const PAGE: u32 = 1000;

/// A subscription as it was found.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) subscribed: Subscribed,
    /// Revision of its record.
    pub(crate) revision: u64,
}

impl Known {
    fn of(entry: &storage::Entry) -> Result<Self> {
        let subscribed = Subscribed::decode(&entry.value).map_err(damaged)?;
        Ok(Self { name: key::last_name(&entry.key).to_owned(), subscribed, revision: entry.revision })
    }

    /// What the keys of its positions start with.
    pub(crate) fn positions(&self, topic: &Found) -> String {
        topic.place.positions(&self.name, self.subscribed.generation)
    }

    /// What the keys of its deliveries start with.
    pub(crate) fn pending(&self, topic: &Found) -> String {
        topic.place.pending(&self.name, self.subscribed.generation)
    }

    /// What is told of it.
    fn told(&self, topic: &Found) -> Result<Subscription> {
        let positions = self.positions(topic);
        let (mut next, mut missed) = (None::<u64>, 0);
        each(&positions, |entry| {
            let position = Position::decode(&entry.value).map_err(damaged)?;
            next = Some(next.map_or(position.next, |least| least.min(position.next)));
            missed += position.missed;
            Ok(())
        })?;
        let mut pending = 0;
        each(&self.pending(topic), |_| {
            pending += 1;
            Ok(())
        })?;
        let Subscribed { settings, created_ms, from, .. } = self.subscribed.clone();
        Ok(Subscription {
            topic: topic.name.clone(),
            name: self.name.clone(),
            settings,
            created_ms,
            from,
            next: next.unwrap_or(from),
            pending,
            missed,
        })
    }
}

fn each(prefix: &str, mut take: impl FnMut(&storage::Entry) -> Result<()>) -> Result<()> {
    let mut after = None::<String>;
    loop {
        let entries = TABLE.scan(prefix, after.as_deref(), PAGE)?;
        let Some(last) = entries.last() else { return Ok(()) };
        after = Some(last.key.clone());
        entries.iter().try_for_each(&mut take)?;
    }
}

/// The subscription of this name.
pub(crate) fn load(topic: &Found, name: &str) -> Result<Known> {
    check_name("subscription", name)?;
    let missing = || Error::NotFound(format!("the topic `{}` has no subscription `{name}`", topic.name));
    Known::of(&TABLE.get(&topic.place.subscription(name))?.ok_or_else(missing)?)
}

fn resolve(topic: &Found, start: Start) -> Result<u64> {
    Ok(match start {
        Start::Beginning => topic.oldest(context::time_ms())?.map_or(topic.head.next, |(sequence, _)| sequence),
        Start::Sequence(sequence) => sequence.max(1),
        Start::Time(time_ms) => find::at_time(topic, time_ms)?,
        Start::New => topic.head.next,
    })
}

pub(crate) fn create(topic: &str, name: &str, start: Start, settings: SubscriptionSettings) -> Result<Subscription> {
    check_name("subscription", name)?;
    check_name("dead-letter topic", &settings.dead_letter)?;
    if settings.dead_letter == topic {
        return Err(Error::Invalid("a topic is no dead-letter topic of its own".into()));
    }
    let topic = topic::load(topic)?;
    let from = resolve(&topic, start)?;
    let subscribed = Subscribed { settings, created_ms: context::time_ms(), from, generation: context::time_ns() };
    match TABLE.put(&topic.place.subscription(name), &subscribed.encode(), Condition::Absent, None) {
        Ok(revision) => Known { name: name.to_owned(), subscribed, revision }.told(&topic),
        Err(storage::Error::Conflict(_)) => {
            Err(Error::Exists(format!("the topic `{}` has a subscription `{name}` already", topic.name)))
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn get(topic: &str, name: &str) -> Result<Subscription> {
    let topic = topic::load(topic)?;
    load(&topic, name)?.told(&topic)
}

pub(crate) fn list(topic: &str, after: Option<&str>, limit: u32) -> Result<Vec<Subscription>> {
    let topic = topic::load(topic)?;
    let after = after.map(|name| topic.place.subscription(name));
    let entries = TABLE.scan(&topic.place.subscriptions(), after.as_deref(), limit)?;
    entries.iter().map(|entry| Known::of(entry)?.told(&topic)).collect()
}

pub(crate) fn delete(topic: &str, name: &str) -> Result<()> {
    let topic = topic::load(topic)?;
    let known = load(&topic, name)?;
    TABLE.delete(&topic.place.subscription(name), Condition::Always)?;
    forget(&topic, &known)
}

pub(crate) fn seek(topic: &str, name: &str, start: Start) -> Result<Subscription> {
    for () in context::attempts() {
        let topic = topic::load(topic)?;
        let known = load(&topic, name)?;
        let from = resolve(&topic, start)?;
        let generation = context::time_ns().max(known.subscribed.generation + 1);
        let subscribed = Subscribed { from, generation, ..known.subscribed.clone() };
        let key = topic.place.subscription(name);
        match TABLE.put(&key, &subscribed.encode(), Condition::At(known.revision), None) {
            Ok(revision) => {
                forget(&topic, &known)?;
                return Known { name: name.to_owned(), subscribed, revision }.told(&topic);
            }
            Err(storage::Error::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(contended(name))
}

/// Removes what a generation of a subscription has left; what time does not allow goes with the topic.
fn forget(topic: &Found, known: &Known) -> Result<()> {
    topic::sweep(&known.positions(topic))?;
    topic::sweep(&known.pending(topic))?;
    Ok(())
}
