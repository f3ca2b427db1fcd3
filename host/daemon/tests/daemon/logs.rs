//! What plugins say: their own lines, and where they trapped.

use serde_json::{Value, json};

use crate::{
    commands::Watch,
    support::{Daemon, http, place, plugins},
};

/// Asks for a decision, whatever comes of it.
fn ask(daemon: &Daemon, action: &str, target: u64) {
    let body = json!({"action": action, "target": target.to_string()}).to_string();
    let headers = format!("authorization: Bearer {}\r\n", daemon.token());
    http(&daemon.address().unwrap(), "POST", "/v1/auth:check", &headers, &body).unwrap();
}

fn lines(daemon: &Daemon, arguments: &[&str]) -> Vec<Value> {
    let words = [&["plugin", "logs"], arguments, &["--output", "json"]].concat();
    daemon.ok(&words).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_plugin_s_lines_and_the_place_of_its_trap_are_told() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    let acts = plugins().join("../testkit/auth-acts.wasm");
    for version in ["1.0.0", "2.0.0"] {
        daemon.ok(&["plugin", "install", acts.to_str().unwrap(), "--name", "acts", "--version", version]);
    }
    daemon.ok(&["plugin", "bind", "auth.policy", "acts@1.0.0", "--settings", r#"{"tag":"a"}"#]);
    assert!(lines(&daemon, &["acts"]).is_empty());
    ask(&daemon, "log", 2);
    ask(&daemon, "trap", 1);
    let told = lines(&daemon, &["acts"]);
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!((&told[1]["message"], &told[1]["level"]), (&json!("line 1"), &json!("LOG_LEVEL_INFO")));
    assert_eq!((&told[1]["plugin"], &told[1]["slot"]), (&json!("acts@1.0.0"), &json!("auth.policy")));
    assert!(told[2]["message"].as_str().unwrap().contains("trapped"), "{told:?}");
    assert_eq!(told[2]["fields"][0]["name"], "frame-0");
    let human = daemon.ok(&["plugin", "logs", "acts", "--level", "warn"]);
    assert!(
        human.contains("error  acts@1.0.0 in auth.policy: the plugin trapped") && human.lines().count() == 1,
        "{human}"
    );
    assert_eq!(lines(&daemon, &["acts", "--limit", "1"]).len(), 1);

    let mut follow = Watch::start(&data, &["plugin", "logs", "acts", "--follow", "--limit", "1"]);
    assert_eq!(follow.change()["number"], "3");
    daemon.ok(&["plugin", "bind", "auth.policy", "acts@2.0.0", "--settings", r#"{"tag":"b"}"#]);
    ask(&daemon, "log", 1);
    assert_eq!((&follow.change()["number"], 1), (&json!("4"), lines(&daemon, &["acts@2.0.0"]).len()));
    assert!(daemon.fails(1, &["plugin", "logs", "nobody"]).contains("nobody"));
}
