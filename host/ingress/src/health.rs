//! Whether the daemon lives and serves: `/livez`, `/readyz`, `grpc.health.v1`.
//!
//! Owns the three forms of the answer; must not know what makes a slot ready. Invariant: all forms agree, and once the
//! drain has begun none says ready.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream};
use http::{Response, StatusCode};
use platform_control::{Control, PageRequest};
use prost_reflect::DescriptorPool;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, body::Body};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, HealthCheckResponse, health_server},
};

use crate::fault;

/// How often a health watch looks.
const LOOK: Duration = Duration::from_millis(250);

/// A slot that does not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unready {
    /// Name of the slot; `storage` when that is what is away, empty when it is everything.
    pub(crate) slot: String,
    /// Why, in words.
    pub(crate) reason: String,
}

/// Answers whether the daemon lives and serves.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    control: Arc<Control>,
    draining: CancellationToken,
    services: Arc<[String]>,
}

impl Health {
    /// Health of the services in `pool`.
    pub(crate) fn new(control: Arc<Control>, draining: CancellationToken, pool: &DescriptorPool) -> Self {
        let services = pool.services().map(|service| service.full_name().to_owned()).collect();
        Self { control, draining, services }
    }

    /// What does not serve; empty when everything does.
    pub(crate) fn unready(&self) -> Vec<Unready> {
        if self.draining.is_cancelled() {
            return vec![Unready { slot: String::new(), reason: "the platform is shutting down".to_owned() }];
        }
        let mut unready = Vec::new();
        unready.extend(self.control.storage_problem().map(|reason| Unready { slot: "storage".to_owned(), reason }));
        if self.control.is_ready() {
            return unready;
        }
        let mut page = PageRequest { limit: 1000, token: String::new() };
        loop {
            let slots = self.control.slots(&page);
            let broken = slots.items.into_iter().filter(|slot| !slot.ready);
            unready.extend(broken.map(|slot| Unready { slot: slot.name.to_string(), reason: slot.problem }));
            if slots.next.is_empty() {
                return unready;
            }
            page.token = slots.next;
        }
    }

    fn is_ready(&self) -> bool {
        !self.draining.is_cancelled() && self.control.is_ready() && self.control.storage_problem().is_none()
    }

    /// `/livez`: the process answers.
    pub(crate) fn livez() -> Response<Body> {
        Response::new(fault::body("ok\n"))
    }

    /// `/readyz`: 200 only when every bound slot serves and storage answers.
    pub(crate) fn readyz(&self) -> Response<Body> {
        let unready = self.unready();
        if unready.is_empty() {
            return Response::new(fault::body("ok\n"));
        }
        let lines: String = unready.iter().map(|unready| format!("{}: {}\n", unready.slot, unready.reason)).collect();
        let mut response = Response::new(fault::body(lines));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    }

    fn status(&self, service: &str) -> Option<ServingStatus> {
        let known = service.is_empty() || self.services.iter().any(|known| known == service);
        let serving = || if self.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
        known.then(serving)
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    let status = match status {
        ServingStatus::Unknown => 0,
        ServingStatus::Serving => 1,
        ServingStatus::NotServing => 2,
    };
    HealthCheckResponse { status }
}

/// SERVICE_UNKNOWN, which the status type does not have.
const SERVICE_UNKNOWN: HealthCheckResponse = HealthCheckResponse { status: 3 };

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self, request: Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        let status =
            self.status(&service).ok_or_else(|| Status::not_found(format!("there is no service `{service}`")))?;
        Ok(tonic::Response::new(answer(status)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let health = self.clone();
        let looks = stream::unfold(None, move |last: Option<HealthCheckResponse>| {
            let (health, service) = (health.clone(), service.clone());
            async move {
                loop {
                    if last.is_some() && health.draining.is_cancelled() {
                        return None;
                    }
                    let now = health.status(&service).map_or(SERVICE_UNKNOWN, answer);
                    if last.as_ref() != Some(&now) {
                        return Some((Ok(now), Some(now)));
                    }
                    let _ = tokio::time::timeout(LOOK, health.draining.cancelled()).await;
                }
            }
        });
        Ok(tonic::Response::new(looks.boxed()))
    }
}
