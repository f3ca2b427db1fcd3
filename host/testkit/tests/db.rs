//! What every provider of `db.store` does alike, checked through the host: each check runs against each of them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that can't go on has failed")]

use futures::{Stream, StreamExt};
use platform_capability::{
    SlotKind,
    db::{
        Action, Change, Condition, Content, Error, Field, Filter, Found, Index, Kind, Query, Record, Stamp, Test,
        Value, Write,
    },
};
use platform_dataplane::{CallError, Db, Event, Place, Plugin};
use platform_testkit::{Fixture, Postgres, alone, call, call_in, component, plugin, until};

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

/// A host in which the provider is bound.
async fn bound(provider: Plugin) -> (Fixture, Db) {
    let fixture = Fixture::new();
    fixture.bind("db.store", alone(provider)).await;
    let db = fixture.plane.db().clone();
    (fixture, db)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn fields(metadata: &[(&str, Value)]) -> Vec<Field> {
    metadata.iter().map(|(name, value)| Field { name: (*name).to_owned(), value: value.clone() }).collect()
}

fn write(id: &str, condition: Condition, action: Action) -> Write {
    Write { table: "orders".to_owned(), id: id.to_owned(), condition, action }
}

fn put_if(id: &str, metadata: &[(&str, Value)], condition: Condition) -> Write {
    write(id, condition, Action::Put(Content { metadata: fields(metadata), data: id.as_bytes().to_vec() }))
}

fn put(id: &str, metadata: &[(&str, Value)]) -> Write {
    put_if(id, metadata, Condition::Always)
}

fn index(field: &str, kind: Kind, unique: bool) -> Index {
    Index { field: field.to_owned(), kind, unique }
}

fn query(filters: &[(&str, Test)]) -> Query {
    let filter = |(field, test): &(&str, Test)| Filter { field: (*field).to_owned(), test: test.clone() };
    let filters = filters.iter().map(filter).collect();
    Query { filters, order_by: String::new(), descending: false, offset: 0, limit: 1000, after: None }
}

fn ids(found: &Found) -> Vec<&str> {
    found.records.iter().map(|record| record.stamp.id.as_str()).collect()
}

async fn commit(db: &Db, writes: &[Write]) -> Result<Vec<Option<Stamp>>, CallError<Error>> {
    db.commit(&call(), "shop", writes).await
}

async fn made(db: &Db, writes: &[Write]) -> Vec<Option<Stamp>> {
    commit(db, writes).await.unwrap()
}

async fn read(db: &Db, id: &str) -> Option<Record> {
    db.get(&call(), ORDERS, &[id]).await.unwrap().swap_remove(0)
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, CallError<Error>>) -> Error {
    match answer {
        Err(CallError::Capability(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

async fn records_are_made_read_replaced_and_deleted(db: &Db) {
    let metadata = [("z", Value::Boolean(true)), ("a", text("ü '\"\\;--")), ("n", Value::Number(-0.1))];
    let first = made(db, &[put("1", &metadata)]).await.swap_remove(0).unwrap();
    let record = read(db, "1").await.unwrap();
    assert_eq!(record.stamp, first);
    assert_eq!((first.created_ns, record.data.as_slice()), (first.updated_ns, b"1".as_slice()));
    assert_eq!(
        record.metadata,
        fields(&[("a", text("ü '\"\\;--")), ("n", Value::Number(-0.1)), ("z", Value::Boolean(true))])
    );
    let second = made(db, &[put("1", &[])]).await.swap_remove(0).unwrap();
    assert!(second.revision > first.revision && second.updated_ns >= first.updated_ns);
    assert_eq!(second.created_ns, first.created_ns);
    assert!(read(db, "1").await.unwrap().metadata.is_empty());
    assert_eq!(made(db, &[write("1", Condition::Always, Action::Delete)]).await, [None]);
    assert_eq!(read(db, "1").await, None);
    let before = db.revision(&call(), "shop").await.unwrap();
    assert_eq!(made(db, &[write("1", Condition::Always, Action::Delete)]).await, [None], "deleting it again is fine");
    assert_eq!(db.revision(&call(), "shop").await.unwrap(), before, "and changes nothing");
    let ids = ["a/b", "../x", "%", "'; DROP TABLE records_1; --", "ü", "x y"];
    for id in ids {
        made(db, &[put(id, &[])]).await;
    }
    let found = db.get(&call(), ORDERS, &["ü", "none", "a/b"]).await.unwrap();
    let found: Vec<_> = found.into_iter().map(|record| record.map(|record| record.stamp.id)).collect();
    assert_eq!(found, [Some("ü".to_owned()), None, Some("a/b".to_owned())]);
    let mut sorted = ids;
    sorted.sort_unstable();
    assert_eq!(self::ids(&db.find(&call(), ORDERS, &query(&[])).await.unwrap()), sorted);
}

async fn conditions_hold_or_nothing_is_written(db: &Db) {
    let stamp = made(db, &[put_if("1", &[], Condition::Absent)]).await.swap_remove(0).unwrap();
    for (condition, id, at) in [
        (Condition::Absent, "1", stamp.revision),
        (Condition::At(stamp.revision + 1), "1", stamp.revision),
        (Condition::Present, "2", 0),
        (Condition::At(0), "2", 0),
    ] {
        let writes = [put("other", &[]), put_if(id, &[], condition)];
        let met = refusal(commit(db, &writes).await);
        assert!(matches!(&met, Error::Conflict(met) if met.id == id && met.revision == at), "{condition:?}: {met:?}");
    }
    assert_eq!(read(db, "other").await, None);
    let checked = write("1", Condition::At(stamp.revision), Action::Check);
    let stamps = made(db, &[checked.clone(), put("2", &[]), put("3", &[])]).await;
    assert_eq!(stamps[0].as_ref(), Some(&stamp));
    assert_eq!(stamps[1].as_ref().unwrap().revision, stamps[2].as_ref().unwrap().revision, "one revision for all");
    assert_eq!(made(db, &[checked]).await, [Some(stamp)]);
}

async fn indexes_are_built_used_and_given_up(db: &Db) {
    for number in 0..60_u8 {
        let total = Value::Number(f64::from(number % 7) - 3.0);
        let mut metadata = vec![("total", total), ("name", text(&format!("n{number:02}")))];
        if number % 2 == 0 {
            metadata.push(("open", Value::Boolean(number % 4 == 0)));
        }
        made(db, &[put(&format!("{number:02}"), &metadata)]).await;
    }
    let totals = [("total", Test::AtLeast(Value::Number(2.0)))];
    let scanned = db.find(&call(), ORDERS, &query(&totals)).await.unwrap();
    assert_eq!((scanned.used.as_deref(), scanned.scanned, scanned.records.len()), (None, 60, 16));
    let by_total = Query { order_by: "total".to_owned(), ..query(&totals) };
    assert!(
        matches!(refusal(db.find(&call(), ORDERS, &by_total).await), Error::Unindexed(why) if why.contains("`total`"))
    );
    let indexes =
        [index("total", Kind::Number, false), index("name", Kind::Text, true), index("open", Kind::Boolean, false)];
    let table = db.declare(&call(), ORDERS, &indexes).await.unwrap();
    assert!(table.ready && table.indexes.is_sorted_by_key(|index| index.field.clone()));
    let found = db.find(&call(), ORDERS, &by_total).await.unwrap();
    assert_eq!((found.used.as_deref(), found.scanned), (Some("total"), 16));
    assert_eq!(ids(&found)[..3], ["05", "12", "19"]);
    let back = db.find(&call(), ORDERS, &Query { descending: true, ..by_total.clone() }).await.unwrap();
    assert_eq!(ids(&back), ids(&found).into_iter().rev().collect::<Vec<_>>());
    let open = [("open", Test::Equals(Value::Boolean(true))), ("total", Test::Less(Value::Number(0.0)))];
    let found = db.find(&call(), ORDERS, &query(&open)).await.unwrap();
    assert_eq!((found.used.as_deref(), ids(&found)), (Some("open"), vec!["00", "08", "16", "28", "36", "44", "56"]));
    let any = [("name", Test::AnyOf(vec![text("n07"), text("n03"), text("none"), Value::Number(1.0)]))];
    assert_eq!(ids(&db.find(&call(), ORDERS, &query(&any)).await.unwrap()), ["03", "07"]);
    let starts = [("name", Test::StartsWith("n1".to_owned())), ("name", Test::Greater(text("n17")))];
    assert_eq!(ids(&db.find(&call(), ORDERS, &query(&starts)).await.unwrap()), ["18", "19"]);
    let other = [("total", Test::Equals(text("2")))];
    assert!(db.find(&call(), ORDERS, &query(&other)).await.unwrap().records.is_empty());

    let wrong = refusal(commit(db, &[put("x", &[("total", text("2"))])]).await);
    assert!(matches!(&wrong, Error::Invalid(why) if why.contains("`total`")), "{wrong:?}");
    let long = refusal(commit(db, &[put("x", &[("name", text(&"n".repeat(257)))])]).await);
    assert!(matches!(&long, Error::TooLarge(_)), "{long:?}");
    let taken = refusal(commit(db, &[put("x", &[("name", text("n07"))])]).await);
    assert!(matches!(&taken, Error::Duplicate(met) if met.field == "name" && met.table == "orders"), "{taken:?}");
    let both = refusal(commit(db, &[put("x", &[("name", text("new"))]), put("y", &[("name", text("new"))])]).await);
    assert!(matches!(&both, Error::Duplicate(_)), "{both:?}");
    made(db, &[put("x", &[("name", text("n07"))]), put("07", &[("name", text("n08"))]), put("08", &[])]).await;
    let moved = [("name", Test::AnyOf(vec![text("n07"), text("n08")]))];
    assert_eq!(ids(&db.find(&call(), ORDERS, &query(&moved)).await.unwrap()), ["x", "07"]);

    let unique = refusal(db.declare(&call(), ORDERS, &[index("total", Kind::Number, true)]).await);
    assert!(matches!(&unique, Error::Duplicate(met) if met.field == "total"), "{unique:?}");
    let kind = refusal(db.declare(&call(), ORDERS, &[index("name", Kind::Number, false)]).await);
    assert!(matches!(&kind, Error::Invalid(_)), "{kind:?}");
    assert!(db.declare(&call(), ORDERS, &[]).await.unwrap().indexes.is_empty());
    made(db, &[put("x", &[("total", text("any"))])]).await;
}

async fn pages_go_on_where_they_were(db: &Db) {
    db.declare(&call(), ORDERS, &[index("total", Kind::Number, false)]).await.unwrap();
    for start in [0, 50] {
        let writes: Vec<Write> = (start..start + 50)
            .map(|number| put(&format!("{number:03}"), &[("total", Value::Number(f64::from(number / 10)))]))
            .collect();
        made(db, &writes).await;
    }
    for (order_by, descending) in [("id", false), ("id", true), ("total", false), ("total", true)] {
        let mut page = Query { order_by: order_by.to_owned(), descending, offset: 5, limit: 17, ..query(&[]) };
        let mut all = Vec::new();
        loop {
            let found = db.find(&call(), ORDERS, &page).await.unwrap();
            all.extend(found.records.into_iter().map(|record| record.stamp.id));
            // What is written meanwhile behind the place changes nothing.
            made(db, &[put(if descending { "999" } else { "!" }, &[])]).await;
            match found.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        made(db, &["!", "999"].map(|id| write(id, Condition::Always, Action::Delete))).await;
        let mut expected: Vec<String> = (0..100).map(|number| format!("{number:03}")).collect();
        if descending {
            expected.reverse();
        }
        assert_eq!(all, expected[5..], "by {order_by}, {descending}");
    }
    let forged = Query { after: Some("x/../..".to_owned()), order_by: "total".to_owned(), ..query(&[]) };
    assert!(matches!(refusal(db.find(&call(), ORDERS, &forged).await), Error::Invalid(_)));
}

async fn large_records_come_in_parts(db: &Db) {
    db.declare(&call(), ORDERS, &[index("kind", Kind::Text, false)]).await.unwrap();
    let data = vec![7; 4 << 20];
    for id in ["1", "2", "3", "4", "5"] {
        let content = Content { metadata: fields(&[("kind", text("large"))]), data: data.clone() };
        made(db, &[write(id, Condition::Always, Action::Put(content))]).await;
    }
    for order_by in ["id", "kind"] {
        let mut page = Query { order_by: order_by.to_owned(), ..query(&[]) };
        let mut all = Vec::new();
        loop {
            let found = db.find(&call(), ORDERS, &page).await.unwrap();
            assert!(found.records.len() <= 2, "{}", found.records.len());
            all.extend(found.records.into_iter().map(|record| record.stamp.id));
            match found.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        assert_eq!(all, ["1", "2", "3", "4", "5"], "by {order_by}");
    }
    let all = db.get(&call(), ORDERS, &["1", "2", "3", "4", "5"]).await;
    assert!(matches!(refusal(all), Error::TooLarge(_)));
}

async fn too_long_a_scan_is_refused(db: &Db) {
    for start in (0..10_100).step_by(100) {
        let writes: Vec<Write> =
            (start..start + 100).map(|number| put(&format!("{number}"), &[("a", text("b"))])).collect();
        made(db, &writes).await;
    }
    let rare = query(&[("a", Test::Equals(text("c")))]);
    let why = refusal(db.find(&call(), ORDERS, &rare).await);
    assert!(matches!(&why, Error::Unindexed(why) if why.contains("`a`")), "{why:?}");
    db.declare(&call(), ORDERS, &[index("a", Kind::Text, false)]).await.unwrap();
    assert!(db.find(&call(), ORDERS, &rare).await.unwrap().records.is_empty());
    assert_eq!(
        ids(&db.find(&call(), ORDERS, &Query { limit: 2, ..query(&[("a", Test::Equals(text("b")))]) }).await.unwrap())
            .len(),
        2
    );
}

async fn tables_and_namespaces_are_apart(db: &Db) {
    let dev = call_in("dev");
    for (database, table) in [("shop", "orders"), ("shop", "items"), ("shop-2", "a"), ("bank", "orders")] {
        db.declare(&call(), Place { database, table }, &[]).await.unwrap();
        db.commit(&call(), database, &[Write { table: table.to_owned(), ..put("1", &[]) }]).await.unwrap();
    }
    assert_eq!(db.databases(&call(), None, 10).await.unwrap(), ["bank", "shop", "shop-2"]);
    assert_eq!(db.databases(&call(), Some("bank"), 1).await.unwrap(), ["shop"]);
    let names =
        |tables: Vec<platform_capability::db::Table>| tables.into_iter().map(|table| table.name).collect::<Vec<_>>();
    assert_eq!(names(db.tables(&call(), "shop", None, 10).await.unwrap()), ["items", "orders"]);
    assert_eq!(names(db.tables(&call(), "shop", Some("items"), 10).await.unwrap()), ["orders"]);
    assert!(db.databases(&dev, None, 10).await.unwrap().is_empty());
    assert_eq!(db.get(&dev, ORDERS, &["1"]).await.unwrap(), [None]);
    db.drop_table(&call(), ORDERS).await.unwrap();
    db.drop_table(&call(), ORDERS).await.unwrap();
    assert_eq!(read(db, "1").await, None);
    assert!(db.get(&call(), Place { table: "items", ..ORDERS }, &["1"]).await.unwrap()[0].is_some());
    assert!(db.get(&call(), Place { database: "bank", ..ORDERS }, &["1"]).await.unwrap()[0].is_some());
    made(db, &[put("2", &[])]).await;
    assert_eq!(ids(&db.find(&call(), ORDERS, &query(&[])).await.unwrap()), ["2"]);
    db.drop_database(&call(), "shop").await.unwrap();
    assert_eq!(db.databases(&call(), None, 10).await.unwrap(), ["bank", "shop-2"]);
}

type Answer = Result<Event<Change>, CallError<Error>>;

async fn next(stream: &mut (impl Stream<Item = Answer> + Unpin), wanted: usize) -> Vec<(String, u64, bool)> {
    let mut seen = Vec::new();
    while seen.len() < wanted {
        if let Event::Changes(changes) = stream.next().await.unwrap().unwrap() {
            seen.extend(
                changes
                    .into_iter()
                    .map(|change| (format!("{}/{}", change.table, change.id), change.revision, change.now.is_some())),
            );
        }
    }
    seen
}

async fn watches_miss_nothing(db: &Db) {
    let other = Write { table: "items".to_owned(), ..put("1", &[]) };
    let first = made(db, &[put("1", &[]), other]).await[0].as_ref().unwrap().revision;
    db.commit(&call(), "bank", &[put("1", &[])]).await.unwrap();
    let mut all = Box::pin(db.watch(&call(), "shop", None, 0).unwrap());
    let seen = next(&mut all, 2).await;
    assert_eq!(
        seen.iter().map(|(what, ..)| what.as_str()).collect::<std::collections::BTreeSet<_>>(),
        ["items/1", "orders/1"].into()
    );
    assert!(seen.iter().all(|(_, revision, _)| *revision == first));
    let mut orders = Box::pin(db.watch(&call(), "shop", Some("orders"), first).unwrap());
    let mut expected = Vec::new();
    for number in 0..50 {
        let deleted = number % 5 == 4;
        let id = format!("{}", if deleted { number - 1 } else { number });
        let action = if deleted { write(&id, Condition::Present, Action::Delete) } else { put(&id, &[]) };
        made(db, &[action, Write { table: "items".to_owned(), ..put(&id, &[]) }]).await;
        expected.push((format!("orders/{id}"), !deleted));
    }
    let seen = next(&mut orders, 50).await;
    assert_eq!(seen.iter().map(|(what, _, there)| (what.clone(), *there)).collect::<Vec<_>>(), expected);
    assert!(seen.is_sorted_by_key(|(_, revision, _)| *revision));
    let middle = seen[24].1;
    let mut resumed = Box::pin(db.watch(&call(), "shop", Some("orders"), middle).unwrap());
    assert_eq!(next(&mut resumed, 25).await, seen[25..]);
    let mut future = Box::pin(db.watch(&call(), "shop", None, u64::MAX).unwrap());
    assert!(matches!(refusal(future.next().await.unwrap()), Error::Invalid(_)));
}

async fn writers_at_the_same_time_lose_nothing(db: &Db) {
    db.declare(&call(), ORDERS, &[index("count", Kind::Number, false)]).await.unwrap();
    made(db, &[put("sum", &[("count", Value::Number(0.0))])]).await;
    let add = async || {
        for _ in 0..10 {
            loop {
                let record = read(db, "sum").await.unwrap();
                let Value::Number(count) = record.metadata[0].value else { panic!("{record:?}") };
                let changed =
                    put_if("sum", &[("count", Value::Number(count + 1.0))], Condition::At(record.stamp.revision));
                match commit(db, &[changed]).await {
                    Ok(_) => break,
                    Err(CallError::Capability(Error::Conflict(_))) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    tokio::join!(add(), add(), add(), add());
    let found = db.find(&call(), ORDERS, &query(&[("count", Test::Equals(Value::Number(40.0)))])).await.unwrap();
    assert_eq!((ids(&found), found.used.as_deref()), (vec!["sum"], Some("count")));
}

async fn bad_arguments_are_refused_with_a_reason(db: &Db) {
    let long = "x".repeat(129);
    for id in ["", "a\nb", "a\0", &long] {
        let why = refusal(commit(db, &[put(id, &[])]).await);
        assert!(matches!(why, Error::Invalid(_) | Error::TooLarge(_)), "{id}: {why:?}");
    }
    for name in ["", " ", "a/b", "..", "a b", "ü", &long, "'; --"] {
        for place in [Place { database: name, table: "t" }, Place { database: "d", table: name }] {
            let why = refusal(db.declare(&call(), place, &[]).await);
            assert!(matches!(why, Error::Invalid(_) | Error::TooLarge(_)), "{name}: {why:?}");
        }
    }
    for value in [Value::Number(f64::NAN), Value::Number(f64::INFINITY), text("a\0"), text(&"x".repeat(20_000))] {
        let why = refusal(commit(db, &[put("1", &[("a", value)])]).await);
        assert!(matches!(why, Error::Invalid(_) | Error::TooLarge(_)), "{why:?}");
    }
    let why = refusal(commit(db, &[put("1", &[("a'b", text(""))])]).await);
    assert!(matches!(&why, Error::Invalid(why) if why.contains("`a\\'b`")), "{why:?}");
    assert!(matches!(refusal(commit(db, &[]).await), Error::Invalid(_)));
    assert!(matches!(refusal(commit(db, &[put("1", &[]), put("1", &[])]).await), Error::Invalid(_)));
    let many: Vec<Write> = (0..101).map(|number| put(&format!("{number}"), &[])).collect();
    assert!(matches!(refusal(commit(db, &many).await), Error::TooLarge(_)));
    let content = Content { metadata: Vec::new(), data: vec![0; (4 << 20) + 1] };
    assert!(matches!(
        refusal(commit(db, &[write("1", Condition::Always, Action::Put(content))]).await),
        Error::TooLarge(_)
    ));
}

macro_rules! alike {
    ($($check:ident)*) => {
        mod storage {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                let (_fixture, db) = super::bound(super::storage()).await;
                super::$check(&db).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                let server = platform_testkit::Postgres::start().await;
                let (_fixture, db) = super::bound(super::postgres(&server)).await;
                super::$check(&db).await;
            })*
        }
    };
}

alike! {
    records_are_made_read_replaced_and_deleted
    conditions_hold_or_nothing_is_written
    indexes_are_built_used_and_given_up
    pages_go_on_where_they_were
    large_records_come_in_parts
    too_long_a_scan_is_refused
    tables_and_namespaces_are_apart
    watches_miss_nothing
    writers_at_the_same_time_lose_nothing
    bad_arguments_are_refused_with_a_reason
}

#[tokio::test(flavor = "multi_thread")]
async fn two_providers_serve_at_once() {
    let server = Postgres::start().await;
    let (fixture, db) = bound(storage()).await;
    fixture.bind("db.store/bank", alone(postgres(&server))).await;
    let mut watch = Box::pin(db.watch(&call(), "bank", None, 0).unwrap());
    for database in ["shop", "bank"] {
        db.commit(&call(), database, &[put(database, &[])]).await.unwrap();
    }
    assert_eq!(next(&mut watch, 1).await[0].0, "orders/bank");
    assert_eq!(db.databases(&call(), None, 10).await.unwrap(), ["bank", "shop"]);
    assert!(
        fixture.counts("db.store/bank").calls > 0
            && fixture.counts("db.store").faults.values().all(|count| *count == 0)
    );
    let bank = Place { database: "bank", ..ORDERS };
    assert_eq!(ids(&db.find(&call(), bank, &query(&[])).await.unwrap()), ["bank"]);
    assert_eq!(ids(&db.find(&call(), ORDERS, &query(&[])).await.unwrap()), ["shop"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_is_said_and_found_again() {
    let mut server = Postgres::start().await;
    let (_fixture, db) = bound(postgres(&server)).await;
    for number in 0..20 {
        made(&db, &[put(&format!("{number}"), &[])]).await;
    }
    // Killed while calls are under way: each is acknowledged, or says that it could not be.
    let load = async {
        let mut acknowledged = Vec::new();
        for number in 20.. {
            let id = format!("{number}");
            match commit(&db, &[put(&id, &[])]).await {
                Ok(_) => acknowledged.push(id),
                Err(CallError::Capability(Error::Unavailable(_))) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
        acknowledged
    };
    let kill = async {
        until("some writes", async || read(&db, "25").await.is_some()).await;
        server.kill();
    };
    let (acknowledged, ()) = tokio::join!(load, kill);
    let refused = refusal(commit(&db, &[put("x", &[])]).await);
    assert!(matches!(&refused, Error::Unavailable(why) if why.contains("PostgreSQL")), "{refused:?}");
    server.restart().await;
    until("the provider to reach the server again", async || db.get(&call(), ORDERS, &["1"]).await.is_ok()).await;
    for id in acknowledged {
        assert!(read(&db, &id).await.is_some(), "`{id}` was acknowledged");
    }
    made(&db, &[put("x", &[])]).await;
}
