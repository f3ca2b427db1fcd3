//! The router capability: which node takes a request, by a policy that sees live load.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::DashMap;
use futures::StreamExt as _;
use platform_base::clock;
use platform_capability::{
    Call, CallContext, Name, SlotKind, discovery,
    router::{DropNodes, Node, NodeLoad, NodeTable, Pick, SetNodes},
};
use platform_runtime::Fault;
use tokio::sync::{OnceCell, watch};

use crate::{
    binding::Entry,
    error::CallError,
    plane::Plane,
    tables::{Filter, Services},
    watch::Event,
};

/// What is asked of the router.
#[derive(Debug, Clone, Copy, Default)]
pub struct SelectRequest<'a> {
    /// The service.
    pub service: &'a str,
    /// Affinity hash of the request; 0 when it has none.
    pub key: u64,
    /// Zone of the caller; empty when not told.
    pub zone: &'a str,
    /// 0 for the first try, more for each retry.
    pub attempt: u32,
    /// Only nodes of this version.
    pub version: Option<&'a str>,
    /// Only nodes with these labels.
    pub labels: &'a [(String, String)],
}

/// The node to use.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Names the pick in a [`Report`].
    pub pick_id: u64,
    /// The node.
    pub node: Node,
    /// Generation of the policy that picked.
    pub generation: u64,
    /// Name and version of the policy that picked.
    pub policy: Arc<str>,
    /// Version of the node table that it picked from.
    pub table_version: u64,
}

/// How a request to a picked node went.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// The pick.
    pub pick_id: u64,
    /// How long it took, in microseconds.
    pub latency_us: u32,
    /// Whether it failed.
    pub failed: bool,
}

/// Why no node was picked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// An argument that is not allowed; which one, and why.
    #[error("{0}")]
    Invalid(String),
    /// No node of the service is registered, or none that fits the filters.
    #[error("no node of `{service}` is registered{}", if *.filtered { " that fits the filters" } else { "" })]
    NoNodes {
        /// The service.
        service: String,
        /// Whether there are nodes, of which none fits.
        filtered: bool,
    },
    /// The policy would use none of the nodes.
    #[error("the policy picks none of the {nodes} nodes of `{service}`")]
    NonePicked {
        /// The service.
        service: String,
        /// How many nodes there are.
        nodes: usize,
    },
    /// The registry can't be read now.
    #[error("the registry can't be read: {0}")]
    Registry(String),
}

/// Picks by `router.policy`, or by `router.policy/SERVICE` where it is bound.
#[derive(Debug)]
pub struct Router {
    plane: Weak<Plane>,
    namespaces: DashMap<Arc<str>, Arc<Followed>>,
    picks: Arc<DashMap<u64, (Arc<NodeLoad>, Instant)>>,
    next_pick: AtomicU64,
}

/// A namespace whose registry is followed.
#[derive(Debug, Default)]
struct Followed {
    services: Services,
    ready: OnceCell<()>,
}

/// Picks that are remembered; beyond it they are not, and reports on them do nothing.
const PICKS_MAX: usize = 1 << 20;
/// How long a pick counts as outstanding when nobody reports on it.
const PICK_TIME: Duration = Duration::from_secs(60);

impl Router {
    pub(crate) fn new(plane: Weak<Plane>) -> Self {
        Self { plane, namespaces: DashMap::new(), picks: Arc::default(), next_pick: AtomicU64::new(1) }
    }

