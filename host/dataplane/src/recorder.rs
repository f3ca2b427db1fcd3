//! [`Recorder`]: keeps decisions with what was asked, so that another policy can be tried on them.
//!
//! Owns which decisions are kept, what of them is left out, and the files that they are in. Must not know how decisions are
//! made. Invariants: no decision waits for its record; what is kept is bounded in bytes and in time; a redacted value is
//! never written.

mod decision;
mod files;
mod named;
mod redaction;

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use platform_base::{TaskGroup, clock};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::slot_name::SlotName;
use files::{Files, Writer};
use redaction::Redaction;

pub use decision::{Asker, Decision, Outcome, REDACTED};
pub use files::{InvalidPosition, Position};
pub use named::Named;
pub use redaction::InvalidRedaction;

/// Decisions that wait to be written; beyond it they are not kept.
const QUEUE: usize = 4096;
/// Most bytes of a page of decisions, as they are in the file.
const PAGE_BYTES: usize = 2 << 20;

/// Which decisions are kept, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecisionsConfig {
    /// Share of the decisions that are kept, in percent; 0 for none.
    pub sample_percent: f64,
    /// Most bytes that are kept, in mebibytes; the oldest go first.
    pub keep_mib: u64,
    /// Longest time that a decision is kept, in hours.
    pub keep_hours: u64,
    /// What is not written: `header:NAME`, `attribute:NAME` and `claim:NAME`.
    pub redact: Vec<String>,
}

impl Default for DecisionsConfig {
    fn default() -> Self {
        let redact = [
            "header:authorization",
            "header:proxy-authorization",
            "header:cookie",
            "header:set-cookie",
            "header:x-api-key",
            "attribute:query",
        ];
        Self { sample_percent: 0.0, keep_mib: 64, keep_hours: 24, redact: redact.map(str::to_owned).to_vec() }
    }
}

/// Why decisions can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// Not a share.
    #[error("`sample_percent` is {0}; write 0 to 100")]
    Percent(f64),
    /// Nothing could be kept.
    #[error("`{0}` is 0; write at least 1, or keep nothing with `sample_percent = 0`")]
    Nothing(&'static str),
    /// What is not to be written is not understood.
    #[error("`redact`: {0}")]
    Redaction(#[from] InvalidRedaction),
    /// The directory can't be used.
    #[error("can't keep decisions in `{directory}`: {why}")]
    Directory {
        /// The directory.
        directory: String,
        /// What the system said.
        why: io::Error,
    },
}

/// Keeps decisions. Those of a daemon are its own: what other daemons decided is in theirs.
#[derive(Debug)]
pub struct Recorder {
    sample_percent: f64,
    queue: mpsc::Sender<Decision<'static>>,
    files: Files,
    counts: Arc<RecorderCounts>,
}

/// What a recorder did.
#[derive(Debug, Default)]
pub struct RecorderCounts {
    /// Decisions that were written.
    pub kept: AtomicU64,
    /// Decisions that should have been and were not: too many at once, too large, or the disk refused them.
    pub lost: AtomicU64,
}

/// Which decisions are asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Of this slot.
    pub slot: SlotName,
    /// Not before this unix time, in nanoseconds.
    pub since_ns: u64,
    /// At most this many.
    pub limit: usize,
}

/// Decisions that were kept, in the order that they were made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decisions {
    /// The decisions, one JSON object to a line.
    pub lines: Vec<u8>,
    /// Where the next page begins; none when this is the last.
    pub next: Option<Position>,
}

impl Decisions {
    /// Reads them. What a crash left half written is passed over.
    pub fn read(lines: &[u8]) -> impl Iterator<Item = Decision<'_>> + Send {
        // Text that is known to be UTF-8 is not looked at again piece by piece.
        let texts = lines.split_inclusive(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
        texts.filter_map(|line| serde_json::from_str(line).ok())
    }
}

impl Recorder {
    /// Keeps decisions in `directory`, which is made when it is not there; `tasks` owns the writing.
    ///
    /// # Errors
    /// See [`RecorderError`].
    pub fn open(directory: &Path, config: &DecisionsConfig, tasks: &TaskGroup) -> Result<Arc<Self>, RecorderError> {
        let redaction = config.check()?;
        let bytes = config.keep_mib.saturating_mul(1 << 20);
        let time = Duration::from_secs(config.keep_hours.saturating_mul(3600));
        let unusable = |why| RecorderError::Directory { directory: directory.display().to_string(), why };
        let files = Files::open(directory, bytes, time).map_err(unusable)?;
        let counts = Arc::new(RecorderCounts::default());
        let (queue, decisions) = mpsc::channel(QUEUE);
        let writer = Writer::new(files.clone(), redaction, Arc::clone(&counts));
        tasks.spawn("decisions", writer.run(decisions, tasks.cancelled()));
        Ok(Arc::new(Self { sample_percent: config.sample_percent, queue, files, counts }))
    }

    /// Whether the decision that is made now is one to keep.
    pub(crate) fn draws(&self) -> bool {
        self.sample_percent > 0.0 && rand::random::<f64>() * 100.0 < self.sample_percent
    }

    /// Keeps a decision, unless more come than can be written.
    pub(crate) fn keep(&self, decision: Decision<'static>) {
        if self.queue.try_send(decision).is_err() {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What it did.
    #[must_use]
    pub fn counts(&self) -> &RecorderCounts {
        &self.counts
    }

    /// Decisions that were kept, from the oldest on or from where a page ended. What a crash left half written is passed over.
    ///
    /// # Errors
    /// What the system says of the files.
    pub async fn read(&self, wanted: Wanted, after: Option<Position>) -> io::Result<Decisions> {
        let oldest_ns = clock::unix_ns().saturating_sub(self.files.keep_ns());
        let wanted = Wanted { since_ns: wanted.since_ns.max(oldest_ns), ..wanted };
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read(&wanted, after, PAGE_BYTES));
        read.await.map_err(io::Error::other)?
    }
}

impl DecisionsConfig {
    /// Whether any decision is kept.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.sample_percent > 0.0
    }

    /// Checks that decisions can be kept like this.
    ///
    /// # Errors
    /// Why not.
    pub fn validate(&self) -> Result<(), RecorderError> {
        self.check().map(drop)
    }

    fn check(&self) -> Result<Redaction, RecorderError> {
        if !(0.0..=100.0).contains(&self.sample_percent) {
            return Err(RecorderError::Percent(self.sample_percent));
        }
        for (name, value) in [("keep_mib", self.keep_mib), ("keep_hours", self.keep_hours)] {
            if value == 0 {
                return Err(RecorderError::Nothing(name));
            }
        }
        Ok(Redaction::parse(&self.redact)?)
    }
}
