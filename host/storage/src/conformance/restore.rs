//! Checks of what comes from another storage.

use std::time::Duration;

use bytes::Bytes;

use super::{put, put_if};
use crate::{Change, Condition, Entry, Error, Item, MAX_COMMIT_WRITES, Result, Scope, Storage, Usage};

const NOW: Duration = Duration::ZERO;

fn row(key: &str, value: &str, revision: u64, expires_ms: Option<u64>) -> Change {
    let value = Bytes::copy_from_slice(value.as_bytes());
    Change::Put(Entry { key: key.to_owned(), value, revision, expires_ms })
}

fn gone(key: &str) -> Change {
    Change::Delete { key: key.to_owned(), revision: 0 }
}

pub(super) async fn rows(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.restore", "n");
    storage.commit(&scope, "t", vec![put("own", "1"), put("old", "1")]).await?;
    let far = 4_000_000_000_000;
    let ended = row("ended", "x", 3, Some(1));
    storage
        .restore(&scope, "t", vec![row("own", "theirs", 70, Some(far)), gone("old"), gone("absent"), ended], 0)
        .await?;
    let held = storage.get(&scope, "t", "own").await?;
    let value = Bytes::from_static(b"theirs");
    assert_eq!(held, Some(Entry { key: "own".to_owned(), value, revision: 70, expires_ms: Some(far) }));
    assert_eq!(storage.get(&scope, "t", "old").await?, None);
    assert_eq!(storage.get(&scope, "t", "ended").await?, None, "what ended meanwhile is not read");
    let told = storage.changes(&scope, "t", "", 1, 10, NOW).await?;
    assert!(told.iter().all(|change| change.key() == "ended"), "nothing restored is told: {told:?}");

    storage.restore(&scope, "t", vec![row("more", "", 90, None)], 100).await?;
    assert_eq!(storage.revision(&scope, "t").await?, 100);
    assert_eq!(storage.changes(&scope, "t", "", 99, 10, NOW).await, Err(Error::Compacted(100)));
    assert_eq!(storage.changes(&scope, "t", "", 0, 10, NOW).await?, []);
    assert_eq!(storage.commit(&scope, "t", vec![put_if("own", "2", Condition::At(70))]).await?, 101);
    assert_eq!(storage.changes(&scope, "t", "", 100, 10, NOW).await?.len(), 1);
    assert_eq!(storage.used(&scope, "t").await?, Usage { keys: 2, bytes: 8 });
    storage.restore(&scope, "t", vec![], 50).await?;
    assert_eq!(storage.revision(&scope, "t").await?, 101, "revisions never go back");
    assert_eq!(storage.changes(&scope, "t", "", 50, 10, NOW).await?, [], "what was before is not told");
    assert_eq!(storage.commit(&scope, "t", vec![put("next", "1")]).await?, 102);

    let twice = vec![row("a", "1", 1, None), gone("a")];
    assert!(matches!(storage.restore(&scope, "t", twice, 0).await, Err(Error::Invalid(_))));
    let many = (0..=MAX_COMMIT_WRITES).map(|number| gone(&number.to_string())).collect();
    assert!(matches!(storage.restore(&scope, "t", many, 0).await, Err(Error::TooLarge(_))));
    assert!(matches!(storage.restore(&scope, "t", vec![gone("")], 0).await, Err(Error::Invalid(_))));
    Ok(())
}

pub(super) async fn items(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.restore-items", "n");
    let item = |sequence| Item { sequence, time_ns: 1_000 + sequence, data: Bytes::from_static(b"x") };
    storage.restore_items(&scope, "j", 7, vec![item(7), item(8)]).await?;
    storage.restore_items(&scope, "j", 7, vec![item(9)]).await?;
    assert_eq!(storage.bounds(&scope, "j").await?, (7, 9));
    assert_eq!(storage.read(&scope, "j", 0, 10, NOW).await?, [item(7), item(8), item(9)]);
    assert_eq!(storage.append(&scope, "j", vec![Bytes::new()]).await?, 10);
    for refused in [vec![item(9)], vec![item(12)], vec![item(20), item(22)]] {
        assert!(matches!(storage.restore_items(&scope, "j", 7, refused).await, Err(Error::Invalid(_))));
    }
    storage.restore_items(&scope, "empty", 5, vec![]).await?;
    assert_eq!(storage.bounds(&scope, "empty").await?, (5, 4), "all of it was trimmed");
    assert_eq!(storage.append(&scope, "empty", vec![Bytes::new()]).await?, 5);
    Ok(())
}

pub(super) async fn names(storage: &dyn Storage) -> Result<()> {
    let scopes = [Scope::new("conformance.names", ""), Scope::new("conformance.names", "n")];
    for scope in &scopes {
        storage.commit(scope, "t", vec![put("k", "v")]).await?;
        storage.append(scope, "j", vec![Bytes::new()]).await?;
    }
    for (names, name) in [(storage.tables().await?, "t"), (storage.journals().await?, "j")] {
        let ours: Vec<_> = names.into_iter().filter(|(scope, _)| *scope.owner == *"conformance.names").collect();
        assert_eq!(ours, scopes.clone().map(|scope| (scope, name.to_owned())));
    }
    Ok(())
}
