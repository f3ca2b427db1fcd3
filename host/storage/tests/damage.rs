//! Flipped bits, cut and missing files: told by name, never served, never a quiet loss.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that can't go on has failed, and what it prints is for whoever looks into that"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use platform_storage::{Condition, Embedded, Error, OpenError, Options, Scope, Storage, Write};
use rand::{Rng, SeedableRng, rngs::StdRng};

const NOW: Duration = Duration::ZERO;
const KEYS: usize = 60;

fn scope() -> Scope {
    Scope::new("kv.store", "default")
}

fn key(n: usize) -> String {
    format!("key-{n:03}")
}

fn value(n: usize) -> Bytes {
    Bytes::from(format!("value-{n:03}-").repeat(n % 40 + 1))
}

/// A directory with keys `from..to`, each acknowledged in a batch of its own, put as an item too.
async fn fill(directory: &Path, from: usize, to: usize, flush: bool) {
    let storage = Embedded::open(directory, Options::default()).unwrap();
    for n in from..to {
        let put = Write::Put { key: key(n), value: value(n), condition: Condition::Absent, ttl: None };
        storage.commit(&scope(), "t", vec![put]).await.unwrap();
        storage.append(&scope(), "j", vec![value(n)]).await.unwrap();
    }
    if flush {
        storage.flush().unwrap();
    }
    storage.close().await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, copied) = (file.path(), to.join(file.file_name()));
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            fs::copy(&path, &copied).unwrap();
        }
    }
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for file in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if file.path().is_dir() {
            files(&file.path(), found);
        } else {
            found.push(file.path());
        }
    }
    found.sort();
}

/// Where damage was told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    AtOpen,
    AtRead,
    NotAtAll,
}

/// Opens and reads everything: each answer is right, or is an error that names a place in the directory.
async fn examine(directory: &Path, at: &str) -> Told {
    let named = |why: &str| assert!(why.contains(&directory.display().to_string()), "{at}: `{why}` names no file");
    let storage = match Embedded::open(directory, Options::default()) {
        Ok(storage) => storage,
        Err(error) => {
            assert!(matches!(error, OpenError::Damaged { .. } | OpenError::Foreign { .. }), "{at}: {error}");
            named(&error.to_string());
            let again = Embedded::open(directory, Options::default());
            assert!(again.is_err(), "{at}: refused once, refused until it is repaired");
            return Told::AtOpen;
        }
    };
    let mut told = Told::NotAtAll;
    let mut damaged = |error: Error| match error {
        Error::Corrupt(why) => {
            named(&why);
            told = Told::AtRead;
        }
        other => panic!("{at}: {other}"),
    };
    for n in 0..KEYS {
        match storage.get(&scope(), "t", &key(n)).await {
            Ok(entry) => {
                let entry = entry.unwrap_or_else(|| panic!("{at}: `{}` was acknowledged and is gone", key(n)));
                assert_eq!((entry.value, entry.revision), (value(n), n as u64 + 1), "{at}");
            }
            Err(error) => damaged(error),
        }
        match storage.read(&scope(), "j", n as u64 + 1, 1, NOW).await {
            Ok(items) => assert!(items.iter().map(|item| &item.data).eq([&value(n)]), "{at}: item {n}"),
            Err(error) => damaged(error),
        }
    }
    match storage.scan(&scope(), "t", "", None, 1000).await {
        Ok(entries) => assert!(entries.iter().map(|entry| entry.key.clone()).eq((0..KEYS).map(key)), "{at}: scan"),
        Err(error) => damaged(error),
    }
    match storage.changes(&scope(), "t", "", 0, 1000, NOW).await {
        Ok(changes) => assert!(changes.iter().map(|change| change.key().to_owned()).eq((0..KEYS).map(key)), "{at}"),
        Err(error) => damaged(error),
    }
    storage.close().await;
    told
}

