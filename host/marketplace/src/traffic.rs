//! [`Traffic`]: what the registry was asked and what it moved.
//!
//! Owns the counters; must not know how they are told. Invariant: all counters exist from the start, so that no request takes a lock or grows a map.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};

use crate::{error, route::Route};

/// Statuses that are counted each by itself; others are counted as 0.
const STATUSES: [u16; 16] = [200, 201, 202, 204, 206, 400, 401, 403, 404, 405, 408, 413, 416, 429, 503, 0];

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Whether there is a registry.
    Base,
    /// The list of repositories.
    Catalogue,
    /// A list of tags.
    Tags,
    /// A list of referrers.
    Referrers,
    /// A manifest.
    PullManifest,
    /// A manifest was put.
    PushManifest,
    /// A manifest or a tag was deleted.
    DeleteManifest,
    /// A blob.
    PullBlob,
    /// A step of an upload.
    Upload,
    /// Something that there is not.
    Other,
}

impl Operation {
    const ALL: [Self; 10] = [
        Self::Base,
        Self::Catalogue,
        Self::Tags,
        Self::Referrers,
        Self::PullManifest,
        Self::PushManifest,
        Self::DeleteManifest,
        Self::PullBlob,
        Self::Upload,
        Self::Other,
    ];

    pub(crate) fn of(route: &error::Result<Route>, method: &Method) -> Self {
        match (route, method) {
            (Ok(Route::Base), _) => Self::Base,
            (Ok(Route::Catalogue), _) => Self::Catalogue,
            (Ok(Route::Tags(_)), _) => Self::Tags,
            (Ok(Route::Referrers(..)), _) => Self::Referrers,
            (Ok(Route::Manifest(..)), &Method::GET | &Method::HEAD) => Self::PullManifest,
            (Ok(Route::Manifest(..)), &Method::PUT) => Self::PushManifest,
            (Ok(Route::Manifest(..)), &Method::DELETE) => Self::DeleteManifest,
            (Ok(Route::Blob(..)), &Method::GET | &Method::HEAD) => Self::PullBlob,
            (Ok(Route::Uploads(_) | Route::Upload(..)), _) => Self::Upload,
            _ => Self::Other,
        }
    }

    /// Its name, in `kebab-case`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Catalogue => "catalogue",
            Self::Tags => "tags",
            Self::Referrers => "referrers",
            Self::PullManifest => "pull-manifest",
            Self::PushManifest => "push-manifest",
            Self::DeleteManifest => "delete-manifest",
            Self::PullBlob => "pull-blob",
            Self::Upload => "upload",
            Self::Other => "other",
        }
    }
}

/// Counters of the registry.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: [[AtomicU64; STATUSES.len()]; Operation::ALL.len()],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Traffic {
    pub(crate) fn count(&self, operation: Operation, status: StatusCode) {
        let row = Operation::ALL.iter().position(|one| *one == operation).unwrap_or_default();
        let column = STATUSES.iter().position(|one| *one == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        if let Some(counter) = self.requests.get(row).and_then(|row| row.get(column)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests that were answered, by operation and status; those that occurred.
    #[must_use]
    pub fn requests(&self) -> Vec<(Operation, u16, u64)> {
        let rows = Operation::ALL.into_iter().zip(&self.requests);
        let cells = rows.flat_map(|(operation, row)| {
            STATUSES.iter().zip(row).map(move |(status, count)| (operation, *status, count.load(Ordering::Relaxed)))
        });
        cells.filter(|(.., count)| *count > 0).collect()
    }

    /// Bytes of bodies that came.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes of bodies that were given.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    /// A body whose bytes count as what came.
    pub(crate) fn incoming<B>(self: &Arc<Self>, body: B) -> Counted<Pin<Box<B>>> {
        Counted { body: Box::pin(body), traffic: Arc::clone(self), counter: |traffic| &traffic.bytes_in }
    }

    /// A body whose bytes count as what was given.
    pub(crate) fn outgoing(self: &Arc<Self>, body: UnsyncBoxBody<Bytes, io::Error>) -> UnsyncBoxBody<Bytes, io::Error> {
        Counted { body, traffic: Arc::clone(self), counter: |traffic| &traffic.bytes_out }.boxed_unsync()
    }
}

/// A body whose bytes are counted as they pass. Its size is as well known as before, which decides what is refused early and how it is framed.
#[derive(Debug)]
pub(crate) struct Counted<B> {
    body: B,
    traffic: Arc<Traffic>,
    counter: fn(&Traffic) -> &AtomicU64,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>, context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
            (self.counter)(&self.traffic).fetch_add(bytes, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[test]
    fn requests_are_counted_by_operation_and_status() {
        let traffic = Traffic::default();
        let manifest = |method| Operation::of(&Route::of("/v2/a/manifests/1.0.0").unwrap(), &method);
        traffic.count(manifest(Method::PUT), StatusCode::CREATED);
        traffic.count(manifest(Method::PUT), StatusCode::CREATED);
        traffic.count(manifest(Method::GET), StatusCode::IM_A_TEAPOT);
        traffic.count(Operation::of(&Route::of("/v2/A/B/C/x").unwrap(), &Method::GET), StatusCode::BAD_REQUEST);
        assert_eq!(
            traffic.requests(),
            [(Operation::PullManifest, 0, 1), (Operation::PushManifest, 201, 2), (Operation::Other, 400, 1)]
        );
    }

    #[tokio::test]
    async fn bodies_are_counted_and_stay_as_long_as_they_are() {
        let traffic = Arc::new(Traffic::default());
        let body = traffic.incoming(Full::new(Bytes::from_static(b"seven b")));
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(7), false));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "seven b");
        let body = Full::new(Bytes::from_static(b"given")).map_err(|never| match never {}).boxed_unsync();
        let body = traffic.outgoing(body);
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "given");
        assert_eq!((traffic.bytes_in(), traffic.bytes_out()), (7, 5));
    }
}
