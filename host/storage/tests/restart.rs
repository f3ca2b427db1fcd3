//! What embedded storage keeps across restarts, and how it refuses to start.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that can't go on has failed, and what it prints is for whoever looks into that"
)]

use std::{fs, time::Duration};

use bytes::Bytes;
use platform_storage::{Change, Clock, Condition, Embedded, Error, OpenError, Options, Result, Scope, Storage, Write};

const NOW: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(20);

fn put(key: &str, value: &str, ttl: Option<Duration>) -> Write {
    let value = Bytes::copy_from_slice(value.as_bytes());
    Write::Put { key: key.to_owned(), value, condition: Condition::Always, ttl }
}

fn scope() -> Scope {
    Scope::new("kv.store", "default")
}

#[tokio::test]
async fn tables_and_journals_come_back() -> Result<()> {
    let directory = tempfile::tempdir().unwrap();
    let open = || Embedded::open(directory.path(), Options::default()).unwrap();
    let storage = open();
    storage.commit(&scope(), "t", vec![put("a", "1", None), put("b", "1", None)]).await?;
    storage.commit(&scope(), "t", vec![put("a", "2", None)]).await?;
    storage.append(&scope(), "j", (0..3000).step_by(3).map(|n| Bytes::from(n.to_string())).collect()).await?;
    storage.trim(&scope(), "j", 990).await?;
    let changes = storage.changes(&scope(), "t", "", 0, 10, NOW).await?;
    let items = storage.read(&scope(), "j", 0, 10, NOW).await?;
    storage.close().await;

    let storage = open();
    assert_eq!(storage.revision(&scope(), "t").await?, 2);
    assert_eq!(storage.get(&scope(), "t", "a").await?.map(|entry| entry.value), Some(Bytes::from("2")));
    assert_eq!(storage.changes(&scope(), "t", "", 0, 10, NOW).await?, changes);
    assert_eq!(storage.changes(&scope(), "t", "", 1, 10, NOW).await?, changes[2..]);
    assert_eq!(storage.bounds(&scope(), "j").await?, (990, 1000));
    assert_eq!(storage.read(&scope(), "j", 0, 10, NOW).await?, items);
    assert_eq!(storage.commit(&scope(), "t", vec![put("c", "3", None)]).await?, 3);
    assert_eq!(storage.commit(&scope(), "u", vec![put("c", "1", None)]).await?, 1, "a new table has an id of its own");
    assert_eq!(storage.append(&scope(), "j", vec![Bytes::new()]).await?, 1001);
    assert_eq!(storage.scan(&scope(), "t", "", None, 10).await?.len(), 3);
    storage.close().await;
    Ok(())
}

#[tokio::test]
async fn what_expired_while_down_is_never_read_and_is_told() -> Result<()> {
    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::manual(1_000_000);
    let open = || Embedded::open(directory.path(), Options { clock: clock.clone(), ..Options::default() }).unwrap();
    let ttl = Some(Duration::from_secs(10));
    let storage = open();
    let written = storage.commit(&scope(), "t", vec![put("lease", "1", ttl), put("kept", "1", ttl)]).await?;
    let day = Some(Duration::from_secs(86_400));
    storage.commit(&scope(), "t", vec![Write::Touch { key: "kept".to_owned(), ttl: day }]).await?;
    storage.close().await;
    clock.advance(Duration::from_secs(11));
    let storage = open();
    assert_eq!(storage.get(&scope(), "t", "lease").await?, None);
    let told = storage.changes(&scope(), "t", "", written, 10, SOON).await?;
    assert_eq!(told, [Change::Delete { key: "lease".to_owned(), revision: written + 1 }]);
    assert!(storage.get(&scope(), "t", "kept").await?.is_some(), "the touch was durable");
    storage.close().await;
    Ok(())
}

#[tokio::test]
async fn old_changes_are_dropped_by_number_and_by_bytes() -> Result<()> {
    for options in
        [Options { changes_kept: 10, ..Options::default() }, Options { changes_bytes: 10 * 101, ..Options::default() }]
    {
        let directory = tempfile::tempdir().unwrap();
        let storage = Embedded::open(directory.path(), options.clone()).unwrap();
        let value = "v".repeat(100);
        for _ in 0..50 {
            storage.commit(&scope(), "t", vec![put("k", &value, None)]).await?;
        }
        let expected = Err(Error::Compacted(40));
        assert_eq!(storage.changes(&scope(), "t", "", 39, 100, NOW).await, expected);
        assert_eq!(storage.changes(&scope(), "t", "", 40, 100, NOW).await?.len(), 10);
        assert_eq!(storage.changes(&scope(), "t", "", 0, 100, NOW).await?.len(), 10, "0 asks for all that is kept");
        storage.close().await;
        let storage = Embedded::open(directory.path(), options).unwrap();
        assert_eq!(storage.changes(&scope(), "t", "", 39, 100, NOW).await, expected);
        storage.close().await;
    }
    Ok(())
}

#[tokio::test]
async fn concurrent_writes_share_fsyncs() -> Result<()> {
    let directory = tempfile::tempdir().unwrap();
    let storage = Embedded::open(directory.path(), Options::default()).unwrap();
    let (storage, scope) = (&storage, &scope());
    let writes =
        (0..256).map(|n| async move { storage.commit(scope, "t", vec![put(&n.to_string(), "v", None)]).await });
    let mut revisions = futures::future::try_join_all(writes).await?;
    revisions.sort_unstable();
    assert!(revisions.into_iter().eq(1..=256), "each has a revision of its own");
    let figures = storage.figures();
    assert_eq!(figures.requests, 256);
    assert!(figures.batches < 128, "{figures:?}");
    storage.close().await;
    Ok(())
}

#[tokio::test]
async fn a_directory_in_use_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let storage = Embedded::open(directory.path(), Options::default()).unwrap();
    let refused = Embedded::open(directory.path(), Options::default()).unwrap_err();
    assert!(matches!(&refused, OpenError::InUse { pid, .. } if *pid == std::process::id().to_string()), "{refused}");
    assert!(refused.to_string().contains(&directory.path().display().to_string()));
    storage.close().await;
    Embedded::open(directory.path(), Options::default()).unwrap().close().await;
}

#[test]
fn a_directory_that_cant_be_made_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let refused = Embedded::open(file.join("data"), Options::default()).unwrap_err();
    assert!(matches!(refused, OpenError::Unusable { .. }), "{refused}");
    assert!(refused.to_string().contains("file/data"), "{refused}");
}