/// Flips one bit at a time, in every file, all over the file.
async fn flip_everywhere(original: &Path, seed: u64) -> (usize, usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut all = Vec::new();
    files(original, &mut all);
    // Locks hold nothing that is read back.
    all.retain(|file| file.file_name().is_some_and(|name| name != "lock"));
    let (mut made, mut told) = (0, 0);
    for file in all {
        let name = file.strip_prefix(original).unwrap().to_owned();
        // Behind what was written, journals are zeros that nothing reads.
        let used = fs::read(&file).unwrap().iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        // Most of what there is to lose lies in journals and table files.
        let small = file.extension().is_none_or(|extension| extension != "jnl") && used < 1000;
        for _ in 0..used.min(if small { 2 } else { 16 }) {
            let damaged = tempfile::tempdir().unwrap();
            copy(original, damaged.path());
            let mut bytes = fs::read(&file).unwrap();
            let (byte, bit) = (random.random_range(0..used), random.random_range(0..8));
            bytes[byte] ^= 1 << bit;
            fs::write(damaged.path().join(&name), bytes).unwrap();
            made += 1;
            let at = format!("seed {seed}, bit {bit} of byte {byte} of {used} of `{}`", name.display());
            told += usize::from(examine(damaged.path(), &at).await != Told::NotAtAll);
        }
    }
    (made, told)
}

#[tokio::test]
async fn flipped_bits_in_journals_are_told() {
    let seed = rand::random();
    println!("seed {seed}");
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 0, KEYS, false).await;
    // Opened once more, the journal is cut to its length and quick to copy.
    fill(directory.path(), 0, 0, false).await;
    let (made, told) = flip_everywhere(directory.path(), seed).await;
    println!("{told} of {made} flips told");
    assert!(told * 2 > made, "seed {seed}: {told} of {made}");
}

#[tokio::test]
async fn flipped_bits_in_table_files_are_told() {
    let seed = rand::random();
    println!("seed {seed}");
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 0, KEYS / 2, true).await;
    fill(directory.path(), KEYS / 2, KEYS, true).await;
    let (made, told) = flip_everywhere(directory.path(), seed).await;
    println!("{told} of {made} flips told");
    assert!(told > 0, "seed {seed}: {told} of {made}");
}

#[tokio::test]
async fn a_missing_or_cut_file_is_told() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 0, KEYS, true).await;
    let mut all = Vec::new();
    files(directory.path(), &mut all);
    for file in all {
        let name = file.strip_prefix(directory.path()).unwrap().to_owned();
        for cut in [true, false] {
            let damaged = tempfile::tempdir().unwrap();
            copy(directory.path(), damaged.path());
            let copied = damaged.path().join(&name);
            if cut {
                let whole = fs::read(&copied).unwrap();
                fs::write(&copied, &whole[..whole.len() / 2]).unwrap();
            } else {
                fs::remove_file(&copied).unwrap();
            }
            // Nothing is wrong or gone without a word; `examine` sees to that.
            examine(damaged.path(), &format!("`{}`, cut: {cut}", name.display())).await;
        }
    }
}

/// A journal that ends within a batch is what a crash leaves: the batch was not acknowledged, the rest is.
#[tokio::test]
async fn a_torn_tail_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 0, KEYS, false).await;
    let mut all = Vec::new();
    files(&directory.path().join("data"), &mut all);
    let journal = all.into_iter().find(|file| file.extension().is_some_and(|extension| extension == "jnl")).unwrap();
    let bytes = fs::read(&journal).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    // The note of a clean end says that the last batch was acknowledged; a crash leaves none.
    fs::remove_file(directory.path().join("mark")).unwrap();
    for torn in 1..40 {
        let cut = tempfile::tempdir().unwrap();
        copy(directory.path(), cut.path());
        let copied = cut.path().join(journal.strip_prefix(directory.path()).unwrap());
        let mut left = bytes[..used - torn].to_vec();
        if torn % 2 == 0 {
            left.resize(bytes.len(), 0);
        }
        fs::write(copied, left).unwrap();
        let storage = Embedded::open(cut.path(), Options::default()).unwrap();
        assert_eq!(storage.revision(&scope(), "t").await, Ok(KEYS as u64));
        assert_eq!(storage.bounds(&scope(), "j").await, Ok((1, KEYS as u64 - 1)), "the last batch was an append");
        assert_eq!(storage.append(&scope(), "j", vec![value(0)]).await, Ok(KEYS as u64));
        storage.close().await;
    }
}
