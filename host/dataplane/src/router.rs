//! The router capability: which node takes a request, by a policy that sees live load.

mod followed;
mod policy;
mod shares;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::DashMap;
use futures::Stream;
use platform_base::clock;
use platform_capability::{
    Call, Name, SlotKind,
    router::{Node, NodeLoad, Pick},
};

use crate::{error::CallError, plane::Plane, tables::Filter};
use followed::Followed;
use policy::{Answer, ask, compare};
use shares::Subscription;

pub use shares::{SHARES_RESEND, Shares};

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
    /// The policy gave another number of weights than there are nodes.
    #[error("`{policy}` gives {given} weights for the {nodes} nodes of `{service}`")]
    Weights {
        /// Name and version of the policy.
        policy: Arc<str>,
        /// The service.
        service: Arc<str>,
        /// How many weights it gave.
        given: usize,
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
        check_service(request.service)?;
        let plane = self.plane.upgrade().ok_or_else(shutting_down)?;
        let followed = self.followed(&plane, call).await?;
        let no_nodes =
            |filtered| CallError::Capability(RouteError::NoNodes { service: request.service.to_owned(), filtered });
        let service = followed.services.get(request.service).ok_or_else(|| no_nodes(false))?;
        let table = service.table(&request.filter());
        if table.nodes.is_empty() {
            return Err(no_nodes(!service.whole.load().nodes.is_empty()));
        }

        let slot = plane.find(SlotKind::RouterPolicy, request.service);
        let params = (table.table, request.key, request.attempt);
        let Answer { results: (picked,), policy, generation, shadow } =
            ask::<Pick>(&slot, call, &table, request.zone, params).await?;
        if let Some(rollout) = shadow {
            compare(&rollout, call, &table, request.zone, params, picked);
        }
        let index = picked.map(|index| index as usize);
        let (Some(node), Some(load)) =
            (index.and_then(|index| table.nodes.get(index)), index.and_then(|index| table.loads.get(index)))
        else {
            let nodes = table.nodes.len();
            return Err(CallError::Capability(RouteError::NonePicked { service: request.service.to_owned(), nodes }));
        };
        let pick_id = self.remember(&plane, load);
        Ok(Selection { pick_id, node: node.clone(), generation, policy, table_version: table.version })
    }

    /// All nodes of a service with the weights that its policy gives them, for clients that balance by themselves: at
    /// once, whenever nodes, weights or the policy change, and every [`SHARES_RESEND`], for as long as the stream is read.
    /// It ends with an error when the policy faults and the slot's failure mode knows no other way. `key` and `attempt` of
    /// the request don't matter.
    ///
    /// # Errors
    /// See [`RouteError`].
    pub async fn shares(
        &self, call: &Call, request: SelectRequest<'_>,
    ) -> Result<impl Stream<Item = Result<Shares, CallError<RouteError>>> + Send + 'static + use<>, CallError<RouteError>>
    {
        check_service(request.service)?;
        let plane = self.plane.upgrade().ok_or_else(shutting_down)?;
        let service = self.followed(&plane, call).await?.services.get_or_new(request.service);
        let subscription = Subscription::new(&plane, call, service, request.filter(), request.zone);
        Ok(futures::stream::unfold(subscription, async |mut subscription| {
            let shares = subscription.next().await?;
            Some((shares, subscription))
        }))
    }

    /// Takes note of how picks went. Unknown and repeated ones are passed over; how many counted.
    pub fn report(&self, reports: &[Report]) -> usize {
        let known = reports.iter().filter(|report| {
            let pick = self.picks.remove(&report.pick_id);
            pick.inspect(|(_, (load, _))| load.finished(report.latency_us, report.failed)).is_some()
        });
        known.count()
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
        followed.begin(plane, &call.namespace).await?;
        Ok(followed)
    }
}

impl SelectRequest<'_> {
    fn filter(&self) -> Filter {
        Filter { version: self.version.map(str::to_owned), labels: self.labels.iter().cloned().collect() }
    }
}

fn check_service(service: &str) -> Result<(), CallError<RouteError>> {
    let invalid = |error: platform_capability::InvalidName| RouteError::Invalid(error.to_string());
    service.parse::<Name>().map(drop).map_err(|error| CallError::Capability(invalid(error)))
}

fn shutting_down() -> CallError<RouteError> {
    CallError::Capability(RouteError::Registry("the platform is shutting down".to_owned()))
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
