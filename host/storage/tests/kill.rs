//! kill -9 at random moments: every acknowledged write is there, whole.
//!
//! The test starts its own binary as the writer: with `STORAGE_KILL_DIRECTORY` set, the test function writes and
//! prints what was acknowledged until it is killed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that can't go on has failed, and what it prints is for whoever looks into that"
)]

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use platform_storage::{Change, Condition, Embedded, MAX_LIMIT, Options, Scope, Storage, Write};
use rand::{Rng, SeedableRng, rngs::StdRng};

const DIRECTORY: &str = "STORAGE_KILL_DIRECTORY";
const FIRST: &str = "STORAGE_KILL_FIRST";
const ROUNDS: u64 = 10;
const WRITERS: u64 = 8;
const NOW: Duration = Duration::ZERO;

fn scope() -> Scope {
    Scope::new("kv.store", "default")
}

/// Small memtables, so that kills also meet table files being written and merged.
fn options() -> Options {
    Options { memtable_bytes: 256 << 10, ..Options::default() }
}

/// A value that tells its key, of a length that depends on it.
fn value(writer: u64, number: u64) -> Bytes {
    let repeat = usize::try_from((writer * 31 + number * 7) % 300).unwrap();
    Bytes::from(format!("{writer}:{number};").repeat(repeat + 1))
}

/// Writes pairs of keys and an item beside them until killed; each line printed is an acknowledged pair.
async fn write_until_killed(directory: &Path, first: u64) {
    let storage = Embedded::open(directory, options()).unwrap();
    println!("\nready");
    let writers = (0..WRITERS).map(|writer| {
        let (storage, scope) = (&storage, scope());
        async move {
            for number in first.. {
                let put = |half: &str| Write::Put {
                    key: format!("{writer}/{half}"),
                    value: value(writer, number),
                    condition: Condition::Always,
                    ttl: None,
                };
                let revision = storage.commit(&scope, "t", vec![put("left"), put("right")]).await.unwrap();
                let item = Bytes::from(format!("{writer}:{number}"));
                let sequence = storage.append(&scope, "j", vec![item]).await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "{writer} {number} {revision} {sequence}").unwrap();
                out.flush().unwrap();
            }
        }
    });
    futures::future::join_all(writers).await;
}

/// What a writer was told.
#[derive(Debug, Default, Clone, Copy)]
struct Acknowledged {
    number: u64,
    revision: u64,
    sequence: u64,
}

/// Starts a writer and kills it after about `lines` acknowledged writes; what they were.
fn run_and_kill(directory: &Path, first: u64, lines: usize, pause: Duration) -> BTreeMap<u64, Acknowledged> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "acknowledged_writes_survive_kill", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(output.by_ref().any(|line| line.unwrap() == "ready"), "the writer opens what was left");
    let mut acknowledged = BTreeMap::new();
    let mut note = |line: String| {
        let numbers: Vec<u64> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
        if let [writer, number, revision, sequence] = numbers[..] {
            acknowledged.insert(writer, Acknowledged { number, revision, sequence });
        }
    };
    output.by_ref().take(lines).for_each(|line| note(line.unwrap()));
    // The moment within a batch is what is random here; nothing waits for this.
    let until = platform_base::clock::now() + pause;
    while platform_base::clock::now() < until {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // A line that the kill cut short was printed after the write was acknowledged, but can't be read.
    output.map_while(Result::ok).for_each(note);
    acknowledged
}

/// What is there after a round that began to write with the number `first`; the newest number found.
async fn check(directory: &Path, acknowledged: &BTreeMap<u64, Acknowledged>, first: u64, at: &str) -> u64 {
    let storage = Embedded::open(directory, options()).unwrap();
    let mut newest = 0;
    let revision = storage.revision(&scope(), "t").await.unwrap();
    let (_, last) = storage.bounds(&scope(), "j").await.unwrap();
    for (writer, told) in acknowledged {
        let get = async |half: &str| storage.get(&scope(), "t", &format!("{writer}/{half}")).await.unwrap().unwrap();
        let (left, right) = (get("left").await, get("right").await);
        assert_eq!((&left.value, left.revision), (&right.value, right.revision), "{at}: a commit is whole");
        let number: u64 = {
            let text = String::from_utf8(left.value.to_vec()).unwrap();
            text.split([':', ';']).nth(1).unwrap().parse().unwrap()
        };
        assert!(number >= told.number, "{at}: writer {writer} was told of {told:?}, found {number}");
        // One write was on its way and one more line may have been cut short. A writer that was told nothing in this round
        // may have had its first write on the way.
        let told_or_begun = told.number.max(first - 1);
        assert!(number <= told_or_begun + 2, "{at}: writer {writer} was told of {told:?}, found {number} from nowhere");
        assert_eq!(left.value, value(*writer, number), "{at}");
        assert!(revision >= told.revision && last >= told.sequence, "{at}: {told:?}, {revision}, {last}");
        newest = newest.max(number);
    }
    let mut after = revision.saturating_sub(2000);
    while after < revision {
        let changes = storage.changes(&scope(), "t", "", after, MAX_LIMIT, NOW).await.unwrap();
        for pair in changes.chunks(2) {
            after += 1;
            assert!(pair.iter().map(Change::revision).eq([after, after]), "{at}: two changes for each revision");
        }
    }
    let mut from = last.saturating_sub(2000).max(1);
    while from <= last {
        let items = storage.read(&scope(), "j", from, MAX_LIMIT, NOW).await.unwrap();
        assert!(!items.is_empty(), "{at}: sequences are dense");
        from += items.len() as u64;
    }
    storage.close().await;
    newest
}

#[test]
fn acknowledged_writes_survive_kill() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Some(directory) = env::var_os(DIRECTORY) {
        let first = env::var(FIRST).unwrap().parse().unwrap();
        return runtime.block_on(write_until_killed(Path::new(&directory), first));
    }
    let seed = env::var("STORAGE_KILL_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("STORAGE_KILL_SEED={seed}");
    let rounds = env::var("STORAGE_KILL_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut random = StdRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<u64, Acknowledged> = BTreeMap::new();
    let mut first = 1;
    for round in 0..rounds {
        let lines = random.random_range(0..1500);
        let pause = Duration::from_micros(random.random_range(0..3000));
        acknowledged.extend(run_and_kill(directory.path(), first, lines, pause));
        let at = format!("seed {seed}, round {round}");
        let newest = runtime.block_on(check(directory.path(), &acknowledged, first, &at));
        // Numbers go on where the fastest writer stopped, so every number is of one round only.
        first = newest.max(first) + 1;
        for told in acknowledged.values_mut() {
            told.number = told.number.min(newest);
        }
    }
    assert_eq!(acknowledged.len() as u64, WRITERS, "every writer was told something");
}
