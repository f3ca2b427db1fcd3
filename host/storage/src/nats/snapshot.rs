//! Snapshots of the state, so that the log need not be kept for ever.
//!
//! Owns when one is written, its form and what is dropped after it; must not know how the state came to be. Invariant: the
//! log is dropped only up to a snapshot that is whole and older than the newest whole one, so the newest that anybody
//! finds and the log after it are the state, also while others write and drop.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::StreamExt;

use super::{
    Inner,
    entry::{self, Entry, Malformed},
    link::Unpublished,
    replica::Position,
};
use crate::{memory, memory::Map};

/// How often it is asked whether a snapshot is due.
const LOOK: Duration = Duration::from_secs(1);
/// Longest that a piece of a snapshot is waited for.
const PIECE: Duration = Duration::from_secs(10);
/// Snapshots older than the newest that are kept.
const KEPT: usize = 1;
/// Bytes before the body of a piece.
const HEAD_BYTES: usize = 5;

/// Writes snapshots when they are due, until the task is cancelled.
pub(super) async fn run(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let told = inner.replica.snapshots();
        // As large as the state, so that all that is ever written is written at most twice.
        let due = told.behind >= inner.options.snapshot_bytes && told.behind >= inner.replica.bytes();
        if !due || told.claimed() || inner.replica.broken().is_some() {
            continue;
        }
        match write(&inner).await {
            Ok(Some(at)) => tracing::info!(entry = at, "wrote a snapshot of the state to NATS"),
            Ok(None) => {}
            Err(why) => tracing::warn!(why, "a snapshot could not be written; the log in NATS is kept meanwhile"),
        }
    }
}

/// Writes a snapshot and drops what is no longer needed; none when somebody else does.
async fn write(inner: &Inner) -> Result<Option<u64>, String> {
    let id = inner.next_id();
    if !announce(inner, &Entry::Claim(id), || inner.replica.snapshots().claimed()).await? {
        return Ok(None);
    }
    let Some((map, position)) = between_batches(inner).await? else { return Ok(None) };
    let name = name(position.seen, id.writer, id.number);
    if let Err(why) = put(inner, &name, map, position).await {
        // Pieces without a last one are never read; room is all they take.
        let _left = inner.link.remove(&name).await;
        return Err(why);
    }
    announce(inner, &Entry::Snapshot(id, position.seen), || false).await?;
    let before = inner.replica.snapshots().before;
    if before > 0 {
        inner.link.drop_before(before + 1).await?;
    }
    let mut names = sorted(inner.link.snapshots().await?);
    names.truncate(names.len().saturating_sub(KEPT + 1));
    for name in names.iter().filter(|name| place(name).is_some_and(|place| place < before)) {
        inner.link.remove(name).await?;
    }
    Ok(Some(position.seen))
}

/// Puts a note into the log, wherever it fits between the writes, and reads it; unless it is `needless` by then.
async fn announce(inner: &Inner, note: &Entry, needless: impl Fn() -> bool) -> Result<bool, String> {
    let told = async {
        loop {
            let last = inner.replica.position().log;
            if needless() {
                return false;
            }
            match inner.link.publish(last, note.encode()).await {
                Ok(place) => {
                    inner.replica.reaches(|position| position.seen >= place).await;
                    return true;
                }
                Err(Unpublished::Taken) => inner.replica.reaches(|position| position.log > last).await,
                Err(Unpublished::Unknown(_)) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    };
    let told = tokio::time::timeout(inner.options.patience * 4, told).await;
    told.map_err(|_late| "a note about it could not be put into the log".to_owned())
}

/// All that was read, at a moment when no batch is half there.
async fn between_batches(inner: &Inner) -> Result<Option<(Map, Position)>, String> {
    let found = async {
        loop {
            let last = inner.replica.position().log;
            match inner.replica.copy() {
                Ok(None) => inner.replica.reaches(|position| position.log > last).await,
                found => return found.map_err(|error| error.to_string()),
            }
        }
    };
    tokio::time::timeout(inner.options.patience, found).await.unwrap_or(Ok(None))
}

async fn put(inner: &Inner, name: &str, map: Map, position: Position) -> Result<(), String> {
    let most = inner.link.entry_bytes() - HEAD_BYTES;
    let mut body = BytesMut::new();
    body.put_u64(position.seen);
    body.put_u64(position.log);
    let mut index = 0_u32;
    for ((space, key), value) in map {
        entry::encode_op(&mut body, space, &key, Some(&value));
        while body.len() > most {
            put_piece(inner, name, index, false, &body.split_to(most)).await?;
            index += 1;
        }
    }
    put_piece(inner, name, index, true, &body).await
}

async fn put_piece(inner: &Inner, name: &str, index: u32, last: bool, body: &[u8]) -> Result<(), String> {
    let mut piece = BytesMut::with_capacity(HEAD_BYTES + body.len());
    piece.put_u32(index);
    piece.put_u8(u8::from(last));
    piece.put_slice(body);
    inner.link.put_piece(name, piece.freeze()).await
}

/// Takes the newest whole snapshot in place of what was read.
pub(super) async fn load(inner: &Inner) -> Result<(), String> {
    let mut names: VecDeque<String> = sorted(inner.link.snapshots().await?).into();
    let mut problem = "the log was dropped, but there is no snapshot".to_owned();
    while let Some(name) = names.pop_back() {
        match get(inner, &name).await {
            Ok((map, position)) => {
                tracing::info!(entry = position.seen, keys = map.len(), "read a snapshot of the state from NATS");
                return inner.replica.replace(map, position).map_err(|error| error.to_string());
            }
            // Half of one, or one that was just removed.
            Err(why) => problem = format!("snapshot `{name}`: {why}"),
        }
    }
    Err(problem)
}

async fn get(inner: &Inner, name: &str) -> Result<(Map, Position), String> {
    let mut pieces = inner.link.pieces(name).await?;
    let mut body = BytesMut::new();
    let mut position = None;
    let mut map = Map::new();
    for index in 0_u32.. {
        let piece = tokio::time::timeout(PIECE, pieces.next()).await.map_err(|_late| "its next piece does not come")?;
        let piece = piece.ok_or("it ended early")?.map_err(|error| super::link::words(&error))?;
        let mut bytes = Bytes::clone(&piece.payload);
        let (Ok(found), Ok(last)) = (bytes.try_get_u32(), bytes.try_get_u8()) else {
            return Err("a piece is cut short".to_owned());
        };
        if found != index {
            return Err(format!("piece {index} is missing"));
        }
        body.extend_from_slice(&bytes);
        if position.is_none() {
            let (Ok(seen), Ok(log)) = (body.try_get_u64(), body.try_get_u64()) else {
                return Err("its first piece is cut short".to_owned());
            };
            position = Some(Position { seen, log });
        }
        while let Some(op) = entry::decode_op(&mut body).map_err(|Malformed| "it is damaged".to_owned())? {
            memory::apply(&mut map, [op]);
        }
        if last != 0 {
            break;
        }
    }
    match position {
        Some(position) if body.is_empty() => Ok((map, position)),
        _ => Err("its last piece is cut short".to_owned()),
    }
}

/// Names sort like the places that they stand for.
fn name(place: u64, writer: u64, number: u64) -> String {
    format!("{place:020}-{writer:016x}-{number}")
}

fn place(name: &str) -> Option<u64> {
    name.split('-').next()?.parse().ok()
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.retain(|name| place(name).is_some());
    names.sort();
    names
}
