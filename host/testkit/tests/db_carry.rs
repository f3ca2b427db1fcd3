//! Databases that move from one provider to another while they are written, read and watched.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that can't go on has failed")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures::StreamExt;
use platform_capability::{
    Name, SlotKind,
    db::{Action, Condition, Content, Error, Field, Filter, Index, Kind, Query, Test, Value, Write},
};
use platform_dataplane::{CallError, Db, Event, Place, Plugin};
use platform_testkit::{Fixture, Postgres, alone, call, component, fenced, name, plugin, slot, until};

const ORDERS: Place<'static> = Place { database: "shop", table: "orders" };

fn storage() -> Plugin {
    plugin(SlotKind::DbStore, "db-storage", &component("plugins", "db-storage"), &["storage"])
}

fn postgres(server: &Postgres) -> Plugin {
    let (address, wasm) = (server.address(), component("plugins", "db-postgres"));
    let network = format!("network:{}:{}", address.ip(), address.port());
    let mut provider = plugin(SlotKind::DbStore, "db-postgres", &wasm, &["wasi", &network]);
    provider.settings = format!(r#"{{"url": "{}"}}"#, server.url());
    provider
}

/// Binds a provider with what the one before holds; how many records that were.
async fn carried(fixture: &Fixture, slot_text: &str, provider: Plugin) -> u64 {
    let (slot, plane) = (slot(slot_text), &fixture.plane);
    let prepared = plane.prepare(&slot, alone(provider)).await.unwrap_or_else(|error| panic!("{error}"));
    let namespaces: [Name; 1] = [name("default")];
    let carried = plane.carry(&slot, &prepared, &namespaces).await.unwrap_or_else(|error| panic!("{error}"));
    let generation = plane.slot_status(&slot).map_or(0, |status| status.generation) + 1;
    plane.bind(&slot, prepared, generation).await.unwrap();
    carried.entries
}

fn put(id: &str, count: f64, condition: Condition) -> Write {
    let field = |name: &str, value| Field { name: name.to_owned(), value };
    let metadata = vec![field("count", Value::Number(count)), field("mail", Value::Text(format!("{id}@example.com")))];
    let action = Action::Put(Content { metadata, data: id.as_bytes().to_vec() });
    Write { table: "orders".to_owned(), id: id.to_owned(), condition, action }
}

/// Adds 1 to records again and again, each time on the condition that nobody else wrote; what each came to.
async fn load(db: &Db, stop: &AtomicBool, calls: &AtomicU64, seen: &AtomicU64) -> BTreeMap<String, (f64, u64)> {
    let mut counts: BTreeMap<String, (f64, u64)> = BTreeMap::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        // A watch that is further behind than what the host keeps would be told so when its provider goes.
        until("the watch to follow", async || number < seen.load(Ordering::Relaxed) + 300).await;
        number += 1;
        let id = format!("r{}", number % 50);
        let (count, condition) = match counts.get(&id) {
            None => (1.0, Condition::Absent),
            Some((count, revision)) => (count + 1.0, Condition::At(*revision)),
        };
        let stamps = db.commit(&call(), "shop", &[put(&id, count, condition)]).await;
        let stamp = stamps.unwrap_or_else(|error| panic!("a write failed: {error:?}")).swap_remove(0).unwrap();
        counts.insert(id.clone(), (count, stamp.revision));
        let found = db.get(&call(), ORDERS, &[&id]).await.unwrap_or_else(|error| panic!("a read failed: {error:?}"));
        assert_eq!(found[0].as_ref().map(|record| record.stamp.revision), Some(stamp.revision), "`{id}`");
        calls.fetch_add(2, Ordering::Relaxed);
    }
    counts
}

