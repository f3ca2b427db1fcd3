//! Checks of tables that need no time to pass.

use std::time::Duration;

use bytes::Bytes;
use futures::future;

use super::{SOON, check, conflict, delete, put, put_for, put_if, replace, touch};
use crate::{
    Change, Condition, Entry, Error, MAX_COMMIT_WRITES, MAX_KEY_BYTES, MAX_LIMIT, MAX_NAME_BYTES, MAX_VALUE_BYTES,
    Result, Scope, Storage, Usage, Write,
};

const NOW: Duration = Duration::ZERO;

fn entry(key: &str, value: &str, revision: u64) -> Entry {
    Entry { key: key.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()), revision, expires_ms: None }
}

fn keys(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.key.as_str()).collect()
}

pub(super) async fn nothing_at_first(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.nothing", "n");
    assert_eq!(storage.get(&scope, "t", "k").await?, None);
    assert_eq!(storage.revision(&scope, "t").await?, 0);
    assert_eq!(storage.scan(&scope, "t", "", None, 10).await?, []);
    assert_eq!(storage.changes(&scope, "t", "", 0, 10, NOW).await?, []);
    assert_eq!(storage.bounds(&scope, "j").await?, (1, 0));
    assert_eq!(storage.read(&scope, "j", 0, 10, NOW).await?, []);
    assert_eq!(storage.commit(&scope, "t", vec![delete("k")]).await?, 0, "deleting what is absent changes nothing");
    assert_eq!(storage.commit(&scope, "t", vec![]).await?, 0);
    Ok(())
}

pub(super) async fn revisions_count_commits(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.revisions", "n");
    assert_eq!(storage.commit(&scope, "t", vec![put("a", "1")]).await?, 1);
    assert_eq!(storage.commit(&scope, "t", vec![put("a", "2"), put("b", "2")]).await?, 2);
    assert_eq!(storage.commit(&scope, "u", vec![put("a", "x")]).await?, 1, "each table has its own");
    assert_eq!(storage.get(&scope, "t", "a").await?, Some(entry("a", "2", 2)));
    assert_eq!(storage.get(&scope, "t", "b").await?, Some(entry("b", "2", 2)));
    assert_eq!(storage.commit(&scope, "t", vec![delete("a"), delete("absent")]).await?, 3);
    assert_eq!(storage.get(&scope, "t", "a").await?, None);
    assert_eq!(storage.commit(&scope, "t", vec![delete("a")]).await?, 3, "nothing to delete, nothing counted");
    assert_eq!(storage.revision(&scope, "t").await?, 3);
    assert_eq!(storage.commit(&scope, "t", vec![put("empty", "")]).await?, 4);
    assert_eq!(storage.get(&scope, "t", "empty").await?, Some(entry("empty", "", 4)));
    Ok(())
}

pub(super) async fn conditions(storage: &dyn Storage) -> Result<()> {
    use Condition::{Absent, Always, At, Present};
    let scope = Scope::new("conformance.conditions", "n");
    storage.commit(&scope, "t", vec![put("there", "1")]).await?;
    storage.commit(&scope, "t", vec![put("there", "2")]).await?;
    let refused = [
        ("there", Absent, 2),
        ("there", At(1), 2),
        ("there", At(0), 2),
        ("gone", Present, 0),
        ("gone", At(0), 0),
        ("gone", At(2), 0),
    ];
    for (key, condition, at) in refused {
        let deletion = Write::Delete { key: key.to_owned(), condition };
        for write in [put_if(key, "x", condition), replace(key, "x", condition), deletion, check(key, condition)] {
            let answer = storage.commit(&scope, "t", vec![write]).await;
            assert_eq!(answer, conflict(key, at), "`{key}` {condition:?}");
        }
    }
    assert_eq!(storage.revision(&scope, "t").await?, 2, "refused commits do not count");
    let mut revision = 2;
    for (key, condition) in [("there", At(2)), ("there", Present), ("new", Absent), ("new", Always)] {
        revision += 1;
        assert_eq!(storage.commit(&scope, "t", vec![put_if(key, "y", condition)]).await?, revision);
    }
    let deletion = Write::Delete { key: "new".to_owned(), condition: At(revision) };
    assert_eq!(storage.commit(&scope, "t", vec![deletion]).await?, revision + 1);
    assert_eq!(storage.commit(&scope, "t", vec![put_if("new", "z", Absent)]).await?, revision + 2);
    Ok(())
}

