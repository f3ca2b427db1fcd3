//! What the registry promises, against the native stand-in for storage.

use std::time::Duration;

use platform_sdk::{
    discovery::{Endpoint, Node},
    native,
};

use super::*;

fn registration(service: &str, version: &str, id: &str) -> Registration {
    Registration {
        service: service.into(),
        version: version.into(),
        node: Node {
            id: id.into(),
            address: "127.0.0.1:8080".into(),
            zone: "a".into(),
            weight: 100,
            metadata: vec![("k".into(), "v".into())],
        },
        metadata: Vec::new(),
        endpoints: vec![Endpoint {
            name: "Get".into(),
            request: "{}".into(),
            response: String::new(),
            metadata: Vec::new(),
        }],
    }
}

fn register(service: &str, version: &str, id: &str) -> u64 {
    Durable.register(registration(service, version, id), 1000).unwrap()
}

fn ids(service: &str, after: Option<&str>, limit: u32) -> Vec<String> {
    Durable.get(service, after, limit).unwrap().into_iter().map(|found| found.node.id).collect()
}

#[test]
fn gives_back_what_was_registered() {
    assert_eq!(register("orders", "1.0", "n1"), 1);
    assert_eq!(Durable.get("orders", None, 10), Ok(vec![registration("orders", "1.0", "n1")]));
    assert_eq!(Durable.get("order", None, 10), Ok(Vec::new()));
}

#[test]
fn a_registration_lives_by_its_heartbeats() {
    register("orders", "1", "n1");
    native::advance(Duration::from_millis(900));
    Durable.heartbeat("orders", "n1", 1000).unwrap();
    native::advance(Duration::from_millis(999));
    assert_eq!(ids("orders", None, 10), ["n1"]);
    native::advance(Duration::from_millis(1));
    assert_eq!(ids("orders", None, 10), Vec::<String>::new());
    assert!(matches!(Durable.heartbeat("orders", "n1", 1000), Err(Error::NotFound(_))));
    let gone = Change { service: "orders".into(), node_id: "n1".into(), registration: None, revision: 2 };
    assert_eq!(Durable.changes("", 1, 10, 0), Ok(vec![gone]), "the heartbeat is no change");
}

#[test]
fn pages_nodes_and_services_in_order() {
    for (service, id) in [("a", "3"), ("a-b", "1"), ("a", "1"), ("b", "1"), ("a", "2"), ("a.b", "!x")] {
        register(service, "1", id);
    }
    assert_eq!(ids("a", None, 2), ["1", "2"]);
    assert_eq!(ids("a", Some("2"), 2), ["3"]);
    let names = |after, limit| -> Vec<String> {
        Durable.list(after, limit).unwrap().into_iter().map(|summary| summary.service).collect()
    };
    assert_eq!(names(None, 2), ["a", "a-b"]);
    assert_eq!(names(Some("a-b"), 9), ["a.b", "b"]);
    assert_eq!(names(Some("zzz"), 9), Vec::<String>::new());
    assert_eq!(ids("a.b", None, 1), ["!x"]);
}

#[test]
fn summaries_count_over_many_pages() {
    for node in 0..1500 {
        register("big", if node % 2 == 0 { "2" } else { "1" }, &format!("{node:05}"));
    }
    register("small", "1", "n");
    let summaries = Durable.list(None, 10).unwrap();
    assert_eq!(summaries.len(), 2);
    assert_eq!((summaries[0].nodes, summaries[0].versions.join(" ")), (1500, "1 2".to_owned()));
}

#[test]
fn changes_of_one_service_or_all_resume() {
    register("a", "1", "n");
    register("b", "1", "n");
    Durable.deregister("a", "n").unwrap();
    Durable.deregister("a", "n").unwrap();
    let of = |service: &str, after| -> Vec<u64> {
        Durable.changes(service, after, 10, 0).unwrap().iter().map(|change| change.revision).collect()
    };
    assert_eq!(of("", 0), [1, 2, 3]);
    assert_eq!(of("a", 1), [3]);
    assert_eq!(Durable.revision(), Ok(3));
}

#[test]
fn refuses_what_is_not_allowed() {
    let refused = |change: fn(&mut Registration)| {
        let mut registration = registration("s", "1", "n");
        change(&mut registration);
        Durable.register(registration, 1000).unwrap_err()
    };
    assert!(matches!(refused(|it| it.service = "a!b".into()), Error::Invalid(_)));
    assert!(matches!(refused(|it| it.node.id = String::new()), Error::Invalid(_)));
    assert!(matches!(refused(|it| it.node.address = "x".into()), Error::Invalid(_)));
    assert!(matches!(refused(|it| it.node.weight = 65_536), Error::Invalid(_)));
    assert!(matches!(refused(|it| it.endpoints[0].name = String::new()), Error::Invalid(_)));
    assert!(matches!(refused(|it| it.endpoints[0].request = "x".repeat(1 << 20)), Error::TooLarge(_)));
    for ttl in [0, 99, 86_400_001] {
        assert!(matches!(Durable.register(registration("s", "1", "n"), ttl), Err(Error::Invalid(_))));
        assert!(matches!(Durable.heartbeat("s", "n", ttl), Err(Error::Invalid(_))));
    }
    assert!(matches!(Durable.get("s", None, 0), Err(Error::Invalid(_))));
}

#[test]
fn a_damaged_record_is_named() {
    NODES.put("s!n", b"?", Condition::Always, None).unwrap();
    let Err(Error::Other(message)) = Durable.get("s", None, 1) else { unreachable!() };
    assert!(message.contains("`s!n`"), "{message}");
    assert!(Durable.list(None, 1).is_err());
    Durable.deregister("s", "n").unwrap();
    assert_eq!(Durable.list(None, 1), Ok(Vec::new()));
}
