//! The bounded queue between callers and the committer thread.
//!
//! Owns waiting on both sides; must not know what a request does. Invariant: a request is either taken by the
//! committer or its caller is told that it was not, and callers beyond the bound wait without holding a thread.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{Change, Error, Item, MAX_COMMIT_BYTES, Result, Usage, Write};

/// Most requests that are made together.
const GROUP_REQUESTS: usize = 1024;
/// Bytes that one permit stands for.
const PERMIT_BYTES: usize = 1024;

/// What is asked of the committer.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// Writes to the table of this name, which may hold no more than this then.
    Commit(Vec<u8>, Vec<Write>, Usage),
    /// Items for the journal of this name.
    Append(Vec<u8>, Vec<Bytes>),
    /// Drops items of the journal before a sequence.
    Trim(Vec<u8>, u64),
    /// Rows of another storage for the table of this name, and the revision that it goes on above.
    Restore(Vec<u8>, Vec<Change>, u64),
    /// Items of another storage for the journal of this name, and where it begins.
    RestoreItems(Vec<u8>, u64, Vec<Item>),
    /// Nothing but the expiry that comes with every group.
    Expire,
}

/// Work and who waits for it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) work: Work,
    pub(crate) reply: oneshot::Sender<Result<u64>>,
    bytes: usize,
    _room: OwnedSemaphorePermit,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    room: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    requests: VecDeque<Request>,
    closed: bool,
}

impl Queue {
    /// An empty queue that lets about `bytes` wait.
    pub(crate) fn new(bytes: usize) -> Self {
        // Never below one full commit, which otherwise could not enter at all.
        let permits = bytes.max(2 * MAX_COMMIT_BYTES) / PERMIT_BYTES;
        Self { state: Mutex::default(), ready: Condvar::new(), room: Arc::new(Semaphore::new(permits)) }
    }

    /// Hands over `work` of `bytes` and waits for its result. Dropped before it is in the queue, it is not made;
    /// dropped later, it is.
    pub(crate) async fn call(&self, work: Work, bytes: usize) -> Result<u64> {
        // At most 16 MiB in units of 1 KiB, so it fits.
        let permits = u32::try_from(bytes / PERMIT_BYTES + 1).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await.map_err(|_closed| closed())?;
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if state.closed {
                return Err(closed());
            }
            state.requests.push_back(Request { work, reply, bytes, _room: room });
        }
        self.ready.notify_one();
        answer.await.unwrap_or_else(|_dropped| {
            Err(Error::Unavailable("the committer stopped before it answered; the write may have been made".to_owned()))
        })
    }

    /// All that wait, up to the size of a group; empty when none came within `patience`, none when the queue is closed
    /// and empty. Without patience it waits until something comes.
    pub(crate) fn take(&self, patience: Option<Duration>) -> Option<Vec<Request>> {
        let mut state = self.state.lock();
        while state.requests.is_empty() {
            if state.closed {
                return None;
            }
            match patience {
                None => self.ready.wait(&mut state),
                Some(patience) => {
                    if self.ready.wait_for(&mut state, patience).timed_out() {
                        break;
                    }
                }
            }
        }
        let mut bytes = 0;
        let fits = state.requests.iter().take(GROUP_REQUESTS).take_while(|request| {
            let first = bytes == 0;
            bytes += request.bytes.max(1);
            first || bytes <= MAX_COMMIT_BYTES
        });
        let count = fits.count();
        Some(state.requests.drain(..count).collect())
    }

    /// Lets nothing in from now on; what waits is still taken.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.room.close();
        self.ready.notify_all();
    }

    /// Closes and answers what waits with an error; for a committer that can't go on.
    pub(crate) fn abandon(&self) {
        self.close();
        for request in mem::take(&mut self.state.lock().requests) {
            // Whoever asked may have gone; there is nobody else to tell.
            let _gone = request.reply.send(Err(closed()));
        }
    }
}

fn closed() -> Error {
    Error::Unavailable("it is closed".to_owned())
}
