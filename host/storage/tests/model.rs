//! Random histories against a model that is too simple to be wrong.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that can't go on has failed, and what it prints is for whoever looks into that"
)]

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use platform_storage::{
    Change, Clock, Condition, Conflict, Embedded, Entry, Error, Memory, Options, Result, Scope, Storage, Store, Usage,
    Write,
};
use proptest::prelude::*;

const NOW: Duration = Duration::ZERO;
/// More than one step can add, so that the model need not know what happens to a log shorter than a commit.
const KEPT: usize = 12;

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Write>),
    CommitWithin(Vec<Write>, Usage),
    Get(String),
    GetMany(Vec<String>),
    Scan { prefix: String, after: Option<String>, limit: usize },
    Changes { prefix: String, after: u64, limit: usize },
    Advance(u64),
    Reopen,
}

fn key() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["a", "a/1", "a/2", "b", "é"]).prop_map(str::to_owned)
}

fn prefix() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["", "a", "a/", "b", "z"]).prop_map(str::to_owned)
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        6 => Just(Condition::Always),
        1 => Just(Condition::Absent),
        1 => Just(Condition::Present),
        1 => (0_u64..30).prop_map(Condition::At),
    ]
}

fn ttl() -> impl Strategy<Value = Option<Duration>> {
    proptest::option::of((1_u64..100).prop_map(Duration::from_millis))
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        4 => (key(), any::<[u8; 3]>(), condition(), ttl()).prop_map(|(key, value, condition, ttl)| Write::Put {
            key, value: Bytes::copy_from_slice(&value), condition, ttl
        }),
        2 => (key(), any::<[u8; 2]>(), condition()).prop_map(|(key, value, condition)| Write::Replace {
            key, value: Bytes::copy_from_slice(&value), condition
        }),
        2 => (key(), condition()).prop_map(|(key, condition)| Write::Delete { key, condition }),
        1 => (key(), ttl()).prop_map(|(key, ttl)| Write::Touch { key, ttl }),
        1 => (key(), condition()).prop_map(|(key, condition)| Write::Check { key, condition }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let writes = || {
        proptest::collection::vec(write(), 1..4).prop_map(|mut writes| {
            writes.sort_by(|a, b| a.condition().0.cmp(b.condition().0));
            writes.dedup_by(|a, b| a.condition().0 == b.condition().0);
            writes
        })
    };
    prop_oneof![
        8 => writes().prop_map(Step::Commit),
        2 => (writes(), 0_u64..5, 0_u64..20)
            .prop_map(|(writes, keys, bytes)| Step::CommitWithin(writes, Usage { keys, bytes })),
        2 => key().prop_map(Step::Get),
        1 => proptest::collection::vec(key(), 1..4).prop_map(Step::GetMany),
        2 => (prefix(), proptest::option::of(key()), 1_usize..7)
            .prop_map(|(prefix, after, limit)| Step::Scan { prefix, after, limit }),
        3 => (prefix(), 0_u64..30, 1_usize..8).prop_map(|(prefix, after, limit)| Step::Changes { prefix, after, limit }),
        2 => (1_u64..60).prop_map(Step::Advance),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Debug, Default, Clone)]
struct Model {
    now_ms: u64,
    revision: u64,
    floor: u64,
    rows: BTreeMap<String, Entry>,
    log: Vec<Change>,
}

impl Model {
    fn expire(&mut self) {
        let mut due: Vec<_> = self.rows.values().filter(|entry| !self.lives(entry)).cloned().collect();
        due.sort_by_key(|entry| (entry.expires_ms, entry.key.clone()));
        if !due.is_empty() {
            self.revision += 1;
        }
        for entry in due {
            self.rows.remove(&entry.key);
            self.log.push(Change::Delete { key: entry.key, revision: self.revision });
        }
        self.compact();
    }

    fn lives(&self, entry: &Entry) -> bool {
        entry.expires_ms.is_none_or(|at| at > self.now_ms)
    }

    fn compact(&mut self) {
        while self.log.len() > KEPT {
            self.floor = self.log[0].revision();
            self.log.retain(|change| change.revision() > self.floor);
        }
    }

    fn usage(&self) -> Usage {
        let bytes = self.rows.values().map(|entry| (entry.key.len() + entry.value.len()) as u64).sum();
        Usage { keys: self.rows.len() as u64, bytes }
    }

    /// The rows are few, so it is simply tried on a copy.
    fn commit_within(&mut self, writes: &[Write], limit: Usage) -> Result<u64> {
        self.expire();
        let before = self.usage();
        let mut tried = self.clone();
        let revision = tried.commit(writes)?;
        let after = tried.usage();
        let over = |before: u64, after: u64, limit: u64| after > limit && after > before;
        if over(before.keys, after.keys, limit.keys) || over(before.bytes, after.bytes, limit.bytes) {
            return Err(Error::Full(String::new()));
        }
        *self = tried;
        Ok(revision)
    }

    fn commit(&mut self, writes: &[Write]) -> Result<u64> {
        self.expire();
        for (key, condition) in writes.iter().map(Write::condition) {
            let at = self.rows.get(key).map_or(0, |entry| entry.revision);
            let holds = match condition {
                Condition::Always => true,
                Condition::Absent => at == 0,
                Condition::Present => at != 0,
                Condition::At(wanted) => at != 0 && at == wanted,
            };
            if !holds {
                return Err(Conflict { key: key.to_owned(), revision: at }.into());
            }
        }
        let revision = self.revision + 1;
        for write in writes {
            let expires = |ttl: Option<Duration>| ttl.map(|ttl| self.now_ms + u64::try_from(ttl.as_millis()).unwrap());
            match write {
                Write::Put { key, value, ttl, .. } => {
                    let (key, value, expires_ms) = (key.clone(), value.clone(), expires(*ttl));
                    let entry = Entry { key: key.clone(), value, revision, expires_ms };
                    self.rows.insert(key, entry.clone());
                    self.log.push(Change::Put(entry));
                    self.revision = revision;
                }
                Write::Replace { key, value, .. } => {
                    let expires_ms = self.rows.get(key).and_then(|old| old.expires_ms);
                    let entry = Entry { key: key.clone(), value: value.clone(), revision, expires_ms };
                    self.rows.insert(key.clone(), entry.clone());
                    self.log.push(Change::Put(entry));
                    self.revision = revision;
                }
                Write::Delete { key, .. } => {
                    if self.rows.remove(key).is_some() {
                        self.log.push(Change::Delete { key: key.clone(), revision });
                        self.revision = revision;
                    }
                }
                Write::Touch { key, ttl } => {
                    let expires_ms = expires(*ttl);
                    self.rows.get_mut(key).unwrap().expires_ms = expires_ms;
                }
                Write::Check { .. } => {}
            }
        }
        self.compact();
        Ok(self.revision)
    }

    fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<Entry> {
        let rows = self.rows.values().filter(|entry| self.lives(entry) && entry.key.starts_with(prefix));
        rows.filter(|entry| after.is_none_or(|after| *entry.key > *after)).take(limit).cloned().collect()
    }

    fn changes(&self, prefix: &str, after: u64, limit: usize) -> Result<Vec<Change>> {
        if after != 0 && after < self.floor {
            return Err(Error::Compacted(self.floor));
        }
        let mut taken: Vec<Change> = Vec::new();
        for change in self.log.iter().filter(|change| change.revision() > after && change.key().starts_with(prefix)) {
            if taken.len() >= limit && taken.last().map(Change::revision) != Some(change.revision()) {
                break;
            }
            taken.push(change.clone());
        }
        Ok(taken)
    }
}

/// Runs a history on a storage that `reopen` makes, and again makes from what it closed.
async fn follow<B>(steps: Vec<Step>, clock: Clock, reopen: impl AsyncFn(Option<Store<B>>) -> Store<B>)
where
    Store<B>: Storage,
{
    let scope = Scope::new("model", "n");
    let mut model = Model { now_ms: clock.unix_ms(), ..Model::default() };
    let mut storage = reopen(None).await;
    for (number, step) in steps.into_iter().enumerate() {
        let at = format!("step {number}, {step:?}");
        match step {
            Step::Commit(writes) => {
                let expected = model.commit(&writes);
                assert_eq!(storage.commit(&scope, "t", writes).await, expected, "{at}");
            }
            Step::CommitWithin(writes, limit) => {
                let expected = model.commit_within(&writes, limit);
                let answer = storage.commit_within(&scope, "t", writes, limit).await;
                let answer = answer.map_err(|error| match error {
                    Error::Full(_) => Error::Full(String::new()),
                    other => other,
                });
                assert_eq!(answer, expected, "{at}");
                assert_eq!(storage.used(&scope, "t").await, Ok(model.usage()), "{at}");
            }
            Step::Get(key) => {
                let expected = model.rows.get(&key).filter(|entry| model.lives(entry)).cloned();
                assert_eq!(storage.get(&scope, "t", &key).await, Ok(expected), "{at}");
            }
            Step::GetMany(keys) => {
                let held = |key: &String| model.rows.get(key).filter(|entry| model.lives(entry)).cloned();
                let expected = keys.iter().map(held).collect();
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                assert_eq!(storage.get_many(&scope, "t", &keys).await, Ok(expected), "{at}");
            }
            Step::Scan { prefix, after, limit } => {
                let expected = model.scan(&prefix, after.as_deref(), limit);
                assert_eq!(storage.scan(&scope, "t", &prefix, after.as_deref(), limit).await, Ok(expected), "{at}");
            }
            Step::Changes { prefix, after, limit } => {
                let expected = model.changes(&prefix, after, limit);
                assert_eq!(storage.changes(&scope, "t", &prefix, after, limit, NOW).await, expected, "{at}");
            }
            Step::Advance(by) => {
                clock.advance(Duration::from_millis(by));
                model.now_ms = clock.unix_ms();
                let expected = model.scan("", None, 100);
                assert_eq!(storage.scan(&scope, "t", "", None, 100).await, Ok(expected), "{at}, before the expiry");
                model.expire();
                storage.expire_due().await.unwrap();
            }
            Step::Reopen => storage = reopen(Some(storage)).await,
        }
        assert_eq!(storage.revision(&scope, "t").await, Ok(model.revision), "{at}");
    }
    assert_eq!(storage.scan(&scope, "t", "", None, 100).await, Ok(model.scan("", None, 100)));
    assert_eq!(storage.changes(&scope, "t", "", model.floor, 100, NOW).await, model.changes("", model.floor, 100));
    storage.close().await;
}

fn options(clock: &Clock) -> Options {
    Options { changes_kept: KEPT as u64, clock: clock.clone(), ..Options::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn memory_follows_the_model(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let clock = Clock::manual(1_000_000);
        let keep = async |storage: Option<Memory>| storage.unwrap_or_else(|| Memory::new(options(&clock)));
        runtime.block_on(follow(steps, clock.clone(), keep));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn embedded_follows_the_model(steps in proptest::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let clock = Clock::manual(1_000_000);
        let directory = tempfile::tempdir().unwrap();
        let reopen = async |storage: Option<Embedded>| {
            if let Some(storage) = storage {
                storage.close().await;
            }
            Embedded::open(directory.path(), options(&clock)).unwrap()
        };
        runtime.block_on(follow(steps, clock.clone(), reopen));
    }
}
