//! [`Logs`]: the latest lines of each plugin, for whoever asks what it has been saying.
//!
//! Must not know who asks, nor where the daemon's own log goes. Invariant: what is kept is bounded, in lines and in bytes,
//! for each plugin apart, so that a talkative one displaces no other's lines; and it goes when nobody serves or follows it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{Stream, stream};
use parking_lot::Mutex;
use platform_base::clock;
use platform_runtime::Fault;
use tokio::sync::watch;

pub use crate::bindings::platform::plugin::log::Level;
use crate::{context::Call, guest::GuestParts};

/// Most lines of a plugin that are kept.
const LINES_MAX: usize = 1000;
/// Most bytes of a plugin's lines that are kept.
const BYTES_MAX: usize = 256 << 10;
/// Longest text about a failure, in bytes.
const FRAME_BYTES_MAX: usize = 1 << 10;

/// A line that a plugin wrote, or that the host wrote about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counts the lines of the plugin, from 1; a gap tells of lines that are gone.
    pub number: u64,
    /// Unix time in nanoseconds.
    pub time_ns: u64,
    /// Name and version of the plugin.
    pub plugin: Arc<str>,
    /// Slot that it was called in.
    pub slot: Arc<str>,
    /// How much it matters.
    pub level: Level,
    /// What it says, without control characters.
    pub message: String,
    /// What belongs to it, in order.
    pub fields: Vec<(String, String)>,
    /// W3C trace context of the call.
    pub traceparent: Option<String>,
}

impl Line {
    fn bytes(&self) -> usize {
        let fields: usize = self.fields.iter().map(|(name, value)| name.len().saturating_add(value.len())).sum();
        self.message.len().saturating_add(fields)
    }
}

/// The latest lines of all plugins of a daemon.
#[derive(Debug, Default)]
pub struct Logs {
    by_plugin: Mutex<HashMap<Box<str>, Weak<Tail>>>,
}

impl Logs {
    /// The lines of the plugin of this name, all its versions.
    #[must_use]
    pub fn tail(&self, name: &str) -> Arc<Tail> {
        let mut by_plugin = self.by_plugin.lock();
        if let Some(tail) = by_plugin.get(name).and_then(Weak::upgrade) {
            return tail;
        }
        by_plugin.retain(|_, tail| tail.strong_count() > 0);
        let tail = Arc::new(Tail::default());
        by_plugin.insert(name.into(), Arc::downgrade(&tail));
        tail
    }
}

/// The latest lines of one plugin.
#[derive(Debug)]
pub struct Tail {
    kept: Mutex<Kept>,
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
}

impl Default for Tail {
    fn default() -> Self {
        Self { kept: Mutex::default(), last: watch::channel(0).0 }
    }
}

impl Tail {
    /// Adds a line, whose number and time are given here.
    pub(crate) fn push(&self, line: Line) {
        let mut kept = self.kept.lock();
        let number = self.last().saturating_add(1);
        let line = Line { number, time_ns: clock::unix_ns(), ..line };
        kept.bytes = kept.bytes.saturating_add(line.bytes());
        kept.lines.push_back(Arc::new(line));
        while kept.lines.len() > LINES_MAX || kept.bytes > BYTES_MAX {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes = kept.bytes.saturating_sub(oldest.bytes());
        }
        // While the lines are held, so that who hears of a number finds it.
        self.last.send_replace(number);
    }

    /// Number of the latest line; 0 before the first.
    #[must_use]
    pub fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// The lines that are kept after this number, oldest first.
    #[must_use]
    pub fn after(&self, number: u64) -> Vec<Arc<Line>> {
        let kept = self.kept.lock();
        let start = kept.lines.partition_point(|line| line.number <= number);
        kept.lines.range(start..).cloned().collect()
    }

    /// Lines as they come after this number; never ends.
    pub fn follow(self: Arc<Self>, number: u64) -> impl Stream<Item = Arc<Line>> + Send {
        let news = self.last.subscribe();
        let state = (self, news, number, VecDeque::new());
        stream::unfold(state, |(tail, mut news, mut number, mut ready)| async move {
            loop {
                if let Some(line) = ready.pop_front() {
                    let line: Arc<Line> = line;
                    return Some((line, (tail, news, number, ready)));
                }
                // The sender is in `tail`, so it does not go while this waits.
                let seen = number;
                number = *news.wait_for(|last| *last > seen).await.ok()?;
                ready = tail.after(seen).into();
                ready.retain(|line| line.number <= number);
            }
        })
    }
}

/// Lets so many log lines through per second and counts the rest.
#[derive(Debug)]
pub struct LogMeter {
    lines_per_second: u32,
    state: Mutex<(Instant, u32)>,
    dropped: AtomicU64,
}

impl LogMeter {
    /// A meter that lets `lines_per_second` through.
    #[must_use]
    pub fn new(lines_per_second: u32) -> Self {
        Self { lines_per_second, state: Mutex::new((clock::now(), 0)), dropped: 0.into() }
    }

