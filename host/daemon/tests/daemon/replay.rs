//! Decisions that are kept, and asked again of another policy.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::support::{Daemon, http, http_body, place, platform, plugins, text, wait_for};

/// Who may do what: everybody reads, and `writers` write.
fn rules(writers: &[&str]) -> Value {
    json!({"rules": [
        {"effect": "allow", "methods": ["GET"], "reason": "all may read"},
        {"effect": "allow", "subjects": writers, "reason": "may write"},
    ]})
}

/// A daemon that keeps all its decisions, with the policy bound.
fn keeping(data: &Path, decisions: &str) -> Daemon {
    fs::create_dir_all(data).unwrap();
    fs::write(data.join("platform.toml"), format!("[decisions]\n{decisions}\n")).unwrap();
    let daemon = Daemon::start(data);
    let policy = policy();
    daemon.ok(&["plugin", "install", policy.to_str().unwrap()]);
    let settings = rules(&["ada", "bob"]).to_string();
    daemon.ok(&["plugin", "bind", "auth.policy", "auth-scopes", "--settings", &settings]);
    daemon
}

fn policy() -> PathBuf {
    plugins().join("auth-scopes.wasm")
}

fn check(daemon: &Daemon, action: &str, target: &str) {
    let body = json!({
        "action": action,
        "target": target,
        "as_caller": true,
        "headers": {"cookie": "very-secret", "x-team": "red"},
        "attributes": {"query": "token=very-secret"},
    });
    let headers = format!("authorization: Bearer {}\r\n", daemon.token());
    let address = daemon.address().unwrap();
    let (status, _, answer) = http(&address, "POST", "/v1/auth:check", &headers, &body.to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
}

/// What a command prints line by line, once there are `count` lines.
fn lines(daemon: &Daemon, count: usize) -> String {
    wait_for("decisions to be kept", || {
        let printed = daemon.ok(&["--output", "json", "plugin", "decisions"]);
        (printed.lines().count() == count).then_some(printed)
    })
}

fn replay(daemon: &Daemon, code: i32, arguments: &[&str]) -> Value {
    let policy = policy();
    let words = ["--output", "json", "plugin", "replay", policy.to_str().unwrap()];
    let output = daemon.run(&[&words, arguments].concat());
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_str(&text(&output.stdout)).unwrap()
}

#[test]
fn a_planted_change_is_found() {
    let (root, data) = place();
    let daemon = keeping(&data, "sample_percent = 100");
    for number in 0..20 {
        check(&daemon, "GET", &format!("/orders/{number}"));
    }
    for _ in 0..7 {
        check(&daemon, "POST", "/orders/<img/onerror=alert(1)>");
    }
    let kept = lines(&daemon, 27);
    assert!(kept.contains("header:cookie") && kept.contains("x-team") && !kept.contains("very-secret"), "{kept}");
    let first: Value = serde_json::from_str(kept.lines().next().unwrap()).unwrap();
    assert_eq!((&first["action"], &first["outcome"]["reason"]), (&json!("GET"), &json!("all may read")), "{first}");
    let subject = first["caller"]["subject"].as_str().unwrap().to_owned();
    assert!(daemon.ok(&["plugin", "decisions", "--limit", "2"]).lines().count() == 2);
    let (_, metrics) = http_body(&daemon.address().unwrap(), "/metrics").unwrap();
    assert!(metrics.contains("platform_decisions_kept_total 27"), "{metrics}");

    let same = replay(&daemon, 0, &[]);
    assert_eq!((&same["replayed"], &same["changed"], &same["same"]), (&json!(27), &json!(0), &json!(27)), "{same}");

    let report = root.path().join("report.html");
    let settings = rules(&[&subject]).to_string();
    let arguments = ["--since", "1h", "--settings", &settings, "--report", report.to_str().unwrap()];
    let changed = replay(&daemon, 1, &arguments);
    assert_eq!((&changed["changed"], &changed["same"]), (&json!(7), &json!(20)), "{changed}");
    let [change] = changed["changes"].as_array().unwrap().as_slice() else { panic!("{changed}") };
    assert_eq!((&change["before"], &change["after"]), (&json!("deny 403"), &json!("allow")), "{change}");
    assert_eq!((&change["count"], &change["ruleAfter"]), (&json!(7), &json!("may write")), "{change}");
    assert_eq!(change["subjects"], json!([{"name": subject, "count": 7}]));
    assert_eq!(change["examples"].as_array().unwrap().len(), 3);
    let page = fs::read_to_string(&report).unwrap();
    assert!(page.contains("&lt;img/onerror") && !page.contains("<img"), "{page}");
    let human = daemon.run(&["plugin", "replay", policy().to_str().unwrap(), "--settings", &settings]);
    assert!(text(&human.stdout).contains("7 change, 20 come to the same"), "{}", text(&human.stdout));

    // The same from a file, without a daemon.
    let file = root.path().join("decisions.jsonl");
    fs::write(&file, &kept).unwrap();
    daemon.stop();
    let words = ["--output", "json", "plugin", "replay", policy().to_str().unwrap(), "--settings", &settings, "--from"]
        .map(str::to_owned);
    let output = platform().args(words).arg(&file).output().unwrap();
    let again: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert_eq!((&again["changes"], &again["replayed"]), (&changed["changes"], &changed["replayed"]));
}

#[test]
fn what_was_kept_outlives_a_crash_and_is_bounded() {
    let (_root, data) = place();
    let daemon = keeping(&data, "sample_percent = 100\nredact = [\"header:x-team\"]");
    for number in 0..10 {
        check(&daemon, "GET", &format!("/{number}"));
    }
    let before = lines(&daemon, 10);
    assert!(before.contains("header:x-team") && before.contains("very-secret"), "only what is named is left out");
    daemon.kill();

    let folder = data.join("decisions");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));
    let mut torn = fs::read(&file).unwrap();
    torn.truncate(torn.len() - 20);
    fs::write(&file, torn).unwrap();

    fs::write(data.join("platform.toml"), "[decisions]\nsample_percent = 0\n").unwrap();
    let daemon = Daemon::start(&data);
    check(&daemon, "GET", "/not-kept");
    let after = daemon.ok(&["--output", "json", "plugin", "decisions"]);
    let whole: Vec<&str> = before.lines().take(9).collect();
    assert_eq!(after.lines().collect::<Vec<_>>(), whole, "all but the one that was torn");
    daemon.stop();
}

