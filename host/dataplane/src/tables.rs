//! Node tables: what discovery knows of a service, in the form that router policies pick from.
//!
//! A follower per namespace keeps them up to date from the registry's changes. A table is replaced as a whole and its
//! version grows; the live load of a node that stays is carried over.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use parking_lot::Mutex;
use platform_capability::{
    discovery::Registration,
    router::{Node, NodeLoad, NodeTable},
};
use tokio::sync::watch;

/// Part of a service: nodes of one version, or with certain labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Filter {
    /// Version of the service.
    pub(crate) version: Option<String>,
    /// Labels that a node has to carry.
    pub(crate) labels: BTreeMap<String, String>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.version.is_none() && self.labels.is_empty()
    }

    fn selects(&self, node: &Node) -> bool {
        self.version.as_ref().is_none_or(|version| *version == node.version)
            && self.labels.iter().all(|(key, value)| node.labels.iter().any(|(k, v)| k == key && v == value))
    }
}

/// Most parts of one service that are kept; more are made for one call each.
const PARTS_MAX: usize = 64;

/// One service: all of its nodes, and the parts of it that were asked for.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) whole: ArcSwap<NodeTable>,
    parts: DashMap<Filter, Arc<NodeTable>>,
    pub(crate) changed: watch::Sender<u64>,
}

static TABLES: AtomicU32 = AtomicU32::new(1);
static VERSIONS: AtomicU64 = AtomicU64::new(1);

impl Service {
    fn new(name: &Arc<str>) -> Self {
        let table = NodeTable {
            table: TABLES.fetch_add(1, Ordering::Relaxed),
            version: VERSIONS.fetch_add(1, Ordering::Relaxed),
            service: Arc::clone(name),
            nodes: Vec::new(),
            loads: Vec::new(),
        };
        Self { whole: ArcSwap::from_pointee(table), parts: DashMap::new(), changed: watch::channel(0).0 }
    }

    /// The nodes that `filter` asks for.
    pub(crate) fn table(&self, filter: &Filter) -> Arc<NodeTable> {
        let whole = self.whole.load_full();
        if filter.is_empty() {
            return whole;
        }
        if let Some(part) = self.parts.get(filter).filter(|part| part.version >= whole.version) {
            return Arc::clone(&part);
        }
        let table = self.parts.get(filter).map_or_else(|| TABLES.fetch_add(1, Ordering::Relaxed), |part| part.table);
        let selected = whole.nodes.iter().zip(&whole.loads).filter(|(node, _)| filter.selects(node));
        let (nodes, loads) = selected.map(|(node, load)| (node.clone(), Arc::clone(load))).unzip();
        let version = VERSIONS.fetch_add(1, Ordering::Relaxed);
        let part = Arc::new(NodeTable { table, version, service: Arc::clone(&whole.service), nodes, loads });
        if self.parts.len() < PARTS_MAX || self.parts.contains_key(filter) {
            self.parts.insert(filter.clone(), Arc::clone(&part));
        }
        part
    }

    fn replace(&self, registrations: &BTreeMap<String, Registration>) {
        let old = self.whole.load_full();
        let load_of = |id: &str| {
            let place = old.nodes.binary_search_by(|node| node.id.as_str().cmp(id)).ok()?;
            old.loads.get(place).cloned()
        };
        let nodes: Vec<Node> = registrations.values().map(node).collect();
        let loads = nodes.iter().map(|node| load_of(&node.id).unwrap_or_default()).collect::<Vec<Arc<NodeLoad>>>();
        let version = VERSIONS.fetch_add(1, Ordering::Relaxed);
        self.whole.store(Arc::new(NodeTable {
            table: old.table,
            version,
            service: Arc::clone(&old.service),
            nodes,
            loads,
        }));
        self.changed.send_replace(version);
    }
}

fn node(registration: &Registration) -> Node {
    Node {
        id: registration.node.id.clone(),
        address: registration.node.address.clone(),
        zone: registration.node.zone.clone(),
        version: registration.version.clone(),
        weight: registration.node.weight,
        labels: registration.node.metadata.clone(),
    }
}

/// All services of a namespace.
#[derive(Debug, Default)]
pub(crate) struct Services {
    by_name: DashMap<Arc<str>, Arc<Service>>,
    registrations: Mutex<BTreeMap<Arc<str>, BTreeMap<String, Registration>>>,
}

