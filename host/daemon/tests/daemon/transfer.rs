//! Exports and imports, from one daemon to another, with what breaks off and what is wrong.

use std::{fs, io::Write as _, path::Path, process::Stdio};

use serde_json::{Value, json};

use crate::support::{Daemon, place, platform, text};

/// Lines of an export between its first and its last.
fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.remove(0)["version"], 1);
    assert_eq!(lines.pop().unwrap()["end"], true);
    lines
}

fn fill(daemon: &Daemon, keys: usize) {
    for start in (0..keys).step_by(500) {
        let line = |number: usize| json!({"key": format!("k/{number:05}"), "text": number.to_string()}).to_string();
        let writes: Vec<String> = (start..(start + 500).min(keys)).map(line).collect();
        daemon.given(&["kv", "commit"], writes.join("\n").as_bytes());
    }
}

#[test]
fn keys_go_from_one_daemon_to_another() {
    let (root, data) = place();
    let (one, other) = (Daemon::start(&data), Daemon::start(&root.path().join("other")));
    let file = root.path().join("kv.jsonl");
    let path = file.to_str().unwrap();
    let bytes = root.path().join("bytes");
    fs::write(&bytes, [0xff, 0, 0xfe]).unwrap();
    fill(&one, 1200);
    one.ok(&["kv", "put", "bytes", "--file", bytes.to_str().unwrap()]);
    one.ok(&["kv", "put", "odd/../é *>", ""]);
    one.ok(&["kv", "put", "ends", "x", "--ttl", "1h"]);
    one.ok(&["kv", "export", "--file", path]);
    let all = lines(&file);
    assert_eq!(all.len(), 1203);
    let of = |key: &str| all.iter().find(|line| line["key"] == key).unwrap();
    assert_eq!(of("bytes")["value"], "/wD+");
    assert_eq!(of("odd/../é *>")["text"], "");
    assert!(of("ends")["expiresMs"].as_u64().is_some());
    assert!(one.fails(2, &["kv", "export", "--file", path]).contains("is there already"));

    for _ in 0..2 {
        other.ok(&["kv", "import", "--file", path]);
        assert_eq!(other.json(&["kv", "usage"])["keys"], one.json(&["kv", "usage"])["keys"]);
    }
    // The end is what it was, but for the time that a request takes.
    let printed = text(&other.run(&["kv", "export", "ends"]).stdout);
    let again: Value = serde_json::from_str(printed.lines().nth(1).unwrap()).unwrap();
    let ends = |line: &Value| line["expiresMs"].as_u64().unwrap();
    assert!(ends(&again).abs_diff(ends(of("ends"))) < 60_000, "{again}");
    assert_eq!(other.run(&["kv", "get", "bytes", "--raw"]).stdout, [0xff, 0, 0xfe]);
    // Through pipes, and only some of them.
    let piped = one.run(&["kv", "export", "k/001"]);
    other.given(&["kv", "import", "--namespace", "dev"], &piped.stdout);
    assert_eq!(other.json(&["kv", "usage", "--namespace", "dev"])["keys"], "100");
    assert!(other.fails(2, &["db", "import", "--file", path]).contains("no export of db"));
}

