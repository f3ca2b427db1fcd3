//! Checks of waiting and expiry.

use std::time::Duration;

use futures::future;
use platform_base::clock;

use super::{SOON, conflict, delete, put, put_for, put_if, replace, touch};
use crate::{Change, Condition, Result, Scope, Storage};

/// What watchers of an expiry are promised.
const TOLD_WITHIN: Duration = Duration::from_millis(250);

pub(super) async fn waiting_for_changes(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.waiting", "n");
    let started = clock::now();
    let nothing = storage.changes(&scope, "t", "", 0, 10, Duration::from_millis(20)).await?;
    assert_eq!(nothing, []);
    assert!(started.elapsed() >= Duration::from_millis(20));
    let waits = storage.changes(&scope, "t", "k", 0, 10, SOON);
    let writes = async {
        storage.commit(&scope, "t", vec![put("other", "1")]).await?;
        storage.commit(&scope, "t", vec![put("k", "2")]).await
    };
    let (told, written) = future::try_join(waits, writes).await?;
    assert_eq!(told.iter().map(|change| (change.key(), change.revision())).collect::<Vec<_>>(), [("k", written)]);
    let waits = storage.changes(&scope, "t", "", written, 10, SOON);
    let (told, written) = future::try_join(waits, storage.commit(&scope, "t", vec![delete("k")])).await?;
    assert_eq!(told, [Change::Delete { key: "k".to_owned(), revision: written }]);
    Ok(())
}

pub(super) async fn many_waiters(storage: &dyn Storage) -> Result<()> {
    const WAITERS: usize = 2000;
    let scope = Scope::new("conformance.waiters", "n");
    let written = storage.commit(&scope, "t", vec![put("k", "0")]).await?;
    let waiters = (0..WAITERS).map(|_| storage.changes(&scope, "t", "", written, 10, SOON));
    let writes = async {
        storage.commit(&scope, "elsewhere", vec![put("k", "1")]).await?;
        storage.commit(&scope, "t", vec![put("k", "1")]).await
    };
    let (told, written) = future::try_join(future::try_join_all(waiters), writes).await?;
    assert!(told.iter().all(|changes| changes.iter().map(Change::revision).eq([written])));
    Ok(())
}

pub(super) async fn keys_expire(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.expiry", "n");
    let short = Duration::from_millis(60);
    let written = storage.commit(&scope, "t", vec![put_for("a", "1", short), put("stays", "1")]).await?;
    let entry = storage.get(&scope, "t", "a").await?;
    assert!(entry.is_none_or(|entry| entry.expires_ms.is_some_and(|at| at <= clock::unix_ms() + 60)));
    let told = storage.changes(&scope, "t", "", written, 10, SOON).await?;
    assert_eq!(told, [Change::Delete { key: "a".to_owned(), revision: written + 1 }]);
    assert_eq!(storage.get(&scope, "t", "a").await?, None);
    assert_eq!(storage.scan(&scope, "t", "", None, 10).await?.len(), 1);
    let answer = storage.commit(&scope, "t", vec![put_if("a", "2", Condition::Present)]).await;
    assert_eq!(answer, conflict("a", 0), "what expired is absent");
    storage.commit(&scope, "t", vec![put_for("a", "2", short)]).await?;
    let kept = storage.commit(&scope, "t", vec![put("a", "3")]).await?;
    storage.commit(&scope, "t", vec![put_for("b", "1", short * 2)]).await?;
    let told = storage.changes(&scope, "t", "b", kept + 1, 10, SOON).await?;
    assert_eq!(told.iter().map(Change::key).collect::<Vec<_>>(), ["b"]);
    assert!(storage.get(&scope, "t", "a").await?.is_some(), "a put without a time to live keeps the key");
    Ok(())
}

/// A busy machine may be late once; it can't be late every time.
pub(super) async fn expiry_is_told_in_time(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.in-time", "n");
    let ttl = Duration::from_millis(50);
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let started = clock::now();
        let written = storage.commit(&scope, "t", vec![put_for("lease", "1", ttl)]).await?;
        let told = storage.changes(&scope, "t", "", written, 10, SOON).await?;
        assert_eq!(told.iter().map(Change::key).collect::<Vec<_>>(), ["lease"]);
        best = best.min(started.elapsed());
        if best <= ttl + TOLD_WITHIN {
            return Ok(());
        }
    }
    assert!(best <= ttl + TOLD_WITHIN, "an expiry was told only after {best:?}");
    Ok(())
}

pub(super) async fn replacing(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.replace", "n");
    let day = Duration::from_secs(86_400);
    let written = storage.commit(&scope, "t", vec![put_for("a", "1", day)]).await?;
    let before = storage.get(&scope, "t", "a").await?.and_then(|entry| entry.expires_ms);
    assert!(before.is_some());
    let both = vec![replace("a", "2", Condition::At(written)), replace("new", "2", Condition::Absent)];
    let replaced = storage.commit(&scope, "t", both).await?;
    let entry = storage.get(&scope, "t", "a").await?;
    let found = entry.map(|entry| (entry.value, entry.revision, entry.expires_ms));
    assert_eq!(found, Some(("2".into(), replaced, before)), "to the millisecond");
    let new = storage.get(&scope, "t", "new").await?;
    assert_eq!(new.map(|entry| entry.expires_ms), Some(None), "a new key stays");
    assert_eq!(storage.changes(&scope, "t", "", written, 10, Duration::ZERO).await?.len(), 2);
    let ttl = Duration::from_millis(30);
    let written = storage.commit(&scope, "t", vec![put_for("b", "1", ttl)]).await?;
    storage.commit(&scope, "t", vec![replace("b", "2", Condition::Always)]).await?;
    let told = storage.changes(&scope, "t", "b", written + 1, 10, SOON).await?;
    assert_eq!(told.len(), 1, "it goes when it would have gone");
    Ok(())
}

pub(super) async fn touching(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.touch", "n");
    let day = Duration::from_secs(86_400);
    let answer = storage.commit(&scope, "t", vec![touch("absent", Some(day))]).await;
    assert_eq!(answer, conflict("absent", 0));
    let written = storage.commit(&scope, "t", vec![put_for("a", "1", Duration::from_millis(100))]).await?;
    let touched = storage.commit(&scope, "t", vec![touch("a", Some(day))]).await?;
    assert_eq!(touched, written, "a touch is no new revision");
    storage.commit(&scope, "t", vec![put_for("b", "1", Duration::from_millis(150))]).await?;
    let told = storage.changes(&scope, "t", "", written + 1, 10, SOON).await?;
    assert_eq!(told.iter().map(Change::key).collect::<Vec<_>>(), ["b"], "neither the touch nor an expiry of `a`");
    let entry = storage.get(&scope, "t", "a").await?;
    let left = entry.map(|entry| (entry.revision, entry.expires_ms.is_some_and(|at| at > clock::unix_ms())));
    assert_eq!(left, Some((written, true)));
    storage.commit(&scope, "t", vec![touch("a", None)]).await?;
    let stays = storage.get(&scope, "t", "a").await?.map(|entry| entry.expires_ms);
    assert_eq!(stays, Some(None));
    Ok(())
}
