//! What a component logs, for tests that expect it.
//!
//! Invariant: only what plugins write is kept, and each line goes to the question that was asked when it was written.

use std::{
    fmt::{self, Write as _},
    sync::{Mutex, OnceLock, PoisonError},
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    filter::filter_fn,
    layer::{Context, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

/// Most lines that are kept at once: a component that logs in a circle fills no memory.
const LINES_MAX: usize = 10_000;

static LINES: OnceLock<Mutex<Vec<String>>> = OnceLock::new();

/// Begins to listen.
pub(super) fn listen() {
    LINES.get_or_init(|| {
        let plugins = filter_fn(|metadata: &Metadata<'_>| metadata.target() == "plugin");
        // Whoever listens already goes on to; then no line is heard here.
        let _ = tracing_subscriber::registry().with(Lines.with_filter(plugins)).try_init();
        Mutex::default()
    });
}

/// What was written since this was asked last: level, message and fields.
pub(super) fn take() -> Vec<String> {
    let Some(lines) = LINES.get() else { return Vec::new() };
    std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner))
}

struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let fields = if line.fields.is_empty() { String::new() } else { format!(" {}", line.fields) };
        let Some(lines) = LINES.get() else { return };
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < LINES_MAX {
            lines.push(format!("{level} {}{fields}", line.message));
        }
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "fields" {
            value.clone_into(&mut self.fields);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a text does not fail.
            let _ = write!(self.message, "{value:?}");
        }
    }
}