#[test]
fn what_broke_off_goes_on() {
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    fill(&daemon, 2600);
    let (whole, broken) = (root.path().join("whole.jsonl"), root.path().join("broken.jsonl"));
    let (path, cursor) = (broken.to_str().unwrap(), root.path().join("broken.jsonl.cursor"));
    daemon.ok(&["kv", "export", "--file", whole.to_str().unwrap()]);
    // As a process leaves it that was killed behind a page: whole lines, a half one, and the cursor of the page before.
    let text = fs::read_to_string(&whole).unwrap();
    let all: Vec<&str> = text.split_inclusive('\n').collect();
    let done: usize = all[..1001].iter().map(|line| line.len()).sum();
    fs::write(&broken, format!("{}{{\"key\":\"k/0", all[..1300].concat())).unwrap();
    let revision = daemon.json(&["kv", "get", "k/02599"])["revision"].as_str().unwrap().parse::<u64>().unwrap();
    // The form of the daemon's tokens: a mark and the last key.
    let token = base64(b"\x01k/00999");
    let of = json!({"export": "kv", "version": 1, "namespace": "default"});
    let at = json!({"prefix": "", "revision": revision, "page": token});
    fs::write(&cursor, json!({"of": of, "bytes": done, "lines": 1000, "place": at}).to_string()).unwrap();
    assert!(daemon.fails(2, &["kv", "export", "--file", path]).contains("`--resume`"));
    assert!(daemon.fails(2, &["kv", "export", "other/", "--file", path, "--resume"]).contains("broke off"));
    // What changes after it began follows in the file.
    daemon.ok(&["kv", "put", "k/00001", "later"]);
    daemon.ok(&["kv", "delete", "k/00002"]);
    daemon.ok(&["kv", "export", "--file", path, "--resume"]);
    assert!(!cursor.exists());
    let lines = lines(&broken);
    assert_eq!(lines.len(), 2602);
    assert_eq!((&lines[2600]["text"], &lines[2601]["delete"]), (&json!("later"), &json!(true)));

    // An import that met a wrong line goes on behind what is done.
    let text = fs::read_to_string(&broken).unwrap();
    let wrong = text.replacen("\"key\":\"k/01500\"", "\"kez\":\"k/01500\"", 1);
    fs::write(&broken, &wrong).unwrap();
    let import = ["kv", "import", "--file", path, "--namespace", "dev"];
    let why = daemon.fails(2, &import);
    assert!(why.contains("line 1502") && why.contains("`kez`") && why.contains("`--resume`"), "{why}");
    let held = daemon.json(&["kv", "usage", "--namespace", "dev"])["keys"].as_str().unwrap().parse::<u64>().unwrap();
    assert!((1000..=1500).contains(&held), "{held}");
    fs::write(&broken, &text).unwrap();
    daemon.ok(&[&import[..], &["--resume"]].concat());
    assert_eq!(daemon.json(&["kv", "usage", "--namespace", "dev"])["keys"], "2599");
    assert_eq!(daemon.json(&["kv", "get", "k/00001", "--namespace", "dev"])["value"], base64(b"later"));
    // Without its end a file is imported as far as it goes, and that is said.
    let cut = text.trim_end().rsplit_once('\n').unwrap().0;
    fs::write(&broken, format!("{cut}\n")).unwrap();
    assert!(daemon.fails(1, &import).contains("broke off"));
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    let text = STANDARD_NO_PAD.encode(bytes);
    if bytes == b"later" { format!("{text}=") } else { text }
}

#[test]
fn databases_go_from_one_daemon_to_another() {
    let (root, data) = place();
    let (one, other) = (Daemon::start(&data), Daemon::start(&root.path().join("other")));
    let file = root.path().join("db.jsonl");
    let path = file.to_str().unwrap();
    one.ok(&["db", "declare", "shop", "orders", "--index", "total:number", "--index", "mail:text:unique"]);
    for number in 0..70 {
        let (id, mail) = (format!("o-{number:02}"), format!("mail=m{number}@example.com"));
        one.ok(&["db", "put", "shop", "orders", &id, "--set", "total:number=1.5", "--set", &mail, "--data", "x"]);
    }
    one.ok(&["db", "put", "bank", "accounts", "a", "--set", "open:boolean=true"]);
    one.ok(&["db", "export", "--file", path]);
    assert_eq!(lines(&file).len(), 73, "two tables and their records");
    for _ in 0..2 {
        other.ok(&["db", "import", "--file", path]);
        let find = ["db", "find", "shop", "orders", "--order-by", "mail", "--limit", "100"];
        let ids = |daemon: &Daemon| {
            let found = daemon.json(&find);
            let found = found["records"].as_array().unwrap().clone();
            found.into_iter().map(|record| (record["id"].clone(), record["metadata"].clone())).collect::<Vec<_>>()
        };
        assert_eq!(ids(&other), ids(&one));
        assert_eq!(other.json(&["db", "get", "bank", "accounts", "a"])["metadata"], json!({"open": true}));
    }
    // A value that has moved from one record to another is where the later line says, whatever comes first.
    let text = fs::read_to_string(&file).unwrap();
    let moved = text.replace("m3@example.com", "swap").replace("m4@example.com", "m3@example.com");
    fs::write(&file, moved.replace("swap", "m4@example.com")).unwrap();
    other.ok(&["db", "import", "--file", path]);
    let found = other.json(&["db", "find", "shop", "orders", "mail=m3@example.com"]);
    assert_eq!(found["records"][0]["id"], "o-04");
    let duplicate = text.replace("m3@example.com", "m5@example.com");
    fs::write(&file, duplicate).unwrap();
    assert!(other.fails(1, &["db", "import", "--file", path]).contains("line"));
}

