//! Slot `router.policy`: which copy of a service should take this request?

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::{
    Problem,
    bindings::router::exports::platform::router::policy::Guest,
    export::{Adapter, Instance},
};

pub use crate::bindings::router::platform::router::types::Node;

/// Picks nodes. The SDK keeps one [`Policy::Table`] for each service; a policy says how it is made and used.
pub trait Policy: Sized + 'static {
    /// The settings, read from JSON; `()` for none.
    type Settings: DeserializeOwned + 'static;

    /// What a pick needs to know of a service, prepared when its nodes change.
    type Table: 'static;

    /// Makes the policy from its settings, once per binding. No import may be called.
    ///
    /// # Errors
    /// When the settings make no sense; the previous generation then stays.
    fn configure(settings: Self::Settings) -> Result<Self, Problem>;

    /// Checks itself before a generation takes traffic.
    ///
    /// # Errors
    /// When the policy would not work; the previous generation then stays.
    fn self_test(&self) -> Result<(), Problem> {
        Ok(())
    }

    /// Prepares the nodes of a service. Picks answer with positions in `nodes`.
    fn table(&self, service: &str, nodes: Vec<Node>) -> Self::Table;

    /// Position of the node to use; none when none will do.
    fn pick(&self, table: &mut Self::Table, request: Pick) -> Option<usize>;

    /// Weight of each node in the order given, for clients that balance by themselves.
    fn weights(&self, table: &Self::Table) -> Vec<u32>;
}

/// What a pick may depend on, besides [`load`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Affinity hash of the request; 0 when it has none.
    pub key: u64,
    /// 0 for the first try; grows with each retry.
    pub attempt: u32,
}

/// Live figures of the nodes in the table of the current pick, by position; a position outside it answers 0.
pub mod load {
    #[cfg(target_arch = "wasm32")]
    use crate::bindings::router::platform::router::load as host;
    #[cfg(not(target_arch = "wasm32"))]
    use crate::native::load as host;

    /// A position as the interface wants it; one that does not fit is outside any table.
    fn index(node: usize) -> u32 {
        u32::try_from(node).unwrap_or(u32::MAX)
    }

    /// Requests picked and not yet reported as finished.
    #[must_use]
    pub fn outstanding(node: usize) -> u32 {
        host::outstanding(index(node))
    }

    /// Moving average of reported latency, in microseconds; 0 when nothing was reported.
    #[must_use]
    pub fn latency_us(node: usize) -> u32 {
        host::latency_us(index(node))
    }

    /// Moving average of reported failures, per thousand.
    #[must_use]
    pub fn failures_permille(node: usize) -> u32 {
        host::failures_permille(index(node))
    }

    /// Uniform random bits, not for secrets.
    #[must_use]
    pub fn random() -> u64 {
        host::random()
    }

    /// Uniform random number below `bound`; 0 when the bound is 0.
    #[must_use]
    pub fn random_below(bound: u64) -> u64 {
        ((u128::from(random()) * u128::from(bound)) >> 64) as u64
    }

    /// Zone of the caller; empty when not told.
    #[must_use]
    pub fn zone() -> String {
        host::zone()
    }
}

/// A policy and its tables.
#[doc(hidden)]
#[derive(Debug)]
pub struct Serving<P: Policy> {
    policy: P,
    tables: BTreeMap<u32, P::Table>,
}

impl<P: Policy> Serving<P> {
    /// Starts without tables.
    pub fn new(policy: P) -> Self {
        Self { policy, tables: BTreeMap::new() }
    }

    /// The policy.
    pub fn policy(&self) -> &P {
        &self.policy
    }
}

impl<P: Policy + Instance<State = Serving<P>>> Guest for Adapter<P> {
    fn set_nodes(table: u32, service: String, nodes: Vec<Node>) {
        // Without configuration there is nothing to prepare: picks answer none.
        let _ = P::with(|serving| {
            let prepared = serving.policy.table(&service, nodes);
            serving.tables.insert(table, prepared);
        });
    }

    fn drop_nodes(table: u32) {
        let _ = P::with(|serving| serving.tables.remove(&table));
    }

    fn pick(table: u32, key: u64, attempt: u32) -> Option<u32> {
        P::with(|serving| {
            let table = serving.tables.get_mut(&table)?;
            serving.policy.pick(table, Pick { key, attempt }).and_then(|node| u32::try_from(node).ok())
        })
        .ok()?
    }

    fn weights(table: u32) -> Vec<u32> {
        P::with(|serving| serving.tables.get(&table).map(|table| serving.policy.weights(table)))
            .ok()
            .flatten()
            .unwrap_or_default()
    }
}
