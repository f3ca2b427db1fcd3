//! `platform sync` against a daemon, also one that is killed.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::support::{Daemon, place, platform, text, wait_for};

/// A command that holds a place until it is told to stop.
struct Holder {
    child: Child,
    grant: Value,
}

impl Holder {
    fn start(data: &Path, arguments: &[&str]) -> Self {
        let mut waiter = Waiter::start(data, arguments);
        let grant = waiter.granted();
        Self { child: waiter.0.take().unwrap(), grant }
    }

    fn token(&self) -> u64 {
        token(&self.grant["place"])
    }

    fn signal(mut self, name: &str) -> Option<i32> {
        signal(&self.child, name);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that may still wait for its place.
struct Waiter(Option<Child>);

impl Waiter {
    fn start(data: &Path, arguments: &[&str]) -> Self {
        let mut command = platform();
        command.arg("--data-dir").arg(data).args(["--output", "json", "sync"]).args(arguments);
        Self(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }

    /// Waits for the grant.
    fn granted(&mut self) -> Value {
        let child = self.0.as_mut().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().unwrap().success());
}

fn token(place: &Value) -> u64 {
    place["token"].as_str().unwrap().parse().unwrap()
}

fn waiting(daemon: &Daemon, name: &str) -> Option<u64> {
    let got = daemon.run(&["--output", "json", "sync", "get", name]);
    serde_json::from_slice::<Value>(&got.stdout).ok()?["waiting"].as_u64()
}

#[test]
fn locks_are_held_shown_and_given_up() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    daemon.fails(1, &["sync", "get", "orders"]);
    let first = Holder::start(&data, &["lock", "orders", "--value", "me"]);
    assert!(daemon.fails(1, &["sync", "lock", "orders", "--wait", "0s"]).contains("held by `admin`"));
    assert!(daemon.fails(1, &["sync", "lock", "orders", "--wait", "200ms"]).contains("in time"));
    let lock = daemon.json(&["sync", "get", "orders"]);
    assert_eq!((token(&lock["held"][0]), &lock["held"][0]["value"]), (first.token(), &Value::from("me")));
    assert!(daemon.ok(&["sync", "list"]).contains("orders"));
    let mut second = Waiter::start(&data, &["lock", "orders"]);
    wait_for("the second to wait", || (waiting(&daemon, "orders") == Some(1)).then_some(()));
    let said = first.token().to_string();
    daemon.ok(&["sync", "proclaim", "orders", &said, "still me"]);
    assert_eq!(daemon.json(&["sync", "get", "orders"])["held"][0]["value"], "still me");
    let before = first.token();
    assert_eq!(first.signal("TERM"), Some(0));
    let grant = second.granted();
    assert!(token(&grant["place"]) > before);
    // Taken away by an administrator, the holder hears of it and says so.
    let now = token(&grant["place"]).to_string();
    daemon.ok(&["sync", "release", "orders", &now]);
    let lost = second.0.take().unwrap().wait_with_output().unwrap();
    assert_eq!(lost.status.code(), Some(1));
    assert!(text(&lost.stderr).contains("LEASE_LOST"), "{}", text(&lost.stderr));
    daemon.fails(1, &["sync", "release", "orders", &now]);
    daemon.fails(2, &["sync", "lock", "a\nb"]);
    daemon.fails(2, &["sync", "lock", "a", "--ttl", "1ms"]);
    daemon.stop();
}

#[test]
fn a_command_runs_under_its_lock_and_is_stopped_without_it() {
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    let said = daemon.ok(&["sync", "lock", "a/b", "--", "sh", "-c", "echo $PLATFORM_FENCING $PLATFORM_SYNC_NAME"]);
    assert!(said.starts_with("a%2Fb:") && said.trim_end().ends_with(" a/b"), "{said}");
    daemon.fails(1, &["sync", "get", "a/b"]);
    let failed = daemon.run(&["sync", "semaphore", "s", "--limit", "2", "--", "sh", "-c", "exit 42"]);
    assert_eq!(failed.status.code(), Some(42), "it ends as the command does");
    daemon.fails(2, &["sync", "lock", "l", "--", "/no/such/program"]);
    daemon.fails(1, &["sync", "get", "l"]);

    let begun = root.path().join("begun");
    let script = format!("trap 'echo stopped; exit 0' TERM; touch {}; while :; do sleep 0.1; done", begun.display());
    let mut command = platform();
    command.arg("--data-dir").arg(&data).args(["sync", "elect", "leader", "--ttl", "1s", "--", "sh", "-c", &script]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the command to run", || begun.is_file().then_some(()));
    let leader = daemon.json(&["sync", "get", "leader"]);
    // Without its daemon nobody can say that the lease lasts.
    daemon.kill();
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), text(&ended.stdout).as_str()), (Some(1), "stopped\n"), "{}", text(&ended.stderr));
    assert!(text(&ended.stderr).contains("is lost"), "{}", text(&ended.stderr));

    let daemon = Daemon::start(&data);
    let next = Holder::start(&data, &["elect", "leader"]);
    assert!(next.token() > token(&leader["held"][0]));
    drop(next);
    daemon.stop();
}