impl Services {
    /// The service, none when it was never registered since the host started to follow.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Service>> {
        self.by_name.get(name).map(|service| Arc::clone(&service))
    }

    /// The service, made without nodes when it was never registered.
    pub(crate) fn get_or_new(&self, name: &str) -> Arc<Service> {
        let name: Arc<str> = name.into();
        Arc::clone(&self.by_name.entry(Arc::clone(&name)).or_insert_with(|| Arc::new(Service::new(&name))))
    }

    /// Replaces everything by what the registry holds.
    pub(crate) fn reset(&self, all: Vec<Registration>) {
        let mut fresh: BTreeMap<Arc<str>, BTreeMap<String, Registration>> = BTreeMap::new();
        for registration in all {
            let service: Arc<str> = registration.service.as_str().into();
            fresh.entry(service).or_default().insert(registration.node.id.clone(), registration);
        }
        let mut registrations = self.registrations.lock();
        for name in registrations.keys() {
            fresh.entry(Arc::clone(name)).or_default();
        }
        for (name, nodes) in &fresh {
            self.get_or_new(name).replace(nodes);
        }
        fresh.retain(|_, nodes| !nodes.is_empty());
        *registrations = fresh;
    }

    /// Applies one change.
    pub(crate) fn apply(&self, service: &str, node_id: &str, registration: Option<Registration>) {
        let mut registrations = self.registrations.lock();
        let nodes = registrations.entry(service.into()).or_default();
        match registration {
            Some(registration) => {
                nodes.insert(node_id.to_owned(), registration);
            }
            None => {
                nodes.remove(node_id);
            }
        }
        self.get_or_new(service).replace(nodes);
        if nodes.is_empty() {
            registrations.remove(service);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(service: &str, id: &str, version: &str) -> Registration {
        Registration {
            service: service.to_owned(),
            version: version.to_owned(),
            node: platform_capability::discovery::Node {
                id: id.to_owned(),
                address: "127.0.0.1:1".to_owned(),
                zone: String::new(),
                weight: 100,
                metadata: vec![("color".to_owned(), version.to_owned())],
            },
            metadata: Vec::new(),
            endpoints: Vec::new(),
        }
    }

    #[test]
    fn load_is_carried_over_and_versions_grow() {
        let services = Services::default();
        services.apply("pay", "b", Some(registration("pay", "b", "1")));
        let service = services.get("pay").unwrap();
        let first = service.table(&Filter::default());
        first.loads[0].picked();
        services.apply("pay", "a", Some(registration("pay", "a", "2")));
        let second = service.table(&Filter::default());
        assert!(second.version > first.version);
        assert_eq!(second.table, first.table);
        let ids: Vec<_> = second.nodes.iter().map(|node| node.id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!((second.loads[0].outstanding(), second.loads[1].outstanding()), (0, 1));
        services.apply("pay", "a", None);
        services.apply("pay", "b", None);
        assert!(service.table(&Filter::default()).nodes.is_empty());
    }

    #[test]
    fn parts_follow_the_whole() {
        let services = Services::default();
        services.apply("pay", "a", Some(registration("pay", "a", "1")));
        services.apply("pay", "b", Some(registration("pay", "b", "2")));
        let service = services.get("pay").unwrap();
        let filter = Filter { version: Some("2".to_owned()), labels: BTreeMap::new() };
        let part = service.table(&filter);
        assert_eq!(part.nodes.len(), 1);
        assert_eq!(service.table(&filter).version, part.version, "an unchanged part is kept");
        services.apply("pay", "c", Some(registration("pay", "c", "2")));
        assert_eq!(service.table(&filter).nodes.len(), 2);
        assert_eq!(service.table(&filter).table, part.table);
        let none = Filter { version: None, labels: [("color".to_owned(), "9".to_owned())].into() };
        assert!(service.table(&none).nodes.is_empty());
    }

    #[test]
    fn a_reset_forgets_what_is_gone() {
        let services = Services::default();
        services.apply("pay", "a", Some(registration("pay", "a", "1")));
        services.reset(vec![registration("ship", "x", "1")]);
        assert!(services.get("pay").unwrap().table(&Filter::default()).nodes.is_empty());
        assert_eq!(services.get("ship").unwrap().table(&Filter::default()).nodes.len(), 1);
    }
}
