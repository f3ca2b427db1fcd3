//! The call being served. It comes from the host: a plugin can read it, never forge it.

use std::{iter, time::Duration};

#[cfg(target_arch = "wasm32")]
use crate::bindings::plugin::platform::plugin::context as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::native::context as host;

pub use crate::bindings::plugin::platform::plugin::context::{Caller, Fence};

/// Time that one more attempt is given.
const ATTEMPT: Duration = Duration::from_millis(20);

/// Who called, as verified by the host; none when the caller presented no token.
#[must_use]
pub fn who() -> Option<Caller> {
    host::who()
}

/// Namespace of the call; `default` when the caller named none.
#[must_use]
pub fn namespace() -> String {
    host::namespace()
}

/// Time left for the call; zero when it has passed.
#[must_use]
pub fn remaining() -> Duration {
    Duration::from_millis(host::remaining_ms().into())
}

/// Once, and again for as long as the call has time: for a write that has to be made anew when another came between. Whoever
/// comes between has got on, so somebody always does; how often one may come late has no bound but time.
pub fn attempts() -> impl Iterator<Item = ()> {
    iter::once(()).chain(iter::from_fn(|| (remaining() > ATTEMPT).then_some(())))
}

/// When the host admitted the call, unix time in nanoseconds. It does not advance during the call.
#[must_use]
pub fn time_ns() -> u64 {
    host::time_ns()
}

/// [`time_ns`] in milliseconds, the unit of expiry times.
#[must_use]
pub fn time_ms() -> u64 {
    host::time_ns() / 1_000_000
}

/// What the writes of the call are fenced with; none when the caller sent nothing. The host sees to it for what is written to
/// [`crate::storage`]; what is kept elsewhere is fenced by whoever keeps it, with [`crate::fence::Fences`] for example.
#[must_use]
pub fn fence() -> Option<Fence> {
    host::fencing()
}

/// W3C `traceparent` of the call; none when the caller sent none.
#[must_use]
pub fn traceparent() -> Option<String> {
    host::traceparent()
}
