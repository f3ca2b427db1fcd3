//! What plugins have been saying, as messages.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use futures::{Stream, StreamExt, future, stream};
use platform_capability::logs::{Level, Line, Tail};
use platform_proto::plugin::v1::{LogField, LogLevel, LogLine};
use tonic::Status;

/// Which lines are wanted.
pub(super) struct Wanted {
    /// Name and version; any version of the plugin when not given.
    pub(super) label: Option<String>,
    /// Lines after this number.
    pub(super) after: u64,
    /// Most of those that are there; all when not given.
    pub(super) limit: Option<usize>,
    /// The level from which on lines are wanted.
    pub(super) level: i32,
}

impl Wanted {
    fn takes(&self, line: &Line) -> bool {
        level(line.level) >= self.level && self.label.as_deref().is_none_or(|label| label == line.plugin.as_ref())
    }
}

/// The lines that are there, then the ones that come if `follow` is set.
pub(super) fn lines(
    tail: Arc<Tail>, wanted: Wanted, follow: bool,
) -> impl Stream<Item = Result<LogLine, Status>> + Send + 'static {
    let last = tail.last();
    let after = if wanted.after > last { 0 } else { wanted.after };
    let mut there: Vec<_> = tail.after(after);
    there.retain(|line| line.number <= last && wanted.takes(line));
    let left_out = there.len().saturating_sub(wanted.limit.unwrap_or(usize::MAX));
    there.drain(..left_out);
    let coming = tail.follow(last).filter(move |line| future::ready(wanted.takes(line)));
    let coming = if follow { coming.left_stream() } else { stream::empty().right_stream() };
    stream::iter(there).chain(coming).map(|line| Ok(message(&line)))
}

/// The level as the interface numbers it: the more it matters, the higher.
fn level(level: Level) -> i32 {
    i32::from(match level {
        Level::Trace => LogLevel::Trace,
        Level::Debug => LogLevel::Debug,
        Level::Info => LogLevel::Info,
        Level::Warn => LogLevel::Warn,
        Level::Error => LogLevel::Error,
    })
}

fn message(line: &Line) -> LogLine {
    LogLine {
        number: line.number,
        time: Some((UNIX_EPOCH + Duration::from_nanos(line.time_ns)).into()),
        plugin: line.plugin.to_string(),
        slot: line.slot.to_string(),
        level: level(line.level),
        message: line.message.clone(),
        fields: line.fields.iter().cloned().map(|(name, value)| LogField { name, value }).collect(),
        traceparent: line.traceparent.clone().unwrap_or_default(),
    }
}
