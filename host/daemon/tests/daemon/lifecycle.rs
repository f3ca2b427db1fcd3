//! First start, restart, kill, drain.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::support::{Daemon, place, text, wait_for};

#[test]
fn the_first_start_binds_the_defaults() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    for (slot, plugin) in [
        ("kv.store", "kv-storage"),
        ("discovery.registry", "discovery-storage"),
        ("config.store", "config-storage"),
        ("sync.lock", "sync-storage"),
        ("db.store", "db-storage"),
        ("event.broker", "event-storage"),
        ("auth.policy", "auth-scopes"),
        ("router.policy", "router-round-robin"),
    ] {
        assert_eq!(daemon.bound(slot), [plugin], "{slot}");
    }
    let token = fs::read_to_string(data.join("admin.token")).unwrap();
    assert_eq!(token.trim().len(), 64);
    assert_eq!(fs::metadata(data.join("admin.token")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!daemon.log().contains(token.trim()), "the token is in the log");
    assert!(daemon.log().contains(&daemon.address().unwrap()), "the log tells the address");
    daemon.stop();
    assert!(!data.join("address").exists(), "nobody listens there any more");
}

#[test]
fn a_restart_keeps_state_and_bindings() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    let token = fs::read_to_string(data.join("admin.token")).unwrap();
    daemon.ok(&["kv", "put", "greeting", "hello"]);
    daemon.ok(&["plugin", "install", crate::support::plugins().join("kv-memory.wasm").to_str().unwrap()]);
    daemon.ok(&["plugin", "bind", "kv.store/scratch", "kv-memory"]);
    daemon.ok(&["plugin", "unbind", "router.policy"]);
    daemon.stop();

    let daemon = Daemon::start(&data);
    assert_eq!(daemon.ok(&["kv", "get", "greeting"]), "hello");
    assert_eq!(daemon.bound("kv.store/scratch"), ["kv-memory"]);
    assert_eq!(daemon.bound("kv.store"), ["kv-storage"]);
    daemon.fails(1, &["plugin", "slots", "router.policy"]);
    assert_eq!(fs::read_to_string(data.join("admin.token")).unwrap(), token);
    daemon.stop();
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let (_root, data) = place();
    let mut daemon = Daemon::start(&data);
    for round in 0..3 {
        let key = format!("round-{round}");
        daemon.ok(&["kv", "put", &key, &key]);
        let generation = daemon.json(&["plugin", "slots", "kv.store"])["binding"]["generation"].clone();
        daemon.kill();
        daemon = Daemon::start(&data);
        for earlier in 0..=round {
            let key = format!("round-{earlier}");
            assert_eq!(daemon.ok(&["kv", "get", &key]), key);
        }
        assert_eq!(daemon.json(&["plugin", "slots", "kv.store"])["binding"]["generation"], generation);
    }
    daemon.stop();
}

#[test]
fn a_kill_in_the_middle_of_an_installation_leaves_nothing_half_there() {
    let (_root, data) = place();
    let mut daemon = Daemon::start(&data);
    let file = crate::support::plugins().join("router-ring-hash.wasm");
    let install = ["plugin", "install", file.to_str().unwrap(), "--name", "ring", "--version"];
    let versions = |daemon: &Daemon| -> Vec<String> {
        let listed = daemon.json(&["plugin", "list"]);
        let listed = listed["plugins"].as_array().unwrap().iter().filter(|plugin| plugin["name"] == "ring");
        listed.map(|plugin| plugin["version"].as_str().unwrap().to_owned()).collect()
    };
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        // One that goes on, and is cut off by the end of the daemon.
        let (place, file, begun) = (data.clone(), file.clone(), acknowledged.len());
        let installer = std::thread::spawn(move || {
            let mut done = Vec::new();
            for n in 0.. {
                let version = format!("1.{round}.{n}");
                let mut command = crate::support::platform();
                let command = command.arg("--data-dir").arg(&place).args(["plugin", "install"]).arg(&file);
                let command = command.args(["--name", "ring", "--version", &version]);
                if !command.output().unwrap().status.success() {
                    break;
                }
                done.push(version);
            }
            done
        });
        wait_for("an installation", || (versions(&daemon).len() > begun).then_some(()));
        daemon.kill();
        acknowledged.extend(installer.join().unwrap());
        daemon = Daemon::start(&data);
        let there = versions(&daemon);
        assert!(acknowledged.iter().all(|version| there.contains(version)), "{acknowledged:?} {there:?}");
        assert!(there.len() <= acknowledged.len() + round + 1, "{acknowledged:?} {there:?}");
        for version in &there {
            daemon.ok(&["plugin", "bind", "router.policy/tried", &format!("ring@{version}")]);
        }
        // What was not acknowledged can be installed, or is there.
        daemon.ok(&[&install[..], &[&format!("1.{round}.999")]].concat());
        acknowledged = versions(&daemon);
    }
    daemon.stop();
}

#[test]
fn a_second_signal_ends_at_once() {
    let (_root, data) = place();
    let mut daemon = Daemon::start(&data);
    let mut watch = crate::support::platform();
    watch.arg("--data-dir").arg(&data).args(["kv", "watch", "--progress"]).stdout(std::process::Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    daemon.signal("INT");
    daemon.signal("INT");
    let status = daemon.wait();
    // The watch may have ended, and the daemon with it, before the second signal came.
    assert!([Some(0), Some(130)].contains(&status.code()), "{status}\n{}", daemon.log());
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn log_lines_are_json_on_request() {
    let (_root, data) = place();
    let daemon =
        Daemon::start_with(&data, &["--server-address", "127.0.0.1:0", "--log-format", "json", "--log", "info"]);
    let log = daemon.log();
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    assert!(!log.is_empty());
    daemon.stop();
}

#[test]
fn the_version_is_told_without_a_daemon() {
    let output = crate::support::platform().arg("--version").output().unwrap();
    assert_eq!(text(&output.stdout), concat!("platform ", env!("CARGO_PKG_VERSION"), "\n"));
}
