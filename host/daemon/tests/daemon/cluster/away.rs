//! Daemons whose NATS goes away: they say so, decide with what they have, refuse what they can't keep, and recover alone.

use platform_testkit::NatsServer;

use super::{Cluster, serves};
use crate::support::{Daemon, http, http_body, text, wait_for};

/// What a daemon does while NATS is away.
fn assert_decides_alone(daemon: &Daemon) {
    let address = daemon.address().unwrap();
    wait_for("the daemon to notice", || {
        let (status, body) = http_body(&address, "/readyz")?;
        (status == 503 && body.contains("storage: ") && body.contains("is not to be had")).then_some(())
    });
    daemon.ok(&["auth", "check", "GET", "/x"]);
    daemon.fails(1, &["auth", "check", "GET", "/x", "--anonymous"]);
    let picked = daemon.json(&["router", "select", "orders"]);
    assert_eq!(picked["node"]["id"], "node-1");
    for refused in [
        &["kv", "put", "a", "2"][..],
        &["plugin", "bind", "kv.store/tenant", "kv-storage"],
        &["event", "publish", "orders", "placed", "{}"],
        &["sync", "lock", "orders", "--wait", "0s"],
    ] {
        let complaint = daemon.fails(3, refused);
        assert!(complaint.contains("is not to be had"), "{refused:?}: {complaint}");
    }
    let token = format!("authorization: Bearer {}\r\n", daemon.token());
    let (status, head, body) = http(&address, "PUT", "/v1/kv/a", &token, r#"{"value": "YQ=="}"#).unwrap();
    assert_eq!(status, 503, "{head}{body}");
    assert!(head.to_lowercase().contains("retry-after: "), "{head}");
    assert!(body.contains("\"code\":\"UNAVAILABLE\""), "{body}");
}

fn prepare(cluster: &Cluster) {
    let one = &cluster.daemons[0];
    one.ok(&["kv", "put", "a", "1"]);
    one.ok(&["event", "topic", "create", "orders"]);
    one.ok(&["discovery", "register", "orders", "node-1", "10.0.0.7:8080", "--ttl", "10m"]);
    for daemon in &cluster.daemons {
        daemon.ok(&["router", "select", "orders"]);
    }
}

fn assert_recovers(cluster: &Cluster) {
    for daemon in &cluster.daemons {
        wait_for("the daemon to be ready again", || daemon.is_ready().then_some(()));
    }
    let [one, two, three] = &cluster.daemons[..] else { panic!("three were started") };
    // A cluster that has just come back may elect once more.
    let put = ["kv", "put", "a", "3"];
    wait_for("a write to be taken", || (two.run(&put).status.code() == Some(0)).then_some(()));
    // So may reads be refused for a moment, but none is answered with an older value.
    let read = wait_for("a read to be answered", || {
        let read = three.run(&["kv", "get", "a"]);
        (read.status.code() == Some(0)).then(|| text(&read.stdout))
    });
    assert_eq!(read, "3");
    wait_for("a change of a slot", || {
        let bound = one.run(&["plugin", "bind", "kv.store/tenant", "kv-storage"]);
        (bound.status.code() == Some(0)).then_some(text(&bound.stdout))
    });
    let generation = serves(one, "kv.store/tenant");
    assert!(generation >= 1);
    cluster.converges("kv.store/tenant", generation);
}

#[test]
fn one_server_that_is_away() {
    let mut servers = [NatsServer::alone()];
    let cluster = Cluster::start(&servers, 3);
    prepare(&cluster);
    servers[0].kill();
    cluster.daemons.iter().for_each(assert_decides_alone);
    servers[0].start();
    assert_recovers(&cluster);
}

#[test]
fn a_cluster_without_its_majority() {
    let mut servers = NatsServer::cluster();
    let cluster = Cluster::start(&servers, 3);
    prepare(&cluster);
    servers[0].kill();
    // One may go.
    wait_for("a write to be taken by those that are left", || {
        (cluster.daemons[1].run(&["kv", "put", "a", "2"]).status.code() == Some(0)).then_some(())
    });
    servers[1].kill();
    cluster.daemons.iter().for_each(assert_decides_alone);
    servers[0].start();
    assert_recovers(&cluster);
}
