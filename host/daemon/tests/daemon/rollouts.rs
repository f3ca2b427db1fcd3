//! Rollouts as an operator has them: begun, looked at, promoted, aborted, stopped by the daemon itself, there again after a
//! restart, and the same on all daemons.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use platform_testkit::NatsServer;
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, generation},
    support::{Daemon, http, http_body, place, plugins, wait_for},
};

/// The guest that does what it is asked.
fn acts() -> String {
    let file: PathBuf = plugins().join("../testkit/auth-acts.wasm");
    assert!(file.is_file(), "`{}` is missing; run `cargo xtask plugins` first", file.display());
    file.to_str().unwrap().to_owned()
}

/// Has a daemon serve `good`, with `next` installed.
fn prepared(daemon: &Daemon) {
    for version in ["1.0.0", "2.0.0"] {
        daemon.ok(&["plugin", "install", &acts(), "--name", "acts", "--version", version]);
    }
    daemon.ok(&["plugin", "bind", "auth.policy", "acts@1.0.0", "--settings", r#"{"tag":"good"}"#]);
}

fn begin(daemon: &Daemon, tag: &str, arguments: &[&str]) -> Value {
    let settings = json!({"tag": tag}).to_string();
    let words = ["plugin", "bind", "auth.policy", "acts@2.0.0", "--settings", &settings];
    daemon.json(&[&words, arguments].concat())
}

/// Asks for a decision; generation of the answer, and whether it allows.
fn check(daemon: &Daemon, action: &str, target: u64) -> (u64, bool) {
    let body = json!({"action": action, "target": target.to_string()}).to_string();
    let headers = format!("authorization: Bearer {}\r\n", daemon.token());
    let (status, _, answer) = http(&daemon.address().unwrap(), "POST", "/v1/auth:check", &headers, &body).unwrap();
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    (answer["generation"].as_str().unwrap().parse().unwrap(), answer["decision"].as_str().unwrap().ends_with("ALLOW"))
}

/// Asks all daemons from several threads each, until all have stopped the rollout; nobody's call fails meanwhile.
fn load_until_stopped(daemons: &[Daemon]) {
    struct Ended<'a>(&'a AtomicBool);
    impl Drop for Ended<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (ended, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for daemon in daemons.iter().cycle().take(2 * daemons.len()) {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    let target = asked.fetch_add(1, Ordering::Relaxed);
                    assert!(check(daemon, "rarely", target).1, "the call for {target} failed");
                }
            });
        }
        let _ended = Ended(&ended);
        wait_for("all daemons to stop the rollout", || {
            daemons.iter().all(|daemon| rollout(daemon)["running"] != true).then_some(())
        });
    });
}

fn rollout(daemon: &Daemon) -> Value {
    daemon.json(&["plugin", "rollout", "auth.policy"])
}

fn number(value: &Value) -> u64 {
    value.as_str().unwrap_or("0").parse().unwrap()
}

#[test]
fn a_canary_outlives_a_restart_and_is_promoted() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    prepared(&daemon);
    let before = generation(&daemon.json(&["plugin", "slots", "auth.policy"]));
    let begun = begin(&daemon, "next", &["--canary", "40", "--comment", "try it"]);
    let candidate = before + 1;
    assert_eq!(generation(&begun), before, "what serves is as it was: {begun}");
    assert_eq!(number(&begun["rollout"]["candidate"]["generation"]), candidate);
    let answers: Vec<u64> = (0..100).map(|_| check(&daemon, "ok", 1).0).collect();
    let taken = answers.iter().filter(|generation| **generation == candidate).count();
    assert!(taken.abs_diff(40) < 10, "{taken} of 100 calls without a caller went to 40 %");
    let shown = rollout(&daemon);
    assert_eq!((number(&shown["candidateCalls"]["calls"]), shown["running"].as_bool()), (taken as u64, Some(true)));
    assert!(daemon.ok(&["plugin", "slots"]).contains("canary of 40 % by caller"));
    let (_, metrics) = http_body(&daemon.address().unwrap(), "/metrics").unwrap();
    let calls = format!("platform_rollout_calls_total{{slot=\"auth.policy\",generation=\"{candidate}\"}} {taken}");
    assert!(metrics.contains(&calls), "{metrics}");
    let seconds = format!("plugin=\"acts@2.0.0\",generation=\"{candidate}\"");
    assert!(metrics.lines().any(|line| line.contains("call_seconds_count") && line.contains(&seconds)), "{metrics}");

    for words in [
        &["plugin", "bind", "auth.policy", "acts@1.0.0"][..],
        &["plugin", "bind", "auth.policy", "acts@1.0.0", "--shadow"],
        &["plugin", "rollback", "auth.policy"],
        &["plugin", "unbind", "auth.policy"],
        &["plugin", "grant", "acts@2.0.0", "kv"],
    ] {
        let complaint = daemon.fails(2, words);
        assert!(complaint.contains("platform plugin promote auth.policy"), "{words:?}: {complaint}");
    }
    let complaint = daemon.fails(2, &["plugin", "uninstall", "acts@2.0.0"]);
    assert!(complaint.contains("is tried as"), "{complaint}");
    daemon.kill();

    let daemon = Daemon::start(&data);
    let shown = rollout(&daemon);
    assert_eq!((shown["running"].as_bool(), number(&shown["candidate"]["generation"])), (Some(true), candidate));
    begin(&daemon, "next", &["--canary", "100"]);
    assert_eq!(check(&daemon, "ok", 1), (candidate, true), "the same candidate goes on with another share");
    let promoted = daemon.json(&["plugin", "promote", "auth.policy"]);
    assert_eq!((generation(&promoted), promoted["rollout"].is_null()), (candidate, true), "{promoted}");
    assert_eq!(check(&daemon, "ok", 1), (candidate, true));
    daemon.fails(1, &["plugin", "rollout", "auth.policy"]);
    daemon.fails(1, &["plugin", "promote", "auth.policy"]);
    let back = daemon.json(&["plugin", "rollback", "auth.policy"]);
    assert_eq!((generation(&back), check(&daemon, "ok", 1)), (candidate + 1, (candidate + 1, true)));
    let audit = daemon.ok(&["plugin", "audit", "--about", "auth.policy"]);
    assert!(audit.contains("canary of 40 % by caller: try it") && audit.contains("promote"), "{audit}");
    daemon.stop();
}