#[test]
fn a_killed_daemon_finds_its_locks_and_no_two_hold_one() {
    let (_root, data) = place();
    let mut last = 0;
    let mut daemon = Daemon::start(&data);
    for round in 0..4 {
        let holder = Holder::start(&data, &["lock", "l", "--ttl", "60s"]);
        assert!(holder.token() > last, "round {round}");
        last = holder.token();
        let mut waiters: Vec<Waiter> =
            (0..3).map(|_| Waiter::start(&data, &["lock", "l", "--ttl", "1s", "--wait", "60s"])).collect();
        wait_for("three to wait", || (waiting(&daemon, "l") == Some(3)).then_some(()));
        daemon.kill();
        daemon = Daemon::start(&data);
        let lock = daemon.json(&["sync", "get", "l"]);
        assert_eq!(token(&lock["held"][0]), last, "the lease was granted for longer than the daemon was away");
        daemon.fails(1, &["sync", "lock", "l", "--wait", "0s"]);
        assert_eq!(holder.signal("TERM"), Some(0), "it held on");
        // They came back in any order; each is served once the one before it has gone.
        let mut tokens: Vec<u64> = std::thread::scope(|scope| {
            let served = waiters.iter_mut().map(|waiter| {
                scope.spawn(|| {
                    let grant = waiter.granted();
                    signal(waiter.0.as_ref().unwrap(), "TERM");
                    token(&grant["place"])
                })
            });
            let served: Vec<_> = served.collect();
            served.into_iter().map(|served| served.join().unwrap()).collect()
        });
        tokens.sort_unstable();
        tokens.dedup();
        assert!(tokens.len() == 3 && tokens[0] > last, "{tokens:?} after {last}");
        last = tokens[2];
        drop(waiters);
    }
    daemon.stop();
}

#[test]
fn leases_and_watches() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    let lease = daemon.json(&["sync", "lease", "grant", "--ttl", "60s"])["id"].as_str().unwrap().to_owned();
    for name in ["x", "y"] {
        daemon.ok(&["sync", "lock", name, "--lease", &lease]);
    }
    daemon.ok(&["sync", "lease", "keep-alive", &lease]);
    let mut watch = crate::commands::Watch::start(&data, &["sync", "watch", "y", "--after", "0"]);
    assert_eq!(watch.change()["changed"]["held"][0]["lease"], lease);
    daemon.ok(&["sync", "lease", "revoke", &lease]);
    assert_eq!(watch.change()["changed"]["held"], serde_json::json!([]));
    daemon.ok(&["sync", "lease", "revoke", &lease]);
    daemon.fails(1, &["sync", "lease", "keep-alive", &lease]);
    daemon.fails(1, &["sync", "lock", "x", "--lease", &lease]);
    daemon.stop();
}

#[test]
fn what_is_written_under_a_lock_is_fenced() {
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    let file = root.path().join("writes");
    std::fs::write(&file, "{\"key\": \"b\", \"text\": \"1\"}\n").unwrap();
    let commit = ["kv", "commit", "--file", file.to_str().unwrap()];
    let fenced = |arguments: &[&'static str], fence: &'static str| -> Vec<String> {
        [arguments, &["--fencing", fence]].concat().into_iter().map(ToOwned::to_owned).collect()
    };
    let run = |arguments: Vec<String>| daemon.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(run(fenced(&["kv", "put", "a", "1"], "my%20orders:7")).status.success());
    for stale in [&["kv", "put", "a", "0"][..], &["kv", "delete", "a"], &["kv", "increment", "n"]] {
        let refused = run(fenced(stale, "my%20orders:6"));
        assert_eq!(refused.status.code(), Some(1), "{stale:?}");
        assert!(text(&refused.stderr).contains("token 7"), "{}", text(&refused.stderr));
    }
    daemon.fails(1, &[&commit[..], &["--fencing", "my orders:6"]].concat());
    daemon.ok(&[&commit[..], &["--fencing", "my orders:8"]].concat());
    daemon.fails(1, &["kv", "put", "a", "0", "--fencing", "my orders:7"]);
    assert_eq!(daemon.ok(&["kv", "get", "a"]), "1");
    daemon.ok(&["config", "set", "shop", "/a", "1", "--fencing", "my orders:7"]);
    assert!(daemon.fails(1, &["config", "set", "shop", "/a", "0", "--fencing", "my orders:6"]).contains("token 7"));
    let record = ["db", "put", "shop", "orders", "o-1", "--set", "a=1", "--fencing"];
    daemon.ok(&[&record[..], &["my orders:7"]].concat());
    assert!(daemon.fails(1, &[&record[..], &["my orders:6"]].concat()).contains("token 7"));
    for bad in ["", ":", "a", "a:0", "a:x"] {
        let put = ["kv", "put", "c", "1", "--fencing", bad];
        if bad.is_empty() { drop(daemon.ok(&put)) } else { drop(daemon.fails(2, &put)) }
    }
    // Whoever runs under the lock says nothing of it, and is fenced.
    let script = format!("{} --data-dir {} kv put d $0", env!("CARGO_BIN_EXE_platform"), data.display());
    for value in ["1", "2"] {
        daemon.ok(&["sync", "lock", "jobs", "--", "sh", "-c", &script, value]);
    }
    assert_eq!(daemon.ok(&["kv", "get", "d"]), "2");
    daemon.fails(1, &["kv", "put", "d", "0", "--fencing", "jobs:1"]);
    daemon.stop();
}