    /// Picks a node for a request.
    ///
    /// # Errors
    /// See [`RouteError`] and [`CallError`].
    pub async fn select(&self, call: &Call, request: SelectRequest<'_>) -> Result<Selection, CallError<RouteError>> {
        let invalid =
            |error: platform_capability::InvalidName| CallError::Capability(RouteError::Invalid(error.to_string()));
        request.service.parse::<Name>().map_err(invalid)?;
        let plane = self.plane.upgrade().ok_or_else(shutting_down)?;
        let followed = self.followed(&plane, call).await?;
        let no_nodes =
            |filtered| CallError::Capability(RouteError::NoNodes { service: request.service.to_owned(), filtered });
        let service = followed.services.get(request.service).ok_or_else(|| no_nodes(false))?;
        let filter = Filter {
            version: request.version.map(str::to_owned),
            labels: request.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
        };
        let table = service.table(&filter);
        if table.nodes.is_empty() {
            return Err(no_nodes(!service.whole.load().nodes.is_empty()));
        }

        let slot = plane.find(SlotKind::RouterPolicy, request.service);
        let mut route = slot.route().map_err(|error| error.map(|never| match never {}))?;
        let picked = loop {
            let Some(entry) = route.entry() else { return Err(CallError::NotBound(slot.name().clone())) };
            match pick(entry, call, &table, &request).await {
                Ok(index) => break index,
                Err(fault) => route.after(fault).map_err(|error| error.map(|never| match never {}))?,
            }
        };
        let index = picked.map(|index| index as usize);
        let (Some(node), Some(load)) =
            (index.and_then(|index| table.nodes.get(index)), index.and_then(|index| table.loads.get(index)))
        else {
            let nodes = table.nodes.len();
            return Err(CallError::Capability(RouteError::NonePicked { service: request.service.to_owned(), nodes }));
        };
        Ok(Selection {
            pick_id: self.remember(&plane, load),
            node: node.clone(),
            generation: route.binding().map_or(0, |binding| binding.generation),
            policy: route.entry().map_or_else(|| Arc::from(""), |entry| Arc::clone(&entry.label)),
            table_version: table.version,
        })
    }

    /// Takes note of how picks went. Unknown and repeated ones are passed over; how many counted.
    pub fn report(&self, reports: &[Report]) -> usize {
        let known = reports.iter().filter(|report| {
            let pick = self.picks.remove(&report.pick_id);
            pick.inspect(|(_, (load, _))| load.finished(report.latency_us, report.failed)).is_some()
        });
        known.count()
    }

    /// Follows changes of a service's nodes: the version of its table, whenever it changes.
    ///
    /// # Errors
    /// See [`RouteError`].
    pub async fn nodes_changed(
        &self, call: &Call, service: &str,
    ) -> Result<watch::Receiver<u64>, CallError<RouteError>> {
        let plane = self.plane.upgrade().ok_or_else(shutting_down)?;
        let followed = self.followed(&plane, call).await?;
        Ok(followed.services.get_or_new(service).changed.subscribe())
    }

    fn remember(&self, plane: &Arc<Plane>, load: &Arc<NodeLoad>) -> u64 {
        let id = self.next_pick.fetch_add(1, Ordering::Relaxed);
        if id == 1 {
            let picks = Arc::clone(&self.picks);
            plane.parts.tasks.spawn_until_cancelled("picks", forget_old(picks));
        }
        if self.picks.len() < PICKS_MAX {
            load.picked();
            self.picks.insert(id, (Arc::clone(load), clock::now()));
        }
        id
    }

    /// The namespace's services, once the registry has been read.
    async fn followed(&self, plane: &Arc<Plane>, call: &Call) -> Result<Arc<Followed>, CallError<RouteError>> {
        let followed = match self.namespaces.get(&call.namespace) {
            Some(followed) => Arc::clone(&followed),
            None => Arc::clone(&self.namespaces.entry(Arc::clone(&call.namespace)).or_default()),
        };
        followed
            .ready
            .get_or_try_init(|| async {
                let from = read_all(plane, &call.namespace, &followed.services).await?;
                let (plane, namespace, services) =
                    (Arc::downgrade(plane), Arc::clone(&call.namespace), Arc::clone(&followed));
                let Some(tasks) = self.plane.upgrade() else { return Err(shutting_down()) };
                tasks.parts.tasks.spawn_until_cancelled("nodes", async move {
                    follow(&plane, &namespace, &services.services, from).await;
                });
                Ok(())
            })
            .await?;
        Ok(followed)
    }
}

fn shutting_down() -> CallError<RouteError> {
    CallError::Capability(RouteError::Registry("the platform is shutting down".to_owned()))
}

/// Asks a policy. Nodes that its instance does not know yet, or not in this version, are given to it first.
async fn pick(
    entry: &Entry, call: &Call, table: &Arc<NodeTable>, request: &SelectRequest<'_>,
) -> Result<Option<u32>, Fault> {
    let started = clock::now();
    let picked = pick_in(entry, call, table, request).await;
    entry.metrics.record(clock::now().saturating_duration_since(started), picked.as_ref().err());
    picked
}

