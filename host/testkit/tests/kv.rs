//! What every provider of `kv.store` does alike, checked through the host: each check runs against each of them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that can't go on has failed")]

use platform_capability::{
    SlotKind,
    kv::{Action, Change, Condition, Conflict, Content, Entry, Error, Expiry, Write},
};
use platform_dataplane::{CallError, Kv, Plugin};
use platform_testkit::{Fixture, Redis, alone, call, component, plugin, until};

fn storage() -> Plugin {
    plugin(SlotKind::KvStore, "kv-storage", &component("plugins", "kv-storage"), &["storage"])
}

fn memory() -> Plugin {
    let mut memory = plugin(SlotKind::KvStore, "kv-memory", &component("plugins", "kv-memory"), &[]);
    memory.mode = platform_runtime::Mode::Single;
    memory.settings = r#"{"max_bytes": 40000000}"#.to_owned();
    memory
}

/// A host in which the provider is bound.
async fn bound(provider: Plugin) -> (Fixture, Kv) {
    let fixture = Fixture::new();
    fixture.bind("kv.store", alone(provider)).await;
    let kv = fixture.plane.kv().clone();
    (fixture, kv)
}

fn put(key: &str, value: &str) -> Write {
    put_for(key, value, Condition::Always, Expiry::Never)
}

fn put_for(key: &str, value: &str, condition: Condition, expiry: Expiry) -> Write {
    Write { key: key.to_owned(), condition, action: Action::Put(Content { value: value.into(), expiry }) }
}

fn delete(key: &str, condition: Condition) -> Write {
    Write { key: key.to_owned(), condition, action: Action::Delete }
}

fn check(key: &str, condition: Condition) -> Write {
    Write { key: key.to_owned(), condition, action: Action::Check }
}

fn values(entries: Vec<Option<Entry>>) -> Vec<Option<String>> {
    let text = |entry: Entry| String::from_utf8(entry.value).unwrap();
    entries.into_iter().map(|entry| entry.map(text)).collect()
}

fn conflict<T: std::fmt::Debug>(answer: Result<T, CallError<Error>>) -> (String, u64) {
    match answer {
        Err(CallError::Capability(Error::Conflict(Conflict { key, revision }))) => (key, revision),
        other => panic!("no conflict: {other:?}"),
    }
}

async fn several_keys_at_once(kv: &Kv) {
    let first = kv.commit(&call(), &[put("a", "1"), put("b", "1")]).await.unwrap();
    assert_eq!(
        kv.commit(&call(), &[put("a", "2"), delete("b", Condition::Present), put("c", "2")]).await.unwrap(),
        first + 1
    );
    let found = kv.get_many(&call(), &["c", "b", "a", "c"]).await.unwrap();
    let revisions: Vec<_> = found.iter().map(|entry| entry.as_ref().map(|entry| entry.revision)).collect();
    assert_eq!(revisions, [Some(first + 1), None, Some(first + 1), Some(first + 1)], "one revision for all");
    assert_eq!(values(found), [Some("2".into()), None, Some("2".into()), Some("2".into())]);
    let unchanged = kv.commit(&call(), &[check("a", Condition::Present), delete("gone", Condition::Always)]).await;
    assert_eq!(unchanged.unwrap(), first + 1, "nothing was there to change");
    assert_eq!(kv.revision(&call()).await.unwrap(), first + 1);
}

