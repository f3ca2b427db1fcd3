//! What readers see of keys that are written all the time, whatever is held in memory of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use platform_storage::{Condition, Embedded, Entry, Options, Scope, Storage, Write};
use tokio::task::JoinSet;

const COMMITS: u64 = 2_000;
const READERS: usize = 4;

/// The commits of two keys that are always written together.
#[derive(Default)]
struct Pair {
    begun: AtomicU64,
    acknowledged: AtomicU64,
}

fn number(entry: &Entry) -> u64 {
    std::str::from_utf8(&entry.value).unwrap().parse().unwrap()
}

/// Commit number `n` writes its number to two keys at once, or removes both.
fn commit(n: u64, pair: u64) -> Vec<Write> {
    let key = |side: &str| format!("{side}{pair}");
    let always = Condition::Always;
    if n.is_multiple_of(7) {
        return ["a", "b"].map(|side| Write::Delete { key: key(side), condition: always }).into();
    }
    let value = n.to_string();
    ["a", "b"]
        .map(|side| Write::Put { key: key(side), value: value.clone().into(), condition: always, ttl: None })
        .into()
}

async fn reads_never_go_back(options: Options, pairs: u64) {
    let directory = tempfile::tempdir().unwrap();
    let storage = Arc::new(Embedded::open(directory.path(), options).unwrap());
    let scope = Scope::new("views", "n");
    let all: Arc<[Pair]> = (0..pairs).map(|_| Pair::default()).collect();
    let over = Arc::new(AtomicU64::new(0));
    let mut readers = JoinSet::new();
    for reader in 0..READERS {
        let (storage, scope) = (Arc::clone(&storage), scope.clone());
        let (all, over) = (Arc::clone(&all), Arc::clone(&over));
        readers.spawn(async move {
            let mut seen = vec![0; all.len()];
            let mut reads = 0_u64;
            while over.load(Ordering::SeqCst) == 0 {
                for (pair, (commits, seen)) in all.iter().zip(&mut seen).enumerate() {
                    let least = commits.acknowledged.load(Ordering::SeqCst);
                    let (a, b) = (format!("a{pair}"), format!("b{pair}"));
                    let found = if reader.is_multiple_of(2) {
                        let found = storage.get_many(&scope, "t", &[&a, &b]).await.unwrap();
                        let numbers: Vec<_> = found.iter().map(|entry| entry.as_ref().map(number)).collect();
                        assert_eq!(numbers.first(), numbers.last(), "both were written by one commit");
                        numbers.first().copied().flatten()
                    } else {
                        storage.get(&scope, "t", &a).await.unwrap().as_ref().map(number)
                    };
                    if let Some(found) = found {
                        assert!(found >= least, "{found} was read after {least} had been acknowledged");
                        assert!(found >= *seen, "{found} was read after {seen}");
                        *seen = found;
                    } else if !least.is_multiple_of(7) {
                        let begun = commits.begun.load(Ordering::SeqCst);
                        assert!(begun > least, "nothing was read, and {least} is the last commit");
                    }
                    reads += 1;
                }
                tokio::task::yield_now().await;
            }
            reads
        });
    }
    for (n, (number, pair)) in (1..=COMMITS).zip((0..pairs).zip(&*all).cycle()) {
        pair.begun.store(n, Ordering::SeqCst);
        storage.commit(&scope, "t", commit(n, number)).await.unwrap();
        pair.acknowledged.store(n, Ordering::SeqCst);
    }
    over.store(1, Ordering::SeqCst);
    assert!(readers.join_all().await.into_iter().all(|reads| reads > 0));
    storage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn reads_of_what_is_held_in_memory() {
    reads_never_go_back(Options::default(), 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn reads_while_little_is_held_in_memory() {
    // Room for some of the rows, so that they come and go.
    let options = Options { memtable_bytes: 64 << 10, cache_bytes: 64 << 10, ..Options::default() };
    reads_never_go_back(options, 400).await;
}
