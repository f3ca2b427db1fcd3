//! `platform db` against a daemon, and what a kill leaves of records and their indexes.

use std::{
    fs,
    io::{Read, Write as _},
    net::TcpStream,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use serde_json::{Value, json};

use crate::{
    commands::Watch,
    support::{Daemon, PATIENCE, place, wait_for},
};

fn found(answer: &Value) -> Vec<&str> {
    answer["records"].as_array().unwrap().iter().map(|record| record["id"].as_str().unwrap()).collect()
}

#[test]
fn records() {
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    daemon.fails(1, &["db", "get", "shop", "orders", "o-1"]);
    let put = &["db", "put", "shop", "orders", "o-1", "--set", "status=open", "--set", "total:number=120.5"];
    let made = daemon.json(put);
    assert_eq!(made["metadata"], json!({"status": "open", "total": 120.5}));
    assert_eq!((&made["id"], &made["created"]), (&json!("o-1"), &made["updated"]));
    let revision = made["revision"].as_str().unwrap();
    daemon.ok(&[
        "db",
        "put",
        "shop",
        "orders",
        "o-1",
        "--set",
        "status=paid",
        "--data",
        "x",
        "--if-revision",
        revision,
    ]);
    daemon.fails(1, &["db", "put", "shop", "orders", "o-1", "--if-revision", revision]);
    daemon.fails(1, &["db", "put", "shop", "orders", "o-1", "--if-absent"]);
    daemon.fails(1, &["db", "put", "shop", "orders", "none", "--if-present"]);
    daemon.fails(2, &["db", "put", "shop", "", "o-1"]);
    daemon.fails(2, &["db", "put", " ", "orders", "o-1"]);
    daemon.fails(2, &["db", "put", "shop", "orders", "o-1", "--metadata", "{\"a\": [1]}"]);
    daemon.fails(2, &["db", "put", "shop", "orders", "o-1", "--set", "a:number=x"]);
    let file = root.path().join("bytes");
    daemon.ok(&["db", "get", "shop", "orders", "o-1", "--data-to", file.to_str().unwrap()]);
    assert_eq!(fs::read(&file).unwrap(), b"x");
    let made = daemon.json(&["db", "put", "shop", "orders", "--metadata", "{\"status\": \"open\", \"rush\": true}"]);
    let id = made["id"].as_str().unwrap();
    assert_eq!(daemon.json(&["db", "get", "shop", "orders", id]), made);
    let both = daemon.run(&["--output", "json", "db", "get", "shop", "orders", id, "none"]);
    assert_eq!(both.status.code(), Some(1));
    daemon.ok(&["db", "delete", "shop", "orders", id]);
    daemon.ok(&["db", "delete", "shop", "orders", id]);
    daemon.fails(1, &["db", "delete", "shop", "orders", id, "--if-present"]);

    let declare = &["db", "declare", "shop", "orders", "--index", "total:number", "--index", "email:text:unique"];
    let declared = daemon.json(declare);
    assert_eq!(declared["indexes"][0], json!({"field": "email", "kind": "TEXT", "unique": true}));
    for (id, total) in [("a", "10"), ("b", "20"), ("c", "30")] {
        let (total, email) = (format!("total:number={total}"), format!("email={id}@example.com"));
        daemon.ok(&["db", "put", "shop", "orders", id, "--set", &total, "--set", &email]);
    }
    daemon.fails(1, &["db", "put", "shop", "orders", "d", "--set", "email=a@example.com"]);
    let answer =
        daemon.json(&["db", "find", "shop", "orders", "total:number>=20", "--order-by", "total", "--descending"]);
    assert_eq!((found(&answer), &answer["index"]), (vec!["c", "b"], &json!("total")));
    assert_eq!(found(&daemon.json(&["db", "find", "shop", "orders", "email^=b"])), ["b"]);
    assert_eq!(found(&daemon.json(&["db", "find", "shop", "orders", "--any", "total:number=10,30"])), ["a", "c"]);
    assert_eq!(found(&daemon.json(&["db", "find", "shop", "orders", "--offset", "1", "--limit", "2"])), ["b", "c"]);
    daemon.fails(2, &["db", "find", "shop", "orders", "--order-by", "status"]);
    daemon.fails(2, &["db", "find", "shop", "orders", "status"]);
    assert_eq!(daemon.ok(&["db", "list"]), "shop\n");
    assert!(daemon.ok(&["db", "list", "shop"]).contains("email:text:unique total:number"));

    let lines = root.path().join("lines.jsonl");
    fs::write(&lines, "{\"table\": \"stock\", \"id\": \"7\", \"metadata\": {\"left\": 9}}\n{\"table\": \"orders\", \"id\": \"a\", \"delete\": true}\n").unwrap();
    let lines = lines.to_str().unwrap();
    let outcomes = daemon.json(&["db", "transaction", "shop", "--file", lines]);
    assert_eq!(outcomes["outcomes"][1], json!({"id": "a"}));
    daemon.fails(1, &["db", "get", "shop", "orders", "a"]);

    let mut watch = Watch::start(&data, &["db", "watch", "shop", "stock", "--after", "0"]);
    assert_eq!(watch.change()["put"]["record"]["id"], "7");
    drop(watch);
    daemon.ok(&["db", "drop", "shop", "--yes"]);
    assert_eq!(daemon.json(&["db", "list"])["databases"], json!([]));
    daemon.stop();
}

/// One request over HTTP; status and answer, none when the daemon went away meanwhile.
fn request(data: &Path, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
    let address = fs::read_to_string(data.join("address")).ok()?;
    let token = fs::read_to_string(data.join("admin.token")).ok()?;
    let mut stream = TcpStream::connect(address.trim()).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let (token, length) = (token.trim(), body.len());
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: platform\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).ok()?))
}

