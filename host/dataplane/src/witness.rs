//! [`Witness`]: who hears what plugins ask of other capabilities.
//!
//! For hosts in which a component is tried, so that a test may say what it is allowed to ask. Must not change an answer.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use platform_capability::{
    Call, config,
    db::{self, Found, Index, Query, Record, Stamp},
    discovery,
    event::{self, Delivery, NewEvent, Receipt, Subscriber, Verdict},
    kv::{self, Condition, Expiry, Usage, Write},
    sync::{self, Lease, Lock, Place, Want},
};

/// Hears what plugins ask, before it is answered.
pub trait Witness: fmt::Debug + Send + Sync + 'static {
    /// A plugin asks: `function` is that of the capability, such as `kv.get`, and `about` the key, configuration, service, record, topic or lock.
    fn asked(&self, call: &Call, function: &str, about: &str);
}

/// A capability that is heard.
#[derive(Debug)]
struct Heard<B: ?Sized> {
    witness: Arc<dyn Witness>,
    inner: Arc<B>,
}

/// A capability as a plugin gets it, heard where somebody listens.
pub(crate) trait Hearable {
    fn heard_by(self, witness: Option<&Arc<dyn Witness>>) -> Self;
}

macro_rules! hearable {
    ($($backend:ty),*) => {$(
        impl Hearable for Arc<$backend> {
            fn heard_by(self, witness: Option<&Arc<dyn Witness>>) -> Self {
                match witness {
                    Some(witness) => Arc::new(Heard { witness: Arc::clone(witness), inner: self }),
                    None => self,
                }
            }
        }
    )*};
}

hearable!(
    dyn kv::Backend,
    dyn discovery::Backend,
    dyn config::Backend,
    dyn db::Backend,
    dyn event::Backend,
    dyn sync::Backend
);

#[async_trait]
impl config::Backend for Heard<dyn config::Backend> {
    async fn get(&self, call: &Call, id: &str, path: &str) -> Result<Option<String>, config::Error> {
        self.witness.asked(call, "config.get", &format!("{id}{path}"));
        self.inner.get(call, id, path).await
    }
}

#[async_trait]
impl db::Backend for Heard<dyn db::Backend> {
    async fn declare(&self, call: &Call, database: &str, table: &str, indexes: &[Index]) -> Result<(), db::Error> {
        self.witness.asked(call, "db.declare", &format!("{database}/{table}"));
        self.inner.declare(call, database, table, indexes).await
    }

    async fn commit(&self, call: &Call, database: &str, writes: &[db::Write]) -> Result<Vec<Option<Stamp>>, db::Error> {
        for write in writes {
            self.witness.asked(call, "db.commit", &format!("{database}/{}/{}", write.table, write.id));
        }
        self.inner.commit(call, database, writes).await
    }

    async fn get(
        &self, call: &Call, database: &str, table: &str, ids: &[&str],
    ) -> Result<Vec<Option<Record>>, db::Error> {
        ids.iter().for_each(|id| self.witness.asked(call, "db.get", &format!("{database}/{table}/{id}")));
        self.inner.get(call, database, table, ids).await
    }

    async fn find(&self, call: &Call, database: &str, table: &str, query: &Query) -> Result<Found, db::Error> {
        self.witness.asked(call, "db.find", &format!("{database}/{table}"));
        self.inner.find(call, database, table, query).await
    }
}

#[async_trait]
impl event::Backend for Heard<dyn event::Backend> {
    async fn publish(
        &self, call: &Call, topic: &str, events: Vec<NewEvent>,
    ) -> Result<Vec<event::PublishOutcome>, event::Error> {
        events.iter().for_each(|event| self.witness.asked(call, "event.publish", &format!("{topic}/{}", event.type_)));
        self.inner.publish(call, topic, events).await
    }

    async fn read(
        &self, call: &Call, topic: &str, from: u64, limit: u32, reverse: bool,
    ) -> Result<(Vec<event::Event>, bool), event::Error> {
        self.witness.asked(call, "event.read", topic);
        self.inner.read(call, topic, from, limit, reverse).await
    }

    async fn receive(&self, call: &Call, from: Subscriber<'_>, limit: u32) -> Result<Vec<Delivery>, event::Error> {
        self.witness.asked(call, "event.receive", &format!("{}/{}", from.topic, from.subscription));
        self.inner.receive(call, from, limit).await
    }

    async fn settle(
        &self, call: &Call, from: Subscriber<'_>, receipts: &[Receipt], verdict: Verdict,
    ) -> Result<Vec<bool>, event::Error> {
        self.witness.asked(call, "event.settle", &format!("{}/{}", from.topic, from.subscription));
        self.inner.settle(call, from, receipts, verdict).await
    }
}

#[async_trait]
impl kv::Backend for Heard<dyn kv::Backend> {
    async fn get(&self, call: &Call, key: &str) -> Result<Option<kv::Entry>, kv::Error> {
        self.witness.asked(call, "kv.get", key);
        self.inner.get(call, key).await
    }

