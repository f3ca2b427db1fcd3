//! Questions to a router policy: the nodes that they are about are given to the instance first, where it does not know
//! them yet.
//!
//! Must not know what is asked. Invariant: an instance answers about the version of the table that the host answers with.

use std::{convert::Infallible, sync::Arc, time::Instant};

use platform_base::clock;
use platform_capability::{
    Call,
    router::{DropNodes, NodeTable, Pick, SetNodes},
};
use platform_runtime::{Fault, Function};

use crate::{
    binding::Entry,
    decide::later,
    error::CallError,
    rollout::{Asked, Rollout},
    slot::{Route, Slot},
};

/// Most tables that one instance is given.
const TABLES_MAX: usize = 1024;

/// What a policy answered, and which.
pub(super) struct Answer<R> {
    pub(super) results: R,
    /// Name and version of the policy.
    pub(super) policy: Arc<str>,
    /// Generation of its binding.
    pub(super) generation: u64,
    /// Where the same is asked and not used.
    pub(super) shadow: Option<Arc<Rollout>>,
}

/// Asks the policy of `slot` about `table`; when it faults, whom the slot's failure mode names.
pub(super) async fn ask<F: Function>(
    slot: &Slot, call: &Call, table: &Arc<NodeTable>, zone: &str, params: F::Params<'_>,
) -> Result<Answer<F::Results>, CallError<super::RouteError>>
where
    for<'a> F::Params<'a>: Clone,
{
    let question = Question { call, table, zone };
    let answer = match slot.route() {
        Ok(route) => match route.binding().and_then(|binding| binding.rollout.clone()) {
            None => question.ask::<F>(slot, route, params).await,
            // Apart, so that calls of slots without a rollout carry nothing of it.
            Some(rollout) => Box::pin(question.try_out::<F>(slot, route, &rollout, params)).await,
        },
        Err(error) => Err(error),
    };
    answer.map_err(|error| error.map(|never| match never {}))
}

/// What a policy is asked about.
struct Question<'a> {
    call: &'a Call,
    table: &'a Arc<NodeTable>,
    zone: &'a str,
}

impl Question<'_> {
    /// Asks what serves.
    async fn ask<F: Function>(
        &self, slot: &Slot, mut route: Route<'_>, params: F::Params<'_>,
    ) -> Result<Answer<F::Results>, CallError<Infallible>>
    where
        for<'a> F::Params<'a>: Clone,
    {
        loop {
            let Some(entry) = route.entry() else { return Err(CallError::NotBound(slot.name().clone())) };
            match enter::<F>(entry, self.call, self.table, self.zone, params.clone()).await {
                Ok(results) => {
                    let generation = route.binding().map_or(0, |binding| binding.generation);
                    return Ok(Answer { results, policy: Arc::clone(&entry.label), generation, shadow: None });
                }
                Err(fault) => route.after(fault)?,
            }
        }
    }

    /// Asks while a candidate is tried. One that fails counts as failed, and what serves answers.
    async fn try_out<F: Function>(
        &self, slot: &Slot, route: Route<'_>, rollout: &Arc<Rollout>, params: F::Params<'_>,
    ) -> Result<Answer<F::Results>, CallError<Infallible>>
    where
        for<'a> F::Params<'a>: Clone,
    {
        if let Some(entry) = rollout.candidate.entries.first().filter(|_| rollout.takes(self.call)) {
            let begun = clock::now();
            let answer = enter::<F>(entry, self.call, self.table, self.zone, params.clone()).await;
            rollout.tally.tried(clock::now().saturating_duration_since(begun), answer.as_ref().err().map(Fault::kind));
            let (policy, generation) = (Arc::clone(&entry.label), rollout.generation());
            match answer {
                Ok(results) => return Ok(Answer { results, policy, generation, shadow: None }),
                Err(fault) if fault.is_too_late() => {
                    return Err(CallError::Fault { slot: slot.name().clone(), plugin: policy, fault });
                }
                Err(fault) => tracing::warn!(plugin = %policy, generation, %fault, "candidate failed"),
            }
        }
        let begun = clock::now();
        let answer = self.ask::<F>(slot, route, params).await;
        let fault = match &answer {
            Err(CallError::Fault { fault, .. }) => Some(fault),
            _ => None,
        };
        rollout.tally.current.record(clock::now().saturating_duration_since(begun), fault);
        let shadow = rollout.is_shadow().then(|| Arc::clone(rollout));
        answer.map(|answer| Answer { shadow, ..answer })
    }
}

/// Asks the candidate of a shadow for a pick where `picked` was the answer.
pub(super) fn compare(
    rollout: &Rollout, call: &Call, table: &Arc<NodeTable>, zone: &str, params: <Pick as Function>::Params<'static>,
    picked: Option<u32>,
) {
    let told = |table: &NodeTable, picked: Option<u32>| {
        let node = picked.and_then(|index| table.nodes.get(index as usize));
        node.map_or_else(|| "none".to_owned(), |node| node.id.clone())
    };
    let (subject, resource) = (call.subject().to_owned(), table.service.to_string());
    let used = told(table, picked);
    let (candidate, call, table) = (Arc::clone(&rollout.candidate), later(call), Arc::clone(table));
    let zone: Box<str> = zone.into();
    let answer = Box::pin(async move {
        let entry = candidate.entries.first().ok_or(Fault::Moved)?;
        let (picked,) = enter::<Pick>(entry, &call, &table, &zone, params).await?;
        Ok::<_, Fault>(told(&table, picked))
    });
    rollout.tally.compare(Asked { subject, action: "pick".to_owned(), resource }, used, answer);
}

async fn enter<F: Function>(
    entry: &Entry, call: &Call, table: &Arc<NodeTable>, zone: &str, params: F::Params<'_>,
) -> Result<F::Results, Fault> {
    let started = clock::now();
    let answer = enter_unmeasured::<F>(entry, call, started, table, zone, params).await;
    entry.count(call, started, answer.as_ref().err());
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
