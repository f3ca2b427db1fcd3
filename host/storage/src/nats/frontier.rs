//! Asks how long the log is, once for all who want to know at the same time.
//!
//! Owns the gathering of readers; must not know what they read. Invariant: who asks gets an answer to a question that was
//! put after he asked.

use std::sync::Arc;

use platform_base::TaskGroup;
use tokio::sync::{mpsc, oneshot};

use super::{Inner, replica};
use crate::Result;

/// Readers that may wait for the next question; more wait for room.
const WAITING: usize = 4096;

/// Where readers ask.
#[derive(Debug)]
pub(super) struct Frontier {
    asks: mpsc::Sender<oneshot::Sender<Result<u64>>>,
}

impl Frontier {
    /// Starts the task that puts the questions.
    pub(super) fn start(inner: &Arc<Inner>, tasks: &TaskGroup) -> Self {
        let (asks, waiting) = mpsc::channel(WAITING);
        tasks.spawn_until_cancelled("storage reads", answer(Arc::clone(inner), waiting));
        Self { asks }
    }

    /// A place such that all that was acknowledged before this call lies before it.
    pub(super) async fn ask(&self) -> Result<u64> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(reply).await.map_err(|_closed| replica::closed())?;
        answer.await.unwrap_or_else(|_closed| Err(replica::closed()))
    }
}

async fn answer(inner: Arc<Inner>, mut waiting: mpsc::Receiver<oneshot::Sender<Result<u64>>>) {
    let mut group = Vec::new();
    // Whoever asks while a question is on its way waits for the next one.
    while waiting.recv_many(&mut group, WAITING).await > 0 {
        let answer = inner.frontier().await;
        for reply in group.drain(..) {
            let _gone = reply.send(answer.clone());
        }
    }
}