async fn a_failed_condition_is_named_and_nothing_is_made(kv: &Kv) {
    let at = kv.commit(&call(), &[put("held", "1")]).await.unwrap();
    for (refused, key, revision) in [
        (check("held", Condition::Absent), "held", at),
        (check("held", Condition::At(at + 7)), "held", at),
        (check("gone", Condition::Present), "gone", 0),
        (check("gone", Condition::At(0)), "gone", 0),
        (delete("held", Condition::At(at + 7)), "held", at),
        (delete("gone", Condition::Present), "gone", 0),
        (put_for("held", "2", Condition::Absent, Expiry::Never), "held", at),
        (put_for("gone", "2", Condition::At(1), Expiry::Keep), "gone", 0),
    ] {
        let told = format!("{refused:?}");
        let answer = kv.commit(&call(), &[put("beside", "2"), refused]).await;
        assert_eq!(conflict(answer), (key.to_owned(), revision), "{told}");
    }
    assert_eq!(values(kv.get_many(&call(), &["beside", "held"]).await.unwrap()), [None, Some("1".into())]);
    assert_eq!(conflict(kv.put(&call(), "held", b"", Condition::At(0), Expiry::Never).await), ("held".into(), at));
    assert_eq!(conflict(kv.delete(&call(), "gone", Condition::Present).await), ("gone".into(), 0));
}

async fn expiries_are_given_kept_and_taken(kv: &Kv) {
    let hour = Expiry::AfterMs(3_600_000);
    let given = ["stays", "kept", "taken"].map(|key| put_for(key, "1", Condition::Always, hour));
    kv.commit(&call(), &given).await.unwrap();
    let again = [
        put_for("kept", "2", Condition::Present, Expiry::Keep),
        put("taken", "2"),
        put_for("new", "2", Condition::Absent, Expiry::Keep),
    ];
    kv.commit(&call(), &again).await.unwrap();
    let found = kv.get_many(&call(), &["stays", "kept", "taken", "new"]).await.unwrap();
    let expires: Vec<_> = found.into_iter().map(|entry| entry.unwrap().expires_ms).collect();
    let (Some(stays), Some(kept)) = (expires[0], expires[1]) else { panic!("{expires:?}") };
    assert!(stays.abs_diff(kept) < 60_000, "{expires:?}");
    assert_eq!(expires[2..], [None, None]);
    let short = put_for("short", "1", Condition::Always, Expiry::AfterMs(1));
    let at = kv.commit(&call(), &[short]).await.unwrap();
    until("the key to expire", async || kv.get(&call(), "short").await.unwrap().is_none()).await;
    until("the expiry to be told", async || kv.revision(&call()).await.unwrap() > at).await;
}

async fn limits_hold(kv: &Kv) {
    let before = kv.revision(&call()).await.unwrap();
    let many: Vec<Write> = (0..1001).map(|key| check(&key.to_string(), Condition::Absent)).collect();
    let large = "x".repeat(8 << 20);
    let over = large.clone() + "x";
    for (writes, large) in [
        (many.clone(), true),
        (vec![put("a", &over)], true),
        (vec![put("a", &large), put("b", &large)], true),
        (vec![put(&"k".repeat(1025), "")], true),
        (vec![], false),
        (vec![put("", "")], false),
        (vec![put("a\nb", "")], false),
        (vec![put("twice", "1"), delete("twice", Condition::Always)], false),
        (vec![put_for("a", "", Condition::Always, Expiry::AfterMs(0))], false),
    ] {
        let answer = kv.commit(&call(), &writes).await;
        let told = matches!(&answer, Err(CallError::Capability(Error::TooLarge(_)))) && large
            || matches!(&answer, Err(CallError::Capability(Error::Invalid(_)))) && !large;
        assert!(told, "{answer:?}");
    }
    assert_eq!(kv.commit(&call(), &many[1..]).await.unwrap(), before);
    assert!(matches!(kv.get_many(&call(), &[]).await, Err(CallError::Capability(Error::Invalid(_)))));
    assert!(matches!(kv.get_many(&call(), &["a"; 1001]).await, Err(CallError::Capability(Error::TooLarge(_)))));
    assert_eq!(kv.get_many(&call(), &["gone"; 1000]).await.unwrap(), vec![None; 1000]);
    assert_eq!(kv.revision(&call()).await.unwrap(), before, "nothing of it was made");
    let half = "x".repeat(6 << 20);
    for key in ["big/1", "big/2", "big/3"] {
        kv.commit(&call(), &[put(key, &half)]).await.unwrap();
    }
    let all = kv.get_many(&call(), &["big/1", "big/2", "big/3"]).await;
    assert!(matches!(all, Err(CallError::Capability(Error::TooLarge(_)))), "an answer has at most 16 MiB");
    assert_eq!(kv.get_many(&call(), &["big/1", "big/2"]).await.unwrap().iter().flatten().count(), 2);
    kv.commit(&call(), &["big/1", "big/2", "big/3"].map(|key| delete(key, Condition::Present))).await.unwrap();
}

