//! Lanes: publishes of one topic go to the broker one after the other, those that came meanwhile together. So writers of a
//! topic do not run into each other, and share what it takes to be durable.
//!
//! Invariant: an event leaves its lane once, whether or not its publisher still waits; what waits is bounded in bytes.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use dashmap::DashMap;
use parking_lot::Mutex;
use platform_base::clock;
use platform_capability::{
    Call, CallContext,
    event::{self, Draft, Error, Published},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Event, EventError, Result, ask};
use crate::error::CallError;

/// Most events that go to the broker at once.
pub(super) const EVENTS_MAX: usize = 128;
/// Most bytes of data that do.
const BYTES_MAX: usize = 8 << 20;
/// Bytes that wait in all lanes; publishers beyond wait for room.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// What an event weighs beside its data.
const EVENT_BYTES: usize = 1024;
/// Longest that the broker is given.
const TIME_MAX: Duration = Duration::from_secs(10);

type Answer = Result<Vec<Published>, CallError<Error>>;
type Key = (Arc<str>, Arc<str>);

/// All lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    by_topic: DashMap<Key, Mutex<VecDeque<Waiting>>>,
    room: Arc<Semaphore>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { by_topic: DashMap::new(), room: Arc::new(Semaphore::new(WAITING_BYTES_MAX)) }
    }
}

/// Events that are published together.
#[derive(Debug)]
struct Waiting {
    drafts: Vec<Arc<Draft>>,
    bytes: usize,
    until: Instant,
    answer: oneshot::Sender<Answer>,
    _room: OwnedSemaphorePermit,
}

impl Event {
    /// Hands events to the broker; what became of each.
    pub(super) async fn hand_over(&self, call: &Call, topic: &str, drafts: Vec<Arc<Draft>>) -> Result<Vec<Published>> {
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let unavailable = |why: &str| CallError::Capability(EventError::Unavailable(why.to_owned()));
        let bytes: usize = drafts.iter().map(|draft| draft.data.len() + EVENT_BYTES).sum();
        if bytes > BYTES_MAX + EVENTS_MAX * EVENT_BYTES {
            let why = format!("the events have {bytes} bytes, more than {BYTES_MAX}; publish fewer at once");
            return Err(CallError::Capability(EventError::TooLarge(why)));
        }
        let room = Arc::clone(&self.lanes.room).acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX));
        let full = || unavailable("too much waits to be published; try again later");
        let room = tokio::time::timeout(call.remaining(), room).await.ok().and_then(Result::ok).ok_or_else(full)?;
        let (tell, told) = oneshot::channel();
        let waiting = Waiting { drafts, bytes, until: call.deadline, answer: tell, _room: room };
        self.line_up((Arc::clone(&call.namespace), topic.into()), waiting)?;
        match tokio::time::timeout(call.remaining(), told).await {
            Ok(Ok(answer)) => ask(answer),
            Ok(Err(_gone)) => Err(unavailable("the platform is shutting down")),
            Err(_over) => Err(unavailable(
                "no answer in time, and the events may have been kept: publish them again with the same ids",
            )),
        }
    }

    /// Puts events at the end of their lane, and sees that somebody serves it.
    fn line_up(&self, key: Key, waiting: Waiting) -> Result<()> {
        let tasks = ask(self.provider.plane())?.parts.tasks.clone();
        let mut served = true;
        let lane = self.lanes.by_topic.entry(key.clone()).or_insert_with(|| {
            served = false;
            Mutex::default()
        });
        lane.lock().push_back(waiting);
        drop(lane);
        if !served {
            let this = self.clone();
            tasks.spawn("event lane", async move { this.serve(&key).await });
        }
        Ok(())
    }

    /// Serves a lane until nothing waits in it, and takes it away then.
    async fn serve(&self, key: &Key) {
        loop {
            let Some(together) = self.lanes.next(key) else { return };
            let (namespace, topic) = key;
            let longest = together.iter().map(|waiting| waiting.until).max().unwrap_or_else(clock::now);
            let time = longest.saturating_duration_since(clock::now()).min(TIME_MAX);
            let call = Arc::new(CallContext::host(Arc::clone(namespace), time));
            let drafts: Vec<Arc<Draft>> = together.iter().flat_map(|waiting| &waiting.drafts).cloned().collect();
            let answer = self.provider.write::<event::Publish, _>(&call, (topic.as_ref(), drafts.as_slice())).await;
            spread(together, answer, drafts.len());
        }
    }
}

impl Lanes {
    /// What goes to the broker next; none when nothing waits, and the lane is gone then.
    fn next(&self, key: &Key) -> Option<Vec<Waiting>> {
        loop {
            // Under the lock of its place in the map, so that nobody lines up in a lane that nobody serves.
            if self.by_topic.remove_if(key, |_, lane| lane.lock().is_empty()).is_some() {
                return None;
            }
            let lane = self.by_topic.get(key)?;
            let mut lane = lane.lock();
            let (mut together, mut events, mut bytes) = (Vec::new(), 0, 0);
            while let Some(first) = lane.front() {
                events += first.drafts.len();
                bytes += first.bytes;
                if !together.is_empty() && (events > EVENTS_MAX || bytes > BYTES_MAX) {
                    break;
                }
                let Some(first) = lane.pop_front() else { break };
                // Whoever gave up was told that it may have happened; it need not.
                if first.until > clock::now() && !first.answer.is_closed() {
                    together.push(first);
                } else {
                    events -= first.drafts.len();
                    bytes -= first.bytes;
                }
            }
            if !together.is_empty() {
                return Some(together);
            }
        }
    }
}

/// Tells each publisher what became of its events.
fn spread(together: Vec<Waiting>, answer: Answer, count: usize) {
    let answer = answer.and_then(|published| {
        let why = format!("the broker answered about {} of {count} events", published.len());
        if published.len() == count { Ok(published) } else { Err(CallError::Capability(Error::Other(why))) }
    });
    match answer {
        Ok(mut published) => {
            for waiting in together {
                let rest = published.split_off(waiting.drafts.len().min(published.len()));
                // Who does not wait any more need not be told.
                let _ = waiting.answer.send(Ok(std::mem::replace(&mut published, rest)));
            }
        }
        Err(error) => {
            for waiting in together {
                let _ = waiting.answer.send(Err(error.clone()));
            }
        }
    }
}
