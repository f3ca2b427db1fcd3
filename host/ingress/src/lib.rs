//! Front doors: gRPC, HTTP/JSON, health, metrics and the wire formats of gateways, all on one port.
//!
//! Knows wire formats and who may call; knows no instance, no binding, no storage. Invariant: a method exists once, whatever
//! the form it is called in, and runs only for a caller that was verified here.
//!
//! The life of a request, in reading order: [`server`](Ingress) accepts the connection, `refused` says what is too long to come any further, `front` finds the door, `identity` and
//! `admission` make the call's context, `transcode` turns HTTP/JSON into a message and back, `methods` finds the service,
//! `grpc` calls the data plane, `fault` says what went wrong. `check` answers gateways, `cloudevents` speaks with what speaks CloudEvents, over WebSockets too, `market` with clients of registries, `page` with browsers; `health`, `metrics` and `openapi` tell
//! of the platform itself. `resp` is the door for clients of Redis.

mod admission;
mod check;
mod cloudevents;
mod config;
mod exposition;
mod fault;
mod front;
mod grpc;
mod health;
mod identity;
mod market;
mod methods;
mod metrics;
mod openapi;
mod page;
mod refused;
mod resp;
mod server;
mod transcode;

use std::sync::Arc;

use envoy_types::ext_authz::v3::pb::AuthorizationServer;
use platform_control::Control;
use platform_dataplane::Plane;
use platform_marketplace::Marketplace;
use platform_proto::{
    auth::v1::auth_server::AuthServer, config::v1::config_server::ConfigServer, db::v1::db_server::DbServer,
    discovery::v1::discovery_server::DiscoveryServer, event::v1::events_server::EventsServer,
    kv::v1::kv_server::KvServer, marketplace::v1::marketplace_server::MarketplaceServer,
    plugin::v1::plugins_server::PluginsServer, router::v1::router_server::RouterServer,
    server::v1::server_server::ServerServer, sync::v1::sync_server::SyncServer,
};
use platform_webhook::Webhooks;
use prost_reflect::DescriptorPool;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use admission::Admission;
use check::{Checker, ext_authz::ExtAuthz};
use cloudevents::CloudEvents;
use front::Front;
use grpc::{
    AuthService, ConfigService, DbService, DiscoveryService, EventService, KvService, MarketplaceService,
    PluginsService, RouterService, ServerService, Shared, SyncService,
};
use health::Health;
use identity::Authenticator;
use market::Market;
use methods::{EXT_AUTHZ, Methods};
use metrics::Requests;
use page::Pages;
use transcode::{TableError, Transcoder};

pub use admission::DeadlineConfig;
pub use check::{CheckConfig, Gateway, InvalidHeaderName};
pub use config::{Config, Limits};
pub use grpc::About;
pub use identity::{
    ADMIN_ROLE, Access, Algorithm, IdentityConfig, IdentityError, Issuer, IssuerError, Key, Secret, StaticToken,
    StaticTokenError,
};
pub use market::PUBLISHER_ROLE;
pub use resp::{RespConfig, RespError};
pub use server::Ingress;

/// What the front doors stand in front of.
#[derive(Debug)]
pub struct Parts {
    /// The slots.
    pub plane: Arc<Plane>,
    /// Control of what they hold.
    pub control: Arc<Control>,
    /// What posts events to URLs.
    pub webhooks: Arc<Webhooks>,
    /// The marketplace; none where it is off.
    pub marketplace: Option<Arc<Marketplace>>,
    /// What the daemon tells of itself.
    pub about: About,
}