/// All records of the table that match, page by page.
fn all(data: &Path, mut query: Value) -> Vec<Value> {
    let mut records = Vec::new();
    loop {
        let (status, page) = request(data, "POST", "/v1/db/shop/orders:find", &query.to_string()).unwrap();
        assert_eq!(status, 200, "{page}");
        records.extend(page["records"].as_array().unwrap().iter().cloned());
        match page["nextPageToken"].as_str() {
            Some("") | None => return records,
            Some(token) => query["pageToken"] = token.into(),
        }
    }
}

/// What each writer was told: records that it made, replaced or deleted, in its own order.
type Told = Mutex<Vec<(String, Option<f64>)>>;

fn write_until(data: &Path, stop: &AtomicBool, next: &AtomicU64, told: &Told) {
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let id = format!("{number:06}");
        let body = |group: u32| json!({"metadata": {"group": group, "mail": format!("{id}-{group}")}}).to_string();
        let path = format!("/v1/db/shop/orders/{id}");
        let group = u32::try_from(number % 7).unwrap();
        if !matches!(request(data, "PUT", &path, &body(group)), Some((200, _))) {
            return;
        }
        told.lock().unwrap().push((id.clone(), Some(f64::from(group))));
        let (kept, answer) = match number % 3 {
            0 => continue,
            1 => (Some(100.0), request(data, "PUT", &path, &body(100))),
            _ => (None, request(data, "DELETE", &path, "")),
        };
        let mut told = told.lock().unwrap();
        told.retain(|(known, _)| *known != id);
        // One that was not answered may have been made or not.
        if matches!(answer, Some((200, _))) {
            told.push((id, kept));
        }
    }
}

#[test]
fn a_kill_under_writes_loses_nothing_and_indexes_agree() {
    let (_root, data) = place();
    let mut daemon = Daemon::start(&data);
    daemon.ok(&["db", "declare", "shop", "orders", "--index", "group:number", "--index", "mail:text:unique"]);
    let (next, told) = (AtomicU64::new(0), Told::default());
    for round in 1..=3 {
        let stop = AtomicBool::new(false);
        let before = told.lock().unwrap().len();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| write_until(&data, &stop, &next, &told));
            }
            wait_for("some writes", || (told.lock().unwrap().len() > before + 40).then_some(()));
            daemon.signal("KILL");
            daemon.wait();
            stop.store(true, Ordering::Relaxed);
        });
        daemon = Daemon::start(&data);
        let records = all(&data, json!({"limit": 1000}));
        let told = told.lock().unwrap();
        for (id, group) in told.iter() {
            let record = records.iter().find(|record| record["id"] == json!(id));
            let held = record.and_then(|record| record["metadata"]["group"].as_f64());
            assert_eq!(held, *group, "round {round}: `{id}` was acknowledged");
        }
        for (field, descending) in [("group", false), ("group", true), ("mail", false), ("mail", true), ("id", true)] {
            let query = json!({"limit": 1000, "orderBy": field, "descending": descending});
            let mut through = all(&data, query);
            through.sort_by_key(|record| record["id"].as_str().unwrap().to_owned());
            assert_eq!(through, records, "round {round}: the index on `{field}` agrees with the records");
        }
        for record in records.iter().take(20) {
            let mail = json!({"metadata": {"mail": record["metadata"]["mail"]}}).to_string();
            let (status, answer) = request(&data, "PUT", "/v1/db/shop/orders/other", &mail).unwrap();
            assert_eq!((status, &answer["reason"]), (409, &json!("DUPLICATE_VALUE")), "{answer}");
        }
    }
    daemon.stop();
}

