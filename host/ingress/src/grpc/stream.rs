//! Streams that end when they should.
//!
//! Owns their end: at the caller's timeout, at the token's expiry, at the drain; must not know what they carry. Invariant:
//! an open stream holds one of a bounded number of permits, and never keeps the daemon from draining.

use std::pin::Pin;

use futures::{Stream, StreamExt, stream};
use platform_dataplane::{CallError, Event};
use tonic::{Code, Status};

use super::{
    Shared,
    error::{CapabilityError, status},
};
use crate::{admission::Admitted, fault::Fault};

/// A stream of answers.
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Shared {
    /// `inner`, which has no end of its own, ended when the caller's time is over or the daemon drains.
    ///
    /// # Errors
    /// Too many streams are open.
    pub(crate) fn guard<T: Send + 'static>(
        &self, admitted: &Admitted, inner: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Result<Answers<T>, Status> {
        self.bound(admitted, inner.chain(stream::once(async { Err(ended()) })))
    }

    /// The events of a watch, after the revision that it begins at.
    ///
    /// # Errors
    /// Too many streams are open.
    pub(crate) fn watched<C: 'static, E: CapabilityError + 'static, T: Send + 'static>(
        &self, admitted: &Admitted, after: u64,
        events: impl Stream<Item = Result<Event<C>, CallError<E>>> + Send + 'static, changed: fn(C) -> T,
        progress: fn(u64) -> T,
    ) -> Result<Answers<T>, Status> {
        let events = events.flat_map(move |event| {
            stream::iter(match event {
                Ok(Event::Changes(changes)) => changes.into_iter().map(|change| Ok(changed(change))).collect(),
                Ok(Event::Progress(revision)) => vec![Ok(progress(revision))],
                Err(error) => vec![Err(status(error))],
            })
        });
        self.guard(admitted, stream::iter([Ok(progress(after))]).chain(events))
    }

    /// `inner`, ended with it, or when the caller's time is over or the daemon drains.
    ///
    /// # Errors
    /// Too many streams are open.
    pub(crate) fn bound<T: Send + 'static>(
        &self, admitted: &Admitted, inner: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Result<Answers<T>, Status> {
        let permit = std::sync::Arc::clone(&self.watches).try_acquire_owned().map_err(|_none_left| {
            let message = "as many streams are open as the limit `watches_max` allows: close some, or raise it";
            Status::from(Fault::new(Code::ResourceExhausted, "TOO_MANY_STREAMS", message))
        })?;
        let draining = self.draining.clone();
        let until = admitted.until;
        let end = async move {
            let over = async move {
                match until {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = draining.cancelled() => {
                    Fault::new(Code::Unavailable, "SHUTTING_DOWN", "the platform is shutting down: connect again")
                }
                () = over => {
                    let message = "the stream's time is over: its timeout has passed, or its token has expired";
                    Fault::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message)
                }
            }
        };
        let end = stream::once(async move { Some(Err(Status::from(end.await))) });
        // Whichever comes first; after an error nothing follows.
        let merged = stream::select(inner.map(Some).chain(stream::once(async { None })), end);
        let guarded = merged.scan((false, permit), |(over, _permit), item| {
            let last = std::mem::replace(over, item.as_ref().is_none_or(Result::is_err));
            std::future::ready(item.filter(|_| !last))
        });
        Ok(guarded.boxed())
    }
}

fn ended() -> Status {
    Fault::new(Code::Unavailable, "STREAM_ENDED", "the source of the stream ended: connect again").into()
}
