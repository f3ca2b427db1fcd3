//! Webhooks against a real HTTP server, which reads events with the CloudEvents SDK and verifies signatures with the library of
//! Standard Webhooks. The server is taken away, and so is the daemon.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::cloudevents::python;
use crate::support::{Daemon, place, text, wait_for};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A server that receives webhooks.
struct Receiver {
    child: Child,
    port: u16,
    seen: Arc<Mutex<Vec<Value>>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Receiver {
    fn start(port: u16) -> Option<Self> {
        Self::start_with(port, &[])
    }

    fn start_with(port: u16, certificate: &[&Path]) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/events/receiver.py");
        let mut command = Command::new(python(&["cloudevents", "standardwebhooks"])?);
        command.arg(script).args([&port.to_string(), SECRET]).args(certificate);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next().unwrap().unwrap().parse().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        // It ends with the process whose output it reads; of a killed one, the last line may be a part of one.
        let reader = thread::spawn(move || {
            for seen in lines.map_while(Result::ok).map_while(|line| serde_json::from_str(&line).ok()) {
                told.lock().unwrap().push(seen);
            }
        });
        Some(Self { child, port, seen, reader: Some(reader) })
    }

    /// Takes it away; afterwards it has told every request that it answered.
    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The requests for a path.
    fn at(&self, path: &str) -> Vec<Value> {
        self.seen.lock().unwrap().iter().filter(|seen| seen["path"] == path).cloned().collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A place for a daemon with a key for secrets, that may reach this machine.
fn open_place() -> (tempfile::TempDir, PathBuf) {
    let (root, data) = place();
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("main.key"), "0a".repeat(32)).unwrap();
    allow(&data, "networks = [\"127.0.0.1/32\"]\nplain_http = true\n");
    fs::write(data.join("webhook.secret"), format!("{SECRET}\n")).unwrap();
    (root, data)
}

fn allow(data: &Path, webhooks: &str) {
    let text = format!(
        "[config.secrets]\nkey = \"main\"\nkeys = [{{ id = \"main\", file = \"main.key\" }}]\n[webhooks]\n{webhooks}"
    );
    fs::write(data.join("platform.toml"), text).unwrap();
}

/// Makes a webhook of the topic `orders`.
fn create(daemon: &Daemon, data: &Path, name: &str, url: &str, more: &[&str]) -> Value {
    let secret = data.join("webhook.secret");
    let common = ["event", "webhook", "create", "orders", name, url, "--start", "beginning", "--secret-file"];
    let quick = ["--retry-min", "50ms", "--retry-max", "200ms"];
    daemon.json(&[&common[..], &[secret.to_str().unwrap()], &quick, more].concat())
}

fn get(daemon: &Daemon, name: &str) -> Value {
    daemon.json(&["event", "webhook", "get", "orders", name])
}

/// Waits until a webhook is as it should be.
fn wait_until(daemon: &Daemon, name: &str, is: impl Fn(&Value) -> bool) -> Value {
    wait_for(&format!("the webhook {name}"), || Some(get(daemon, name)).filter(&is))
}

fn number(webhook: &Value, member: &str) -> u64 {
    webhook[member].as_str().unwrap().parse().unwrap()
}

/// The events of a dead-letter topic.
fn dead(daemon: &Daemon, topic: &str) -> Vec<Value> {
    let output = daemon.run(&["--output", "json", "event", "replay", topic]);
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn events_arrive_signed_and_as_they_were_published() {
    let Some(receiver) = Receiver::start(0) else { return };
    let (_root, data) = open_place();
    let daemon = Daemon::start(&data);
    daemon.ok(&["event", "topic", "create", "orders"]);
    daemon.ok(&[
        "event",
        "publish",
        "orders",
        "order.placed",
        "{\"order\":7}",
        "--id",
        "o7",
        "--origin",
        "/shop",
        "--meta",
        "subject=Straße 7",
    ]);
    create(&daemon, &data, "binary", &receiver.url("/ok/binary"), &[]);
    create(&daemon, &data, "structured", &receiver.url("/ok/structured"), &["--mode", "structured"]);
    for name in ["binary", "structured"] {
        let webhook = wait_until(&daemon, name, |webhook| webhook["delivered"] == "1");
        assert_eq!(
            (&webhook["lastStatus"], &webhook["state"]),
            (&json!(204), &json!("WEBHOOK_STATE_ACTIVE")),
            "{webhook}"
        );
        let seen = receiver.at(&format!("/ok/{name}")).remove(0);
        let event = &seen["event"];
        for (attribute, value) in [
            ("specversion", "1.0"),
            ("id", "o7"),
            ("source", "/shop"),
            ("type", "order.placed"),
            ("subject", "Straße 7"),
            ("sequence", "1"),
            ("rootid", "o7"),
        ] {
            assert_eq!(event[attribute], value, "{attribute}: {seen}");
        }
        assert_eq!((&seen["data"], &seen["verified"]), (&json!({"order": 7}), &json!(true)), "{seen}");
        assert!(seen["id"].as_str().unwrap().starts_with("msg_"), "{seen}");
        assert!(!webhook.to_string().contains("whsec") && !webhook.to_string().contains(&SECRET[6..]), "{webhook}");
    }
    assert_eq!(receiver.at("/ok/binary")[0]["kind"], "application/json");
    assert!(receiver.at("/ok/structured")[0]["kind"].as_str().unwrap().starts_with("application/cloudevents+json"));
    daemon.fails(1, &["event", "webhook", "create", "orders", "binary", &receiver.url("/ok"), "--unsigned"]);

    let made =
        daemon.json(&["event", "webhook", "create", "orders", "made", &receiver.url("/ok/made"), "--type", "order.p*"]);
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"), "{made}");
    create(&daemon, &data, "unsigned", &receiver.url("/ok/x"), &["--type", "none"]);
    daemon.ok(&["event", "webhook", "delete", "orders", "unsigned"]);
    daemon.ok(&["event", "webhook", "create", "orders", "unsigned", &receiver.url("/ok/unsigned"), "--unsigned"]);
    daemon.ok(&["event", "publish", "orders", "order.paid", "paid"]);
    wait_until(&daemon, "made", |webhook| webhook["delivered"] == "1");
    assert_eq!(receiver.at("/ok/made")[0]["verified"], false, "another secret signs");
    wait_for("the paused one's turn", || (receiver.at("/ok/binary").len() == 2).then_some(()));
    let listed = daemon.json(&["event", "webhook", "list", "orders"]);
    let names: Vec<&Value> = listed["webhooks"].as_array().unwrap().iter().map(|webhook| &webhook["name"]).collect();
    assert_eq!(names, ["binary", "made", "structured", "unsigned"]);
    assert!(!daemon.log().contains("whsec") && !daemon.log().contains(made["secret"].as_str().unwrap()));
}

#[test]
fn a_webhook_rests_and_goes_on_and_goes_with_its_subscription() {
    let Some(receiver) = Receiver::start(0) else { return };
    let (_root, data) = open_place();
    let daemon = Daemon::start(&data);
    daemon.ok(&["event", "topic", "create", "orders"]);
    create(&daemon, &data, "billing", &receiver.url("/ok"), &[]);
    let paused = daemon.json(&["event", "webhook", "pause", "orders", "billing"]);
    assert_eq!(paused["state"], "WEBHOOK_STATE_PAUSED");
    daemon.ok(&["event", "publish", "orders", "order.placed"]);
    daemon.stop();
    let daemon = Daemon::start(&data);
    assert_eq!(get(&daemon, "billing")["state"], "WEBHOOK_STATE_PAUSED");
    assert_eq!(receiver.at("/ok"), Vec::<Value>::new());
    daemon.ok(&["event", "webhook", "resume", "orders", "billing"]);
    wait_until(&daemon, "billing", |webhook| webhook["delivered"] == "1");
    let metrics = metrics(&daemon);
    let delivered =
        "platform_webhook_delivered_total{namespace=\"default\",topic=\"orders\",subscription=\"billing\"} 1";
    assert!(metrics.contains(delivered), "{metrics}");
    daemon.ok(&["event", "subscription", "delete", "orders", "billing"]);
    daemon.fails(1, &["event", "webhook", "get", "orders", "billing"]);
    daemon.fails(1, &["event", "webhook", "pause", "orders", "billing"]);
    daemon.fails(1, &["event", "webhook", "delete", "orders", "billing"]);
}

fn metrics(daemon: &Daemon) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(daemon.address().unwrap()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: platform\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn what_fails_is_tried_again_and_what_never_works_ends_in_the_dead_letters() {
    let Some(receiver) = Receiver::start(0) else { return };
    let (_root, data) = open_place();
    let daemon = Daemon::start(&data);
    daemon.ok(&["event", "topic", "create", "orders"]);
    daemon.ok(&["event", "publish", "orders", "order.placed", "{}", "--id", "o7"]);
    let thrice = ["--deliveries-max", "3", "--timeout", "300ms"];
    let inside = format!("/redirect/{}", receiver.port);
    let failing = [
        ("five", "/status/500", 3, "all 3 attempts failed; at last: the target answered 500"),
        ("four", "/status/404", 1, "the target answered 404"),
        ("hang", "/hang", 3, "all 3 attempts failed; at last: no answer within 300 ms"),
        (
            "moved",
            &inside,
            3,
            "all 3 attempts failed; at last: the target answered 307, and redirects are not followed",
        ),
    ];
    for (name, path, ..) in failing {
        let letters = format!("dead.{name}");
        create(&daemon, &data, name, &receiver.url(path), &[&thrice[..], &["--dead-letter", &letters]].concat());
    }
    for (name, path) in [("flaky", "/flaky"), ("busy", "/busy"), ("endless", "/endless"), ("gone", "/status/410")] {
        create(&daemon, &data, name, &receiver.url(path), &[]);
    }
    for (name, path, attempts, reason) in failing {
        let webhook = wait_until(&daemon, name, |webhook| webhook["rejected"] == "1");
        let letters =
            wait_for("the dead letter", || Some(dead(&daemon, &format!("dead.{name}"))).filter(|it| !it.is_empty()));
        let told = |fact: &str| letters[0]["metadata"][fact].as_str().unwrap().to_owned();
        assert_eq!((letters.len(), &letters[0]["id"]), (1, &json!("o7")), "{name}");
        assert_eq!((told("deadletterreason").as_str(), told("deadlettersubscription").as_str()), (reason, name));
        assert_eq!(told("deadletterattempts"), attempts.to_string(), "{name}");
        let seen = receiver.at(path);
        assert_eq!(seen.len(), attempts, "{name}");
        assert!(seen.iter().all(|one| one["id"] == seen[0]["id"]), "one id for all attempts: {seen:?}");
        assert_eq!(number(&webhook, "failed"), attempts as u64, "{webhook}");
        let subscription = daemon.json(&["event", "subscription", "get", "orders", name]);
        assert_eq!(subscription["pending"], "0", "{name}");
    }
    assert_eq!(receiver.at("/ok"), Vec::<Value>::new(), "no redirect was followed");
    let flaky = wait_until(&daemon, "flaky", |webhook| webhook["delivered"] == "1");
    assert_eq!((&flaky["failed"], &flaky["failuresInRow"], &flaky["problem"]), (&json!("2"), &json!("0"), &json!("")));
    wait_until(&daemon, "busy", |webhook| webhook["delivered"] == "1" && webhook["lastStatus"] == 202);
    wait_until(&daemon, "endless", |webhook| webhook["delivered"] == "1");

    let gone = wait_until(&daemon, "gone", |webhook| webhook["state"] == "WEBHOOK_STATE_GONE");
    assert!(gone["problem"].as_str().unwrap().contains("410"), "{gone}");
    assert_eq!(receiver.at("/status/410").len(), 1, "who is gone is left alone");
    assert_eq!(daemon.json(&["event", "subscription", "get", "orders", "gone"])["pending"], "1", "the event waits");
    daemon.ok(&["event", "webhook", "resume", "orders", "gone"]);
    wait_for("another attempt", || (receiver.at("/status/410").len() == 2).then_some(()));
}

#[test]
fn targets_inside_are_refused_until_the_operator_allows_them() {
    let Some(receiver) = Receiver::start(0) else { return };
    let (_root, data) = open_place();
    allow(&data, "");
    let daemon = Daemon::start(&data);
    daemon.ok(&["event", "topic", "create", "orders"]);
    let refused = |url: &str| daemon.fails(2, &["event", "webhook", "create", "orders", "billing", url]);
    for inside in [
        "https://127.0.0.1/",
        "https://localhost/",
        "https://[::1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://0.0.0.0/",
        "https://192.168.1.1:8443/",
    ] {
        let why = refused(inside);
        assert!(why.contains("webhooks.networks"), "{inside}: {why}");
    }
    assert!(refused("http://example.com/").contains("webhooks.plain_http"));
    for wrong in ["", "nonsense", "ftp://example.com", "https://user:password@example.com/", "https://example.com/#x"] {
        refused(wrong);
    }
    let long = format!("https://example.com/{}", "a".repeat(3000));
    assert!(refused(&long).contains("2048"));
    daemon.fails(1, &["event", "webhook", "get", "orders", "billing"]);
    daemon.fails(1, &["event", "subscription", "get", "orders", "billing"]);
    for (option, value) in [("--timeout", "10ms"), ("--timeout", "2m"), ("--concurrency", "0"), ("--retry-min", "2d")] {
        daemon
            .fails(2, &["event", "webhook", "create", "orders", "billing", "https://nowhere.invalid/", option, value]);
    }
    daemon.stop();

    // What was allowed once is judged again at each connection.
    allow(&data, "networks = [\"127.0.0.0/8\"]\nplain_http = true\n");
    let daemon = Daemon::start(&data);
    create(&daemon, &data, "named", &format!("http://localhost:{}/ok", receiver.port), &[]);
    create(&daemon, &data, "away", "https://nowhere.invalid/", &[]);
    daemon.ok(&["event", "publish", "orders", "order.placed"]);
    wait_until(&daemon, "named", |webhook| webhook["delivered"] == "1");
    let away = wait_until(&daemon, "away", |webhook| number(webhook, "failed") > 0);
    assert!(away["problem"].as_str().unwrap().contains("can't be resolved"), "{away}");
    assert!(away["nextAttemptTime"].is_string() || number(&away, "inFlight") > 0, "{away}");
    daemon.stop();
    allow(&data, "plain_http = true\n");
    let daemon = Daemon::start(&data);
    daemon.ok(&["event", "publish", "orders", "order.placed"]);
    let named = wait_until(&daemon, "named", |webhook| number(webhook, "failed") > 0);
    assert!(named["problem"].as_str().unwrap().contains("no public address"), "{named}");
    assert_eq!(receiver.at("/ok").len(), 1, "nothing was connected to");
}

#[test]
fn without_a_key_nothing_is_signed_and_that_is_said() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    daemon.ok(&["event", "topic", "create", "orders"]);
    let create = ["event", "webhook", "create", "orders", "billing", "https://nowhere.invalid/"];
    let why = daemon.fails(2, &create);
    assert!(why.contains("config.secrets.key") && why.contains("unsigned"), "{why}");
    let made = daemon.json(&[&create[..], &["--unsigned"]].concat());
    assert_eq!((&made["webhook"]["signed"], &made["secret"]), (&json!(false), &json!("")));
    daemon.ok(&["event", "topic", "delete", "orders"]);
    daemon.fails(1, &["event", "webhook", "get", "orders", "billing"]);
}

#[test]
fn certificates_are_verified() {
    let (root, data) = open_place();
    let [key, certificate, settings] = ["tls.key", "tls.crt", "tls.cnf"].map(|name| root.path().join(name));
    let text = "[req]\ndistinguished_name = dn\nx509_extensions = v3\nprompt = no\n[dn]\nCN = localhost\n\
        [v3]\nbasicConstraints = critical,CA:FALSE\nsubjectAltName = DNS:localhost\n";
    fs::write(&settings, text).unwrap();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-config"])
        .arg(&settings)
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output();
    if made.is_err() && std::env::var_os("CI").is_none() {
        return;
    }
    assert!(made.unwrap().status.success());
    let Some(receiver) = Receiver::start_with(0, &[&certificate, &key]) else { return };
    let url = |host: &str| format!("https://{host}:{}/ok", receiver.port);
    let daemon = Daemon::start(&data);
    daemon.ok(&["event", "topic", "create", "orders"]);
    daemon.ok(&["event", "publish", "orders", "order.placed"]);
    create(&daemon, &data, "stranger", &url("localhost"), &[]);
    let stranger = wait_until(&daemon, "stranger", |webhook| number(webhook, "failed") > 0);
    assert!(stranger["problem"].as_str().unwrap().contains("certificate"), "{stranger}");
    daemon.kill();

    let variables = [("SSL_CERT_FILE", certificate.as_path())];
    let daemon = Daemon::spawn_in(&data, &["--server-address", "127.0.0.1:0"], &variables).ready();
    wait_until(&daemon, "stranger", |webhook| webhook["delivered"] == "1");
    create(&daemon, &data, "misnamed", &url("127.0.0.1"), &[]);
    let misnamed = wait_until(&daemon, "misnamed", |webhook| number(webhook, "failed") > 0);
    assert!(misnamed["problem"].as_str().unwrap().contains("certificate"), "{misnamed}");
}

#[test]
fn every_event_arrives_though_the_target_and_the_daemon_are_taken_away() {
    let Some(mut receiver) = Receiver::start(0) else { return };
    let port = receiver.port;
    let (root, data) = open_place();
    let mut daemon = Daemon::start(&data);
    daemon.ok(&["event", "topic", "create", "orders"]);
    create(&daemon, &data, "billing", &receiver.url("/ok"), &["--deliveries-max", "0"]);
    let mut arrived = BTreeSet::new();
    let collect = |receiver: &Receiver, arrived: &mut BTreeSet<String>| {
        let seen = receiver.at("/ok");
        assert!(seen.iter().all(|one| one["verified"] == true));
        arrived.extend(seen.iter().map(|one| one["event"]["id"].as_str().unwrap().to_owned()));
    };
    let publish = |daemon: &Daemon, round: u32| {
        let file = root.path().join("events.jsonl");
        let line = |number| format!("{{\"type\": \"t\", \"id\": \"{round}-{number}\", \"json\": {number}}}\n");
        fs::write(&file, (0..100).map(line).collect::<String>()).unwrap();
        daemon.ok(&["event", "publish", "orders", "--batch", file.to_str().unwrap()]);
    };

    publish(&daemon, 0);
    wait_for("the first deliveries", || (receiver.at("/ok").len() > 10).then_some(()));
    daemon.kill();
    daemon = Daemon::start(&data);
    publish(&daemon, 1);
    wait_for("more deliveries", || (receiver.at("/ok").len() > 110).then_some(()));
    receiver.stop();
    collect(&receiver, &mut arrived);
    publish(&daemon, 2);
    let failing = wait_until(&daemon, "billing", |webhook| number(webhook, "failuresInRow") > 3);
    assert!(failing["problem"].as_str().unwrap().contains("connection"), "{failing}");
    daemon.kill();
    daemon = Daemon::start(&data);
    wait_until(&daemon, "billing", |webhook| number(webhook, "failuresInRow") > 0);
    let receiver = Receiver::start(port).unwrap();
    wait_for("the last deliveries", || {
        collect(&receiver, &mut arrived);
        (arrived.len() == 300).then_some(())
    });
    wait_for("the acknowledgements", || {
        let found = daemon.json(&["event", "subscription", "get", "orders", "billing"]);
        (found["pending"] == "0").then_some(())
    });
    assert!(dead(&daemon, "orders.dead-letter").is_empty());
}

#[test]
fn one_target_that_hangs_holds_up_no_other() {
    let Some(receiver) = Receiver::start(0) else { return };
    let (_root, data) = open_place();
    let daemon = Daemon::start(&data);
    daemon.ok(&["event", "topic", "create", "orders"]);
    create(&daemon, &data, "stuck", &receiver.url("/hang"), &["--timeout", "1m"]);
    create(&daemon, &data, "billing", &receiver.url("/ok"), &[]);
    for _ in 0..20 {
        daemon.ok(&["event", "publish", "orders", "order.placed"]);
    }
    wait_until(&daemon, "billing", |webhook| webhook["delivered"] == "20");
    let stuck = get(&daemon, "stuck");
    assert_eq!((&stuck["inFlight"], &stuck["delivered"]), (&json!("8"), &json!("0")), "{stuck}");
    let begun = platform_base::clock::now();
    daemon.stop();
    assert!(begun.elapsed() < Duration::from_secs(20), "attempts that hang do not keep the daemon");
}
