//! All state of a daemon that has ended, brought to a real NATS server, and a daemon that goes on with it there.

use std::path::Path;

use platform_testkit::NatsServer;

use crate::support::{Daemon, place, platform, text};

/// Runs a migration; its exit code and what it said.
fn migrate(from: &Path, to: &str) -> (Option<i32>, String) {
    let mut command = platform();
    command.args(["storage", "migrate", "--from"]).arg(from).args(["--to", to]);
    let output = command.output().unwrap();
    (output.status.code(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
}

#[test]
fn a_daemon_goes_on_with_its_state_on_nats() {
    let (_root, data) = place();
    let nats = NatsServer::alone();
    let daemon = Daemon::start(&data);
    daemon.ok(&["kv", "put", "a", "1"]);
    let revision = daemon.json(&["kv", "put", "a", "2"])["revision"].as_str().unwrap().to_owned();
    daemon.ok(&["kv", "put", "ends", "x", "--ttl", "1h"]);
    daemon.ok(&["config", "set", "shop", r#"{"limit": 7}"#]);
    daemon.ok(&["db", "declare", "shop", "orders", "--index", "total:number"]);
    daemon.ok(&["db", "put", "shop", "orders", "o-1", "--set", "total:number=5"]);
    daemon.ok(&["event", "topic", "create", "orders"]);
    daemon.ok(&["event", "publish", "orders", "made", "{}", "--id", "e-1"]);
    daemon.ok(&["plugin", "bind", "kv.store/dev", "kv-storage"]);
    let kept = [
        vec!["kv", "get", "ends"],
        vec!["config", "history", "shop"],
        vec!["db", "get", "shop", "orders", "o-1"],
        vec!["event", "search", "orders"],
    ];
    let before: Vec<_> = kept.iter().map(|command| daemon.json(command)).collect();
    let (code, said) = migrate(&data, &nats.url());
    assert_eq!(code, Some(2), "a daemon has the directory: {said}");
    assert!(said.contains("in use by process"), "{said}");
    daemon.stop();

    let (code, said) = migrate(&data, &nats.url());
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = migrate(&data, &nats.url());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("before"), "{said}");

    let daemon = Daemon::start_with(&data, &["--server-address", "127.0.0.1:0", "--storage", &nats.url()]);
    assert_eq!(daemon.json(&["kv", "get", "a"])["revision"], revision);
    let after: Vec<_> = kept.iter().map(|command| daemon.json(command)).collect();
    assert_eq!(after, before);
    assert_eq!(daemon.bound("kv.store/dev"), ["kv-storage"], "bindings come too");
    daemon.ok(&["kv", "put", "a", "3", "--if-revision", &revision]);
    let found = daemon.json(&["db", "find", "shop", "orders", "total:number>=5"]);
    assert_eq!(found["records"][0]["id"], "o-1", "indexes come too");
    assert_eq!(daemon.json(&["event", "publish", "orders", "made", "{}", "--id", "e-1"])["duplicate"], true);
    daemon.stop();
}

#[test]
fn what_can_not_be_migrated_is_said() {
    let (root, data) = place();
    let nats = NatsServer::alone();
    Daemon::start(&data).stop();
    let (code, said) = migrate(&root.path().join("nowhere"), &nats.url());
    assert_eq!((code, said.contains("no data directory")), (Some(2), true), "{said}");
    let (code, said) = migrate(&data, "embedded");
    assert_eq!((code, said.contains("nats://HOST:PORT")), (Some(2), true), "{said}");
    let other =
        Daemon::start_with(&root.path().join("other"), &["--server-address", "127.0.0.1:0", "--storage", &nats.url()]);
    other.ok(&["kv", "put", "theirs", "1"]);
    other.stop();
    let (code, said) = migrate(&data, &nats.url());
    assert_eq!((code, said.contains("holds other data")), (Some(2), true), "{said}");
}
