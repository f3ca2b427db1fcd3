//! `platform config` against a daemon.

use std::fs;

use serde_json::{Value, json};

use crate::{
    commands::Watch,
    support::{Daemon, place, plugins, wait_for},
};

#[test]
fn documents() {
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    daemon.fails(1, &["config", "get", "shop"]);
    let file = root.path().join("shop.json");
    fs::write(&file, "{\n  \"limits\": {\"requests\": 10, \"burst\": 5}\n}\n").unwrap();
    let set = daemon.json(&["config", "set", "shop", "--file", file.to_str().unwrap(), "--comment", "first"]);
    assert_eq!((&set["version"]["number"], &set["version"]["author"]), (&json!("1"), &json!("admin")));
    daemon.ok(&["config", "set", "shop", "/limits/requests", "20", "--if-version", "1"]);
    daemon.fails(1, &["config", "set", "shop", "/limits/requests", "30", "--if-version", "1"]);
    daemon.ok(&["config", "merge", "shop", "/limits", "{\"burst\": null}"]);
    daemon.ok(&["config", "set", "shop", "/greeting", "hello \"you\"", "--text"]);
    let printed: Value = serde_json::from_str(&daemon.ok(&["config", "get", "shop"])).unwrap();
    assert_eq!(printed, json!({"greeting": "hello \"you\"", "limits": {"requests": 20}}));
    assert_eq!(daemon.ok(&["config", "get", "shop", "/limits/requests"]), "20\n");
    assert_eq!(
        daemon.json(&["config", "get", "shop", "/limits", "--version", "1"])["value"],
        json!({"requests": 10, "burst": 5})
    );
    daemon.fails(1, &["config", "get", "shop", "/limits/burst"]);
    daemon.fails(2, &["config", "get", "shop", "limits"]);
    daemon.fails(2, &["config", "set", "shop", "hello"]);
    daemon.fails(2, &["config", "set", "shop"]);
    daemon.fails(2, &["config", "set", "../x", "1"]);

    assert_eq!(daemon.ok(&["config", "diff", "shop", "1", "2"]), "replace  /limits/requests  20\n");
    let patch = &daemon.json(&["config", "diff", "shop", "1"])["patch"];
    assert_eq!(patch.as_array().unwrap().len(), 3, "{patch}");
    assert_eq!(daemon.ok(&["config", "rollback", "shop", "1"]), "version 5\n");
    assert_eq!(daemon.ok(&["config", "rollback", "shop", "1"]), "nothing changed; it is at version 5\n");
    daemon.ok(&["config", "delete", "shop", "/limits/burst"]);
    daemon.ok(&["config", "delete", "shop"]);
    daemon.fails(1, &["config", "get", "shop"]);
    assert_eq!(daemon.json(&["config", "list"])["configurations"], json!([]));
    assert_eq!(daemon.json(&["config", "list", "--deleted"])["configurations"][0]["deleted"], true);
    daemon.ok(&["config", "rollback", "shop", "6", "--comment", "not that"]);
    assert_eq!(daemon.ok(&["config", "get", "shop", "/limits/requests"]), "10\n");

    let numbers = |history: &Value| -> Vec<Value> {
        history["versions"].as_array().unwrap().iter().map(|version| version["number"].clone()).collect()
    };
    let history = daemon.json(&["config", "history", "shop", "--from", "5", "--reverse"]);
    assert_eq!(numbers(&history), [json!("8"), json!("7"), json!("6"), json!("5")]);
    assert_eq!(history["versions"][0]["comment"], "not that");
    assert_eq!(numbers(&daemon.json(&["config", "history", "--since", "1h", "--limit", "2"])).len(), 2);
    assert_eq!(daemon.json(&["config", "history", "--until", "1h"])["versions"], json!([]));
    let table = daemon.ok(&["config", "history", "shop"]);
    let headings: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(headings, ["ID", "VERSION", "TIME", "AUTHOR", "ACTION", "PATH", "COMMENT"]);
    assert!(table.contains("rollback to 6"), "{table}");
    assert_eq!(daemon.json(&["--namespace", "other", "config", "list"])["configurations"], json!([]));
}

