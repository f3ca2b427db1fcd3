//! Checks of journals.

use std::time::Duration;

use bytes::Bytes;
use futures::future;

use super::SOON;
use crate::{Error, Item, MAX_COMMIT_WRITES, MAX_VALUE_BYTES, Result, Scope, Storage};

const NOW: Duration = Duration::ZERO;

fn items(texts: &[&str]) -> Vec<Bytes> {
    texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect()
}

fn told(items: &[Item]) -> Vec<(u64, String)> {
    items.iter().map(|item| (item.sequence, String::from_utf8_lossy(&item.data).into_owned())).collect()
}

pub(super) async fn append_read_trim(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.journal", "n");
    storage.trim(&scope, "never-written", 10).await?;
    assert_eq!(storage.append(&scope, "j", items(&["1", "2", "3"])).await?, 1);
    assert_eq!(storage.append(&scope, "j", items(&["4", ""])).await?, 4);
    assert_eq!(storage.append(&scope, "k", items(&["other"])).await?, 1, "each journal has its own sequence");
    let all = storage.read(&scope, "j", 1, 100, NOW).await?;
    let texts = ["1", "2", "3", "4", ""];
    let expected: Vec<_> = (1..).zip(texts.map(str::to_owned)).collect();
    assert_eq!(told(&all), expected);
    assert!(all.is_sorted_by_key(|item| item.time_ns), "times never decrease");
    assert!(all.iter().all(|item| item.time_ns > 0));
    assert_eq!(told(&storage.read(&scope, "j", 0, 2, NOW).await?), expected.get(..2).unwrap_or_default());
    assert_eq!(told(&storage.read(&scope, "j", 4, 9, NOW).await?), expected.get(3..).unwrap_or_default());
    assert_eq!(storage.read(&scope, "j", 6, 9, NOW).await?, []);
    assert_eq!(storage.read(&scope, "j", u64::MAX, 9, NOW).await?, []);
    assert_eq!(storage.bounds(&scope, "j").await?, (1, 5));

    storage.trim(&scope, "j", 3).await?;
    assert_eq!(storage.bounds(&scope, "j").await?, (3, 5));
    assert_eq!(storage.read(&scope, "j", 2, 9, NOW).await, Err(Error::Compacted(3)));
    assert_eq!(told(&storage.read(&scope, "j", 0, 1, NOW).await?), [(3, "3".to_owned())]);
    storage.trim(&scope, "j", 2).await?;
    assert_eq!(storage.bounds(&scope, "j").await?, (3, 5), "trimming less changes nothing");
    storage.trim(&scope, "j", u64::MAX).await?;
    assert_eq!(storage.bounds(&scope, "j").await?, (6, 5), "all is gone, the sequence stays");
    assert_eq!(storage.read(&scope, "j", 0, 9, NOW).await?, []);
    assert_eq!(storage.append(&scope, "j", items(&["6"])).await?, 6);
    assert_eq!(told(&storage.read(&scope, "j", 6, 9, NOW).await?), [(6, "6".to_owned())]);
    Ok(())
}

pub(super) async fn waiting_for_items(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.items", "n");
    assert_eq!(storage.read(&scope, "j", 1, 9, Duration::from_millis(5)).await?, []);
    for sequence in 1..=3 {
        let waits = storage.read(&scope, "j", sequence, 9, SOON);
        let (read, first) = future::try_join(waits, storage.append(&scope, "j", items(&["x"]))).await?;
        assert_eq!((first, told(&read)), (sequence, vec![(sequence, "x".to_owned())]));
    }
    Ok(())
}

pub(super) async fn bad_input(storage: &dyn Storage) -> Result<()> {
    let scope = Scope::new("conformance.bad-items", "n");
    assert!(matches!(storage.append(&scope, "j", vec![]).await, Err(Error::Invalid(_))));
    assert!(matches!(storage.append(&scope, "", items(&["x"])).await, Err(Error::Invalid(_))));
    assert!(matches!(storage.read(&scope, "j", 1, 0, NOW).await, Err(Error::Invalid(_))));
    let half = Bytes::from(vec![0; MAX_VALUE_BYTES]);
    let over = Bytes::from(vec![0; MAX_VALUE_BYTES + 1]);
    let many = vec![Bytes::new(); MAX_COMMIT_WRITES + 1];
    for refused in [vec![over], vec![half.clone(), half, Bytes::from_static(b"x")], many] {
        assert!(matches!(storage.append(&scope, "j", refused).await, Err(Error::TooLarge(_))));
    }
    assert_eq!(storage.bounds(&scope, "j").await?, (1, 0), "nothing of it was made");
    Ok(())
}
