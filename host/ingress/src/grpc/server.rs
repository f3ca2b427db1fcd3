//! `platform.server.v1.Server`.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use platform_proto::server::v1::{self as proto, get_status_response::Unready, server_server::Server};
use prost_types::{ListValue, Struct, Value, value::Kind};
use tonic::{Request, Response, Status};

use super::{Shared, admitted};
use crate::health::Health;

/// The daemon itself.
#[derive(Debug, Clone)]
pub(crate) struct ServerService {
    pub(crate) shared: Shared,
    pub(crate) health: Health,
    pub(crate) about: Arc<About>,
}

/// What the daemon tells of itself.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Version of the daemon.
    pub version: String,
    /// When it started: unix time in milliseconds.
    pub started_ms: u64,
    /// Every setting as it is in effect, without secrets: one JSON object.
    pub settings: serde_json::Map<String, serde_json::Value>,
}

#[tonic::async_trait]
impl Server for ServerService {
    async fn get_settings(
        &self,
        request: Request<proto::GetSettingsRequest>,
    ) -> Result<Response<proto::GetSettingsResponse>, Status> {
        admitted(&request)?;
        Ok(Response::new(proto::GetSettingsResponse { settings: Some(object(&self.about.settings)) }))
    }

    async fn get_status(
        &self,
        request: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        admitted(&request)?;
        let unready = self.health.unready();
        let slots = self.shared.plane.slots();
        let plugins: BTreeMap<_, _> =
            slots.iter().flat_map(|slot| &slot.entries).map(|entry| ((&entry.name, &entry.version), ())).collect();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Response::new(proto::GetStatusResponse {
            version: self.about.version.clone(),
            start_time: Some((UNIX_EPOCH + Duration::from_millis(self.about.started_ms)).into()),
            ready: unready.is_empty(),
            unready: unready.into_iter().map(|one| Unready { slot: one.slot, reason: one.reason }).collect(),
            slots: count(slots.len()),
            plugins: count(plugins.len()),
        }))
    }
}

/// A JSON object as a message.
pub(crate) fn object(members: &serde_json::Map<String, serde_json::Value>) -> Struct {
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