pub(super) async fn checks_write_nothing(storage: &dyn Storage) -> Result<()> {
    use Condition::{Absent, Always, At, Present};
    let scope = Scope::new("conformance.checks", "n");
    storage.commit(&scope, "t", vec![put("a", "1")]).await?;
    let alone = vec![check("a", At(1)), check("b", Absent), check("c", Always)];
    assert_eq!(storage.commit(&scope, "t", alone).await?, 1, "nothing is counted");
    let beside = vec![check("a", Present), put("b", "2")];
    assert_eq!(storage.commit(&scope, "t", beside).await?, 2);
    assert_eq!(storage.get(&scope, "t", "a").await?, Some(entry("a", "1", 1)), "what was checked is as it was");
    let refused = vec![put("b", "3"), check("a", At(2))];
    assert_eq!(storage.commit(&scope, "t", refused).await, conflict("a", 1));
    assert_eq!(storage.changes(&scope, "t", "", 1, 10, NOW).await?, [Change::Put(entry("b", "2", 2))]);
    Ok(())
}

pub(super) async fn several_keys(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.several", "n");
    assert_eq!(storage.get_many(&scope, "t", &["a", "b"]).await?, [None, None], "a table never written");
    storage.commit(&scope, "t", vec![put("a", "0"), put("b", "0")]).await?;
    let asked = ["b", "gone", "a", "b"];
    let expected = [Some(entry("b", "0", 1)), None, Some(entry("a", "0", 1)), Some(entry("b", "0", 1))];
    assert_eq!(storage.get_many(&scope, "t", &asked).await?, expected, "in the order asked, also twice");
    let writes = async {
        for round in 0..50 {
            let value = round.to_string();
            storage.commit(&scope, "t", vec![put("a", &value), put("b", &value)]).await?;
        }
        Ok(())
    };
    let reads = async {
        for _ in 0..50 {
            let both = storage.get_many(&scope, "t", &["a", "b"]).await?;
            let [Some(a), Some(b)] = &both[..] else { return conflict("a", 0) };
            assert_eq!((a.revision, &a.value), (b.revision, &b.value), "both are of one moment");
        }
        Ok(())
    };
    future::try_join(writes, reads).await?;
    let many = storage.get_many(&scope, "t", &vec!["k"; MAX_LIMIT + 1]).await;
    assert!(matches!(many, Err(Error::TooLarge(_))));
    assert_eq!(storage.get_many(&scope, "t", &vec!["k"; MAX_LIMIT]).await?, vec![None; MAX_LIMIT]);
    assert!(matches!(storage.get_many(&scope, "t", &[]).await, Err(Error::Invalid(_))));
    assert!(matches!(storage.get_many(&scope, "t", &["a", ""]).await, Err(Error::Invalid(_))));
    Ok(())
}

pub(super) async fn all_or_nothing(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.atomic", "n");
    storage.commit(&scope, "t", vec![put("a", "1"), put("b", "1")]).await?;
    let mixed = vec![put("a", "2"), delete("b"), put("c", "2"), put_if("d", "2", Condition::Present)];
    assert_eq!(storage.commit(&scope, "t", mixed).await, conflict("d", 0));
    let left = storage.scan(&scope, "t", "", None, 10).await?;
    assert_eq!(left, [entry("a", "1", 1), entry("b", "1", 1)]);
    assert_eq!(storage.changes(&scope, "t", "", 1, 10, NOW).await?, []);
    let fine = vec![put_if("a", "3", Condition::At(1)), delete("b"), put_if("c", "3", Condition::Absent)];
    assert_eq!(storage.commit(&scope, "t", fine).await?, 2);
    let left = storage.scan(&scope, "t", "", None, 10).await?;
    assert_eq!(left, [entry("a", "3", 2), entry("c", "3", 2)]);
    Ok(())
}

