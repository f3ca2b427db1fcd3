//! Questions to a router policy: the nodes that they are about are given to the instance first, where it does not know
//! them yet.
//!
//! Must not know what is asked. Invariant: an instance answers about the version of the table that the host answers with.

use std::{convert::Infallible, sync::Arc, time::Instant};

use platform_base::clock;
use platform_capability::{
    Call,
    router::{DropNodes, NodeTable, SetNodes},
};
use platform_runtime::{Fault, Function};

use crate::{binding::Entry, error::CallError, slot::Slot};

/// Most tables that one instance is given.
const TABLES_MAX: usize = 1024;

/// What a policy answered, and which.
pub(super) struct Answer<R> {
    pub(super) results: R,
    /// Name and version of the policy.
    pub(super) policy: Arc<str>,
    /// Generation of its binding.
    pub(super) generation: u64,
}

/// Asks the policy of `slot` about `table`; when it faults, whom the slot's failure mode names.
pub(super) async fn ask<F: Function>(
    slot: &Slot, call: &Call, table: &Arc<NodeTable>, zone: &str, params: F::Params<'_>,
) -> Result<Answer<F::Results>, CallError<super::RouteError>>
where
    for<'a> F::Params<'a>: Clone,
{
    let failed = |error: CallError<Infallible>| error.map(|never| match never {});
    let mut route = slot.route().map_err(failed)?;
    loop {
        let Some(entry) = route.entry() else { return Err(CallError::NotBound(slot.name().clone())) };
        match enter::<F>(entry, call, table, zone, params.clone()).await {
            Ok(results) => {
                let generation = route.binding().map_or(0, |binding| binding.generation);
                return Ok(Answer { results, policy: Arc::clone(&entry.label), generation });
            }
            Err(fault) => route.after(fault).map_err(failed)?,
        }
    }
}

async fn enter<F: Function>(
    entry: &Entry, call: &Call, table: &Arc<NodeTable>, zone: &str, params: F::Params<'_>,
) -> Result<F::Results, Fault> {
    let started = clock::now();
    let answer = enter_unmeasured::<F>(entry, call, started, table, zone, params).await;
    entry.metrics.record(clock::now().saturating_duration_since(started), answer.as_ref().err());
    answer
}

async fn enter_unmeasured<F: Function>(
    entry: &Entry, call: &Call, now: Instant, table: &Arc<NodeTable>, zone: &str, params: F::Params<'_>,
) -> Result<F::Results, Fault> {
    let mut lease = entry.pool.take(now, call.deadline).await?;
    let until = lease.until();
    let guest = lease.guest();
    guest.serve(call, until);
    if guest.zone.as_ref() != zone {
        guest.zone = zone.into();
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
    let results = lease.call::<F>(params).await?;
    lease.guest().nodes = None;
    lease.end();
    Ok(results)
}
