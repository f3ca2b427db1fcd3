//! What every [`Storage`] must do, as checks that any implementation can be put through.
//!
//! Owns the promises of the trait in the form of code; must not know any implementation. Invariant: a check uses a
//! scope of its own, so that checks do not depend on each other and a storage may be checked while it holds data.

mod journals;
mod restore;
mod tables;
mod times;

use std::{future::Future, time::Duration};

use bytes::Bytes;
use futures::future;

use crate::{Condition, Conflict, Error, Result, Scope, Storage, Write};

/// Long enough for anything that is to happen at all, also on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Puts a storage through all checks and closes it.
///
/// # Panics
/// When the storage does not keep a promise; the message says which.
pub async fn run(storage: &dyn Storage) {
    passes("nothing is there at first", tables::nothing_at_first(storage)).await;
    passes("revisions count commits", tables::revisions_count_commits(storage)).await;
    passes("conditions", tables::conditions(storage)).await;
    passes("checks write nothing", tables::checks_write_nothing(storage)).await;
    passes("several keys are read at one moment", tables::several_keys(storage)).await;
    passes("a commit is all or nothing", tables::all_or_nothing(storage)).await;
    passes("a new value keeps the time to live", times::replacing(storage)).await;
    passes("usage and limits", tables::usage_and_limits(storage)).await;
    passes("scopes never meet", tables::scopes_never_meet(storage)).await;
    passes("scans page in byte order", tables::scans_page_in_byte_order(storage)).await;
    passes("changes tell every commit", tables::changes_tell_every_commit(storage)).await;
    passes("concurrent compare and set", tables::concurrent_compare_and_set(storage)).await;
    passes("bad input", tables::bad_input(storage)).await;
    passes("large values", tables::large_values(storage)).await;
    passes("waiting for changes", times::waiting_for_changes(storage)).await;
    passes("many waiters", times::many_waiters(storage)).await;
    passes("keys expire", times::keys_expire(storage)).await;
    passes("expiry is told in time", times::expiry_is_told_in_time(storage)).await;
    passes("touch", times::touching(storage)).await;
    passes("journals", journals::append_read_trim(storage)).await;
    passes("waiting for items", journals::waiting_for_items(storage)).await;
    passes("bad input for journals", journals::bad_input(storage)).await;
    passes("rows of another storage", restore::rows(storage)).await;
    passes("items of another storage", restore::items(storage)).await;
    passes("names", restore::names(storage)).await;
    passes("closing", closing(storage)).await;
}

async fn passes(check: &str, run: impl Future<Output = Result<()>>) {
    let outcome = run.await;
    assert!(outcome.is_ok(), "conformance, {check}: {outcome:?}");
}

async fn closing(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.closing", "n");
    storage.commit(&scope, "t", vec![put("k", "v")]).await?;
    let waiting = storage.changes(&scope, "t", "", 1, 10, SOON * 100);
    let ((), waited) = future::join(
        async {
            storage.close().await;
        },
        waiting,
    )
    .await;
    assert!(matches!(waited, Err(Error::Unavailable(_))), "who waits is told: {waited:?}");
    storage.close().await;
    let closed = [
        storage.get(&scope, "t", "k").await.map(drop),
        storage.commit(&scope, "t", vec![put("k", "w")]).await.map(drop),
        storage.used(&scope, "t").await.map(drop),
        storage.scan(&scope, "t", "", None, 1).await.map(drop),
        storage.changes(&scope, "t", "", 0, 1, Duration::ZERO).await.map(drop),
        storage.revision(&scope, "t").await.map(drop),
        storage.append(&scope, "j", vec![Bytes::new()]).await.map(drop),
        storage.read(&scope, "j", 0, 1, Duration::ZERO).await.map(drop),
        storage.bounds(&scope, "j").await.map(drop),
        storage.trim(&scope, "j", 1).await,
        storage.restore(&scope, "t", vec![], 1).await,
        storage.restore_items(&scope, "j", 1, vec![]).await,
        storage.tables().await.map(drop),
        storage.journals().await.map(drop),
    ];
    assert!(closed.iter().all(|answer| matches!(answer, Err(Error::Unavailable(_)))), "{closed:?}");
    Ok(())
}

fn put(key: &str, value: &str) -> Write {
    put_if(key, value, Condition::Always)
}

fn put_if(key: &str, value: &str, condition: Condition) -> Write {
    Write::Put { key: key.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()), condition, ttl: None }
}

fn put_for(key: &str, value: &str, ttl: Duration) -> Write {
    let value = Bytes::copy_from_slice(value.as_bytes());
    Write::Put { key: key.to_owned(), value, condition: Condition::Always, ttl: Some(ttl) }
}

fn replace(key: &str, value: &str, condition: Condition) -> Write {
    Write::Replace { key: key.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()), condition }
}

fn delete(key: &str) -> Write {
    Write::Delete { key: key.to_owned(), condition: Condition::Always }
}

fn check(key: &str, condition: Condition) -> Write {
    Write::Check { key: key.to_owned(), condition }
}

/// The refusal of a commit because of one key.
fn conflict<T>(key: &str, revision: u64) -> Result<T> {
    Err(Conflict { key: key.to_owned(), revision }.into())
}

fn touch(key: &str, ttl: Option<Duration>) -> Write {
    Write::Touch { key: key.to_owned(), ttl }
}