pub(super) async fn usage_and_limits(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.usage", "n");
    let usage = async || storage.used(&scope, "t").await;
    let full = |answer: Result<u64>, what: &str| match answer {
        Err(Error::Full(why)) => assert!(why.contains(what), "{why}"),
        other => assert!(matches!(other, Err(Error::Full(_))), "not refused: {other:?}"),
    };
    assert_eq!(usage().await?, Usage::default(), "a table never written");
    storage.commit(&scope, "t", vec![put("a", "12345"), put("é", "")]).await?;
    assert_eq!(usage().await?, Usage { keys: 2, bytes: 8 });
    storage
        .commit(&scope, "t", vec![put("a", "1"), delete("é"), delete("gone"), check("b", Condition::Absent)])
        .await?;
    assert_eq!(usage().await?, Usage { keys: 1, bytes: 2 });
    storage.commit(&scope, "t", vec![touch("a", None), replace("b", "22", Condition::Absent)]).await?;
    assert_eq!(usage().await?, Usage { keys: 2, bytes: 5 });

    let limit = Usage { keys: 2, bytes: 6 };
    let within = async |writes| storage.commit_within(&scope, "t", writes, limit).await;
    full(within(vec![put("c", "")]).await, "3 keys");
    full(within(vec![put("b", "4444")]).await, "7 bytes");
    full(within(vec![delete("a"), put("b", "1"), put("c", "1"), put("d", "1")]).await, "3 keys");
    assert_eq!(usage().await?, Usage { keys: 2, bytes: 5 }, "nothing of it was made");
    within(vec![put("b", "333")]).await?;
    within(vec![delete("a"), put("c", "1")]).await?;
    storage.commit(&scope, "t", vec![put("d", "1"), put("e", "1")]).await?;
    within(vec![put("d", "2"), delete("gone")]).await?;
    within(vec![delete("e")]).await?;
    assert_eq!(usage().await?, Usage { keys: 3, bytes: 8 }, "what makes it no larger is made above the limit too");

    let written = storage.commit(&scope, "t", vec![put_for("short", "1", Duration::from_millis(20))]).await?;
    storage.changes(&scope, "t", "short", written, 10, SOON).await?;
    assert_eq!(usage().await?, Usage { keys: 3, bytes: 8 }, "what expired no longer counts");
    Ok(())
}

pub(super) async fn scopes_never_meet(storage: &dyn Storage) -> Result<()> {
    let one = Scope::new("conformance.scopes", "a");
    storage.commit(&one, "t", vec![put("k", "one")]).await?;
    for other in [
        Scope::new("conformance.scopes", "b"),
        Scope::new("conformance.scope", "sa"),
        Scope::new("conformance.scopes", "a t"),
        Scope::new("conformance.scopes", ""),
    ] {
        assert_eq!(storage.get(&other, "t", "k").await?, None, "{other:?}");
        assert_eq!(storage.scan(&other, "t", "", None, 10).await?, [], "{other:?}");
    }
    storage.append(&one, "t", vec![Bytes::from_static(b"item")]).await?;
    assert_eq!(storage.get(&one, "t", "k").await?, Some(entry("k", "one", 1)), "a journal may share a table's name");
    Ok(())
}

