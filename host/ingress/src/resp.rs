//! The RESP door: the key-value capability for clients of Redis, on a port of its own.
//!
//! Owns the listener and what its connections share; must not know slots or instances. Invariant: a connection does
//! nothing before somebody is known to call, and commands reach the store through the same facade as every other call.
//!
//! In reading order: [`RespConfig`], `secure` (the certificate), `connection` (the socket), `frame` (requests), `session` (who,
//! where, in which order), `command` (what there is), `data` and `browse` (what it does), `draft` and `engine` (how it is read and written),
//! `reply`, `refusal` and `output` (what is answered).

mod about;
mod browse;
mod command;
mod connection;
mod data;
mod draft;
mod engine;
mod frame;
mod glob;
mod output;
mod refusal;
mod reply;
mod secure;
mod session;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use platform_base::{Gate, TaskGroup, clock};
use platform_capability::{InvalidName, NAMESPACE_DEFAULT, Name};
use platform_dataplane::Plane;
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use crate::{
    IngressError,
    admission::Admission,
    identity::Identity,
    metrics::Requests,
    server::{self, ACCEPT_PAUSE},
};

/// Bytes that a permit of the memory for large requests stands for.
const PERMIT_BYTES: usize = 1024;

/// Settings of the RESP door.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RespConfig {
    /// Where to listen, `HOST:PORT`; port 0 takes a free one. Not at all when it is not given.
    pub address: Option<String>,
    /// Certificate of the port and those that it was signed with, PEM: with it and the key only TLS is spoken.
    pub tls_certificate_file: Option<PathBuf>,
    /// Key of the certificate, PEM.
    pub tls_key_file: Option<PathBuf>,
    /// The namespaces that `SELECT` chooses by number, from 0.
    pub namespaces: Vec<String>,
    /// Subject of a configured token: connections without `AUTH` are taken for its bearer. None: they have to say who
    /// they are.
    pub unnamed_subject: Option<String>,
    /// Connections at the same time; more wait to be accepted.
    pub connections_max: usize,
    /// Arguments of a request, with the command's name.
    pub arguments_max: usize,
    /// Bytes of a request's arguments.
    pub request_bytes: usize,
    /// Bytes of requests above 64 KiB that arrive or are run at the same time, on all connections together.
    pub large_requests_bytes: usize,
    /// Time for the rest of a request that has begun to arrive, in milliseconds.
    pub request_timeout_ms: u64,
    /// Time for a peer to take its answers, in milliseconds.
    pub write_timeout_ms: u64,
}

impl Default for RespConfig {
    fn default() -> Self {
        Self {
            address: None,
            tls_certificate_file: None,
            tls_key_file: None,
            namespaces: vec![NAMESPACE_DEFAULT.to_owned()],
            unnamed_subject: None,
            connections_max: 10_000,
            // `MSET` of as many keys as one commit writes.
            arguments_max: 2_048,
            // As much as one commit writes, and room for the rest.
            request_bytes: 17 << 20,
            large_requests_bytes: 256 << 20,
            request_timeout_ms: 60_000,
            write_timeout_ms: 60_000,
        }
    }
}

