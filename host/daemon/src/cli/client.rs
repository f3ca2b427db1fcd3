//! [`Client`]: the connection of a client command to the daemon.
//!
//! Owns what every request carries and how long it may take; must not know the commands. Invariant: every call ends within
//! the timeout, and a token is never shown.

use std::time::Duration;

use platform_proto::{
    FENCING_HEADER, NAMESPACE_HEADER, auth::v1::auth_client::AuthClient, config::v1::config_client::ConfigClient,
    db::v1::db_client::DbClient, discovery::v1::discovery_client::DiscoveryClient,
    event::v1::events_client::EventsClient, kv::v1::kv_client::KvClient,
    marketplace::v1::marketplace_client::MarketplaceClient, plugin::v1::plugins_client::PluginsClient,
    router::v1::router_client::RouterClient, server::v1::server_client::ServerClient,
    sync::v1::sync_client::SyncClient,
};
use tonic::{
    Request, Response, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use super::{
    failure::{Exit, Failure},
    target::Target,
};
use crate::cli::Global;

/// How long a call may take unless `--timeout` says otherwise.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
/// The same for calls that compile components.
pub(crate) const COMPILE_TIMEOUT: Duration = Duration::from_secs(300);
/// Largest answer: a page of values and room for what is around them.
const ANSWER_BYTES: usize = 32 << 20;

/// A channel whose requests carry token and namespace.
pub(crate) type Connection = InterceptedService<Channel, Credentials>;

/// A connection to the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
    credentials: Credentials,
    timeout: Option<Duration>,
}

macro_rules! capability {
    ($(#[$doc:meta])* $name:ident, $client:ident) => {
        $(#[$doc])*
        pub(crate) fn $name(&self) -> $client<Connection> {
            $client::with_interceptor(self.channel.clone(), self.credentials.clone())
                .max_decoding_message_size(ANSWER_BYTES)
        }
    };
}

impl Client {
    /// Finds the daemon and connects.
    pub(crate) async fn connect(global: &Global) -> Result<Self, Failure> {
        let target = Target::find(global)?;
        let credentials = Credentials {
            token: target.token.as_deref().map(bearer).transpose()?,
            namespace: global.namespace.as_deref().filter(|name| !name.is_empty()).map(namespace).transpose()?,
            fencing: global.fencing.as_deref().filter(|fence| !fence.is_empty()).map(fencing).transpose()?,
        };
        let channel = target.connect().await?;
        Ok(Self { channel, credentials, timeout: global.timeout })
    }

    capability!(
        /// Values under keys.
        kv, KvClient
    );
    capability!(
        /// Which services run where.
        discovery, DiscoveryClient
    );
    capability!(
        /// Documents with versions.
        config, ConfigClient
    );
    capability!(
        /// Locks, semaphores and elections.
        sync, SyncClient
    );
    capability!(
        /// Records in tables.
        db, DbClient
    );
    capability!(
        /// The stream of what happened.
        events, EventsClient
    );
    capability!(
        /// May this caller do this?
        auth, AuthClient
    );
    capability!(
        /// Which copy of a service should take this request?
        router, RouterClient
    );
    capability!(
        /// Components and slots.
        plugins, PluginsClient
    );
    capability!(
        /// What is published.
        marketplace, MarketplaceClient
    );
    capability!(
        /// The daemon itself.
        server, ServerClient
    );

    /// Waits for the answer of a call.
    pub(crate) async fn call<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failure> {
        self.call_within(TIMEOUT, call).await
    }

    /// Waits for the answer of a call that usually takes up to `usual`.
    pub(crate) async fn call_within<T>(
        &self, usual: Duration, call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        let limit = self.timeout(usual);
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => {
                let message = format!("no answer within {} ms; give more time with `--timeout`", limit.as_millis());
                Err(Failure::new(Exit::Unavailable, "DEADLINE_EXCEEDED", message))
            }
        }
    }

    /// A request that tells the daemon how long this side will wait.
    pub(crate) fn request<T>(&self, usual: Duration, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout(usual));
        request
    }

    fn timeout(&self, usual: Duration) -> Duration {
        self.timeout.unwrap_or(usual)
    }
}

/// What every request carries.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    token: Option<AsciiMetadataValue>,
    namespace: Option<AsciiMetadataValue>,
    fencing: Option<AsciiMetadataValue>,
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        if let Some(token) = &self.token {
            metadata.insert("authorization", token.clone());
        }
        if let Some(namespace) = &self.namespace {
            metadata.insert(NAMESPACE_HEADER, namespace.clone());
        }
        if let Some(fencing) = &self.fencing {
            metadata.insert(FENCING_HEADER, fencing.clone());
        }
        Ok(request)
    }
}

fn bearer(token: &str) -> Result<AsciiMetadataValue, Failure> {
    let wrong =
        |_| Failure::usage("the token holds characters that no token has; name the right file with `--token-file`");
    let mut value: AsciiMetadataValue = format!("Bearer {token}").parse().map_err(wrong)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A name that stands as it is, or percent-encoded already.
fn fencing(text: &str) -> Result<AsciiMetadataValue, Failure> {
    let encoded = percent_encoding::utf8_percent_encode(text, percent_encoding::CONTROLS).to_string();
    encoded.parse().ok().ok_or_else(|| Failure::usage(format!("`{text}` is no fence; write `NAME:TOKEN`")))
}

fn namespace(name: &str) -> Result<AsciiMetadataValue, Failure> {
    name.parse().ok().ok_or_else(|| {
        Failure::usage(format!("`{name}` is no name of a namespace; use letters, digits, `.`, `_` and `-`"))
    })
}
