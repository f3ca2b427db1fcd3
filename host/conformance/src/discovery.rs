//! What every provider of `discovery.registry` promises.

use std::time::Duration;

use platform_base::clock;
use platform_capability::discovery::{Change, Endpoint, Error, Node, Registration};

use crate::{
    Check, Checked, Failure, Subject, checks,
    outcome::{answered, holds, refused, same, shown, told_by},
    subject::until,
};

pub(crate) const SUITE: &[Check] = checks! {
    "registrations" "a registration is found as it was made, is replaced as a whole, and goes when it is told to" registrations,
    "listing" "services and nodes come once, in order, page by page" listing,
    "namespaces" "what one namespace registers is not seen from another" namespaces,
    "expiry" "a registration goes when no heartbeat came for its time to live, 250 ms later at most, and not before" expiry,
    "heartbeats" "heartbeats keep a registration; one for what is gone says so" heartbeats,
    "changes" "every change comes once, in order, from the revision asked for; heartbeats are no changes" changes,
};

/// How much later than its time to live a registration may go.
const LATE: Duration = Duration::from_millis(250);
/// For the calls around a wait that is measured, on a busy machine.
const CALLS: Duration = Duration::from_millis(750);
const LONG_MS: u64 = 600_000;

fn registration(service: &str, node: &str, version: &str) -> Registration {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Registration {
        service: service.to_owned(),
        version: version.to_owned(),
        node: Node {
            id: node.to_owned(),
            address: "[::1]:8080".to_owned(),
            zone: "north".to_owned(),
            weight: 0,
            metadata: vec![label("rack", "7"), label("é", "\u{1f600}")],
        },
        metadata: vec![label("team", "pay")],
        endpoints: vec![Endpoint {
            name: "Pay.Charge".to_owned(),
            request: r#"{"type":"object"}"#.to_owned(),
            response: String::new(),
            metadata: vec![label("idempotent", "no")],
        }],
    }
}

async fn register(subject: &Subject, registration: &Registration, ttl_ms: u64) -> Result<u64, Failure> {
    answered(subject.plane().discovery().register(&subject.call(), registration, ttl_ms).await, "`register`")
}

async fn get(subject: &Subject, service: &str) -> Result<Vec<Registration>, Failure> {
    answered(subject.plane().discovery().get(&subject.call(), service, None, 1000).await, "`get`")
}

async fn registrations(subject: Subject) -> Checked {
    let (registry, call) = (subject.plane().discovery(), || subject.call());
    same(&get(&subject, "pay").await?, &Vec::new(), "nodes of a service that never was")?;
    let first = registration("pay", "a", "1.0.0");
    let at = register(&subject, &first, LONG_MS).await?;
    same(&get(&subject, "pay").await?, &vec![first.clone()], "what was registered")?;
    let second = Registration { metadata: Vec::new(), endpoints: Vec::new(), ..registration("pay", "a", "2.0.0") };
    let later = register(&subject, &second, LONG_MS).await?;
    holds(later > at, &format!("revisions have to grow: {at}, then {later}"))?;
    same(&get(&subject, "pay").await?, &vec![second], "what was registered in its place")?;
    for what in ["`deregister`", "`deregister` of what is gone"] {
        answered(registry.deregister(&call(), "pay", "a").await, what)?;
        same(&get(&subject, "pay").await?, &Vec::new(), "nodes after `deregister`")?;
    }
    let listed = answered(registry.list(&call(), None, 10).await, "`list`")?;
    same(&listed.len(), &0, "services without a node")
}

async fn listing(subject: Subject) -> Checked {
    let (registry, call) = (subject.plane().discovery(), || subject.call());
    for (service, node, version) in [
        ("b", "2", "2.0"),
        ("b", "10", "1.0"),
        ("b", "1", "2.0"),
        ("a.b", "1", "1"),
        ("a-b", "1", "1"),
        ("a", "1", "1"),
    ] {
        register(&subject, &registration(service, node, version), LONG_MS).await?;
    }
    let mut services: Vec<(String, Vec<String>, u32)> = Vec::new();
    loop {
        let after = services.last().map(|(service, ..)| service.as_str());
        let page = answered(registry.list(&call(), after, 3).await, "`list`")?;
        if page.is_empty() {
            break;
        }
        services.extend(page.into_iter().map(|summary| (summary.service, summary.versions, summary.nodes)));
        holds(services.len() <= 4, "a list goes on beyond the services that there are")?;
    }
    let one = |name: &str| (name.to_owned(), vec!["1".to_owned()], 1);
    let two = ("b".to_owned(), vec!["1.0".to_owned(), "2.0".to_owned()], 3);
    same(&services, &vec![one("a"), one("a-b"), one("a.b"), two], "services, their versions and numbers of nodes")?;
    let mut nodes: Vec<String> = Vec::new();
    loop {
        let page = answered(registry.get(&call(), "b", nodes.last().map(String::as_str), 2).await, "`get`")?;
        if page.is_empty() {
            break;
        }
        nodes.extend(page.into_iter().map(|registration| registration.node.id));
        holds(nodes.len() <= 3, "the nodes go on beyond those that there are")?;
    }
    same(&nodes, &["1", "10", "2"].map(str::to_owned).to_vec(), "nodes in pages of 2")
}