#[test]
fn configurations_go_from_one_daemon_to_another() {
    let (root, data) = place();
    let (one, other) = (Daemon::start(&data), Daemon::start(&root.path().join("other")));
    let file = root.path().join("config.jsonl");
    let path = file.to_str().unwrap();
    let schema = root.path().join("schema.json");
    fs::write(&schema, r#"{"type": "object"}"#).unwrap();
    for name in ["shop", "bank"] {
        one.ok(&["config", "set", name, &format!(r#"{{"name": "{name}", "limits": {{"requests": 7}}}}"#)]);
    }
    one.ok(&["config", "schema", "set", "shop", schema.to_str().unwrap()]);
    one.ok(&["config", "export", "--file", path]);
    assert_eq!(lines(&file).len(), 2);
    other.ok(&["config", "import", "--file", path]);
    for name in ["shop", "bank"] {
        assert_eq!(other.json(&["config", "get", name])["value"], one.json(&["config", "get", name])["value"]);
    }
    assert_eq!(other.json(&["config", "schema", "get", "shop"])["schema"], json!({"type": "object"}));
    let before = other.json(&["config", "get", "shop"])["version"]["number"].clone();
    other.ok(&["config", "import", "--file", path]);
    assert_eq!(other.json(&["config", "get", "shop"])["version"]["number"], before, "nothing changed");
    let text = fs::read_to_string(&file).unwrap().replace("\"value\"", "\"valu\"");
    fs::write(&file, text).unwrap();
    assert!(other.fails(2, &["config", "import", "--file", path]).contains("line 2"));
}

#[test]
fn events_go_from_one_daemon_to_another() {
    let (root, data) = place();
    let (one, other) = (Daemon::start(&data), Daemon::start(&root.path().join("other")));
    let file = root.path().join("events.jsonl");
    let path = file.to_str().unwrap();
    let event = |number: usize| json!({"type": "made", "id": format!("e-{number}"), "json": {"n": number}}).to_string();
    let batch: Vec<String> = (0..700).map(event).collect();
    one.ok(&["event", "topic", "create", "orders"]);
    one.given(&["event", "publish", "orders", "--batch", "-"], batch.join("\n").as_bytes());
    one.ok(&["event", "publish", "orders", "paid", "x", "--id", "p-1", "--root", "e-1", "--parent", "e-1"]);
    one.ok(&["event", "export", "--file", path]);
    assert_eq!(lines(&file).len(), 702, "the topic and its events, and nothing of the platform's own");
    for _ in 0..2 {
        other.ok(&["event", "import", "--file", path]);
        let (theirs, ours) = (replayed(&other), replayed(&one));
        assert_eq!(theirs.len(), 701, "each once");
        assert_eq!(theirs, ours);
    }
}

/// Ids, types and data of all events of a topic, in order.
fn replayed(daemon: &Daemon) -> Vec<(Value, Value, Value)> {
    let printed = daemon.ok(&["--output", "json", "event", "replay", "orders"]);
    let events = printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.map(|event| (event["id"].clone(), event["root"].clone(), event["data"].clone())).collect()
}

impl Daemon {
    /// Runs a command that has to succeed with something on its standard input.
    fn given(&self, arguments: &[&str], input: &[u8]) {
        let mut command = platform();
        command.arg("--data-dir").arg(self.data()).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    }
}