/// Transfers between accounts, each decided by what it read: no money is made or lost, and nobody sees a half.
async fn transfers_add_up(kv: &Kv) {
    const ACCOUNTS: [&str; 4] = ["t/0", "t/1", "t/2", "t/3"];
    kv.commit(&call(), &ACCOUNTS.map(|key| put(key, "100"))).await.unwrap();
    let amount =
        |entry: &Option<Entry>| -> i64 { String::from_utf8_lossy(&entry.as_ref().unwrap().value).parse().unwrap() };
    let transfer = async |from: &str, to: &str| loop {
        let found = kv.get_many(&call(), &[from, to]).await.unwrap();
        let at = |place: usize| Condition::At(found[place].as_ref().unwrap().revision);
        let new = |place: usize, by: i64| (amount(&found[place]) + by).to_string();
        let writes = [put_for(from, &new(0, -1), at(0), Expiry::Never), put_for(to, &new(1, 1), at(1), Expiry::Never)];
        match kv.commit(&call(), &writes).await {
            Err(CallError::Capability(Error::Conflict(_))) => {}
            done => return done.unwrap(),
        }
    };
    let mover = async |seed: usize| {
        for step in 0..20 {
            let from = (seed + step) % 4;
            transfer(ACCOUNTS[from], ACCOUNTS[(from + 1 + step % 3) % 4]).await;
        }
    };
    let watcher = async {
        for _ in 0..50 {
            let all = kv.get_many(&call(), &ACCOUNTS).await.unwrap();
            assert_eq!(all.iter().map(amount).sum::<i64>(), 400);
        }
    };
    futures::join!(mover(0), mover(1), mover(2), watcher);
}

async fn changes_of_a_commit_come_together(kv: &Kv) {
    let before = kv.revision(&call()).await.unwrap();
    let at = kv.commit(&call(), &["w/1", "w/2", "w/3"].map(|key| put(key, "1"))).await.unwrap();
    let mut watch = Box::pin(kv.watch(&call(), "w/", before).unwrap());
    let mut seen: Vec<Change> = Vec::new();
    while seen.len() < 3 {
        if let Some(Ok(platform_dataplane::Event::Changes(changes))) = futures::StreamExt::next(&mut watch).await {
            assert_eq!(changes.len(), 3, "not a part of it");
            seen.extend(changes);
        }
    }
    assert!(seen.iter().all(|change| change.revision == at));
}

async fn all(provider: Plugin) {
    let (fixture, kv) = bound(provider).await;
    several_keys_at_once(&kv).await;
    a_failed_condition_is_named_and_nothing_is_made(&kv).await;
    expiries_are_given_kept_and_taken(&kv).await;
    changes_of_a_commit_come_together(&kv).await;
    transfers_add_up(&kv).await;
    limits_hold(&kv).await;
    drop(fixture);
}

#[tokio::test(flavor = "multi_thread")]
async fn kv_storage_keeps_the_promises() {
    all(storage()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kv_memory_keeps_the_promises() {
    all(memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kv_redis_keeps_the_promises() {
    let server = Redis::start().await;
    let (address, port) = (server.address(), server.address().port());
    let grants = ["wasi", &format!("network:{}:{port}", address.ip())];
    let mut redis = plugin(SlotKind::KvStore, "kv-redis", &component("plugins", "kv-redis"), &grants);
    redis.settings = format!(r#"{{"url": "redis://{address}"}}"#);
    all(redis).await;
}
