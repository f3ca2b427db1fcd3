//! Components that are revoked.

use serde_json::Value;

use super::{Bench, denied, install};
use crate::support::{Daemon, wait_for};

/// Two components, bound one after the other; the digest of the second.
fn two_generations(bench: &Bench, daemon: &Daemon) -> String {
    daemon.ok(&install(&bench.component("first"), "first"));
    let second = daemon.json(&install(&bench.component("second"), "second"));
    daemon.ok(&["plugin", "bind", "kv.store", "first@1.0.0"]);
    daemon.ok(&["plugin", "bind", "kv.store", "second@1.0.0"]);
    second["plugin"]["digest"].as_str().unwrap().to_owned()
}

fn configured(rule: &str) -> Bench {
    let bench = Bench::new();
    std::fs::write(bench.data.join("platform.toml"), format!("[advisories]\nrevoked = \"{rule}\"\n")).unwrap();
    bench
}

#[test]
fn what_is_revoked_is_let_in_no_more() {
    let bench = Bench::new();
    let daemon = Daemon::start(&bench.data);
    let digest = two_generations(&bench, &daemon);
    daemon.fails(2, &["plugin", "revoke", "second@1.0.0"]);
    daemon.fails(2, &["plugin", "revoke", "second@1.0.0", "--reason", " "]);
    daemon.fails(1, &["plugin", "revoke", "missing@1.0.0", "--reason", "x"]);
    daemon.fails(2, &["plugin", "revoke", "sha256:00", "--withdraw"]);
    let revoked = daemon.json(&["plugin", "revoke", "second@1.0.0", "--reason", "lets everybody in"]);
    assert_eq!(revoked["digest"], digest.as_str());

    // Calls go on where it serves; nothing else is done with it.
    assert_eq!(daemon.bound("kv.store"), ["second"]);
    daemon.ok(&["kv", "put", "a", "1"]);
    for arguments in [
        &["plugin", "bind", "kv.store/other", "second@1.0.0"][..],
        &install(&bench.path("second.wasm"), "again"),
        &install(&bench.path("second.wasm"), "second"),
    ] {
        let (reason, said) = denied(&daemon, arguments);
        assert!(reason == "COMPONENT_REVOKED" && said.contains("lets everybody in"), "{said}");
    }
    assert_eq!(daemon.json(&["plugin", "inspect", "second"])["revoked"], "lets everybody in");
    daemon.ok(&["plugin", "bind", "kv.store", "first@1.0.0"]);
    assert_eq!(denied(&daemon, &["plugin", "rollback", "kv.store"]).0, "COMPONENT_REVOKED", "though it is still warm");
    // What was never here can be revoked as well.
    let unknown = format!("sha256:{}", "0".repeat(64));
    daemon.ok(&["plugin", "revoke", &unknown, "--reason", "a warning from the maker"]);
    let listed = daemon.json(&["plugin", "revocations"]);
    let listed: Vec<&str> =
        listed["revocations"].as_array().unwrap().iter().map(|one| one["digest"].as_str().unwrap()).collect();
    assert!(listed.len() == 2 && listed[0] == unknown && listed[1] == digest, "{listed:?}");
    daemon.stop();

    let daemon = Daemon::start(&bench.data);
    assert_eq!(denied(&daemon, &["plugin", "bind", "kv.store/other", "second@1.0.0"]).0, "COMPONENT_REVOKED");
    daemon.ok(&["plugin", "revoke", &digest, "--withdraw"]);
    daemon.fails(1, &["plugin", "revoke", &digest, "--withdraw"]);
    daemon.ok(&["plugin", "bind", "kv.store/other", "second@1.0.0"]);
    let audit = daemon.ok(&["plugin", "audit"]);
    assert!(audit.contains("withdraw") && audit.contains("lets everybody in"), "{audit}");
    daemon.stop();
}

#[test]
fn what_is_revoked_is_not_loaded_again() {
    let bench = Bench::new();
    let daemon = Daemon::start(&bench.data);
    two_generations(&bench, &daemon);
    daemon.ok(&["plugin", "revoke", "second", "--reason", "lets everybody in"]);
    daemon.stop();
    let daemon = Daemon::spawn(&bench.data, &["--server-address", "127.0.0.1:0"]);
    let slot: Value = wait_for("the slot to be told of", || {
        daemon.address()?;
        Some(daemon.json(&["plugin", "slots", "kv.store"]))
    });
    assert!(slot["problem"].as_str().unwrap().contains("lets everybody in"), "{slot}");
    assert!(!daemon.is_ready());
    daemon.ok(&["plugin", "rollback", "kv.store"]);
    assert_eq!(daemon.bound("kv.store"), ["first"]);
    assert!(daemon.is_ready());
    daemon.stop();
}

#[test]
fn slots_return_to_what_is_not_revoked() {
    let bench = configured("rollback");
    let daemon = Daemon::start(&bench.data);
    let digest = two_generations(&bench, &daemon);
    let before = daemon.json(&["plugin", "slots", "kv.store"])["binding"]["generation"].clone();
    daemon.ok(&["plugin", "revoke", &digest, "--reason", "lets everybody in"]);
    assert_eq!(daemon.bound("kv.store"), ["first"], "before the command came back");
    let after = daemon.json(&["plugin", "slots", "kv.store"]);
    assert_eq!(after["binding"]["boundBy"], "daemon");
    assert_ne!(after["binding"]["generation"], before);
    daemon.ok(&["kv", "put", "a", "1"]);

    // With nothing to return to, what serves goes on.
    daemon.ok(&install(&bench.component("alone"), "alone"));
    daemon.ok(&["plugin", "bind", "kv.store/alone", "alone@1.0.0"]);
    daemon.ok(&["plugin", "revoke", "alone", "--reason", "too"]);
    assert_eq!(daemon.bound("kv.store/alone"), ["alone"]);
    assert!(daemon.log().contains("what is revoked goes on serving"), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_daemon_that_was_away_returns_when_it_starts() {
    let bench = Bench::new();
    let daemon = Daemon::start(&bench.data);
    two_generations(&bench, &daemon);
    daemon.ok(&["plugin", "revoke", "second", "--reason", "lets everybody in"]);
    assert_eq!(daemon.bound("kv.store"), ["second"]);
    daemon.stop();
    std::fs::write(bench.data.join("platform.toml"), "[advisories]\nrevoked = \"rollback\"\n").unwrap();
    let daemon = Daemon::start(&bench.data);
    assert_eq!(daemon.bound("kv.store"), ["first"]);
    daemon.stop();
}

#[test]
fn a_warning_is_all_where_that_is_wanted() {
    let bench = configured("warn");
    let daemon = Daemon::start(&bench.data);
    let digest = two_generations(&bench, &daemon);
    daemon.ok(&["plugin", "revoke", &digest, "--reason", "lets everybody in"]);
    let installed = daemon.json(&install(&bench.path("second.wasm"), "again"));
    assert!(installed["warnings"].to_string().contains("lets everybody in"), "{installed}");
    daemon.ok(&["plugin", "bind", "kv.store/other", "again@1.0.0"]);
    assert!(daemon.log().contains("a component is loaded all the same"), "{}", daemon.log());
    daemon.stop();
}
