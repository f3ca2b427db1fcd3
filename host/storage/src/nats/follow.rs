//! Reads the log as it grows.
//!
//! Owns the reader and its restarts; must not know what entries do. Invariant: entries are handed on in the order of the
//! log without a gap; whatever goes wrong, reading starts anew behind the last one that was handed on.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;

use super::{Inner, replica::Applied, snapshot};

/// Pause before reading starts anew.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest such pause, when it failed again and again.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Reads until the task is cancelled.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut pause = PAUSE;
    loop {
        let before = inner.replica.position().seen;
        if let Err(why) = read(&inner).await {
            tracing::debug!(why, "reading the log starts anew");
        }
        if inner.replica.broken().is_some() {
            return;
        }
        let moved = inner.replica.position().seen > before;
        pause = if moved { PAUSE } else { (pause * 2).min(PAUSE_MAX) };
        tokio::time::sleep(pause).await;
    }
}

/// Reads until something is in the way.
async fn read(inner: &Inner) -> Result<(), String> {
    let from = inner.replica.position().seen + 1;
    if inner.link.first().await? > from {
        // What comes next was dropped, so a snapshot has it.
        return snapshot::load(inner).await;
    }
    let mut messages = inner.link.follow(from).await?;
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            () = inner.stalled.notified() => return Ok(()),
        };
        let Some(message) = message else { return Err("the reader ended".to_owned()) };
        let message = message.map_err(|error| super::link::words(&error))?;
        let sequence = message.info().map_err(|error| error.to_string())?.stream_sequence;
        let log = inner.link.is_entry(&message.subject);
        match inner.replica.apply(sequence, log, &Bytes::clone(&message.payload)) {
            Ok(Applied::Done) => {}
            Ok(Applied::Gap) => return Err(format!("the entry before {sequence} is missing")),
            Err(error) => return Err(error.to_string()),
        }
    }
}
