//! The platform's methods as gRPC services, one file for each. HTTP/JSON runs the same code.
//!
//! Owns the way from messages to the typed calls of the data plane and back; must not know slots or instances. Invariant:
//! a service finds its caller's [`Admitted`] with the request, put there by the front door, or does not run.

mod auth;
mod config;
mod db;
mod discovery;
mod error;
mod event;
mod kv;
mod marketplace;
mod page;
mod plugins;
mod router;
mod server;
mod stream;
mod sync;

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use platform_dataplane::Plane;
use platform_webhook::Webhooks;
use prost_types::{ListValue, Struct, Timestamp, Value, value::Kind};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

pub(crate) use auth::AuthService;
pub(crate) use config::ConfigService;
pub(crate) use db::DbService;
pub(crate) use discovery::DiscoveryService;
pub(crate) use error::status;
pub(crate) use event::EventService;
pub(crate) use kv::KvService;
pub(crate) use marketplace::MarketplaceService;
pub(crate) use plugins::PluginsService;
pub(crate) use router::RouterService;
pub use server::About;
pub(crate) use server::ServerService;
pub(crate) use stream::Answers;
pub(crate) use sync::SyncService;

use crate::admission::Admitted;

/// What the services of the capabilities share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) plane: Arc<Plane>,
    pub(crate) webhooks: Arc<Webhooks>,
    /// Ends streams when the daemon drains.
    pub(crate) draining: CancellationToken,
    /// Streams that may still be opened.
    pub(crate) watches: Arc<Semaphore>,
}

/// A JSON object as a message.
fn object(members: &serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct { fields: members.iter().map(|(name, member)| (name.clone(), value(member))).collect() }
}

fn value(json: &serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(bool) => Kind::BoolValue(*bool),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(value).collect() }),
        serde_json::Value::Object(members) => Kind::StructValue(object(members)),
    };
    Value { kind: Some(kind) }
}

/// A moment as a message.
pub(crate) fn timestamp(unix_ms: u64) -> Timestamp {
    (UNIX_EPOCH + Duration::from_millis(unix_ms)).into()
}

/// Unix time in milliseconds; what is before 1970 is 0.
fn milliseconds(time: &Timestamp) -> u64 {
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(u64::try_from(time.nanos / 1_000_000).unwrap_or(0))
}

/// The admission of a request.
fn admitted<T>(request: &Request<T>) -> Result<&Admitted, Status> {
    request.extensions().get().ok_or_else(|| Status::internal("the request came in past the door"))
}