    async fn get_many(&self, call: &Call, keys: &[&str]) -> Result<Vec<Option<kv::Entry>>, kv::Error> {
        keys.iter().for_each(|key| self.witness.asked(call, "kv.get", key));
        self.inner.get_many(call, keys).await
    }

    async fn put(
        &self, call: &Call, key: &str, value: &[u8], when: Condition, expiry: Expiry,
    ) -> Result<u64, kv::Error> {
        self.witness.asked(call, "kv.put", key);
        self.inner.put(call, key, value, when, expiry).await
    }

    async fn delete(&self, call: &Call, key: &str, when: Condition) -> Result<Option<u64>, kv::Error> {
        self.witness.asked(call, "kv.delete", key);
        self.inner.delete(call, key, when).await
    }

    async fn commit(&self, call: &Call, writes: &[Write]) -> Result<u64, kv::Error> {
        writes.iter().for_each(|write| self.witness.asked(call, "kv.commit", &write.key));
        self.inner.commit(call, writes).await
    }

    async fn increment(&self, call: &Call, key: &str, by: i64) -> Result<i64, kv::Error> {
        self.witness.asked(call, "kv.increment", key);
        self.inner.increment(call, key, by).await
    }

    async fn used(&self, call: &Call) -> Result<Usage, kv::Error> {
        self.witness.asked(call, "kv.used", "");
        self.inner.used(call).await
    }

    async fn scan(
        &self, call: &Call, prefix: &str, after: Option<&str>, limit: u32,
    ) -> Result<Vec<(String, kv::Entry)>, kv::Error> {
        self.witness.asked(call, "kv.scan", prefix);
        self.inner.scan(call, prefix, after, limit).await
    }

    async fn changes(
        &self, call: &Call, prefix: &str, after: u64, limit: u32, wait_ms: u32,
    ) -> Result<Vec<kv::Change>, kv::Error> {
        self.witness.asked(call, "kv.changes", prefix);
        self.inner.changes(call, prefix, after, limit, wait_ms).await
    }

    async fn revision(&self, call: &Call) -> Result<u64, kv::Error> {
        self.witness.asked(call, "kv.revision", "");
        self.inner.revision(call).await
    }
}

#[async_trait]
impl discovery::Backend for Heard<dyn discovery::Backend> {
    async fn register(
        &self, call: &Call, registration: &discovery::Registration, ttl_ms: u64,
    ) -> Result<u64, discovery::Error> {
        self.witness.asked(call, "discovery.register", &registration.service);
        self.inner.register(call, registration, ttl_ms).await
    }

    async fn heartbeat(&self, call: &Call, service: &str, node_id: &str, ttl_ms: u64) -> Result<(), discovery::Error> {
        self.witness.asked(call, "discovery.heartbeat", service);
        self.inner.heartbeat(call, service, node_id, ttl_ms).await
    }

    async fn deregister(&self, call: &Call, service: &str, node_id: &str) -> Result<(), discovery::Error> {
        self.witness.asked(call, "discovery.deregister", service);
        self.inner.deregister(call, service, node_id).await
    }

    async fn get(
        &self, call: &Call, service: &str, after: Option<&str>, limit: u32,
    ) -> Result<Vec<discovery::Registration>, discovery::Error> {
        self.witness.asked(call, "discovery.get", service);
        self.inner.get(call, service, after, limit).await
    }

    async fn list(
        &self, call: &Call, after: Option<&str>, limit: u32,
    ) -> Result<Vec<discovery::Summary>, discovery::Error> {
        self.witness.asked(call, "discovery.list", "");
        self.inner.list(call, after, limit).await
    }

    async fn changes(
        &self, call: &Call, service: &str, after: u64, limit: u32, wait_ms: u32,
    ) -> Result<Vec<discovery::Change>, discovery::Error> {
        self.witness.asked(call, "discovery.changes", service);
        self.inner.changes(call, service, after, limit, wait_ms).await
    }

    async fn revision(&self, call: &Call) -> Result<u64, discovery::Error> {
        self.witness.asked(call, "discovery.revision", "");
        self.inner.revision(call).await
    }
}

#[async_trait]
impl sync::Backend for Heard<dyn sync::Backend> {
    async fn acquire(
        &self, call: &Call, name: &str, want: &Want, ttl_ms: u64, wait_ms: u32,
    ) -> Result<(Place, Lease), sync::Error> {
        self.witness.asked(call, "sync.acquire", name);
        self.inner.acquire(call, name, want, ttl_ms, wait_ms).await
    }

    async fn keep_alive(&self, call: &Call, lease: &str) -> Result<Lease, sync::Error> {
        // Ids of leases are random: a test can't name them.
        self.witness.asked(call, "sync.keep-alive", "");
        self.inner.keep_alive(call, lease).await
    }

    async fn release(&self, call: &Call, name: &str, token: u64) -> Result<(), sync::Error> {
        self.witness.asked(call, "sync.release", name);
        self.inner.release(call, name, token).await
    }

    async fn get(&self, call: &Call, name: &str) -> Result<Option<Lock>, sync::Error> {
        self.witness.asked(call, "sync.get", name);
        self.inner.get(call, name).await
    }
}