/// Most tables that one instance is given.
const TABLES_MAX: usize = 1024;

async fn pick_in(
    entry: &Entry, call: &Call, table: &Arc<NodeTable>, request: &SelectRequest<'_>,
) -> Result<Option<u32>, Fault> {
    let mut lease = entry.pool.take(clock::now(), call.deadline).await?;
    let guest = lease.guest();
    guest.call = Arc::clone(call);
    if guest.zone.as_ref() != request.zone {
        guest.zone = request.zone.into();
    }
    let known = guest.tables.get(&table.table) == Some(&table.version);
    guest.nodes = Some(Arc::clone(table));
    if !known {
        let surplus = if guest.tables.len() >= TABLES_MAX { guest.tables.keys().next().copied() } else { None };
        if let Some(surplus) = surplus {
            lease.call::<DropNodes>((surplus,)).await?;
            lease.guest().tables.remove(&surplus);
        }
        lease.call::<SetNodes>((table.table, &table.service, &table.nodes)).await?;
        lease.guest().tables.insert(table.table, table.version);
    }
    let (picked,) = lease.call::<Pick>((table.table, request.key, request.attempt)).await?;
    lease.guest().nodes = None;
    lease.end();
    Ok(picked)
}

/// Time that the host gives the registry.
const REGISTRY_TIME: Duration = Duration::from_secs(5);

/// Reads all registrations; the revision that they are at least of.
async fn read_all(plane: &Plane, namespace: &Arc<str>, services: &Services) -> Result<u64, CallError<RouteError>> {
    let call: Call = Arc::new(CallContext::host(Arc::clone(namespace), REGISTRY_TIME));
    let registry = |error: CallError<discovery::Error>| CallError::Capability(RouteError::Registry(error.to_string()));
    let revision = plane.discovery().revision(&call).await.map_err(registry)?;
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = plane.discovery().list(&call, after.as_deref(), 1000).await.map_err(registry)?;
        let Some(last) = page.last() else { break };
        after = Some(last.service.clone());
        for summary in &page {
            let mut after: Option<String> = None;
            loop {
                let nodes =
                    plane.discovery().get(&call, &summary.service, after.as_deref(), 1000).await.map_err(registry)?;
                let Some(last) = nodes.last() else { break };
                after = Some(last.node.id.clone());
                all.extend(nodes);
            }
        }
    }
    services.reset(all);
    Ok(revision)
}

/// Applies the registry's changes for as long as the plane lives. When changes were lost, everything is read again.
async fn follow(plane: &Weak<Plane>, namespace: &Arc<str>, services: &Services, mut from: u64) {
    loop {
        let Some(strong) = plane.upgrade() else { return };
        let call: Call = Arc::new(CallContext::host(Arc::clone(namespace), REGISTRY_TIME));
        let Ok(changes) = strong.discovery().watch(&call, "", from) else { return };
        drop(strong);
        let mut changes = std::pin::pin!(changes);
        while let Some(event) = changes.next().await {
            match event {
                Ok(Event::Changes(changes)) => {
                    for change in changes {
                        from = change.revision;
                        services.apply(&change.service, &change.node_id, change.registration);
                    }
                }
                Ok(Event::Progress(revision)) => from = revision,
                Err(error) => {
                    tracing::debug!(%namespace, %error, "registry watch ended");
                    break;
                }
            }
        }
        let Some(strong) = plane.upgrade() else { return };
        match read_all(&strong, namespace, services).await {
            Ok(revision) => from = revision,
            Err(_) => {
                drop(strong);
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }
}

/// Forgets picks that nobody reported on.
async fn forget_old(picks: Arc<DashMap<u64, (Arc<NodeLoad>, Instant)>>) {
    loop {
        tokio::time::sleep(PICK_TIME / 4).await;
        let now = clock::now();
        picks.retain(|_, (load, since)| {
            let keeps = now.saturating_duration_since(*since) < PICK_TIME;
            if !keeps {
                load.abandoned();
            }
            keeps
        });
    }
}