pub(super) async fn scans_page_in_byte_order(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.scan", "n");
    let sorted = ["a", "a!", "a/1", "a/10", "a/2", "aa", "b", "z", "é", "日本"];
    for key in sorted.iter().rev() {
        storage.commit(&scope, "t", vec![put(key, key)]).await?;
    }
    storage.commit(&scope, "neighbour", vec![put("a/0", "x"), put("zz", "x")]).await?;
    assert_eq!(keys(&storage.scan(&scope, "t", "", None, 100).await?), sorted);
    assert_eq!(keys(&storage.scan(&scope, "t", "a/", None, 100).await?), ["a/1", "a/10", "a/2"]);
    assert_eq!(keys(&storage.scan(&scope, "t", "a/", Some("a/1"), 1).await?), ["a/10"]);
    assert_eq!(keys(&storage.scan(&scope, "t", "a/", Some("a"), 1).await?), ["a/1"], "before the prefix");
    assert_eq!(keys(&storage.scan(&scope, "t", "a/", Some("b"), 9).await?), [""; 0], "behind the prefix");
    assert_eq!(keys(&storage.scan(&scope, "t", "日", None, 9).await?), ["日本"]);
    assert_eq!(keys(&storage.scan(&scope, "t", "nothing", None, 9).await?), [""; 0]);
    for limit in 1..=sorted.len() + 1 {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let page = storage.scan(&scope, "t", "", seen.last().map(String::as_str), limit).await?;
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= limit);
            seen.extend(page.into_iter().map(|entry| entry.key));
        }
        assert_eq!(seen, sorted, "pages of {limit}");
    }
    Ok(())
}

pub(super) async fn changes_tell_every_commit(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.changes", "n");
    storage.commit(&scope, "t", vec![put("a", "1"), put("b", "1")]).await?;
    storage.commit(&scope, "t", vec![put("a", "2")]).await?;
    storage.commit(&scope, "t", vec![touch("a", None)]).await?;
    storage.commit(&scope, "t", vec![delete("a"), put("c", "3")]).await?;
    let gone = Change::Delete { key: "a".to_owned(), revision: 3 };
    let all = [
        Change::Put(entry("a", "1", 1)),
        Change::Put(entry("b", "1", 1)),
        Change::Put(entry("a", "2", 2)),
        gone.clone(),
        Change::Put(entry("c", "3", 3)),
    ];
    let [a1, b1, a2, _, c3] = &all;
    assert_eq!(storage.changes(&scope, "t", "", 0, 100, NOW).await?, all);
    assert_eq!(storage.changes(&scope, "t", "", 1, 100, NOW).await?, [a2.clone(), gone.clone(), c3.clone()]);
    assert_eq!(storage.changes(&scope, "t", "", 3, 100, NOW).await?, []);
    assert_eq!(storage.changes(&scope, "t", "", u64::MAX, 100, NOW).await?, []);
    let whole = storage.changes(&scope, "t", "", 0, 1, NOW).await?;
    assert_eq!(whole, [a1.clone(), b1.clone()], "those of one revision come together");
    assert_eq!(storage.changes(&scope, "t", "a", 0, 100, NOW).await?, [a1.clone(), a2.clone(), gone.clone()]);
    assert_eq!(storage.changes(&scope, "t", "a", 1, 1, NOW).await?, std::slice::from_ref(a2));
    assert_eq!(storage.changes(&scope, "t", "c", 0, 1, NOW).await?, std::slice::from_ref(c3));
    assert_eq!(storage.changes(&scope, "t", "none", 0, 1, NOW).await?, []);
    Ok(())
}

pub(super) async fn concurrent_compare_and_set(storage: &dyn Storage) -> Result<()> {
    const WRITERS: u64 = 16;
    const EACH: u64 = 10;
    let scope = Scope::new("conformance.counter", "n");
    storage.commit(&scope, "t", vec![put("n", "0")]).await?;
    let writer = || async {
        let mut made = 0;
        while made < EACH {
            let Some(entry) = storage.get(&scope, "t", "n").await? else { return conflict("n", 0) };
            let text = String::from_utf8_lossy(&entry.value).into_owned();
            let next = text.parse::<u64>().map_or(u64::MAX, |n| n + 1).to_string();
            match storage.commit(&scope, "t", vec![put_if("n", &next, Condition::At(entry.revision))]).await {
                Ok(_) => made += 1,
                Err(Error::Conflict(met)) => assert!(met.key == "n" && met.revision > entry.revision),
                Err(other) => return Err(other),
            }
        }
        Ok(())
    };
    future::try_join_all((0..WRITERS).map(|_| writer())).await?;
    let total = WRITERS * EACH;
    let last = storage.get(&scope, "t", "n").await?;
    assert_eq!(last, Some(entry("n", &total.to_string(), total + 1)), "no increment is lost, none made twice");
    Ok(())
}

