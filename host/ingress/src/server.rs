//! The listener: accepts connections and drains them.
//!
//! Owns sockets and the life of connections; must not know requests. Invariant: once the drain has begun no connection is
//! accepted, each open one finishes what it has begun, and none outlives the drain's deadline.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use platform_base::TaskGroup;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use crate::{IngressError, config::Limits, front::Front, refused::Refusing, resp};

/// Wait after a failed accept: the usual cause, too many open files, takes a moment to pass.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often an idle HTTP/2 peer is asked whether it lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(30);
/// Bytes that an HTTP/2 peer may send ahead, on a stream and on a connection.
const WINDOW_BYTES: (u32, u32) = (1 << 20, 4 << 20);

/// The front doors, listening.
#[derive(Debug)]
pub struct Ingress {
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
    pub(crate) front: Arc<Front>,
    pub(crate) resp: Option<resp::Listener>,
    pub(crate) limits: Limits,
    pub(crate) draining: CancellationToken,
}

/// Opens the listener.
pub(crate) async fn listen(address: &str) -> Result<(TcpListener, SocketAddr), IngressError> {
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => IngressError::AddressInUse { address: address.to_owned() },
        _ => IngressError::Listen { address: address.to_owned(), source },
    };
    let listener = TcpListener::bind(address).await.map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    Ok((listener, bound))
}

impl Ingress {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients of Redis are served, if they are.
    #[must_use]
    pub fn resp_address(&self) -> Option<SocketAddr> {
        self.resp.as_ref().map(|resp| resp.address)
    }

    /// Serves until `stop`, then drains: readiness says no, streams end, requests in flight finish. Connections that are
    /// still open after `drain` are cut; how many.
    pub async fn serve(self, tasks: &TaskGroup, stop: impl Future<Output = ()>, drain: Duration) -> usize {
        let connections = Arc::new(Semaphore::new(self.limits.connections_max.min(Semaphore::MAX_PERMITS)));
        let graceful = GracefulShutdown::new();
        let cut = CancellationToken::new();
        let builder = Arc::new(self.builder());
        let head_bytes_max = self.head_bytes_max();
        let redis = self.resp.map(|resp| {
            let gate = resp.gate();
            tasks.spawn("resp door", resp.serve(tasks.clone(), self.draining.clone(), cut.clone()));
            gate
        });
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = accept(&self.listener, &connections) => accepted,
            };
            let (stream, peer, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (builder, watcher, front, cut, group) =
                (Arc::clone(&builder), graceful.watcher(), Arc::clone(&self.front), cut.clone(), tasks.clone());
            tasks.spawn("connection", async move {
                let open = Open::new(&front);
                let service = service_fn(|request| {
                    let (front, group) = (Arc::clone(&front), group.clone());
                    // Boxed: what is in the connection's task stays until the last byte of the answer, which a stream
                    // has for hours, and coming to an answer takes much more room than sending it.
                    Box::pin(async move { Ok::<_, Infallible>(front.answer(peer, request, &group).await) })
                });
                let stream = TokioIo::new(Refusing::new(stream, head_bytes_max));
                let connection = watcher.watch(builder.serve_connection_with_upgrades(stream, service));
                // A broken connection is the peer's affair: nobody is left to tell.
                let _ = cut.run_until_cancelled(connection).await;
                drop((open, permit));
            });
        }
        drop(self.listener);
        self.draining.cancel();
        let ends = async {
            graceful.shutdown().await;
            if let Some(gate) = &redis {
                gate.drained().await;
            }
        };
        let drained = tokio::time::timeout(drain, ends).await.is_ok();
        let open = usize::try_from(self.front.requests.connections.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let open = open.saturating_add(redis.map_or(0, |gate| gate.in_flight()));
        cut.cancel();
        if drained { 0 } else { open }
    }

    /// Most bytes of a request's head over HTTP/1.
    fn head_bytes_max(&self) -> usize {
        // The least that hyper takes.
        usize::try_from(self.limits.header_bytes_max).unwrap_or(usize::MAX).max(8192)
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let limits = &self.limits;
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(limits.header_timeout_ms))
            .max_buf_size(self.head_bytes_max())
            .keep_alive(true);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .initial_stream_window_size(WINDOW_BYTES.0)
            .initial_connection_window_size(WINDOW_BYTES.1)
            .max_concurrent_streams(limits.streams_per_connection_max)
            .max_header_list_size(limits.header_bytes_max);
        builder
    }
}

/// A connection, once there is room for it.
pub(crate) async fn accept(
    listener: &TcpListener, connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, Option<tokio::sync::OwnedSemaphorePermit>)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok();
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, permit))
}

/// Counts a connection for as long as it is open.
struct Open(Arc<crate::metrics::Requests>);

impl Open {
    fn new(front: &Front) -> Self {
        let requests = Arc::clone(&front.requests);
        requests.connections.fetch_add(1, Ordering::Relaxed);
        Self(requests)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
