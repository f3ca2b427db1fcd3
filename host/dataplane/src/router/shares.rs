//! Shares: the nodes of a service with the weights that its policy gives them, for clients that balance by themselves.
//!
//! Owns when a client is told again; must not know how it is told. Invariant: whatever changes after a client was told
//! is told to it, or undone before.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use platform_base::clock;
use platform_capability::{
    Call, CallContext, SlotKind,
    router::{NodeTable, Weights},
};
use tokio::sync::watch;

use super::{
    RouteError,
    policy::{Answer, ask},
};
use crate::{
    error::CallError,
    plane::Plane,
    tables::{Filter, Service},
};

/// How often a client is told again when nothing changes.
pub const SHARES_RESEND: Duration = Duration::from_secs(60);
/// Time that the host gives a policy to weigh nodes.
const WEIGH_TIME: Duration = Duration::from_secs(5);

/// Nodes and their weights at one moment.
#[derive(Debug, Clone)]
pub struct Shares {
    /// The nodes.
    pub table: Arc<NodeTable>,
    /// Weight of each node, in order.
    pub weights: Vec<u32>,
    /// Name and version of the policy that gave the weights; empty when nothing is bound and they are those that the nodes
    /// were registered with.
    pub policy: Arc<str>,
    /// Generation of the policy that gave them; 0 when nothing is bound.
    pub generation: u64,
}

impl Shares {
    /// Whether a client that knows `other` need not be told.
    fn is_as(&self, other: &Self) -> bool {
        self.generation == other.generation
            && self.policy == other.policy
            && self.weights == other.weights
            && (self.table.version == other.table.version || self.table.nodes == other.table.nodes)
    }
}

/// A client that is told, and what it was told last.
pub(super) struct Subscription {
    plane: Weak<Plane>,
    call: Call,
    service: Arc<Service>,
    filter: Filter,
    zone: Box<str>,
    nodes: watch::Receiver<u64>,
    bindings: watch::Receiver<()>,
    told: Option<(Shares, Instant)>,
    failed: bool,
}

impl Subscription {
    pub(super) fn new(plane: &Arc<Plane>, call: &Call, service: Arc<Service>, filter: Filter, zone: &str) -> Self {
        Self {
            plane: Arc::downgrade(plane),
            call: Arc::clone(call),
            nodes: service.changed.subscribe(),
            bindings: plane.rebound(SlotKind::RouterPolicy),
            service,
            filter,
            zone: zone.into(),
            told: None,
            failed: false,
        }
    }

    /// What to tell the client next; none after an error, and when the plane is gone.
    pub(super) async fn next(&mut self) -> Option<Result<Shares, CallError<RouteError>>> {
        while !self.failed {
            if self.told.is_some() {
                self.wait().await?;
            }
            // Before anything is looked at: what changes meanwhile is looked at next.
            self.nodes.borrow_and_update();
            self.bindings.borrow_and_update();
            let plane = self.plane.upgrade()?;
            let shares = match self.weigh(&plane).await {
                Ok(shares) => shares,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            };
            let now = clock::now();
            let known = self.told.as_ref().is_some_and(|(told, since)| {
                shares.is_as(told) && now.saturating_duration_since(*since) < SHARES_RESEND
            });
            if !known {
                self.told = Some((shares.clone(), now));
                return Some(Ok(shares));
            }
        }
        None
    }

    /// Waits until nodes or a binding change, or weights may have: those can follow load.
    async fn wait(&mut self) -> Option<()> {
        let weights_ms = self.plane.upgrade()?.parts.config.weights_ms.max(1);
        tokio::select! {
            changed = self.nodes.changed() => changed.ok(),
            changed = self.bindings.changed() => changed.ok(),
            () = tokio::time::sleep(Duration::from_millis(weights_ms)) => Some(()),
        }
    }

    async fn weigh(&self, plane: &Plane) -> Result<Shares, CallError<RouteError>> {
        let table = self.service.table(&self.filter);
        let call: Call = Arc::new(CallContext { deadline: clock::now() + WEIGH_TIME, ..self.call.as_ref().clone() });
        let slot = plane.find(SlotKind::RouterPolicy, &table.service);
        let answer = ask::<Weights>(&slot, &call, &table, &self.zone, (table.table,)).await;
        let Answer { results: (weights,), policy, generation, .. } = match answer {
            Ok(answer) => answer,
            Err(CallError::NotBound(_)) => {
                let weights = table.nodes.iter().map(|node| node.weight).collect();
                return Ok(Shares { table, weights, policy: Arc::from(""), generation: 0 });
            }
            Err(error) => return Err(error),
        };
        let (given, nodes) = (weights.len(), table.nodes.len());
        if given != nodes {
            let service = Arc::clone(&table.service);
            return Err(CallError::Capability(RouteError::Weights { policy, service, given, nodes }));
        }
        Ok(Shares { table, weights, policy, generation })
    }
}
