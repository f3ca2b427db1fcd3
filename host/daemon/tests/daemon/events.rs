//! `platform event` against a daemon, and a daemon that is taken away in the middle of it.

mod cloudevents;
mod kill;
mod sockets;
mod webhooks;

use std::fs;

use serde_json::{Value, json};

use crate::{
    commands::Watch,
    support::{Daemon, place, text, wait_for},
};

fn sequences(answer: &Value) -> Vec<String> {
    let events = answer["events"].as_array().unwrap();
    events.iter().map(|event| event["sequence"].as_str().unwrap().to_owned()).collect()
}

/// What a command printed, one JSON text on each line.
fn lines(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn topics() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    daemon.fails(1, &["event", "topic", "get", "orders"]);
    let made = daemon.json(&["event", "topic", "create", "orders", "--age", "30d", "--count", "10"]);
    assert_eq!((&made["retention"]["ageMs"], &made["windowMs"]), (&json!("2592000000"), &json!("120000")));
    daemon.fails(1, &["event", "topic", "create", "orders"]);
    daemon.fails(2, &["event", "topic", "create", "../x"]);
    daemon.fails(2, &["event", "topic", "create", "none", "--count", "0"]);
    let changed = daemon.json(&["event", "topic", "create", "orders", "--bytes", "1MiB", "--window", "0s", "--update"]);
    assert_eq!((&changed["retention"]["bytes"], &changed["windowMs"]), (&json!("1048576"), &json!("0")));
    daemon.fails(1, &["event", "topic", "create", "none", "--update"]);
    let names: Vec<Value> = daemon.json(&["event", "topic", "list"])["topics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|topic| topic["name"].clone())
        .filter(|name| name != "platform")
        .collect();
    assert_eq!(names, [json!("orders")]);
    assert!(daemon.ok(&["event", "topic", "list"]).contains("1.0 MiB"));
    daemon.ok(&["event", "topic", "delete", "orders"]);
    daemon.fails(1, &["event", "topic", "delete", "orders"]);
    daemon.fails(1, &["event", "publish", "orders", "order.placed"]);
}

#[test]
fn events_are_published_once_and_found_again() {
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    daemon.ok(&["event", "topic", "create", "orders"]);
    daemon.ok(&["event", "topic", "create", "mails"]);
    let published =
        daemon.json(&["event", "publish", "orders", "order.placed", "{\"order\":7}", "--id", "o7", "--meta", "k=v"]);
    assert_eq!((&published["sequence"], &published["duplicate"]), (&json!("1"), &json!(false)));
    assert_eq!(daemon.ok(&["event", "publish", "orders", "order.placed", "--id", "o7"]), "o7 was there already as 1\n");
    let file = root.path().join("events.jsonl");
    fs::write(
        &file,
        "{\"type\": \"order.paid\", \"id\": \"p7\", \"root\": \"o7\", \"parent\": \"o7\", \"json\": {\"order\": 7}}\n\
         {\"type\": \"order.sent\", \"root\": \"o7\", \"parent\": \"p7\", \"text\": \"on its way\"}\n",
    )
    .unwrap();
    let batch = daemon.json(&["event", "publish", "orders", "--batch", file.to_str().unwrap()]);
    assert_eq!(batch["published"][1]["sequence"], "3");
    daemon.ok(&["event", "publish", "mails", "mail.sent", "--root", "o7", "--parent", "o7"]);
    daemon.fails(2, &["event", "publish", "orders", "order.paid", "--parent", "o7"]);
    daemon.fails(2, &["event", "publish", "orders", ""]);
    daemon.fails(2, &["event", "publish", "platform", "x"]);

    let replayed = lines(&daemon.ok(&["--output", "json", "event", "replay", "orders"]));
    assert_eq!(replayed.len(), 3);
    let first = &replayed[0];
    assert_eq!((&first["publisher"], &first["metadata"]["k"]), (&json!("admin"), &json!("v")));
    assert_eq!((&first["data"], &first["contentType"]), (&json!("eyJvcmRlciI6N30="), &json!("application/json")));
    let types =
        lines(&daemon.ok(&["--output", "json", "event", "replay", "orders", "--type", "order.p*", "--from", "2"]));
    assert_eq!(types.iter().map(|event| event["type"].clone()).collect::<Vec<_>>(), [json!("order.paid")]);
    assert_eq!(daemon.ok(&["event", "replay", "orders", "--since", "1h", "--limit", "2"]).lines().count(), 2);

    let tree = daemon.ok(&["event", "tree", "o7"]);
    let indents: Vec<usize> = tree.lines().map(|line| line.len() - line.trim_start().len()).collect();
    assert_eq!(indents, [0, 2, 4, 2], "{tree}");
    daemon.fails(1, &["event", "tree", "nothing"]);
    assert_eq!(sequences(&daemon.json(&["event", "search", "orders", "--reverse", "--limit", "2"])), ["3", "2"]);
    assert_eq!(sequences(&daemon.json(&["event", "search", "--root", "o7"])).len(), 4);
    assert_eq!(sequences(&daemon.json(&["event", "search", "orders", "--type", "order.paid"])), ["2"]);
    assert_eq!(sequences(&daemon.json(&["event", "search", "orders", "--until", "1h"])), Vec::<String>::new());
    assert!(text(&daemon.run(&["event", "search", "orders"]).stdout).contains("on its way"));
    daemon.fails(1, &["--namespace", "other", "event", "replay", "orders"]);
}

#[test]
fn subscriptions_deliver_until_acknowledged_and_go_on_after_a_restart() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    daemon.ok(&["event", "topic", "create", "orders"]);
    daemon.ok(&["event", "publish", "orders", "order.placed", "one"]);
    daemon.ok(&["event", "publish", "orders", "order.paid", "two"]);
    let seen = daemon.ok(&[
        "--output",
        "json",
        "event",
        "subscribe",
        "orders",
        "billing",
        "--start",
        "beginning",
        "--limit",
        "1",
        "--no-ack",
        "--ack-wait",
        "200ms",
    ]);
    assert_eq!((&lines(&seen)[0]["event"]["sequence"], &lines(&seen)[0]["attempt"]), (&json!("1"), &json!(1)));
    let mut watch = Watch::start(&data, &["event", "subscribe", "orders", "billing"]);
    let mut seen = [watch.change(), watch.change()];
    seen.sort_by_key(|delivery| delivery["event"]["sequence"].as_str().unwrap().to_owned());
    assert_eq!(seen[0]["attempt"], 2, "it comes again: nobody acknowledged it");
    daemon.ok(&["event", "publish", "orders", "order.sent", "three"]);
    assert_eq!(watch.change()["event"]["sequence"], "3");
    wait_for("the acknowledgements", || {
        let found = daemon.json(&["event", "subscription", "get", "orders", "billing"]);
        (found["pending"] == "0").then_some(())
    });
    daemon.stop();

    let daemon = Daemon::start(&data);
    daemon.ok(&["event", "publish", "orders", "order.sent", "four"]);
    let next = watch.change();
    assert_eq!((&next["event"]["sequence"], &next["attempt"]), (&json!("4"), &json!(1)));
    drop(watch);
    let found = daemon.json(&["event", "subscription", "get", "orders", "billing"]);
    assert_eq!(found["next"], "5");
    assert_eq!(daemon.json(&["event", "subscription", "list", "orders"])["subscriptions"][0]["name"], "billing");
    daemon.ok(&["event", "subscription", "seek", "orders", "billing", "2"]);
    let again = daemon.ok(&["--output", "json", "event", "subscribe", "orders", "billing", "--limit", "3"]);
    assert_eq!(lines(&again).len(), 3);
    daemon.ok(&["event", "subscription", "delete", "orders", "billing"]);
    daemon.fails(1, &["event", "subscription", "get", "orders", "billing"]);
    daemon.fails(2, &["event", "subscribe", "orders", "billing", "--fan-out"]);

    let mut follow = Watch::start(&data, &["event", "replay", "orders", "--from", "3", "--follow"]);
    assert_eq!((&follow.change()["sequence"], &follow.change()["sequence"]), (&json!("3"), &json!("4")));
    daemon.ok(&["event", "publish", "orders", "order.sent", "five"]);
    assert_eq!(follow.change()["sequence"], "5");
}
