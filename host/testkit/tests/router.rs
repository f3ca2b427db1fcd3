//! Shares: what clients that balance by themselves are told, with the shipped policies and registry.

#![expect(clippy::unwrap_used, reason = "what a test can't set up has failed")]

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt as _};
use platform_capability::{
    SlotKind,
    discovery::{Node, Registration},
};
use platform_dataplane::{CallError, FailureMode, PlaneConfig, Plugin, Report, RouteError, SelectRequest, Shares};
use platform_runtime::EngineConfig;
use platform_testkit::{Fixture, alone, call, component, name, plugin, slot, weighs};
use serde_json::json;

const EAST: SelectRequest<'static> =
    SelectRequest { service: "pay", zone: "east", key: 0, attempt: 0, version: None, labels: &[] };

fn round_robin() -> Plugin {
    plugin(SlotKind::RouterPolicy, "router-round-robin", &component("plugins", "router-round-robin"), &[])
}

/// Gives all traffic to near nodes that are well.
fn near() -> Plugin {
    let mut near = plugin(SlotKind::RouterPolicy, "load-balancer", &component("examples", "load-balancer"), &[]);
    near.settings = r#"{"max_failures_permille": 100}"#.to_owned();
    near
}

async fn register(fixture: &Fixture, id: &str, zone: &str, weight: u32) {
    let node = Node {
        id: id.to_owned(),
        address: "127.0.0.1:1".to_owned(),
        zone: zone.to_owned(),
        weight,
        metadata: Vec::new(),
    };
    let registration = Registration {
        service: "pay".to_owned(),
        version: "1".to_owned(),
        node,
        metadata: Vec::new(),
        endpoints: Vec::new(),
    };
    fixture.plane.discovery().register(&call(), &registration, 60_000).await.unwrap();
}

async fn fixture() -> Fixture {
    let config = PlaneConfig { weights_ms: 20, ..PlaneConfig::default() };
    let fixture = Fixture::with(&EngineConfig::default(), config);
    let registry = component("plugins", "discovery-storage");
    let registry = plugin(SlotKind::DiscoveryRegistry, "discovery-storage", &registry, &["storage"]);
    fixture.bind("discovery.registry", alone(registry)).await;
    register(&fixture, "a", "east", 100).await;
    register(&fixture, "b", "west", 300).await;
    fixture
}

type Told = Pin<Box<dyn Stream<Item = Result<Shares, CallError<RouteError>>> + Send>>;

async fn told(fixture: &Fixture) -> Told {
    Box::pin(fixture.plane.router().shares(&call(), EAST).await.unwrap())
}

async fn next(told: &mut Told) -> Result<Shares, CallError<RouteError>> {
    tokio::time::timeout(Duration::from_secs(20), told.next()).await.expect("nothing came").expect("it ended")
}

/// The next message as policy, generation and weights.
async fn told_next(told: &mut Told) -> (String, u64, Vec<u32>) {
    let shares = next(told).await.unwrap();
    (shares.policy.to_string(), shares.generation, shares.weights)
}

