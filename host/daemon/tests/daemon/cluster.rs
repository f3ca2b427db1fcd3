//! Several daemons on one NATS are one platform: what is changed on one holds on all, and each says how far it is.

mod away;
mod files;

use std::{fs, path::PathBuf};

use platform_testkit::NatsServer;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Daemon, http_body, plugins, text, wait_for};

/// Daemons on servers, and the folder that their data lie in.
pub(crate) struct Cluster {
    root: TempDir,
    storage: String,
    pub(crate) daemons: Vec<Daemon>,
}

impl Cluster {
    /// Starts daemons at the same time and waits until all are ready.
    pub(crate) fn start(servers: &[NatsServer], count: usize) -> Self {
        let urls: Vec<String> = servers.iter().map(NatsServer::url).collect();
        let root = tempfile::tempdir().unwrap();
        let mut cluster = Self { root, storage: urls.join(","), daemons: Vec::new() };
        let started: Vec<Daemon> = (0..count).map(|index| cluster.spawn(index)).collect();
        cluster.daemons.extend(started.into_iter().map(Daemon::ready));
        cluster
    }

    /// The data of a daemon.
    pub(crate) fn data(&self, index: usize) -> PathBuf {
        self.root.path().join(format!("d{index}"))
    }

    /// Starts a daemon and does not wait.
    pub(crate) fn spawn(&self, index: usize) -> Daemon {
        let arguments = ["--server-address", "127.0.0.1:0", "--storage", &self.storage];
        Daemon::spawn(&self.data(index), &arguments)
    }

    /// Starts one more daemon and waits until it is ready.
    pub(crate) fn add(&mut self) {
        self.daemons.push(self.spawn(self.daemons.len()).ready());
    }

    /// Waits until a slot is at this generation on all daemons; 0 for an empty one.
    pub(crate) fn converges(&self, slot: &str, generation: u64) {
        for daemon in &self.daemons {
            wait_for("a daemon to follow", || (serves(daemon, slot) == generation).then_some(()));
        }
    }
}

/// The generation that a slot should be at, as a daemon sees it, once that serves there; 0 when nothing is bound.
fn serves(daemon: &Daemon, slot: &str) -> u64 {
    let answer = daemon.run(&["--output", "json", "plugin", "slots", slot]);
    let Ok(slot) = serde_json::from_slice::<Value>(&answer.stdout) else { return 0 };
    if slot["ready"] == true { generation(&slot) } else { u64::MAX }
}

pub(crate) fn generation(slot: &Value) -> u64 {
    slot["binding"]["generation"].as_str().unwrap().parse().unwrap()
}

/// Generations that daemons say they serve, and whether these are the right ones.
fn daemons(slot: &Value) -> Vec<(u64, bool)> {
    let daemons = slot["daemons"].as_array().cloned().unwrap_or_default();
    let number = |daemon: &Value| daemon["generation"].as_str().map_or(0, |number| number.parse().unwrap());
    daemons.iter().map(|daemon| (number(daemon), daemon["current"] == true)).collect()
}