#[test]
fn rollouts_and_schemas() {
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    daemon.ok(&["config", "set", "shop", "{\"a\": 1}"]);
    daemon.fails(2, &["config", "promote", "shop"]);
    daemon.fails(2, &["config", "stage", "shop", "/a", "2", "--percent", "101"]);
    daemon.ok(&["config", "stage", "shop", "/a", "2", "--percent", "0"]);
    daemon.ok(&["config", "stage", "shop", "--percent", "100"]);
    assert_eq!(daemon.ok(&["config", "get", "shop", "/a"]), "1\n");
    assert_eq!(daemon.ok(&["config", "get", "shop", "/a", "--instance", "n1"]), "2\n");
    daemon.fails(2, &["config", "set", "shop", "/a", "3"]);
    daemon.ok(&["config", "abort", "shop", "--comment", "slow"]);
    assert_eq!(daemon.ok(&["config", "get", "shop", "/a", "--instance", "n1"]), "1\n");
    assert!(daemon.ok(&["config", "history", "shop"]).contains("stage 100 %"));

    let file = root.path().join("schema.json");
    fs::write(&file, "{\"properties\": {\"a\": {\"type\": \"integer\"}}}").unwrap();
    daemon.fails(1, &["config", "schema", "get", "shop"]);
    daemon.ok(&["config", "schema", "set", "shop", file.to_str().unwrap()]);
    assert_eq!(daemon.json(&["config", "schema", "get", "shop"])["schema"]["properties"]["a"]["type"], "integer");
    let complaint = daemon.fails(2, &["config", "set", "shop", "/a", "one", "--text"]);
    assert!(complaint.contains("at `/a`"), "{complaint}");
    daemon.ok(&["config", "schema", "delete", "shop"]);
    daemon.ok(&["config", "set", "shop", "/a", "one", "--text"]);

    let example = plugins().join("../examples/config-validator-rust.wasm");
    daemon.ok(&["config", "set", "shop", "/limits/requests", "10"]);
    daemon.ok(&["plugin", "install", example.to_str().unwrap()]);
    let settings = "{\"factor\": 10, \"role\": \"on-call\"}";
    daemon.ok(&["plugin", "bind", "config.validator", "config-validator-rust", "--settings", settings]);
    let complaint = daemon.fails(2, &["config", "set", "shop", "/limits/requests", "1000"]);
    assert!(complaint.contains("would go from 10 to 1000"), "{complaint}");
    daemon.ok(&["config", "set", "shop", "/limits/requests", "100"]);
}

#[test]
fn a_watch_shows_what_changed_at_its_path_and_goes_on_after_a_restart() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    daemon.ok(&["config", "set", "shop", "{\"a\": 1}"]);
    let mut watch = Watch::start(&data, &["config", "watch", "shop", "/a", "--after", "0"]);
    assert_eq!(watch.change()["changed"]["value"], 1);
    daemon.ok(&["config", "set", "shop", "/b", "1"]);
    daemon.ok(&["config", "set", "shop", "/a", "2"]);
    assert_eq!(watch.change()["changed"]["value"], 2);
    daemon.stop();
    let daemon = Daemon::start(&data);
    daemon.ok(&["config", "delete", "shop"]);
    let gone = watch.change();
    assert_eq!((&gone["changed"]["version"]["deleted"], gone["changed"].get("value")), (&json!(true), None));
    daemon.stop();
}

#[test]
fn secrets_and_the_rotation_of_their_keys() {
    let (root, data) = place();
    let file = root.path().join("platform.toml");
    let settings = |writes: &str, ids: &[&str]| {
        let keys: String =
            ids.iter().map(|id| format!("[[config.secrets.keys]]\nid = '{id}'\nfile = '{id}.key'\n")).collect();
        fs::write(&file, format!("[config.secrets]\nkey = '{writes}'\n{keys}")).unwrap();
    };
    fs::write(root.path().join("one.key"), "01".repeat(32)).unwrap();
    fs::write(root.path().join("two.key"), "02".repeat(32)).unwrap();
    settings("one", &["one"]);
    let daemon = Daemon::start_with(&data, &["--server-address", "127.0.0.1:0", "--config", file.to_str().unwrap()]);
    daemon.ok(&["config", "set", "shop", "/password", "hunter2", "--text", "--secret"]);
    assert!(!daemon.ok(&["config", "get", "shop"]).contains("hunter2"));
    assert_eq!(daemon.ok(&["config", "get", "shop", "/password", "--reveal"]), "\"hunter2\"\n");
    settings("two", &["one", "two"]);
    wait_for("the new key to write", || {
        daemon.ok(&["config", "reseal"]);
        daemon.ok(&["config", "get", "shop"]).contains("two:").then_some(())
    });
    settings("two", &["two"]);
    daemon.stop();
    let daemon = Daemon::start_with(&data, &["--server-address", "127.0.0.1:0", "--config", file.to_str().unwrap()]);
    assert_eq!(daemon.ok(&["config", "get", "shop", "/password", "--reveal"]), "\"hunter2\"\n");
    let old = daemon.json(&["config", "get", "shop", "--version", "1", "--reveal"]);
    assert_eq!(old["value"]["password"]["problem"], "the key `one` is not among `config.secrets.keys`");
    assert!(!daemon.log().contains("hunter2") && !daemon.ok(&["config", "show"]).contains("0202"));
}