/// The records are those that were acknowledged, with their revisions, and the unique index has them.
async fn assert_all_there(db: &Db, counts: &BTreeMap<String, (f64, u64)>) {
    let query =
        |filters| Query { filters, order_by: "mail".to_owned(), descending: true, offset: 0, limit: 1000, after: None };
    let found = db.find(&call(), ORDERS, &query(Vec::new())).await.unwrap();
    assert_eq!(found.records.len(), 200 + counts.len());
    for record in &found.records {
        let held = record.metadata.iter().find(|field| field.name == "count").unwrap();
        let (count, revision) = counts.get(&record.stamp.id).copied().unwrap_or((0.0, record.stamp.revision));
        assert_eq!((&held.value, record.stamp.revision), (&Value::Number(count), revision), "`{}`", record.stamp.id);
    }
    let one = Filter { field: "mail".to_owned(), test: Test::Equals(Value::Text("old7@example.com".to_owned())) };
    assert_eq!(db.find(&call(), ORDERS, &query(vec![one])).await.unwrap().records.len(), 1);
    let mut taken = put("other", 0.0, Condition::Always);
    if let Action::Put(content) = &mut taken.action {
        content.metadata[1].value = Value::Text("old7@example.com".to_owned());
    }
    let taken = db.commit(&call(), "shop", &[taken]).await;
    assert!(matches!(taken, Err(CallError::Capability(Error::Duplicate(_)))), "{taken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_move_under_load_and_nothing_is_lost() {
    let (server, fixture) = (Postgres::start().await, Fixture::new());
    fixture.bind("db.store", alone(storage())).await;
    let db = fixture.plane.db().clone();
    let index = |field: &str, kind, unique| Index { field: field.to_owned(), kind, unique };
    db.declare(&call(), ORDERS, &[index("count", Kind::Number, false), index("mail", Kind::Text, true)]).await.unwrap();
    for start in [0, 50, 100, 150] {
        let writes: Vec<Write> = (start..start + 50).map(|n| put(&format!("old{n}"), 0.0, Condition::Absent)).collect();
        db.commit(&call(), "shop", &writes).await.unwrap();
    }
    db.commit(&fenced(5), "shop", &[put("old0", 0.0, Condition::Present)]).await.unwrap();
    let from = db.revision(&call(), "shop").await.unwrap();
    let watched: Arc<Mutex<BTreeMap<String, (u64, u64)>>> = Arc::default();
    let followed = AtomicU64::new(0);
    let mut stream = Box::pin(db.watch(&call(), "shop", None, from).unwrap());
    let seen = Arc::clone(&watched);
    let watch = async {
        while let Some(event) = stream.next().await {
            let Event::Changes(changes) = event.unwrap_or_else(|error| panic!("the watch broke: {error:?}")) else {
                continue;
            };
            for change in changes {
                let mut seen = seen.lock().unwrap();
                let (times, revision) = seen.entry(change.id).or_default();
                *times += 1;
                assert!(change.revision > *revision, "in order");
                *revision = change.revision;
                followed.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let (stop, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let swaps = async {
        let mut moved = Vec::new();
        for round in 0..4 {
            let before = calls.load(Ordering::Relaxed);
            until("some load", async || calls.load(Ordering::Relaxed) > before + 40).await;
            let provider = if round % 2 == 0 { postgres(&server) } else { storage() };
            moved.push(carried(&fixture, "db.store", provider).await);
        }
        let before = calls.load(Ordering::Relaxed);
        until("some load", async || calls.load(Ordering::Relaxed) > before + 40).await;
        stop.store(true, Ordering::Relaxed);
        moved
    };
    let work = async {
        let (counts, moved) = tokio::join!(load(&db, &stop, &calls, &followed), swaps);
        let all: u64 = counts.values().map(|(_, revision)| *revision).max().unwrap();
        until("the watch to be done", async || watched.lock().unwrap().values().any(|(_, at)| *at == all)).await;
        (counts, moved)
    };
    let (counts, moved) = tokio::select! { done = work => done, () = watch => panic!("the watch ended") };
    assert!(moved.iter().all(|records| *records >= 200), "{moved:?}");
    assert_all_there(&db, &counts).await;
    let stale = db.commit(&fenced(4), "shop", &[put("old0", 1.0, Condition::Present)]).await;
    assert!(matches!(stale, Err(CallError::Capability(Error::Stale(5)))), "fences move too: {stale:?}");
    for (id, (count, revision)) in &counts {
        let (times, last) = watched.lock().unwrap()[id];
        assert_eq!((times as f64, last), (*count, *revision), "the watch saw each change of `{id}` once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_database_moves_to_a_slot_of_its_own() {
    let (server, fixture) = (Postgres::start().await, Fixture::new());
    fixture.bind("db.store", alone(storage())).await;
    let db = fixture.plane.db().clone();
    for database in ["shop", "bank"] {
        db.commit(&call(), database, &[put("1", 1.0, Condition::Absent)]).await.unwrap();
    }
    let before = db.get(&call(), ORDERS, &["1"]).await.unwrap();
    assert_eq!(carried(&fixture, "db.store/shop", postgres(&server)).await, 1);
    assert_eq!(db.get(&call(), ORDERS, &["1"]).await.unwrap(), before, "with its stamps");
    db.commit(&call(), "shop", &[put("2", 1.0, Condition::Absent)]).await.unwrap();
    assert_eq!(db.databases(&call(), None, 10).await.unwrap(), ["bank", "shop"]);
    // The same store again has nothing to be carried, and loses nothing by it.
    assert_eq!(carried(&fixture, "db.store/shop", postgres(&server)).await, 0);
    assert!(db.get(&call(), ORDERS, &["2"]).await.unwrap()[0].is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_fails_leaves_the_old_store_serving() {
    let (mut server, fixture) = (Postgres::start().await, Fixture::new());
    fixture.bind("db.store", alone(storage())).await;
    let db = fixture.plane.db().clone();
    db.commit(&call(), "shop", &[put("1", 1.0, Condition::Absent)]).await.unwrap();
    let slot = slot("db.store");
    let prepared = fixture.plane.prepare(&slot, alone(postgres(&server))).await.unwrap();
    server.kill();
    let why = fixture.plane.carry(&slot, &prepared, &[name("default")]).await.unwrap_err().to_string();
    assert!(why.contains("the old store serves on"), "{why}");
    db.commit(&call(), "shop", &[put("2", 1.0, Condition::Absent)]).await.unwrap();
    assert!(db.get(&call(), ORDERS, &["1"]).await.unwrap()[0].is_some());
}