pub(super) async fn bad_input(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.bad", "n");
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    let key = "k".repeat(MAX_KEY_BYTES + 1);
    let value = Bytes::from(vec![0; MAX_VALUE_BYTES + 1]);
    let huge = Write::Put { key: "k".to_owned(), value, condition: Condition::Always, ttl: None };
    let many = (0..=MAX_COMMIT_WRITES).map(|n| put(&n.to_string(), "")).collect();
    for writes in [vec![put(&key, "")], vec![huge], many] {
        let answer = storage.commit(&scope, "t", writes).await;
        assert!(matches!(answer, Err(Error::TooLarge(_))), "{answer:?}");
    }
    assert!(matches!(storage.get(&scope, &long, "k").await, Err(Error::TooLarge(_))));
    assert!(matches!(storage.get(&scope, "t", &key).await, Err(Error::TooLarge(_))));
    for writes in [
        vec![put("", "v")],
        vec![put("a\0b", "v")],
        vec![put("a\u{85}b", "v")],
        vec![put("twice", "1"), delete("twice")],
        vec![check("twice", Condition::Absent), put("twice", "1")],
        vec![touch("k", Some(Duration::ZERO))],
    ] {
        let answer = storage.commit(&scope, "t", writes).await;
        assert!(matches!(answer, Err(Error::Invalid(_))), "{answer:?}");
    }
    for table in ["", "a\nb", "a\0b"] {
        assert!(matches!(storage.revision(&scope, table).await, Err(Error::Invalid(_))));
        assert!(matches!(storage.scan(&scope, table, "", None, 1).await, Err(Error::Invalid(_))));
    }
    assert!(matches!(storage.scan(&scope, "t", "", None, 0).await, Err(Error::Invalid(_))));
    assert!(matches!(storage.scan(&scope, "t", "a\0", None, 1).await, Err(Error::Invalid(_))));
    assert!(matches!(storage.changes(&scope, "t", "", 0, 0, NOW).await, Err(Error::Invalid(_))));
    assert_eq!(storage.revision(&scope, "t").await?, 0, "nothing of it was made");
    Ok(())
}

pub(super) async fn large_values(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.large", "n");
    let value = |seed: u8| Bytes::from((0..MAX_VALUE_BYTES / 2).map(|n| seed ^ n.to_le_bytes()[0]).collect::<Vec<_>>());
    for n in 0..6 {
        let (key, value) = (format!("k{n}"), value(n));
        let write = Write::Put { key, value, condition: Condition::Absent, ttl: None };
        storage.commit(&scope, "t", vec![write]).await?;
    }
    let page = storage.scan(&scope, "t", "", None, MAX_LIMIT).await?;
    assert!((1..6).contains(&page.len()), "an answer is at most 16 MiB, not {} values of 4 MiB", page.len());
    let rest = storage.scan(&scope, "t", "", page.last().map(|entry| entry.key.as_str()), MAX_LIMIT).await?;
    assert_eq!(page.len() + rest.len(), 6);
    for (n, entry) in (0_u8..).zip(page.iter().chain(&rest)) {
        assert!(entry.value == value(n), "`{}` is what was put", entry.key);
    }
    let all = storage.get_many(&scope, "t", &["k0", "k1", "k2", "k3", "k4"]).await;
    assert!(matches!(all, Err(Error::TooLarge(_))), "keys of one moment are not cut");
    assert_eq!(storage.get_many(&scope, "t", &["k0", "k1", "k2"]).await?.iter().flatten().count(), 3);
    let changes = storage.changes(&scope, "t", "", 0, MAX_LIMIT, NOW).await?;
    assert!((1..6).contains(&changes.len()));
    storage.commit(&scope, "t", (0..6).map(|n| delete(&format!("k{n}"))).collect()).await?;
    Ok(())
}
