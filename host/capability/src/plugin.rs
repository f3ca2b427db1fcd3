//! `platform:plugin`: what every plugin exports, and what every plugin may import.

use std::time::Duration;

use platform_base::clock;
use platform_runtime::{Functions, function::Row};

pub use crate::bindings::platform::plugin::lifecycle::Problem;
use crate::{
    bindings::platform::plugin::{context, log},
    functions::functions,
    guest::Guest,
};

pub(crate) mod lifecycle_functions {
    //! Functions of `lifecycle`.
    use super::{Problem, functions};
    functions! { "platform:plugin/lifecycle@0.1.0" from 0;
        /// Reads the settings.
        Configure = "configure" (&'a str) -> (Result<(), Problem>,);
        /// Called before a generation takes traffic.
        SelfTest = "self-test" () -> (Result<(), Problem>,);
    }
}

pub(crate) mod handover_functions {
    //! Functions of `handover`.
    use super::{Problem, functions};
    functions! { "platform:plugin/handover@0.1.0" from 2;
        /// The state of an instance.
        Save = "save" () -> (Result<Vec<u8>, Problem>,);
        /// Takes a state over.
        Load = "load" (&'a [u8]) -> (Result<(), Problem>,);
    }
}

pub use handover_functions::{Load, Save};
pub use lifecycle_functions::{Configure, SelfTest};

/// What a component has to export to be configured ahead of time.
pub const CONFIGURE: Functions<Guest> = &[Row::required::<Configure>()];

/// A problem as one line of text.
#[must_use]
pub fn describe(problem: &Problem) -> String {
    match &problem.at {
        Some(at) => format!("{} (at `{at}`)", cut(&problem.message, MESSAGE_BYTES_MAX)),
        None => cut(&problem.message, MESSAGE_BYTES_MAX),
    }
}

impl context::Host for Guest {
    fn who(&mut self) -> Option<context::Caller> {
        let caller = self.call.caller.as_deref()?;
        Some(context::Caller { subject: caller.subject.clone(), roles: caller.roles.iter().cloned().collect() })
    }

    fn namespace(&mut self) -> String {
        self.call.namespace.as_ref().to_owned()
    }

    fn remaining_ms(&mut self) -> u32 {
        u32::try_from(self.remaining().as_millis()).unwrap_or(u32::MAX)
    }

    fn time_ns(&mut self) -> u64 {
        self.call.time_ns
    }

    fn fencing(&mut self) -> Option<context::Fence> {
        self.call.fence.as_deref().map(Into::into)
    }

    fn traceparent(&mut self) -> Option<String> {
        self.call.traceparent.as_deref().map(str::to_owned)
    }
}

/// Longest log message that is kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 8 << 10;
/// Most fields of a log line that are kept.
const FIELDS_MAX: usize = 32;

impl log::Host for Guest {
    fn write(&mut self, level: log::Level, message: String, fields: Vec<(String, String)>) {
        if !self.parts.log.admit() {
            return;
        }
        let message = cut(&message, MESSAGE_BYTES_MAX);
        let fields: Vec<String> = fields
            .iter()
            .take(FIELDS_MAX)
            .map(|(name, value)| format!("{}={}", cut(name, 128), cut(value, 1024)))
            .collect();
        let fields = fields.join(" ");
        let (plugin, slot) = (self.parts.plugin.as_ref(), self.parts.slot.as_ref());
        match level {
            log::Level::Trace => tracing::trace!(target: "plugin", plugin, slot, fields, "{message}"),
            log::Level::Debug => tracing::debug!(target: "plugin", plugin, slot, fields, "{message}"),
            log::Level::Info => tracing::info!(target: "plugin", plugin, slot, fields, "{message}"),
            log::Level::Warn => tracing::warn!(target: "plugin", plugin, slot, fields, "{message}"),
            log::Level::Error => tracing::error!(target: "plugin", plugin, slot, fields, "{message}"),
        }
    }
}

/// The start of `text`, at most `bytes_max` long, without control characters that could forge lines.
fn cut(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (kept, _) = text.split_at(end);
    kept.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect()
}

/// Lets so many log lines through per second and counts the rest.
#[derive(Debug)]
pub struct LogMeter {
    lines_per_second: u32,
    state: parking_lot::Mutex<(std::time::Instant, u32)>,
    dropped: std::sync::atomic::AtomicU64,
}

impl LogMeter {
    /// A meter that lets `lines_per_second` through.
    #[must_use]
    pub fn new(lines_per_second: u32) -> Self {
        Self { lines_per_second, state: parking_lot::Mutex::new((clock::now(), 0)), dropped: 0.into() }
    }

    /// Lines dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(std::sync::atomic::Ordering::Relaxed)
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
            self.dropped.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_over_the_rate_are_counted() {
        let meter = LogMeter::new(2);
        assert_eq!([meter.admit(), meter.admit(), meter.admit()], [true, true, false]);
        assert_eq!(meter.dropped(), 1);
    }

    #[test]
    fn a_message_is_cut_between_characters_and_stays_one_line() {
        assert_eq!(cut("aé\nb", 2), "a");
        assert_eq!(cut("aé\nb", 10), "aé b");
    }
}