/// Why the RESP door can't open.
#[derive(Debug, thiserror::Error)]
pub enum RespError {
    /// A namespace is no name.
    #[error("`namespaces`: {0}")]
    Namespace(#[from] InvalidName),
    /// There is no namespace 0.
    #[error("`namespaces` is empty; name at least the one that connections begin in")]
    NoNamespaces,
    /// No token has that subject.
    #[error("`unnamed_subject` is `{0}`, which no configured token has; give one that subject")]
    Subject(String),
    /// There is a certificate without a key, or the other way round.
    #[error("`tls_certificate_file` and `tls_key_file` go together; name both, or none for a port without TLS")]
    Half,
    /// The certificate or its key can't be used.
    #[error("`{}` can't be used: {why}; it has to be PEM, and certificate and key belong together", file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl RespConfig {
    fn request_limits(&self) -> frame::Limits {
        frame::Limits { arguments: self.arguments_max, bytes: self.request_bytes }
    }

    fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms)
    }

    fn large_permits(&self) -> usize {
        // Never below one request, which otherwise could not be read at all.
        (self.large_requests_bytes.max(self.request_bytes) / PERMIT_BYTES).clamp(1, Semaphore::MAX_PERMITS)
    }

    /// The names under which its commands are counted; none when the door is not wanted.
    pub(crate) fn methods(&self) -> impl Iterator<Item = &'static str> + use<> {
        let wanted = self.address.is_some();
        command::TABLE.iter().filter(move |_| wanted).map(|spec| spec.metric)
    }

    /// Opens the listener; none when the door is not wanted. Nothing is accepted before [`Listener::serve`].
    pub(crate) async fn build(&self, shared: Shared) -> Result<Option<Listener>, IngressError> {
        let Shared { plane, admission, requests, version } = shared;
        let Some(address) = &self.address else { return Ok(None) };
        let namespaces = self.namespaces.iter().map(|name| name.parse()).collect::<Result<Vec<Name>, _>>();
        let namespaces = namespaces.map_err(RespError::from)?;
        if namespaces.is_empty() {
            return Err(RespError::NoNamespaces.into());
        }
        let unnamed = self.unnamed_subject.as_ref().map(|subject| {
            let identity = admission.authenticator.static_bearer(subject);
            identity.ok_or_else(|| RespError::Subject(subject.clone()))
        });
        let secure = secure::config(self.tls_certificate_file.as_deref(), self.tls_key_file.as_deref())?;
        let door = Door {
            secure,
            config: self.clone(),
            engine: engine::Engine::new(plane),
            cursors: browse::Cursors::default(),
            unnamed: unnamed.transpose()?,
            admission,
            namespaces,
            requests,
            version,
            begun: clock::now(),
            gate: Arc::new(Gate::new()),
            ids: AtomicI64::new(1),
            large: Arc::new(Semaphore::new(self.large_permits())),
        };
        let (listener, address) = server::listen(address).await?;
        Ok(Some(Listener { listener, address, door: Arc::new(door) }))
    }
}

/// What the door stands in front of, and what it shares with the other doors.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plane: Arc<Plane>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) requests: Arc<Requests>,
    pub(crate) version: String,
}

/// What connections share.
#[derive(Debug)]
struct Door {
    config: RespConfig,
    /// What encrypts connections, where they are.
    secure: Option<Arc<ServerConfig>>,
    engine: engine::Engine,
    cursors: browse::Cursors,
    admission: Arc<Admission>,
    namespaces: Vec<Name>,
    /// Whom connections without `AUTH` are taken for.
    unnamed: Option<Arc<Identity>>,
    requests: Arc<Requests>,
    version: String,
    begun: Instant,
    gate: Arc<Gate>,
    ids: AtomicI64,
    large: Arc<Semaphore>,
}

impl Door {
    fn next_id(&self) -> i64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// A share of the memory for large requests, once there is one: that of a whole request, so that nobody who has a part
    /// waits for another.
    async fn large_share(&self) -> Option<OwnedSemaphorePermit> {
        let permits = u32::try_from(self.config.request_bytes / PERMIT_BYTES).unwrap_or(u32::MAX).max(1);
        Arc::clone(&self.large).acquire_many_owned(permits).await.ok()
    }
}

/// The door, listening.
#[derive(Debug)]
pub(crate) struct Listener {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
    door: Arc<Door>,
}

impl Listener {
    /// Tells when the last connection has ended after the drain.
    pub(crate) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.door.gate)
    }

    /// Accepts connections until the drain begins; `cut` ends those that outlive it.
    pub(crate) async fn serve(self, tasks: TaskGroup, draining: CancellationToken, cut: CancellationToken) {
        let Self { listener, door, .. } = self;
        let room = Arc::new(Semaphore::new(door.config.connections_max.min(Semaphore::MAX_PERMITS)));
        loop {
            let accepted = tokio::select! {
                () = draining.cancelled() => break,
                accepted = server::accept(&listener, &room) => accepted,
            };
            let (stream, peer, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "can't accept a RESP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(pass) = door.gate.enter_owned() else { break };
            let (door, draining, cut) = (Arc::clone(&door), draining.clone(), cut.clone());
            tasks.spawn("resp connection", async move {
                let serving = Box::pin(connection::serve(door, stream, peer, draining));
                let _ended = cut.run_until_cancelled(serving).await;
                drop((pass, permit));
            });
        }
        door.gate.close();
    }
}
