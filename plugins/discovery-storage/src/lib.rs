//! `discovery.registry` over the platform's durable tables: one table, one key for each node, the time to live of a
//! registration is the key's. It owns what a registration may look like and how it is stored; expiry, order and waiting
//! for changes are the table's.
//!
//! Its invariant: what it accepts it can give back, and a heartbeat never changes what watchers see.

use platform_sdk::{
    Problem,
    discovery::{Change, Error, Registration, Registry, Result, Summary},
    export,
    storage::{self, Condition, Table},
};

mod check;
mod key;
mod record;

/// The registrations of a namespace; storage keeps namespaces apart.
const NODES: Table = Table::new("nodes");
/// Most registrations, services or changes in one answer.
const MAX_LIMIT: u32 = 1000;

/// The registry has no state of its own.
struct Durable;

export!(discovery::Registry for Durable, mode = "reused", grants = ["storage"]);

impl Registry for Durable {
    type Settings = ();

    fn configure((): ()) -> std::result::Result<Self, Problem> {
        Ok(Self)
    }

    fn self_test(&mut self) -> std::result::Result<(), Problem> {
        NODES.revision().map(drop).map_err(|error| Problem::new(format!("storage does not answer: {error}")))
    }

    fn register(&mut self, registration: Registration, ttl_ms: u64) -> Result<u64> {
        check::registration(&registration)?;
        check::ttl(ttl_ms)?;
        let record = record::encode(&registration);
        check::record(&record)?;
        let key = key::of(&registration.service, &registration.node.id);
        Ok(NODES.put(&key, &record, Condition::Always, Some(ttl_ms))?)
    }

    fn heartbeat(&mut self, service: &str, node_id: &str, ttl_ms: u64) -> Result<()> {
        check::name("service", service)?;
        check::node_id(node_id)?;
        check::ttl(ttl_ms)?;
        match NODES.touch(&key::of(service, node_id), Some(ttl_ms)) {
            Ok(_) => Ok(()),
            Err(storage::Error::Conflict(_)) => Err(Error::NotFound(format!(
                "node `{node_id}` of `{service}` is not registered, or its registration expired; register it again"
            ))),
            Err(error) => Err(error.into()),
        }
    }

    fn deregister(&mut self, service: &str, node_id: &str) -> Result<()> {
        check::name("service", service)?;
        check::node_id(node_id)?;
        NODES.delete(&key::of(service, node_id), Condition::Always)?;
        Ok(())
    }

    fn get(&mut self, service: &str, after: Option<&str>, limit: u32) -> Result<Vec<Registration>> {
        check::name("service", service)?;
        let after = after.map(|id| key::of(service, id));
        NODES
            .scan(&key::prefix(service), after.as_deref(), check::limit(limit)?)?
            .iter()
            .map(|entry| decode(&entry.key, &entry.value))
            .collect()
    }

    fn list(&mut self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>> {
        let limit = check::limit(limit)? as usize;
        let mut services: Vec<Summary> = Vec::new();
        let mut after = after.map(key::past);
        loop {
            let page = NODES.scan("", after.as_deref(), MAX_LIMIT)?;
            let Some(last) = page.last() else { return Ok(services) };
            for entry in &page {
                let (service, _) = key::parts(&entry.key).ok_or_else(|| damaged(&entry.key))?;
                let version = record::version(&entry.value).map_err(|_malformed| damaged(&entry.key))?;
                if let Some(summary) = services.last_mut().filter(|summary| summary.service == service) {
                    count(summary, version);
                    continue;
                }
                if services.len() == limit {
                    return Ok(services);
                }
                services.push(Summary { service: service.to_owned(), versions: vec![version.to_owned()], nodes: 1 });
            }
            after = Some(last.key.clone());
        }
    }

    fn changes(&mut self, service: &str, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Change>> {
        let prefix = if service.is_empty() {
            String::new()
        } else {
            check::name("service", service)?;
            key::prefix(service)
        };
        NODES.changes(&prefix, after, check::limit(limit)?, wait_ms)?.into_iter().map(change).collect()
    }

    fn revision(&mut self) -> Result<u64> {
        Ok(NODES.revision()?)
    }
}

/// Adds a node to the summary of its service.
fn count(summary: &mut Summary, version: &str) {
    summary.nodes += 1;
    if let Err(place) = summary.versions.binary_search_by(|known| known.as_str().cmp(version)) {
        summary.versions.insert(place, version.to_owned());
    }
}

fn change(found: storage::Change) -> Result<Change> {
    let (stored_key, revision, registration) = match found {
        storage::Change::Put(entry) => {
            let registration = decode(&entry.key, &entry.value)?;
            (entry.key, entry.revision, Some(registration))
        }
        storage::Change::Delete((key, revision)) => (key, revision, None),
    };
    let (service, node_id) = key::parts(&stored_key).ok_or_else(|| damaged(&stored_key))?;
    Ok(Change { service: service.to_owned(), node_id: node_id.to_owned(), registration, revision })
}

fn decode(key: &str, value: &[u8]) -> Result<Registration> {
    let (service, node_id) = key::parts(key).ok_or_else(|| damaged(key))?;
    record::decode(service, node_id, value).map_err(|_malformed| damaged(key))
}

fn damaged(key: &str) -> Error {
    Error::Other(format!("the registration under `{key}` is damaged or from a newer version; deregister that node"))
}

#[cfg(test)]
mod tests;