#[test]
fn what_can_not_be_replayed_is_refused() {
    let (root, data) = place();
    let daemon = keeping(&data, "sample_percent = 100");
    let policy = policy();
    let policy = policy.to_str().unwrap();
    let complaint = daemon.fails(2, &["plugin", "replay", policy]);
    assert!(complaint.contains("no decision was kept"), "{complaint}");
    let complaint = daemon.fails(2, &["plugin", "replay", policy, "--slot", "kv.store"]);
    assert!(complaint.contains("name an `auth.policy` slot"), "{complaint}");
    let store = plugins().join("kv-storage.wasm");
    let complaint = daemon.fails(2, &["plugin", "replay", store.to_str().unwrap()]);
    assert!(complaint.contains("is for `kv.store`"), "{complaint}");
    let file = root.path().join("decisions.jsonl");
    fs::write(&file, "{\"slot\": 1}\n").unwrap();
    let complaint = daemon.fails(2, &["plugin", "replay", policy, "--from", file.to_str().unwrap()]);
    assert!(complaint.contains("line 1 is no decision"), "{complaint}");
    let older = json!({"interface": "platform:auth/policy@0.0.9", "slot": "auth.policy"});
    fs::write(&file, format!("{older}\n")).unwrap();
    let complaint = daemon.fails(2, &["plugin", "replay", policy, "--from", file.to_str().unwrap()]);
    assert!(complaint.contains("an interface that this version doesn't know"), "{complaint}");
    daemon.stop();

    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    let complaint = daemon.fails(2, &["plugin", "replay", policy]);
    assert!(complaint.contains("sample_percent"), "{complaint}");
    daemon.stop();

    for bad in [
        "sample_percent = 101",
        "sample_percent = -1",
        "sample_percent = 1\nredact = [\"cookie\"]",
        "keep_mib = 0\nsample_percent = 1",
    ] {
        let (_root, data) = place();
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("platform.toml"), format!("[decisions]\n{bad}\n")).unwrap();
        let mut daemon = Daemon::spawn(&data, &["--server-address", "127.0.0.1:0"]);
        assert_eq!(daemon.wait().code(), Some(2), "{bad}: {}", daemon.log());
        assert!(daemon.log().contains("`decisions`"), "{bad}: {}", daemon.log());
    }
}
