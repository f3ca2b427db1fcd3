//! What every component for `router.policy` promises, whichever nodes it prefers.
//!
//! The nodes come from the registry that is bound beside it.

use std::time::Duration;

use futures::StreamExt as _;
use platform_capability::discovery::{Node, Registration};
use platform_dataplane::{CallError, Report, RouteError, SelectRequest, Shares};

use crate::{
    Check, Checked, Failure, Subject, checks,
    outcome::{answered, holds, same, shown},
    subject::until,
};

pub(crate) const SUITE: &[Check] = checks! {
    "picks" "a node that may be used is picked, whatever key and attempt" picks,
    "follows" "nodes that come and go are picked and left, in services that don't know of each other" follows,
    "no-weight" "a node of weight 0 takes no traffic" no_weight,
    "weights" "weights come for each node in order, and none for a node of weight 0" weights,
    "many-nodes" "1,000 nodes are picked from" many_nodes,
    "load" "picks go on while nodes are busy, slow and failing" load,
};

/// Nobody waits longer for a registration to reach the policy.
const FOLLOWS: Duration = Duration::from_secs(10);

async fn register(subject: &Subject, service: &str, id: &str, weight: u32) -> Checked {
    let registration = Registration {
        service: service.to_owned(),
        version: "1".to_owned(),
        node: Node {
            id: id.to_owned(),
            address: "127.0.0.1:1".to_owned(),
            zone: "north".to_owned(),
            weight,
            metadata: Vec::new(),
        },
        metadata: Vec::new(),
        endpoints: Vec::new(),
    };
    let registered = subject.plane().discovery().register(&subject.call(), &registration, 600_000).await;
    answered(registered, "`register` at the registry beside the policy").map(drop)
}

/// Id of the node picked and the pick; none when the policy picks none or there is none.
async fn pick(subject: &Subject, service: &str, key: u64, attempt: u32) -> Result<Option<(String, u64)>, Failure> {
    let request = SelectRequest { service, key, attempt, zone: "north", ..SelectRequest::default() };
    match subject.plane().router().select(&subject.call(), request).await {
        Ok(selection) => Ok(Some((selection.node.id, selection.pick_id))),
        Err(CallError::Capability(RouteError::NonePicked { .. } | RouteError::NoNodes { .. })) => Ok(None),
        Err(error) => Err(Failure::new(format!("`pick` failed: {error}"))),
    }
}

/// Waits until the policy picks among the nodes of a service.
async fn serving(subject: &Subject, service: &str) -> Checked {
    let what = format!("a pick of `{service}`, which has nodes,");
    until(&what, FOLLOWS, async || Ok(pick(subject, service, 1, 0).await?.is_some())).await
}

async fn picks(subject: Subject) -> Checked {
    for id in ["a", "b", "c"] {
        register(&subject, "pay", id, 100).await?;
    }
    serving(&subject, "pay").await?;
    for key in
        [0, 1, u64::MAX, 1 << 63].into_iter().chain((0..200).map(|key: u64| key.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    {
        for attempt in [0, 1, u32::MAX] {
            let picked = pick(&subject, "pay", key, attempt).await?;
            let words = format!("one of 3 good nodes has to be picked with key {key} at attempt {attempt}");
            holds(picked.is_some(), &words)?;
        }
    }
    Ok(())
}

async fn follows(subject: Subject) -> Checked {
    register(&subject, "one", "a", 100).await?;
    register(&subject, "two", "b", 100).await?;
    for (service, id) in [("one", "a"), ("two", "b"), ("one", "a")] {
        serving(&subject, service).await?;
        let picked = pick(&subject, service, 7, 0).await?.map(|(id, _)| id);
        same(&picked.as_deref(), &Some(id), &format!("the only node of `{service}`"))?;
    }
    register(&subject, "one", "c", 100).await?;
    let gone = subject.plane().discovery().deregister(&subject.call(), "one", "a").await;
    answered(gone, "`deregister` at the registry beside the policy")?;
    let what = "a pick of `c`, which took the place of `a`,";
    until(what, FOLLOWS, async || Ok(pick(&subject, "one", 7, 0).await?.is_some_and(|(id, _)| id == "c"))).await?;
    let picked = pick(&subject, "two", 7, 0).await?.map(|(id, _)| id);
    same(&picked.as_deref(), &Some("b"), "the node of the service that did not change")
}

async fn no_weight(subject: Subject) -> Checked {
    register(&subject, "pay", "none", 0).await?;
    register(&subject, "pay", "some", 1).await?;
    register(&subject, "pay", "zero", 0).await?;
    let what = "a pick of the only node with a weight";
    until(what, FOLLOWS, async || Ok(pick(&subject, "pay", 1, 0).await?.is_some_and(|(id, _)| id == "some"))).await?;
    for key in 0..300 {
        let picked = pick(&subject, "pay", key, u32::from(key % 3 == 0)).await?.map(|(id, _)| id);
        same(&picked.as_deref(), &Some("some"), "the only node with a weight")?;
    }
    register(&subject, "idle", "none", 0).await?;
    for key in 0..20 {
        same(&pick(&subject, "idle", key, 0).await?, &None, "the pick among nodes of which none takes traffic")?;
    }
    Ok(())
}

async fn weights(subject: Subject) -> Checked {
    for (id, weight) in [("a", 100), ("b", 0), ("c", 300)] {
        register(&subject, "pay", id, weight).await?;
    }
    serving(&subject, "pay").await?;
    let request = SelectRequest { service: "pay", zone: "north", ..SelectRequest::default() };
    let shares = answered(subject.plane().router().shares(&subject.call(), request).await, "`weights`")?;
    let mut shares = Box::pin(shares);
    loop {
        let Some(told) = shares.next().await else { return Err(Failure::new("nobody tells weights any more")) };
        let Shares { table, weights, .. } = answered(told, "`weights`")?;
        if table.nodes.len() < 3 {
            continue;
        }
        let idle = table.nodes.iter().zip(&weights).filter(|(node, _)| node.weight == 0).map(|(_, weight)| *weight);
        same(&idle.collect::<Vec<_>>(), &vec![0], "the weight of a node of weight 0")?;
        return holds(weights.iter().any(|weight| *weight > 0), &format!("no node has a weight: {}", shown(&weights)));
    }
}

async fn many_nodes(subject: Subject) -> Checked {
    for number in 0..1000 {
        register(&subject, "wide", &format!("node-{number}"), 100).await?;
    }
    serving(&subject, "wide").await?;
    for key in 0..500_u64 {
        let picked = pick(&subject, "wide", key.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0).await?;
        holds(picked.is_some(), "one of 1,000 good nodes has to be picked")?;
    }
    Ok(())
}

async fn load(subject: Subject) -> Checked {
    for id in ["a", "b", "c"] {
        register(&subject, "busy", id, 100).await?;
    }
    serving(&subject, "busy").await?;
    for round in 0..200 {
        let Some((id, pick_id)) = pick(&subject, "busy", round, 0).await? else {
            return Err(Failure::new("a node has to be picked, however they do"));
        };
        // One node answers fast, one slowly and with failures, and one never.
        if id != "c" {
            let slow = id == "b";
            let latency_us = if slow { u32::MAX } else { 1 };
            subject.plane().router().report(&[Report { pick_id, latency_us, failed: slow }]);
        }
    }
    Ok(())
}
