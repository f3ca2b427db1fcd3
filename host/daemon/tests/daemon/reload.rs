//! The configuration file while the daemon runs.

use std::fs;

use crate::support::{Daemon, place, text, wait_for};

/// A file that binds this plugin to a slot of its own.
fn binding(plugin: &str) -> String {
    format!("[[plugin]]\nname = \"{plugin}\"\n\n[[binding]]\nslot = \"kv.store/tenant\"\nplugins = [\"{plugin}\"]\n")
}

#[test]
fn a_declared_binding_is_there_from_the_start() {
    let (_root, data) = place();
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("platform.toml"), binding("kv-memory")).unwrap();
    let daemon = Daemon::start(&data);
    assert_eq!(daemon.bound("kv.store/tenant"), ["kv-memory"]);
    assert_eq!(daemon.bound("kv.store"), ["kv-storage"], "defaults fill what the file leaves open");
    let history = daemon.json(&["plugin", "history", "kv.store/tenant"]);
    assert_eq!(history["bindings"][0]["boundBy"], "config");
    daemon.stop();
}

#[test]
fn a_hangup_applies_the_difference() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    let before = daemon.json(&["plugin", "slots", "kv.store"])["binding"]["generation"].clone();
    daemon.fails(1, &["plugin", "slots", "kv.store/tenant"]);
    fs::write(data.join("platform.toml"), binding("kv-memory")).unwrap();
    daemon.signal("HUP");
    wait_for("the declared slot to be bound", || {
        (daemon.run(&["plugin", "slots", "kv.store/tenant"]).status.code() == Some(0)).then_some(())
    });
    daemon.ok(&["--namespace", "tenant", "kv", "put", "a", "1"]);

    fs::write(data.join("platform.toml"), binding("kv-storage")).unwrap();
    daemon.signal("HUP");
    wait_for("the slot to be bound anew", || (daemon.bound("kv.store/tenant") == ["kv-storage"]).then_some(()));
    assert_eq!(daemon.json(&["plugin", "slots", "kv.store"])["binding"]["generation"], before, "the rest is as it was");
    daemon.stop();
}

#[test]
fn a_changed_file_needs_no_signal() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    fs::write(data.join("platform.toml"), binding("kv-memory")).unwrap();
    wait_for("the change to be seen", || {
        (daemon.run(&["plugin", "slots", "kv.store/tenant"]).status.code() == Some(0)).then_some(())
    });
    fs::remove_file(data.join("platform.toml")).unwrap();
    wait_for("the slot to be emptied", || {
        (daemon.run(&["plugin", "slots", "kv.store/tenant"]).status.code() == Some(1)).then_some(())
    });
    daemon.stop();
}

#[test]
fn a_file_that_is_wrong_changes_nothing() {
    let (_root, data) = place();
    fs::create_dir_all(&data).unwrap();
    let file = data.join("platform.toml");
    fs::write(&file, binding("kv-memory")).unwrap();
    let daemon = Daemon::start(&data);
    fs::write(&file, "[server]\nadress = 1\n").unwrap();
    daemon.signal("HUP");
    wait_for("the mistake to be logged", || daemon.log().contains("did you mean `address`?").then_some(()));
    assert_eq!(daemon.bound("kv.store/tenant"), ["kv-memory"]);

    fs::write(&file, format!("{}\n[shutdown]\ndrain_ms_max = 1000\n", binding("kv-memory"))).unwrap();
    daemon.signal("HUP");
    wait_for("the pending section to be named", || {
        daemon.log().contains("take effect at the next start").then_some(())
    });
    let shown = text(&daemon.run(&["config", "show"]).stdout);
    assert!(shown.contains("drain_ms_max = 30000"), "{shown}");
    assert!(daemon.is_ready());
    daemon.stop();
}