async fn namespaces(subject: Subject) -> Checked {
    let other = subject.beside()?;
    register(&subject, &registration("pay", "a", "1"), LONG_MS).await?;
    same(&get(&other, "pay").await?, &Vec::new(), "another namespace's nodes")?;
    answered(other.plane().discovery().deregister(&other.call(), "pay", "a").await, "`deregister`")?;
    same(&get(&subject, "pay").await?.len(), &1, "nodes after another namespace let go of its own")
}

async fn expiry(subject: Subject) -> Checked {
    const TTL: Duration = Duration::from_millis(800);
    let before = clock::now();
    register(&subject, &registration("short", "a", "1"), 800).await?;
    let made = clock::now();
    register(&subject, &registration("short", "b", "1"), LONG_MS).await?;
    until("the end of a registration with 800 ms to live", Duration::from_secs(10), async || {
        Ok(get(&subject, "short").await?.len() == 1)
    })
    .await?;
    let gone = clock::now();
    let early = gone.saturating_duration_since(before);
    holds(early >= TTL, &format!("a registration with 800 ms to live was gone after {} ms", early.as_millis()))?;
    let late = gone.saturating_duration_since(made);
    let words = format!("a registration with 800 ms to live was still there after {} ms", late.as_millis());
    holds(late <= TTL + LATE + CALLS, &words)?;
    same(&get(&subject, "short").await?.first().map(|left| left.node.id.as_str()), &Some("b"), "the node that stays")
}

async fn heartbeats(subject: Subject) -> Checked {
    let (registry, call) = (subject.plane().discovery(), || subject.call());
    register(&subject, &registration("kept", "a", "1"), 2000).await?;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        answered(
            registry.heartbeat(&call(), "kept", "a", 2000).await,
            "`heartbeat` every 700 ms of a time to live of 2 s",
        )?;
    }
    same(&get(&subject, "kept").await?.len(), &1, "nodes that heartbeats kept")?;
    answered(registry.deregister(&call(), "kept", "a").await, "`deregister`")?;
    for (service, node) in [("kept", "a"), ("kept", "other"), ("never", "a")] {
        let what = format!("`heartbeat` for `{service}` at `{node}`, which is not registered,");
        let refusal = refused(registry.heartbeat(&call(), service, node, 1000).await, &what)?;
        holds(matches!(refusal, Error::NotFound(_)), &format!("{what} is `not-found`, not {}", shown(&refusal)))?;
    }
    Ok(())
}

async fn changes(subject: Subject) -> Checked {
    let (registry, call) = (subject.plane().discovery(), || subject.call());
    let first = register(&subject, &registration("seen", "a", "1"), LONG_MS).await?;
    register(&subject, &registration("other", "a", "1"), LONG_MS).await?;
    answered(registry.heartbeat(&call(), "seen", "a", LONG_MS).await, "`heartbeat`")?;
    let short = register(&subject, &registration("seen", "b", "1"), 300).await?;
    answered(registry.deregister(&call(), "seen", "a").await, "`deregister`")?;
    let told = told_by(registry.watch(&call(), "seen", first - 1), 4).await?.into_iter().flatten();
    let told: Vec<_> = told
        .map(|Change { node_id, registration, revision, .. }| (node_id, registration.is_some(), revision))
        .collect();
    let revisions = told.iter().map(|(.., revision)| *revision);
    holds(revisions.is_sorted_by(|one, next| one < next), &format!("revisions have to grow: {told:?}"))?;
    let what: Vec<_> = told.iter().map(|(node, is_there, _)| (node.as_str(), *is_there)).collect();
    let expected = vec![("a", true), ("b", true), ("a", false), ("b", false)];
    same(&what, &expected, "nodes of `seen` that came and went, the last by expiry")?;
    let numbers: Vec<_> = told.iter().take(2).map(|(.., revision)| *revision).collect();
    same(&numbers, &vec![first, short], "the revisions that `register` told")
}