fn expected(policy: &str, generation: u64, weights: &[u32]) -> (String, u64, Vec<u32>) {
    (policy.to_owned(), generation, weights.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_follow_nodes_and_whatever_serves() {
    let fixture = fixture().await;
    let mut told = told(&fixture).await;
    assert_eq!(told_next(&mut told).await, expected("", 0, &[100, 300]), "as registered, without a policy");

    fixture.bind("router.policy", alone(near())).await;
    assert_eq!(told_next(&mut told).await, expected("load-balancer@0.1.0", 1, &[100, 0]));
    register(&fixture, "c", "east", 50).await;
    assert_eq!(told_next(&mut told).await, expected("load-balancer@0.1.0", 1, &[100, 0, 50]));

    fixture.bind("router.policy", alone(round_robin())).await;
    assert_eq!(told_next(&mut told).await, expected("router-round-robin@0.1.0", 2, &[100, 300, 50]));
    fixture.plane.rollback(&slot("router.policy"), None, 3).await.unwrap();
    assert_eq!(told_next(&mut told).await, expected("load-balancer@0.1.0", 3, &[100, 0, 50]));

    fixture.bind("router.policy/other", alone(round_robin())).await;
    fixture.bind("router.policy/pay", alone(round_robin())).await;
    assert_eq!(
        told_next(&mut told).await,
        expected("router-round-robin@0.1.0", 1, &[100, 300, 50]),
        "its own policy, and nothing of another service's"
    );
    fixture.plane.unbind(&slot("router.policy/pay")).await.unwrap();
    assert_eq!(told_next(&mut told).await, expected("load-balancer@0.1.0", 3, &[100, 0, 50]));
    fixture.plane.unbind(&slot("router.policy")).await.unwrap();
    assert_eq!(told_next(&mut told).await, expected("", 0, &[100, 300, 50]));
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_follow_load() {
    let fixture = fixture().await;
    fixture.bind("router.policy", alone(near())).await;
    let mut told = told(&fixture).await;
    assert_eq!(told_next(&mut told).await.2, [100, 0]);
    let router = fixture.plane.router();
    let picked = router.select(&call(), EAST).await.unwrap();
    assert_eq!(picked.node.id, "a");
    assert_eq!(router.report(&[Report { pick_id: picked.pick_id, latency_us: 10, failed: true }]), 1);
    assert_eq!(told_next(&mut told).await.2, [0, 300], "the near one fails");
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_are_of_the_part_that_is_asked_for() {
    let fixture = fixture().await;
    fixture.bind("router.policy", alone(round_robin())).await;
    let router = fixture.plane.router();
    let part = SelectRequest { version: Some("2"), ..EAST };
    let mut part: Told = Box::pin(router.shares(&call(), part).await.unwrap());
    assert_eq!(told_next(&mut part).await.2, [0_u32; 0], "no node is of that version");
    let nobody = SelectRequest { service: "nobody", ..EAST };
    let mut nobody: Told = Box::pin(router.shares(&call(), nobody).await.unwrap());
    assert!(next(&mut nobody).await.unwrap().table.nodes.is_empty());
    let refused = router.shares(&call(), SelectRequest { service: "../x", ..EAST }).await.map(drop);
    assert!(matches!(refused, Err(CallError::Capability(RouteError::Invalid(_)))));
}

/// A policy that lies about the number of nodes is caught, and one that traps is left to the failure mode.
#[tokio::test(flavor = "multi_thread")]
async fn shares_of_a_broken_policy_end_or_come_from_elsewhere() {
    let fixture = fixture().await;
    fixture.bind("router.policy", alone(weighs(&json!({"weights": [1, 2]})))).await;
    register(&fixture, "c", "east", 1).await;
    let mut ended = told(&fixture).await;
    let error = loop {
        // The registration may take a moment to arrive.
        match next(&mut ended).await {
            Ok(shares) => assert_eq!(shares.weights.len(), 2),
            Err(error) => break error,
        }
    };
    let CallError::Capability(RouteError::Weights { given, nodes, .. }) = &error else { panic!("{error}") };
    assert_eq!((*given, *nodes), (2, 3), "{error}");
    assert!(ended.next().await.is_none(), "nothing follows an error");

    fixture.bind("router.policy", alone(weighs(&json!({})))).await;
    let mut ended = told(&fixture).await;
    assert!(matches!(next(&mut ended).await, Err(CallError::Fault { .. })));

    let mut spec = alone(weighs(&json!({})));
    spec.failure = FailureMode::Fallback(name("router-round-robin"));
    spec.fallback = Some(round_robin());
    fixture.bind("router.policy", spec).await;
    let mut fallen = told(&fixture).await;
    assert_eq!(told_next(&mut fallen).await, expected("router-round-robin@0.1.0", 3, &[100, 300, 1]));
}