#[test]
fn page_tokens_are_good_for_their_query_alone() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    for id in ["a", "b", "c"] {
        for table in ["orders", "items"] {
            let path = format!("/v1/db/shop/{table}/{id}");
            assert_eq!(request(&data, "PUT", &path, "{\"metadata\": {\"n\": 1}}").unwrap().0, 200);
        }
    }
    let (_, first) = request(&data, "POST", "/v1/db/shop/orders:find", "{\"limit\": 1}").unwrap();
    let token = first["nextPageToken"].as_str().unwrap().to_owned();
    let next = |path: &str, query: Value| request(&data, "POST", path, &query.to_string()).unwrap();
    let (status, second) = next("/v1/db/shop/orders:find", json!({"limit": 5, "pageToken": token}));
    assert_eq!((status, found(&second)), (200, vec!["b", "c"]));
    let reversed: String = token.chars().rev().collect();
    for (path, query) in [
        ("/v1/db/shop/items:find", json!({"pageToken": token})),
        ("/v1/db/bank/orders:find", json!({"pageToken": token})),
        ("/v1/db/shop/orders:find", json!({"pageToken": token, "descending": true})),
        ("/v1/db/shop/orders:find", json!({"pageToken": token, "metadata": {"n": 1}})),
        ("/v1/db/shop/orders:find", json!({"pageToken": reversed})),
        ("/v1/db/shop/orders:find", json!({"pageToken": "x"})),
    ] {
        let (status, answer) = next(path, query);
        assert_eq!((status, &answer["reason"]), (400, &json!("INVALID_PAGE_TOKEN")), "{path}: {answer}");
    }
    for (method, path, body) in [
        ("PUT", "/v1/db/shop/orders/a", "{\"metadata\": {\"n\": null}}"),
        ("PUT", "/v1/db/shop/orders/a", "{\"metadata\": {\"n\": [1]}}"),
        ("PUT", "/v1/db/%20/orders/a", "{}"),
        ("PUT", "/v1/db/shop/%2e%2e/a", "{}"),
        ("PUT", "/v1/db/shop/orders/a%0ab", "{}"),
        ("POST", "/v1/db/shop/orders:find", "{\"filters\": [{\"field\": \"n\"}]}"),
        ("POST", "/v1/db/shop:transact", "{\"writes\": []}"),
        ("PUT", "/v1/db/shop/orders", "{\"indexes\": [{\"field\": \"n\", \"kind\": \"DATE\"}]}"),
    ] {
        let (status, answer) = request(&data, method, path, body).unwrap();
        assert_eq!((status, &answer["code"]), (400, &json!("INVALID_ARGUMENT")), "{method} {path} {body}: {answer}");
    }
    daemon.stop();
}

#[test]
fn a_database_is_carried_to_a_slot_of_its_own() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    daemon.ok(&["db", "declare", "shop", "orders", "--index", "n:number"]);
    for id in ["a", "b"] {
        daemon.ok(&["db", "put", "shop", "orders", id, "--set", "n:number=1"]);
    }
    let before = daemon.json(&["db", "get", "shop", "orders", "a"]);
    daemon.fails(2, &["plugin", "bind", "config.store", "config-storage", "--carry", "default"]);
    daemon.fails(2, &["plugin", "bind", "db.store/shop", "db-storage", "--carry", "../x"]);
    daemon.ok(&["plugin", "bind", "db.store/shop", "db-storage", "--carry", "default"]);
    assert_eq!(daemon.json(&["db", "get", "shop", "orders", "a"]), before);
    daemon.ok(&["db", "put", "shop", "orders", "c", "--set", "n:number=1"]);
    let daemon = {
        daemon.stop();
        Daemon::start(&data)
    };
    assert_eq!(found(&daemon.json(&["db", "find", "shop", "orders", "n:number=1"])), ["a", "b", "c"]);
    assert_eq!(daemon.json(&["db", "get", "shop", "orders", "a"]), before);
    daemon.stop();
}
