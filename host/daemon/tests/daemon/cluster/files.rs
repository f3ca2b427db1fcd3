//! Configuration files of several daemons.

use std::fs;

use platform_testkit::NatsServer;

use super::{Cluster, generation};
use crate::support::{Daemon, wait_for};

/// A file that binds this plugin to a slot of its own.
fn binding(plugin: &str) -> String {
    format!("[[plugin]]\nname = \"{plugin}\"\n\n[[binding]]\nslot = \"kv.store/tenant\"\nplugins = [\"{plugin}\"]\n")
}

fn slot(daemon: &Daemon) -> (u64, Vec<String>) {
    let slot = daemon.json(&["plugin", "slots", "kv.store/tenant"]);
    (generation(&slot), daemon.bound("kv.store/tenant"))
}

#[test]
fn the_file_that_changed_last_wins() {
    let servers = [NatsServer::alone()];
    let mut cluster = Cluster::start(&servers, 2);
    let write = |cluster: &Cluster, index: usize, plugin: &str| {
        fs::write(cluster.data(index).join("platform.toml"), binding(plugin)).unwrap();
    };
    write(&cluster, 0, "kv-memory");
    cluster.converges("kv.store/tenant", 1);
    // The same file on the other daemon is nothing new, and what is changed by hand since stays.
    cluster.daemons[1].ok(&["plugin", "bind", "kv.store/tenant", "kv-storage"]);
    write(&cluster, 1, "kv-memory");
    let noticed = |daemon: &Daemon| daemon.log().matches("applied the configuration").count();
    wait_for("the file to be read", || (noticed(&cluster.daemons[1]) >= 2).then_some(()));
    assert_eq!(slot(&cluster.daemons[0]), (2, vec!["kv-storage".to_owned()]));
    // A daemon that comes with that file later changes nothing either.
    fs::create_dir_all(cluster.data(2)).unwrap();
    write(&cluster, 2, "kv-memory");
    cluster.add();
    assert_eq!(slot(&cluster.daemons[2]), (2, vec!["kv-storage".to_owned()]));
    // A change of one file is a change for all.
    cluster.daemons[0].ok(&["plugin", "bind", "kv.store/tenant", "kv-memory"]);
    write(&cluster, 2, "kv-storage");
    cluster.converges("kv.store/tenant", 4);
    assert_eq!(slot(&cluster.daemons[1]).1, ["kv-storage"]);
    // An entry that goes from one file is still in the others.
    fs::remove_file(cluster.data(2).join("platform.toml")).unwrap();
    wait_for("the file to be read", || (noticed(&cluster.daemons[2]) >= 3).then_some(()));
    assert_eq!(slot(&cluster.daemons[1]).0, 4);
    for index in [0, 1] {
        fs::remove_file(cluster.data(index).join("platform.toml")).unwrap();
    }
    cluster.converges("kv.store/tenant", 0);
}
