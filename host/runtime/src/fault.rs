//! What went wrong inside or around a guest, as a value.

use std::time::Duration;

/// A guest's failure, or the host's refusal to enter it. Never the caller's mistake.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The guest trapped: its own panic, an illegal operation, or a host function that refused it.
    #[error("the plugin trapped: {message}")]
    Trap {
        /// What wasmtime says, in one line.
        message: String,
        /// Functions of the guest, innermost first.
        backtrace: Vec<String>,
    },
    /// The call's deadline passed while the guest, or a host function that it waited for, was running.
    #[error("the plugin did not answer within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// The call's own deadline, shorter than the plugin's, passed while the guest was running.
    #[error("the call's deadline passed after {} ms in the plugin", .0.as_millis())]
    Expired(Duration),
    /// The guest asked for more memory or tables, or passed more data, than its limits allow, then trapped.
    #[error("the plugin hit its {what} limit of {limit}")]
    Limit {
        /// Which limit.
        what: &'static str,
        /// Its value, with unit.
        limit: String,
    },
    /// The guest used up its stack.
    #[error("the plugin overflowed its stack")]
    Stack,
    /// As many calls as allowed are running and waiting.
    #[error("the plugin is busy: {running} calls are running and {queued} are waiting")]
    Busy {
        /// Calls in the plugin.
        running: u32,
        /// Calls waiting for their turn.
        queued: u32,
    },
    /// The call's deadline passed before its turn came.
    #[error("the call's deadline passed while it waited for the plugin")]
    Waited,
    /// After faults in a row the plugin rests before it is tried again.
    #[error("the plugin rests for another {} ms after {faults} faults in a row, the last one: {last}", .rest.as_millis())]
    Resting {
        /// Time until the next try.
        rest: Duration,
        /// Faults in a row.
        faults: u32,
        /// The last of them.
        last: String,
    },
    /// The state that the call needs has moved to a newer generation; ask that one.
    #[error("the plugin's state has moved to a newer generation")]
    Moved,
    /// No instance could be made: the host has no room left.
    #[error("no instance could be made: {0}")]
    Instantiate(String),
}

impl Fault {
    /// Whether the guest itself is to blame, so that its instance must go and the fault counts against it.
    #[must_use]
    pub fn blames_guest(&self) -> bool {
        matches!(self, Self::Trap { .. } | Self::Deadline(_) | Self::Limit { .. } | Self::Stack)
    }

    /// Whether the guest was entered, so that it may have done a part of what it was asked.
    #[must_use]
    pub fn was_entered(&self) -> bool {
        self.blames_guest() || matches!(self, Self::Expired(_))
    }

    /// Whether the caller's deadline is to blame: nobody else can answer in time either.
    #[must_use]
    pub fn is_too_late(&self) -> bool {
        matches!(self, Self::Expired(_) | Self::Waited)
    }

    /// Short name for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "trap",
            Self::Deadline(_) => "deadline",
            Self::Expired(_) => "expired",
            Self::Limit { .. } => "limit",
            Self::Stack => "stack",
            Self::Busy { .. } => "busy",
            Self::Waited => "waited",
            Self::Resting { .. } => "resting",
            Self::Instantiate(_) => "instantiate",
            Self::Moved => "moved",
        }
    }
}

/// Raised by the epoch callback when a call's deadline has passed.
#[derive(Debug, thiserror::Error)]
#[error("deadline")]
pub(crate) struct DeadlinePassed;

/// Sorts what wasmtime returned. `denied` is the limit that the guest ran into during the call, if any: a guest that
/// is refused memory usually traps on its own.
pub(crate) fn classify(error: &wasmtime::Error, allowed: Duration, denied: Option<(&'static str, String)>) -> Fault {
    if error.downcast_ref::<DeadlinePassed>().is_some() {
        return Fault::Deadline(allowed);
    }
    let trap = error.downcast_ref::<wasmtime::Trap>();
    match trap {
        Some(wasmtime::Trap::Interrupt) => return Fault::Deadline(allowed),
        Some(wasmtime::Trap::StackOverflow) => return Fault::Stack,
        _ => {}
    }
    if let Some((what, limit)) = denied {
        return Fault::Limit { what, limit };
    }
    let message = match trap {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    Fault::Trap { message, backtrace: backtrace(error) }
}

/// Whether more data was to be passed than the store allows. Wasmtime has no type for it; a test of the host holds it to
/// its words.
pub(crate) fn is_transfer(error: &wasmtime::Error) -> bool {
    error.root_cause().to_string().starts_with("too much data is being copied")
}

/// Most functions that are told of a trap.
const FUNCTIONS_MAX: usize = 32;

fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(trace) = error.downcast_ref::<wasmtime::WasmBacktrace>() else { return Vec::new() };
    trace.frames().iter().flat_map(functions).take(FUNCTIONS_MAX).collect()
}

/// The function of a frame; with line tables also those that the compiler put into it, innermost first, each with its place.
fn functions(frame: &wasmtime::FrameInfo) -> Vec<String> {
    let shown = |name: &str| format!("{:#}", rustc_demangle::demangle(name));
    let own = || frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), shown);
    let placed = |symbol: &wasmtime::FrameSymbol| {
        let (file, line) = (symbol.file()?, symbol.line()?);
        Some(format!("{} ({file}:{line})", symbol.name().map_or_else(own, shown)))
    };
    let functions: Vec<_> = frame.symbols().iter().filter_map(placed).collect();
    if functions.is_empty() { vec![own()] } else { functions }
}
