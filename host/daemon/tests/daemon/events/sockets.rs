//! A subscription through a WebSocket, with a client of its own making.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use super::cloudevents::python;
use crate::support::{Daemon, http_status, place};

#[test]
fn a_client_takes_deliveries_and_says_what_became_of_them() {
    let Some(python) = python(&["cloudevents", "websockets"]) else { return };
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    daemon.ok(&["event", "topic", "create", "orders"]);
    for number in 1..=6 {
        let order = format!("{{\"order\":{number}}}");
        daemon.ok(&["event", "publish", "orders", "order.placed", &order, "--origin", "/shop"]);
    }
    let limits = ["--limit", "0", "--ack-wait", "6s", "--deliveries-max", "0"];
    daemon.ok(&[&["event", "subscribe", "orders", "billing", "--start", "beginning"], &limits[..]].concat());
    let address = daemon.address().unwrap();
    assert_eq!(http_status(&address, "/cloudevents/orders/subscriptions/billing"), Some(426));
    let url = format!("ws://{address}/cloudevents/orders/subscriptions/billing");
    let token = fs::read_to_string(data.join("admin.token")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/events/consumer.py");
    let mut client =
        Command::new(python).arg(script).args([&url, token.trim()]).stdout(Stdio::piped()).spawn().unwrap();
    let ready = BufReader::new(client.stdout.take().unwrap()).lines().next();
    assert_eq!(ready.and_then(Result::ok).as_deref(), Some("ready"), "{}", daemon.log());
    let found = daemon.json(&["event", "subscription", "get", "orders", "billing"]);
    assert_eq!((&found["pending"], &found["next"]), (&"0".into(), &"7".into()));
    let dead = daemon.json(&["event", "replay", "orders.dead-letter"]);
    assert_eq!(
        (&dead["data"], &dead["metadata"]["deadletterreason"]),
        (&"eyJvcmRlciI6NH0=".into(), &"it is no good".into())
    );
    daemon.stop();
    assert!(client.wait().unwrap().success());
}