#[test]
fn a_bad_canary_is_stopped_and_tells_why() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    prepared(&daemon);
    let before = generation(&begin(&daemon, "traps", &["--canary", "50"]));
    load_until_stopped(std::slice::from_ref(&daemon));
    let shown = rollout(&daemon);
    let reason = shown["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("calls failed"), "{shown}");
    assert!(number(&shown["candidateCalls"]["failures"]) > 0 && shown["stopTime"].is_string(), "{shown}");
    for target in 0..50 {
        assert_eq!(check(&daemon, "rarely", target * 100), (before, true));
    }
    let audit = daemon.json(&["plugin", "audit", "--about", "auth.policy", "--limit", "1"]);
    let record = &audit["records"][0];
    assert_eq!((record["action"].as_str(), record["caller"].as_str()), (Some("stop"), Some("daemon")), "{audit}");
    assert!(record["detail"].as_str().unwrap().contains(&reason), "{audit}");
    wait_for("the platform to tell of it", || {
        daemon.ok(&["event", "replay", "platform", "--type", "plugin.stop"]).contains("plugin.stop").then_some(())
    });
    let complaint = daemon.fails(2, &["plugin", "promote", "auth.policy"]);
    assert!(complaint.contains(&reason) && complaint.contains("bind it at once"), "{complaint}");
    daemon.kill();

    let daemon = Daemon::start(&data);
    let shown = rollout(&daemon);
    assert_eq!((shown["running"] == true, shown["reason"].as_str()), (false, Some(reason.as_str())), "{shown}");
    assert_eq!(check(&daemon, "rarely", 100), (before, true));
    daemon.ok(&["plugin", "abort", "auth.policy"]);
    daemon.fails(1, &["plugin", "rollout", "auth.policy"]);
    daemon.stop();
}

#[test]
fn a_shadow_shows_what_differs() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    prepared(&daemon);
    let before = generation(&begin(&daemon, "differs", &["--shadow"]));
    for target in 1..=100 {
        assert_eq!(check(&daemon, "rarely", target), (before, true));
    }
    wait_for("all to be compared", || (number(&rollout(&daemon)["compared"]) == 100).then_some(()));
    let shown = rollout(&daemon);
    assert_eq!((number(&shown["diverged"]), shown["divergences"].as_array().unwrap().len()), (5, 5), "{shown}");
    assert!(daemon.ok(&["plugin", "rollout", "auth.policy"]).contains("deny 401"));
    let slot = daemon.json(&["plugin", "slots", "auth.policy"]);
    assert!(slot["rollout"]["divergences"].as_array().is_none_or(Vec::is_empty), "{slot}");
    let aborted = daemon.json(&["plugin", "abort", "auth.policy"]);
    assert!(aborted["rollout"].is_null() && generation(&aborted) == before, "{aborted}");
    daemon.stop();
}

#[test]
fn a_provider_is_tried_on_reads() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    let file = plugins().join("kv-storage.wasm");
    daemon.ok(&["plugin", "install", file.to_str().unwrap(), "--version", "9.0.0"]);
    daemon.ok(&["plugin", "grant", "kv-storage@9.0.0", "storage"]);
    daemon.ok(&["kv", "put", "a", "1"]);
    let begun = daemon.json(&["plugin", "bind", "kv.store", "kv-storage@9.0.0", "--canary", "100"]);
    let candidate = number(&begun["rollout"]["candidate"]["generation"]);
    assert_eq!(daemon.ok(&["kv", "get", "a"]).trim(), "1");
    daemon.ok(&["kv", "put", "a", "2"]);
    assert_eq!(daemon.ok(&["kv", "get", "a"]).trim(), "2");
    let shown = daemon.json(&["plugin", "rollout", "kv.store"]);
    assert_eq!((number(&shown["candidateCalls"]["calls"]), number(&shown["candidateCalls"]["failures"])), (2, 0));
    daemon.json(&["plugin", "bind", "kv.store", "kv-storage@9.0.0", "--shadow"]);
    daemon.ok(&["kv", "list"]);
    wait_for("the answers to be compared", || {
        let shown = daemon.json(&["plugin", "rollout", "kv.store"]);
        assert_eq!(number(&shown["diverged"]), 0, "{shown}");
        (number(&shown["compared"]) == 1).then_some(())
    });
    let promoted = daemon.json(&["plugin", "promote", "kv.store"]);
    assert_eq!(generation(&promoted), candidate);
    assert_eq!(daemon.ok(&["kv", "get", "a"]).trim(), "2");
    daemon.stop();
}

