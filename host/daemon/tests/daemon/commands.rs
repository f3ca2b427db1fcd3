//! The client commands against a daemon.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, Stdio},
};

use serde_json::json;

use crate::support::{Daemon, place, platform, plugins, text, wait_for};

#[test]
fn values() {
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    daemon.fails(1, &["kv", "get", "greeting"]);
    let written = daemon.json(&["kv", "put", "greeting", "hello"]);
    let revision = written["revision"].as_str().unwrap().to_owned();
    assert_eq!(daemon.ok(&["kv", "get", "greeting"]), "hello", "a pipe gets the bare value");
    assert_eq!(daemon.json(&["kv", "get", "greeting"])["value"], "aGVsbG8=");

    daemon.fails(1, &["kv", "put", "greeting", "again", "--if-absent"]);
    daemon.ok(&["kv", "put", "greeting", "again", "--if-revision", &revision]);
    daemon.fails(1, &["kv", "put", "greeting", "third", "--if-revision", &revision]);
    daemon.fails(1, &["kv", "delete", "greeting", "--if-revision", &revision]);

    let binary: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let file = root.path().join("binary");
    fs::write(&file, &binary).unwrap();
    daemon.ok(&["kv", "put", "binary", "--file", file.to_str().unwrap()]);
    let got = daemon.run(&["kv", "get", "binary"]);
    assert_eq!(got.stdout, binary);

    let mut put = platform();
    put.arg("--data-dir").arg(&data).args(["kv", "put", "piped", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut put = put.spawn().unwrap();
    put.stdin.take().unwrap().write_all(b"through a pipe").unwrap();
    assert!(put.wait().unwrap().success());
    assert_eq!(daemon.ok(&["kv", "get", "piped"]), "through a pipe");

    assert_eq!(daemon.json(&["kv", "increment", "visits"])["value"], "1");
    assert_eq!(daemon.json(&["kv", "increment", "visits", "--by", "-11"])["value"], "-10");
    daemon.fails(2, &["kv", "increment", "greeting"]);

    daemon.ok(&["kv", "put", "short", "lived", "--ttl", "1ms"]);
    wait_for("the key to expire", || (daemon.run(&["kv", "get", "short"]).status.code() == Some(1)).then_some(()));

    let keys = |arguments: &[&str]| -> Vec<String> {
        let list = daemon.json(arguments);
        list["entries"].as_array().unwrap().iter().map(|entry| entry["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(&["kv", "list"]), ["binary", "greeting", "piped", "visits"]);
    assert_eq!(keys(&["kv", "list", "gr"]), ["greeting"]);
    assert_eq!(keys(&["kv", "list", "--limit", "2"]), ["binary", "greeting"]);
    assert_eq!(keys(&["--namespace", "other", "kv", "list"]), Vec::<String>::new());
    let table = daemon.ok(&["kv", "list", "greeting"]);
    assert_eq!(
        table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["KEY", "REVISION", "EXPIRES", "VALUE"]
    );

    daemon.ok(&["kv", "delete", "greeting"]);
    daemon.fails(1, &["kv", "get", "greeting"]);
    assert!(daemon.ok(&["kv", "delete", "greeting"]).contains("nothing to delete"));
    daemon.fails(2, &["kv", "get", "bad\nkey"]);
    daemon.stop();
}

#[test]
fn several_values() {
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    let file = root.path().join("writes");
    let commit = |lines: &str| {
        fs::write(&file, lines).unwrap();
        daemon.run(&["--output", "json", "kv", "commit", "--file", file.to_str().unwrap()])
    };
    let made = commit(
        "{\"key\": \"a\", \"text\": \"1\", \"ifAbsent\": true}\n\n{\"key\": \"b\", \"value\": \"/wA=\", \"ttl\": \"1h\"}\n",
    );
    assert!(made.status.success(), "{}", text(&made.stderr));
    let refused = commit("{\"key\": \"c\", \"text\": \"1\"}\n{\"key\": \"a\", \"ifAbsent\": true}\n");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("`a`"), "{}", text(&refused.stderr));
    let got = daemon.run(&["--output", "json", "kv", "get", "a", "b", "c"]);
    assert_eq!(got.status.code(), Some(1), "one is missing");
    let got: serde_json::Value = serde_json::from_slice(&got.stdout).unwrap();
    assert_eq!((&got["entries"][1]["value"], &got["missing"]), (&json!("/wA="), &json!(["c"])));
    assert_eq!(daemon.ok(&["kv", "get", "a", "b"]).lines().count(), 3);
    daemon.fails(2, &["kv", "get", "a", "b", "--raw"]);
    assert_eq!(commit("{\"key\": \"a\", \"delete\": true}\n").status.code(), Some(0));
    assert_eq!(commit("{\"key\": \"a\", \"txt\": \"1\"}\n").status.code(), Some(2));
    assert_eq!(commit("").status.code(), Some(2), "nothing to do is a mistake");
    let usage = daemon.json(&["kv", "usage"]);
    assert_eq!((&usage["keys"], &usage["bytes"]), (&json!("1"), &json!("3")));

    let settings = r#"{"quotas": {"default": {"keys": 2, "bytes": 10}}}"#;
    daemon.ok(&["plugin", "bind", "kv.store", "kv-storage", "--settings", settings]);
    assert!(daemon.ok(&["kv", "usage"]).contains("1 of 2"));
    daemon.ok(&["kv", "put", "c", "1"]);
    assert!(daemon.fails(3, &["kv", "put", "d", "1"]).contains("3 keys"));
    daemon.fails(3, &["kv", "put", "c", "123456789"]);
    daemon.ok(&["--namespace", "other", "kv", "put", "d", "1"]);
    daemon.stop();
    let daemon = Daemon::start(&data);
    assert!(daemon.fails(3, &["kv", "put", "d", "1"]).contains("3 keys"), "a quota outlives a restart");
    daemon.ok(&["kv", "delete", "c"]);
    daemon.ok(&["kv", "put", "d", "1"]);
    daemon.stop();
}

/// A watch whose lines the test reads.
pub(crate) struct Watch {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watch {
    pub(crate) fn start(data: &std::path::Path, arguments: &[&str]) -> Self {
        let mut command = platform();
        command.arg("--data-dir").arg(data).args(["--output", "json"]).args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> serde_json::Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    /// The next change, marks of progress left out.
    pub(crate) fn change(&mut self) -> serde_json::Value {
        loop {
            let event = self.next();
            if event.get("progress").is_none_or(serde_json::Value::is_null) {
                return event;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_watch_goes_on_after_a_restart() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    let mut watch = Watch::start(&data, &["kv", "watch", "w/", "--progress"]);
    assert!(watch.next().get("progress").is_some(), "the first line says from where it watches");
    daemon.ok(&["kv", "put", "w/1", "one"]);
    daemon.ok(&["kv", "put", "elsewhere", "x"]);
    assert_eq!(watch.change()["put"]["key"], "w/1");
    daemon.stop();

    let daemon = Daemon::start(&data);
    daemon.ok(&["kv", "put", "w/2", "two"]);
    daemon.ok(&["kv", "delete", "w/1"]);
    assert_eq!(watch.change()["put"]["key"], "w/2");
    assert_eq!(watch.change()["delete"]["key"], "w/1");

    let mut all = Watch::start(&data, &["kv", "watch", "w/", "--after", "0"]);
    let keys: Vec<_> = (0..3).map(|_| all.change()).collect();
    assert_eq!(keys[0]["put"]["key"], "w/1");
    assert_eq!(keys[2]["delete"]["key"], "w/1");
    daemon.stop();
}

#[test]
fn services() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    let mut watch = Watch::start(&data, &["discovery", "watch", "orders", "--progress"]);
    watch.next();
    daemon.fails(1, &["discovery", "get", "orders"]);
    for node in ["n1", "n2", "n3"] {
        let address = format!("127.0.0.1:80{}", &node[1..]);
        daemon.ok(&[
            "discovery",
            "register",
            "orders",
            node,
            &address,
            "--service-version",
            "1.0.0",
            "--ttl",
            "1m",
            "--label",
            "rack=a",
        ]);
        assert_eq!(watch.change()["registered"]["registration"]["node"]["id"], node);
    }
    let nodes = daemon.json(&["discovery", "get", "orders"]);
    assert_eq!(nodes["registrations"][0]["node"]["metadata"], json!({"rack": "a"}));
    assert_eq!(nodes["registrations"].as_array().unwrap().len(), 3);
    assert_eq!(daemon.json(&["discovery", "list"])["services"][0]["nodes"], 3);

    let picks = daemon.ok(&["router", "select", "orders", "--count", "60", "--output", "json"]);
    let picked: Vec<String> = picks
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["node"]["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(picked.len(), 60);
    // Each instance of the policy takes turns of its own, so the shares are near thirds, not exactly that.
    for node in ["n1", "n2", "n3"] {
        let share = picked.iter().filter(|id| *id == node).count();
        assert!((10..=30).contains(&share), "`{node}` was picked {share} times of 60");
    }
    daemon.fails(3, &["router", "select", "nobody"]);

    daemon.ok(&["discovery", "heartbeat", "orders", "n1", "--ttl", "1m"]);
    daemon.ok(&["discovery", "deregister", "orders", "n1"]);
    assert_eq!(watch.change()["removed"]["nodeId"], "n1");
    daemon.fails(1, &["discovery", "heartbeat", "orders", "n1"]);
    daemon.ok(&["discovery", "deregister", "orders", "n1"]);
    daemon.fails(2, &["discovery", "register", "../x", "n1", "127.0.0.1:1"]);
    daemon.stop();
}

#[test]
fn a_kept_registration_ends_with_its_keeper() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    let mut keeper = platform();
    keeper.arg("--data-dir").arg(&data).args([
        "discovery",
        "register",
        "orders",
        "n1",
        "127.0.0.1:1",
        "--ttl",
        "300ms",
        "--keep",
    ]);
    let mut keeper = keeper.stdout(Stdio::null()).spawn().unwrap();
    let mut watch = Watch::start(&data, &["discovery", "watch", "--after", "0"]);
    assert_eq!(watch.change()["registered"]["registration"]["node"]["id"], "n1");
    let sent = std::process::Command::new("kill").arg("-TERM").arg(keeper.id().to_string()).status().unwrap();
    assert!(sent.success());
    assert_eq!(keeper.wait().unwrap().code(), Some(0));
    wait_for("the registration to go", || {
        (daemon.run(&["discovery", "get", "orders"]).status.code() == Some(1)).then_some(())
    });
    daemon.stop();
}

#[test]
fn decisions_have_exit_codes() {
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    let allowed = daemon.json(&["auth", "check", "GET", "/orders/7"]);
    assert_eq!(allowed["decision"], "DECISION_ALLOW");
    assert_eq!(allowed["subject"], "admin");
    let denied = daemon.run(&["auth", "check", "GET", "/orders/7", "--anonymous"]);
    assert_eq!(denied.status.code(), Some(1), "{}", text(&denied.stderr));
    assert!(text(&denied.stdout).starts_with("deny\n"), "{}", text(&denied.stdout));
    let wrong = root.path().join("wrong.token");
    fs::write(&wrong, "0123456789abcdef0123456789abcdef\n").unwrap();
    let refused = daemon.run(&["auth", "check", "GET", "/", "--for", wrong.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1), "a token that does not verify is a denial");
    daemon.fails(2, &["auth", "check", "GET", "/", "--for", "/nowhere/token"]);
    daemon.stop();
}

#[test]
fn components_and_slots() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    let file = plugins().join("kv-memory.wasm");
    let file = file.to_str().unwrap();
    let tried = daemon.json(&["plugin", "install", file, "--dry-run"]);
    assert_eq!(tried["plugin"]["name"], "kv-memory");
    daemon.fails(1, &["plugin", "inspect", "kv-memory"]);
    daemon.ok(&["plugin", "install", file]);
    assert_eq!(daemon.json(&["plugin", "install", file])["existed"], true);
    assert_eq!(daemon.json(&["plugin", "inspect", "kv-memory"])["slot"], "kv.store");

    daemon.ok(&["kv", "put", "where", "storage"]);
    let bound = daemon.json(&["plugin", "bind", "kv.store", "kv-memory", "--comment", "try it"]);
    assert_eq!(bound["ready"], true);
    daemon.fails(1, &["kv", "get", "where"]);
    daemon.fails(2, &["plugin", "uninstall", "kv-memory"]);
    daemon.ok(&["plugin", "rollback", "kv.store"]);
    assert_eq!(daemon.ok(&["kv", "get", "where"]), "storage");
    assert_eq!(daemon.bound("kv.store"), ["kv-storage"]);

    let history = daemon.json(&["plugin", "history", "kv.store"]);
    assert_eq!(history["bindings"][1]["comment"], "try it");
    let audit = daemon.json(&["plugin", "audit", "--about", "kv.store"]);
    let actions: Vec<_> =
        audit["records"].as_array().unwrap().iter().map(|record| record["action"].as_str().unwrap()).collect();
    assert_eq!(&actions[..2], ["rollback", "bind"]);
    daemon.ok(&["plugin", "drain", "kv.store"]);

    daemon.fails(1, &["plugin", "bind", "kv.store", "nobody"]);
    daemon.fails(2, &["plugin", "bind", "auth.policy", "kv-memory"]);
    daemon.fails(2, &["plugin", "bind", "no.such/slot", "kv-memory"]);
    daemon.fails(2, &["plugin", "bind", "auth.policy", "auth-scopes", "--settings", r#"{"rulez": []}"#]);
    daemon.fails(2, &["plugin", "bind", "auth.policy", "auth-scopes", "--settings", "{"]);
    assert_eq!(daemon.bound("auth.policy"), ["auth-scopes"]);
    for table in [&["plugin", "list"][..], &["plugin", "slots"], &["plugin", "slots", "kv.store"], &["plugin", "audit"]]
    {
        assert!(!daemon.ok(table).is_empty(), "{table:?}");
    }
    let slot = daemon.json(&["plugin", "slots", "auth.policy"]);
    assert_eq!((&slot["figures"][0]["snapshot"], &slot["draining"]), (&json!("cloned"), &json!([])));
    let inspected = daemon.json(&["plugin", "inspect", "auth-scopes"]);
    assert_eq!(inspected["serving"][0]["figures"]["logLinesDropped"], "0");
    for table in [&["plugin", "slots"][..], &["plugin", "slots", "auth.policy"], &["plugin", "inspect", "auth-scopes"]]
    {
        let shown = daemon.ok(table);
        assert!(shown.contains("LOG DROPPED") && shown.contains("cloned"), "{shown}");
    }
    daemon.stop();
}

#[test]
fn settings_are_shown_without_secrets() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    let token = fs::read_to_string(data.join("admin.token")).unwrap();
    let shown = daemon.ok(&["config", "show"]);
    assert!(!shown.contains(token.trim()), "{shown}");
    let parsed: toml::Table = shown.parse().unwrap();
    assert!(parsed["shutdown"]["drain_ms_max"].is_integer(), "{shown}");
    assert!(daemon.json(&["config", "show"])["server"]["limits"].is_object());
    assert!(daemon.ok(&["--output", "yaml", "config", "show"]).contains("drain_ms_max: 30000"));
    daemon.stop();
}

#[test]
fn completion_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let output = platform().args(["completion", shell]).output().unwrap();
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("platform"), "{shell}");
    }
}
