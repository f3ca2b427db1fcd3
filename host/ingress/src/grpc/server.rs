//! `platform.server.v1.Server`.

use std::{collections::BTreeMap, sync::Arc};

use platform_proto::server::v1::{self as proto, get_status_response::Unready, server_server::Server};
use tonic::{Request, Response, Status};

use super::{Shared, admitted, object, timestamp};
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
        &self, request: Request<proto::GetSettingsRequest>,
    ) -> Result<Response<proto::GetSettingsResponse>, Status> {
        admitted(&request)?;
        Ok(Response::new(proto::GetSettingsResponse { settings: Some(object(&self.about.settings)) }))
    }

    async fn get_status(
        &self, request: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        admitted(&request)?;
        let unready = self.health.unready();
        let slots = self.shared.plane.slots();
        let plugins: BTreeMap<_, _> =
            slots.iter().flat_map(|slot| &slot.entries).map(|entry| ((&entry.name, &entry.version), ())).collect();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Response::new(proto::GetStatusResponse {
            version: self.about.version.clone(),
            start_time: Some(timestamp(self.about.started_ms)),
            ready: unready.is_empty(),
            unready: unready.into_iter().map(|one| Unready { slot: one.slot, reason: one.reason }).collect(),
            slots: count(slots.len()),
            plugins: count(plugins.len()),
        }))
    }
}