#[test]
fn what_can_not_be_rolled_out_is_refused() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    prepared(&daemon);
    let complaint = daemon.fails(2, &["plugin", "bind", "sync.lock", "sync-storage", "--canary", "5"]);
    assert!(complaint.contains("can't have a rollout"), "{complaint}");
    daemon.ok(&["plugin", "install", plugins().join("kv-memory.wasm").to_str().unwrap()]);
    let complaint = daemon.fails(2, &["plugin", "bind", "kv.store", "kv-memory", "--canary", "5"]);
    assert!(complaint.contains("its state moves along"), "{complaint}");
    daemon.fails(1, &["plugin", "bind", "auth.policy/empty", "acts", "--canary", "5"]);
    daemon.fails(2, &["plugin", "bind", "auth.policy", "acts", "--canary", "101"]);
    let complaint = daemon.fails(2, &["plugin", "bind", "auth.policy", "acts", "--canary", "5", "--min-calls", "0"]);
    assert!(complaint.contains("calls_min"), "{complaint}");
    daemon.fails(2, &["plugin", "bind", "auth.policy", "acts", "--shadow", "--max-failures", "200"]);
    let ill = ["--settings", r#"{"self_test":"traps"}"#, "--canary", "5"];
    daemon.fails(2, &[&["plugin", "bind", "auth.policy", "acts"], &ill[..]].concat());
    daemon.fails(1, &["plugin", "rollout", "auth.policy"]);
    let dry = begin(&daemon, "next", &["--canary", "5", "--dry-run"]);
    assert_eq!(dry["rollout"]["plan"]["percent"], 5, "{dry}");
    daemon.fails(1, &["plugin", "rollout", "auth.policy"]);

    // A file that declares something else does not fight with a rollout: it waits until that is decided.
    begin(&daemon, "next", &["--canary", "5"]);
    let binding =
        "[[binding]]\nslot = \"auth.policy\"\nplugins = [{ plugin = \"acts@1.0.0\", settings = { tag = \"file\" } }]\n";
    fs::write(data.join("platform.toml"), binding).unwrap();
    daemon.signal("HUP");
    wait_for("the file to be refused", || {
        daemon.ok(&["plugin", "audit", "--about", "auth.policy"]).contains("is being rolled out").then_some(())
    });
    assert_eq!(rollout(&daemon)["running"], true);
    daemon.ok(&["plugin", "abort", "auth.policy"]);
    daemon.signal("HUP");
    wait_for("the file to be applied", || {
        daemon.ok(&["plugin", "slots", "auth.policy"]).contains("\"file\"").then_some(())
    });
    daemon.stop();
}

#[test]
fn a_rollout_is_one_on_all_daemons() {
    let servers = [NatsServer::alone()];
    let mut cluster = Cluster::start(&servers, 3);
    prepared(&cluster.daemons[0]);
    let [one, two, three] = &cluster.daemons[..] else { panic!("three were started") };
    let begun = begin(two, "traps", &["--canary", "100", "--max-failures", "0.5"]);
    let (before, candidate) = (generation(&begun), number(&begun["rollout"]["candidate"]["generation"]));
    assert!(begun["daemons"].as_array().unwrap().iter().all(|daemon| daemon["current"] == true), "{begun}");
    for daemon in [one, two, three] {
        assert_eq!(check(daemon, "rarely", 1), (candidate, true));
    }
    begin(one, "traps", &["--canary", "40"]);
    wait_for("the share to be the same on all", || {
        cluster.daemons.iter().all(|daemon| rollout(daemon)["plan"]["percent"] == 40).then_some(())
    });
    cluster.add();
    let late = cluster.daemons.last().unwrap();
    assert_eq!(rollout(late)["running"], true, "who comes late tries it too");

    load_until_stopped(&cluster.daemons);
    for daemon in &cluster.daemons {
        assert!(rollout(daemon)["reason"].as_str().unwrap().contains("calls failed"));
        wait_for("the candidate to be gone", || (0..20).all(|_| check(daemon, "ok", 1).0 == before).then_some(()));
    }
    let begun = begin(&cluster.daemons[0], "next", &["--canary", "100"]);
    let candidate = number(&begun["rollout"]["candidate"]["generation"]);
    let promoted = cluster.daemons[1].json(&["plugin", "promote", "auth.policy"]);
    assert_eq!(generation(&promoted), candidate);
    cluster.converges("auth.policy", candidate);
}