    /// Lines dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn admit(&self) -> bool {
        let now = clock::now();
        let mut state = self.state.lock();
        if now.saturating_duration_since(state.0) >= Duration::from_secs(1) {
            *state = (now, 0);
        }
        state.1 = state.1.saturating_add(1);
        let admitted = state.1 <= self.lines_per_second;
        drop(state);
        if !admitted {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }
}

impl GuestParts {
    /// Takes a line of the plugin, unless it is over its rate: `line` makes its message and fields.
    pub(crate) fn write(
        &self, level: Level, traceparent: Option<&str>, line: impl FnOnce() -> (String, Vec<(String, String)>),
    ) {
        if !self.log.admit() {
            return;
        }
        let (message, fields) = line();
        let shown: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (plugin, slot, shown) = (self.plugin.as_ref(), self.slot.as_ref(), shown.join(" "));
        match level {
            Level::Trace => tracing::trace!(target: "plugin", plugin, slot, fields = shown, "{message}"),
            Level::Debug => tracing::debug!(target: "plugin", plugin, slot, fields = shown, "{message}"),
            Level::Info => tracing::info!(target: "plugin", plugin, slot, fields = shown, "{message}"),
            Level::Warn => tracing::warn!(target: "plugin", plugin, slot, fields = shown, "{message}"),
            Level::Error => tracing::error!(target: "plugin", plugin, slot, fields = shown, "{message}"),
        }
        self.tail.push(Line {
            number: 0,
            time_ns: 0,
            plugin: Arc::clone(&self.plugin),
            slot: Arc::clone(&self.slot),
            level,
            message,
            fields,
            traceparent: traceparent.map(str::to_owned),
        });
    }

    /// Takes a line about a failure of the plugin, with the functions that it was in.
    pub fn write_fault(&self, fault: &Fault, call: &Call) {
        self.write(Level::Error, call.traceparent.as_deref(), || {
            let Fault::Trap { backtrace, .. } = fault else { return (fault.to_string(), Vec::new()) };
            let frames = backtrace.iter().enumerate();
            let frames = frames.map(|(depth, frame)| (format!("frame-{depth}"), clean(frame, FRAME_BYTES_MAX)));
            (clean(&fault.to_string(), FRAME_BYTES_MAX), frames.collect())
        });
    }
}

/// The start of `text`, at most `bytes_max` long, without control characters that could forge lines.
pub(crate) fn clean(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (kept, _) = text.split_at(end);
    kept.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    fn line(message: &str) -> Line {
        Line {
            number: 0,
            time_ns: 0,
            plugin: "p@1.0.0".into(),
            slot: "auth.policy".into(),
            level: Level::Info,
            message: message.to_owned(),
            fields: Vec::new(),
            traceparent: None,
        }
    }

    #[test]
    fn what_is_kept_is_bounded_in_lines_and_bytes() {
        let tail = Tail::default();
        for _ in 0..=LINES_MAX {
            tail.push(line("x"));
        }
        let kept = tail.after(0);
        assert_eq!((kept.len(), kept[0].number), (LINES_MAX, 2));
        let large = "x".repeat(BYTES_MAX / 2);
        (0..3).for_each(|_| tail.push(line(&large)));
        assert_eq!(tail.after(0).len(), 2);
        assert!(tail.after(u64::MAX).is_empty());
    }

    #[test]
    fn lines_last_as_long_as_somebody_has_them() {
        let logs = Logs::default();
        let tail = logs.tail("one");
        tail.push(line("x"));
        assert_eq!(logs.tail("one").after(0).len(), 1);
        assert!(logs.tail("two").after(0).is_empty());
        drop(tail);
        assert!(logs.tail("one").after(0).is_empty());
        assert_eq!(logs.by_plugin.lock().len(), 1);
    }

    #[tokio::test]
    async fn a_follower_gets_each_line_once() {
        let tail = Arc::new(Tail::default());
        (0..3).for_each(|_| tail.push(line("before")));
        let mut lines = Box::pin(Arc::clone(&tail).follow(1));
        let numbers = |lines: &[Arc<Line>]| lines.iter().map(|line| line.number).collect::<Vec<_>>();
        assert_eq!(numbers(&lines.by_ref().take(2).collect::<Vec<_>>().await), [2, 3]);
        assert!(futures::poll!(lines.next()).is_pending());
        tail.push(line("after"));
        assert_eq!(numbers(&lines.by_ref().take(1).collect::<Vec<_>>().await), [4]);
    }

    #[test]
    fn log_lines_over_the_rate_are_counted() {
        let meter = LogMeter::new(2);
        assert_eq!([meter.admit(), meter.admit(), meter.admit()], [true, true, false]);
        assert_eq!(meter.dropped(), 1);
    }

    #[test]
    fn a_message_is_cut_between_characters_and_stays_one_line() {
        assert_eq!(clean("aé\nb", 2), "a");
        assert_eq!(clean("aé\nb", 10), "aé b");
    }
}