#[test]
fn what_one_daemon_is_told_holds_on_all() {
    let servers = [NatsServer::alone()];
    let mut cluster = Cluster::start(&servers, 3);
    let [one, two, three] = &cluster.daemons[..] else { panic!("three were started") };
    for slot in ["kv.store", "auth.policy", "event.broker"] {
        let found: Vec<u64> = cluster.daemons.iter().map(|daemon| serves(daemon, slot)).collect();
        assert_eq!(found, [1, 1, 1], "`{slot}` was bound once, though all started at the same time");
    }
    one.ok(&["kv", "put", "greeting", "hello"]);
    assert_eq!(three.ok(&["kv", "get", "greeting"]), "hello");

    // Bytes that only the first daemon was given.
    let file = plugins().join("kv-memory.wasm");
    one.ok(&["plugin", "install", file.to_str().unwrap(), "--name", "scratch", "--version", "7.0.0"]);
    let bound = two.json(&["plugin", "bind", "kv.store/tenant", "scratch"]);
    assert_eq!(daemons(&bound), [(1, true); 3], "all served it before the command ended: {bound}");
    cluster.converges("kv.store/tenant", 1);
    three.ok(&["--namespace", "tenant", "kv", "put", "a", "1"]);
    let listed = three.ok(&["plugin", "list"]);
    let row = listed.lines().find(|line| line.starts_with("scratch")).unwrap();
    assert!(row.ends_with("3 of 3"), "{listed}");

    let settings = r#"{"default": "deny", "rules": [{"name": "all", "effect": "allow", "reason": "it is open"}]}"#;
    let bound = three.json(&["plugin", "bind", "auth.policy", "auth-scopes", "--settings", settings]);
    assert_eq!(daemons(&bound), [(2, true); 3]);
    one.ok(&["auth", "check", "GET", "/x", "--anonymous"]);
    let back = one.json(&["plugin", "rollback", "auth.policy"]);
    assert_eq!(daemons(&back), [(3, true); 3]);
    two.fails(1, &["auth", "check", "GET", "/x", "--anonymous"]);

    let granted = two.json(&["plugin", "grant", "kv-storage", "discovery"]);
    assert_eq!(daemons(&granted), [(2, true); 3], "all served `kv.store` with it before the command ended: {granted}");

    cluster.add();
    let late = cluster.daemons.last().unwrap();
    late.ok(&["--namespace", "tenant", "kv", "put", "a", "2"]);
    assert!(late.ok(&["plugin", "inspect", "scratch"]).contains(&late.address().unwrap()));
    cluster.daemons.pop().unwrap().stop();
    let [one, two, three] = &cluster.daemons[..] else { panic!("three are left") };
    let listed = daemons(&one.json(&["plugin", "slots", "kv.store/tenant"]));
    assert_eq!(listed.len(), 3, "who left in order is not waited for");

    let emptied = three.json(&["plugin", "unbind", "kv.store/tenant"]);
    assert_eq!(daemons(&emptied), [(0, true); 3], "none serves it any more: {emptied}");
    one.ok(&["plugin", "bind", "kv.store/tenant", "kv-storage"]);
    one.ok(&["plugin", "bind", "kv.store/tenant", "kv-storage", "--comment", "so that no rollback needs the other"]);
    two.ok(&["plugin", "uninstall", "scratch"]);
    let stored = |index: usize| fs::read_dir(cluster.data(index).join("plugins")).unwrap().count();
    let installed = one.json(&["plugin", "list"])["plugins"].as_array().unwrap().len();
    wait_for("the file to be removed everywhere", || (0..3).all(|index| stored(index) <= installed).then_some(()));
}

#[test]
fn a_daemon_that_can_not_serve_keeps_what_it_has_and_says_so() {
    let servers = [NatsServer::alone()];
    let cluster = Cluster::start(&servers, 3);
    let [one, two, _] = &cluster.daemons[..] else { panic!("three were started") };
    one.ok(&["plugin", "bind", "kv.store/tenant", "kv-storage"]);
    // Nothing can be written to the second daemon's folder of components from now on.
    let folder = cluster.data(1).join("plugins");
    let aside = cluster.data(1).join("aside");
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, "in the way").unwrap();
    let file = plugins().join("kv-memory.wasm");
    one.ok(&["plugin", "install", file.to_str().unwrap(), "--name", "scratch", "--version", "7.0.0"]);
    let complaint = one.fails(1, &["plugin", "bind", "kv.store/tenant", "scratch"]);
    assert!(complaint.contains(&two.address().unwrap()), "{complaint}");
    assert!(complaint.contains("serves generation 1") && complaint.contains("can't be written"), "{complaint}");
    let seen = daemons(&one.json(&["plugin", "slots", "kv.store/tenant"]));
    assert_eq!(seen.iter().filter(|daemon| **daemon == (2, true)).count(), 2, "{seen:?}");
    assert!(seen.contains(&(1, false)), "{seen:?}");
    let (status, body) = http_body(&two.address().unwrap(), "/readyz").unwrap();
    assert!(status == 503 && body.contains("kv.store/tenant: generation 2"), "{status} {body}");
    assert!(body.contains("generation 1 serves on"), "{body}");
    two.ok(&["--namespace", "tenant", "kv", "put", "a", "1"]);
    assert!(text(two.run(&["plugin", "slots", "kv.store/tenant"]).stdout.as_slice()).contains("can't be written"));

    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    cluster.converges("kv.store/tenant", 2);
    wait_for("the daemon to be ready again", || two.is_ready().then_some(()));
    let waited = one.json(&["plugin", "bind", "kv.store/tenant", "scratch"]);
    assert_eq!(daemons(&waited), [(3, true); 3]);
}
