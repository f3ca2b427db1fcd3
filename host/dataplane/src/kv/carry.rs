//! What there is to be carried of keys: values with their revisions and ends, and fences.
//!
//! Must not know when it is carried. Invariant: a fence comes to the new store before anybody can write there.

use platform_capability::{
    SlotKind,
    kv::{self, Change, Entry, Error, Fence},
};

use super::Kv;
use crate::{
    carry::{Carrier, Portable, Side, Ways},
    error::CallError,
    plane::Plane,
    slot_name::SlotName,
};

/// Most that is handed over, or asked for, at once.
const PAGE: u32 = 500;

type Result<T, E = CallError<Error>> = std::result::Result<T, E>;
type Between<'a> = Ways<'a, Kv>;

impl Portable for Kv {
    type Of = String;
    const CHUNK: usize = PAGE as usize;

    fn of(change: &Change) -> String {
        change.key.clone()
    }

    fn bytes(change: &Change) -> usize {
        change.key.len() + change.entry.as_ref().map_or(0, |entry| entry.value.len())
    }

    fn serves(plane: &Plane, slot: &SlotName, namespace: &str) -> bool {
        match &slot.qualifier {
            Some(only) => only.as_str() == namespace,
            None => !plane.qualifiers(SlotKind::KvStore).iter().any(|name| **name == *namespace),
        }
    }

    async fn are_apart(ways: &Between<'_>) -> Result<bool> {
        let key = format!("_carry-{:016x}", rand::random::<u64>());
        let entry = Some(Entry { value: Vec::new(), revision: 1, expires_ms: None });
        Self::hand_over(ways, &[Change { key: key.clone(), entry, revision: 1 }], 0).await?;
        let seen: Result<Option<Entry>> = ways.from::<kv::Get, _>((key.as_str(),)).await;
        Self::hand_over(ways, &[Change { key, entry: None, revision: 1 }], 0).await?;
        match seen {
            Ok(seen) => Ok(seen.is_none()),
            Err(CallError::NotBound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn clear(ways: &Between<'_>) -> Result<()> {
        loop {
            let page: Vec<(String, Entry)> = ways.to::<kv::Scan, _>(("", None, PAGE)).await?;
            if page.is_empty() {
                return Ok(());
            }
            let gone = |(key, entry): (String, Entry)| Change { key, entry: None, revision: entry.revision };
            let gone: Vec<Change> = page.into_iter().map(gone).collect();
            Self::hand_over(ways, &gone, 0).await?;
        }
    }

    async fn copy(carrier: &mut Carrier<'_, Self>) -> Result<()> {
        let mut after: Option<String> = None;
        loop {
            let page: Vec<(String, Entry)> = carrier.ways.from::<kv::Scan, _>(("", after.as_deref(), PAGE)).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            carrier.carried += page.len() as u64;
            let change = |(key, entry): (String, Entry)| Change { key, revision: entry.revision, entry: Some(entry) };
            carrier.give(page.into_iter().map(change).collect()).await?;
        }
    }

    async fn hand_over(ways: &Between<'_>, changes: &[Change], revision: u64) -> Result<()> {
        ways.to::<kv::Restore, ()>((changes, &[], revision)).await
    }

    async fn end(ways: &Between<'_>, side: Side) -> Result<()> {
        // A call that restores nothing: stores end what is due before they do anything.
        match side {
            Side::Old => match ways.from::<kv::Restore, ()>((&[], &[], 0)).await {
                // One that takes over nothing may be carried from all the same.
                Err(CallError::Capability(_)) => Ok(()),
                done => done,
            },
            Side::New => Self::hand_over(ways, &[], 0).await,
        }
    }

    fn ended(change: &Change) -> Option<Change> {
        // Nobody reads what ended long ago, by whichever clock, so what it held does not matter.
        let entry = Entry { value: Vec::new(), revision: change.revision, expires_ms: Some(1) };
        let again = Change { key: change.key.clone(), entry: Some(entry), revision: change.revision };
        change.entry.is_none().then_some(again)
    }

    async fn complete(ways: &Between<'_>) -> Result<()> {
        let mut after: Option<String> = None;
        loop {
            let page: Vec<Fence> = ways.from::<kv::Fences, _>((after.as_deref(), PAGE)).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.name.clone());
            ways.to::<kv::Restore, ()>((&[], page.as_slice(), 0)).await?;
        }
    }
}
