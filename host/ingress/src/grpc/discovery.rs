//! `platform.discovery.v1.Discovery`.

use std::collections::BTreeMap;

use platform_capability::discovery::{self, Change};
use platform_proto::discovery::v1::{self as proto, discovery_server::Discovery, watch_event};
use tonic::{Request, Response, Status};

use super::{Shared, admitted, error::status, page::Page, stream::Answers};
use crate::fault::Fault;

/// Time to live of a registration that names none, in milliseconds.
const TTL_MS: u64 = 30_000;
/// Weight of a node that names none.
const WEIGHT: u32 = 100;

/// Which services run where.
#[derive(Debug, Clone)]
pub(crate) struct DiscoveryService(pub(crate) Shared);

#[tonic::async_trait]
impl Discovery for DiscoveryService {
    async fn register(
        &self, request: Request<proto::RegisterRequest>,
    ) -> Result<Response<proto::RegisterResponse>, Status> {
        let call = admitted(&request)?.call.clone();
        let proto::RegisterRequest { registration, ttl_ms } = request.into_inner();
        let missing = |what: &str| Status::from(Fault::invalid("INVALID_ARGUMENT", format!("`{what}` is missing")));
        let registration = registration.ok_or_else(|| missing("registration"))?;
        let node = registration.node.ok_or_else(|| missing("registration.node"))?;
        let registration = discovery::Registration {
            service: registration.service,
            version: registration.version,
            node: discovery::Node {
                id: node.id,
                address: node.address,
                zone: node.zone,
                weight: node.weight.unwrap_or(WEIGHT),
                metadata: node.metadata.into_iter().collect(),
            },
            metadata: registration.metadata.into_iter().collect(),
            endpoints: registration.endpoints.into_iter().map(endpoint_in).collect(),
        };
        let revision = self.0.plane.discovery().register(&call, &registration, or_default(ttl_ms)).await;
        Ok(Response::new(proto::RegisterResponse { revision: revision.map_err(status)? }))
    }

    async fn heartbeat(
        &self, request: Request<proto::HeartbeatRequest>,
    ) -> Result<Response<proto::HeartbeatResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::HeartbeatRequest { service, node_id, ttl_ms } = request.get_ref();
        let kept = self.0.plane.discovery().heartbeat(call, service, node_id, or_default(*ttl_ms)).await;
        kept.map_err(status)?;
        Ok(Response::new(proto::HeartbeatResponse {}))
    }

    async fn deregister(
        &self, request: Request<proto::DeregisterRequest>,
    ) -> Result<Response<proto::DeregisterResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::DeregisterRequest { service, node_id } = request.get_ref();
        self.0.plane.discovery().deregister(call, service, node_id).await.map_err(status)?;
        Ok(Response::new(proto::DeregisterResponse {}))
    }

    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<proto::GetResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::GetRequest { service, limit, page_token } = request.get_ref();
        let page = Page::parse(*limit, page_token)?;
        let found = self.0.plane.discovery().get(call, service, page.after.as_deref(), page.limit).await;
        let found = found.map_err(status)?;
        let next_page_token = page.next(found.len(), found.last().map(|last| last.node.id.as_str()));
        let registrations = found.into_iter().map(registration_out).collect();
        Ok(Response::new(proto::GetResponse { registrations, next_page_token }))
    }

    async fn list(&self, request: Request<proto::ListRequest>) -> Result<Response<proto::ListResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::ListRequest { limit, page_token } = request.get_ref();
        let page = Page::parse(*limit, page_token)?;
        let found = self.0.plane.discovery().list(call, page.after.as_deref(), page.limit).await.map_err(status)?;
        let next_page_token = page.next(found.len(), found.last().map(|last| last.service.as_str()));
        let service = |summary: discovery::Summary| proto::Service {
            service: summary.service,
            versions: summary.versions,
            nodes: summary.nodes,
        };
        let services = found.into_iter().map(service).collect();
        Ok(Response::new(proto::ListResponse { services, next_page_token }))
    }

    type WatchStream = Answers<proto::WatchEvent>;

    async fn watch(&self, request: Request<proto::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let admitted = admitted(&request)?;
        let watch = request.get_ref();
        let discovery = self.0.plane.discovery();
        let after = match watch.after_revision {
            Some(after) => after,
            None => discovery.revision(&admitted.call).await.map_err(status)?,
        };
        let events = discovery.watch(&admitted.call, &watch.service, after).map_err(status)?;
        Ok(Response::new(self.0.watched(admitted, after, events, changed, progress)?))
    }
}

fn or_default(ttl_ms: u64) -> u64 {
    if ttl_ms == 0 { TTL_MS } else { ttl_ms }
}

fn endpoint_in(endpoint: proto::Endpoint) -> discovery::Endpoint {
    let proto::Endpoint { name, request, response, metadata } = endpoint;
    discovery::Endpoint { name, request, response, metadata: metadata.into_iter().collect() }
}

fn endpoint_out(endpoint: discovery::Endpoint) -> proto::Endpoint {
    let discovery::Endpoint { name, request, response, metadata } = endpoint;
    proto::Endpoint { name, request, response, metadata: metadata.into_iter().collect() }
}

/// A registration as a message.
fn registration_out(registration: discovery::Registration) -> proto::Registration {
    let discovery::Registration { service, version, node, metadata, endpoints } = registration;
    let metadata: BTreeMap<_, _> = metadata.into_iter().collect();
    let endpoints = endpoints.into_iter().map(endpoint_out).collect();
    proto::Registration { service, version, node: Some(node_out(node)), metadata, endpoints }
}

/// A node as a message.
fn node_out(node: discovery::Node) -> proto::Node {
    let discovery::Node { id, address, zone, weight, metadata } = node;
    proto::Node { id, address, zone, weight: Some(weight), metadata: metadata.into_iter().collect() }
}

fn changed(change: Change) -> proto::WatchEvent {
    let Change { service, node_id, registration, revision } = change;
    proto::WatchEvent {
        event: Some(match registration {
            Some(registration) => {
                let registration = Some(registration_out(registration));
                watch_event::Event::Registered(watch_event::Registered { registration, revision })
            }
            None => watch_event::Event::Removed(watch_event::Removed { service, node_id, revision }),
        }),
    }
}

fn progress(revision: u64) -> proto::WatchEvent {
    proto::WatchEvent { event: Some(watch_event::Event::Progress(watch_event::Progress { revision })) }
}