/// Why the front doors can't open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngressError {
    /// Somebody else listens there.
    #[error("the address `{address}` is in use: stop what listens there, or choose another with `--server-address`")]
    AddressInUse {
        /// The address.
        address: String,
    },
    /// The address can't be listened at.
    #[error("can't listen at `{address}`: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// Tokens can't be verified as configured.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A header of the settings is none.
    #[error(transparent)]
    HeaderName(#[from] InvalidHeaderName),
    /// The RESP door can't open as configured.
    #[error(transparent)]
    Resp(#[from] RespError),
    /// The definitions that the daemon was built with are broken.
    #[error("the definitions of the methods are broken: {0}")]
    Definitions(String),
}

impl From<TableError> for IngressError {
    fn from(error: TableError) -> Self {
        Self::Definitions(error.to_string())
    }
}

impl Config {
    /// Opens the listener and puts the front doors together. Nothing is accepted before [`Ingress::serve`].
    ///
    /// # Errors
    /// The address, a token or a key is not usable; which one, and why.
    pub async fn build(&self, parts: Parts) -> Result<Ingress, IngressError> {
        let pool = DescriptorPool::decode(platform_proto::FILE_DESCRIPTOR_SET)
            .map_err(|error| IngressError::Definitions(error.to_string()))?;
        let authenticator = Arc::new(self.identity.build()?);
        let admission =
            Arc::new(Admission { authenticator: Arc::clone(&authenticator), deadlines: self.deadline.clone() });
        let plane = Arc::clone(&parts.plane);
        let checker = Arc::new(Checker::new(Arc::clone(&plane), Arc::clone(&authenticator), self.check.clone())?);
        let draining = CancellationToken::new();
        let health = Health::new(Arc::clone(&parts.control), draining.clone(), &pool);
        let more: Vec<&str> = [EXT_AUTHZ].into_iter().chain(self.resp.methods()).collect();
        let requests = Arc::new(Requests::new(&pool, &more));
        let version = parts.about.version.clone();
        let shared = resp::Shared {
            plane: Arc::clone(&plane),
            admission: Arc::clone(&admission),
            requests: Arc::clone(&requests),
            version: version.clone(),
        };
        let resp = self.resp.build(shared).await?;
        let watches = Arc::new(Semaphore::new(self.limits.watches_max.min(Semaphore::MAX_PERMITS)));
        let webhooks = Arc::clone(&parts.webhooks);
        let served =
            Shared { plane: Arc::clone(&plane), webhooks: Arc::clone(&webhooks), draining: draining.clone(), watches };
        let cloudevents =
            CloudEvents { shared: served.clone(), admission: Arc::clone(&admission), limits: self.limits.clone() };
        let pages = parts.marketplace.clone().map(|marketplace| {
            Pages::new(Arc::clone(&plane), Arc::clone(&parts.control), marketplace, Arc::clone(&admission))
        });
        let market = parts.marketplace.clone();
        let market = market.map(|marketplace| Market { marketplace, authenticator: Arc::clone(&authenticator) });
        let routes = self.routes(parts, served, &health, authenticator)?;
        let ext_authz = AuthorizationServer::new(ExtAuthz::new(Arc::clone(&checker)))
            .max_decoding_message_size(self.limits.request_bytes);
        let methods = Arc::new(Methods { routes, ext_authz, requests: Arc::clone(&requests) });
        let transcoder = Transcoder::new(&pool, Arc::clone(&methods), Arc::clone(&admission), self.limits.clone())?;
        let openapi = openapi::document(&pool, transcoder.table(), &version).into();
        let front = Front {
            methods,
            transcoder,
            plane,
            webhooks,
            admission,
            checker,
            cloudevents,
            market,
            pages,
            health,
            requests,
            openapi,
            metrics_open: self.metrics_open,
        };
        let front = Arc::new(front);
        let (listener, address) = server::listen(&self.address).await?;
        Ok(Ingress { listener, address, front, resp, limits: self.limits.clone(), draining })
    }

    fn routes(
        &self, parts: Parts, shared: Shared, health: &Health, authenticator: Arc<Authenticator>,
    ) -> Result<Routes, IngressError> {
        let server = ServerService { shared: shared.clone(), health: health.clone(), about: Arc::new(parts.about) };
        let limit = self.limits.request_bytes;
        // Room for the component, and for what stands beside it.
        let component_limit = self.limits.component_bytes.saturating_add(64 << 10);
        let marketplace = MarketplaceService(parts.marketplace);
        let plugins = PluginsService { control: parts.control, shared: shared.clone() };
        let plugins = PluginsServer::new(plugins).max_decoding_message_size(component_limit);
        let mut builder = Routes::builder();
        builder
            .add_service(KvServer::new(KvService(shared.clone())).max_decoding_message_size(limit))
            .add_service(DiscoveryServer::new(DiscoveryService(shared.clone())).max_decoding_message_size(limit))
            .add_service(ConfigServer::new(ConfigService(shared.clone())).max_decoding_message_size(limit))
            .add_service(SyncServer::new(SyncService(shared.clone())).max_decoding_message_size(limit))
            .add_service(DbServer::new(DbService(shared.clone())).max_decoding_message_size(limit))
            .add_service(EventsServer::new(EventService(shared.clone())).max_decoding_message_size(limit))
            .add_service(RouterServer::new(RouterService(shared.clone())).max_decoding_message_size(limit))
            .add_service(AuthServer::new(AuthService { shared, authenticator }).max_decoding_message_size(limit))
            .add_service(MarketplaceServer::new(marketplace).max_decoding_message_size(limit))
            .add_service(ServerServer::new(server).max_decoding_message_size(limit))
            .add_service(HealthServer::new(health.clone()));
        let broken = |error: tonic_reflection::server::Error| IngressError::Definitions(error.to_string());
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(platform_proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        builder.add_service(reflection().build_v1().map_err(broken)?);
        builder.add_service(reflection().build_v1alpha().map_err(broken)?);
        builder.add_service(plugins);
        Ok(builder.routes().prepare())
    }
}
