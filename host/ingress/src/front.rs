//! One port for everything: finds the front door that a request is for.
//!
//! Owns the order in which doors are tried; must not know what they do. Invariant: every request gets an answer, and a
//! method of the platform is reached through admission only.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use platform_base::TaskGroup;
use platform_dataplane::Plane;
use platform_marketplace::Marketplace;
use platform_webhook::Webhooks;
use tonic::{Code, Status, body::Body};

use crate::{
    admission::{Admission, Demand, unauthenticated},
    check::{Checker, forward_auth::Door},
    cloudevents::{CloudEvents, Socket},
    exposition::Format,
    fault::{self, Fault},
    health::Health,
    identity::Access,
    market::Market,
    methods::Methods,
    metrics::{self, Requests, Told},
    page::Pages,
    transcode::Transcoder,
};

/// All front doors.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) methods: Arc<Methods>,
    pub(crate) transcoder: Transcoder,
    pub(crate) plane: Arc<Plane>,
    pub(crate) webhooks: Arc<Webhooks>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) checker: Arc<Checker>,
    pub(crate) cloudevents: CloudEvents,
    pub(crate) market: Option<Market>,
    pub(crate) pages: Option<Pages>,
    pub(crate) health: Health,
    pub(crate) requests: Arc<Requests>,
    pub(crate) openapi: Bytes,
    pub(crate) metrics_open: bool,
}

impl Front {
    /// Answers a request of `peer`; what goes on after the answer is a task of `tasks`.
    pub(crate) async fn answer(
        &self, peer: SocketAddr, request: Request<Incoming>, tasks: &TaskGroup,
    ) -> Response<Body> {
        let kind = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if kind.starts_with(b"application/grpc") {
            return if kind.starts_with(b"application/grpc-web") { no_grpc_web() } else { self.grpc(request).await };
        }
        let uri = request.uri().clone();
        if let Some(door) = Door::at(uri.path()) {
            // The body, if a gateway sends one, is none of our business.
            return self.checker.forward(door, &request.into_parts().0).await;
        }
        if let Some(topic) = CloudEvents::topic(uri.path()) {
            return self.cloudevents.answer(topic, request).await;
        }
        if let Some((topic, subscription)) = Socket::place(uri.path()) {
            return self.cloudevents.connect(topic, subscription, request, tasks).await;
        }
        if let Some(market) = self.market.as_ref().filter(|_| Marketplace::serves(uri.path())) {
            return market.answer(request).await;
        }
        if let Some(pages) = self.pages.as_ref().filter(|_| Pages::serves(uri.path())) {
            return pages.answer(request).await;
        }
        let path = request.uri().path();
        let plain = [Method::GET, Method::HEAD].contains(request.method());
        match path {
            "/livez" if plain => Health::livez(),
            "/readyz" if plain => self.health.readyz(),
            "/metrics" if plain => self.metrics(peer, &request),
            "/openapi.json" if plain => self.openapi(),
            _ => self.transcoder.answer(request).await,
        }
    }

    async fn grpc(&self, mut request: Request<Incoming>) -> Response<Body> {
        if let Some(demand) = Demand::of(request.uri().path()) {
            match self.admission.admit(demand, request.headers()) {
                Ok(admitted) => drop(request.extensions_mut().insert(admitted)),
                Err(fault) => return Status::from(fault).into_http(),
            }
        }
        self.methods.call(request).await
    }

    fn openapi(&self) -> Response<Body> {
        let mut response = Response::new(fault::body(self.openapi.clone()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// Open to this machine; others present a token.
    fn metrics(&self, peer: SocketAddr, request: &Request<Incoming>) -> Response<Body> {
        if !self.metrics_open && !peer.ip().to_canonical().is_loopback() {
            let identity = match self.admission.authenticator.identify(request.headers()) {
                Ok(identity) => identity,
                Err(error) => return unauthenticated(error).response(),
            };
            if identity.is_none_or(|identity| identity.access < Access::Data) {
                let message = "metrics need a token with access `data`, or the setting `metrics_open`";
                return Fault::new(Code::Unauthenticated, "TOKEN_MISSING", message).response();
            }
        }
        let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let format = Format::accepted(accept);
        let ready = self.health.unready().is_empty();
        let (slots, webhooks) = (self.plane.slots(), self.webhooks.all());
        let told = Told {
            requests: &self.requests,
            checks: &self.checker.counts,
            slots: &slots,
            webhooks: &webhooks,
            recorder: self.plane.recorder(),
            marketplace: self.market.as_ref().map(|market| &*market.marketplace),
            ready,
        };
        let text = metrics::text(format, &told);
        let mut response = Response::new(fault::body(text));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
        response
    }
}

fn no_grpc_web() -> Response<Body> {
    let message = "gRPC-Web is not spoken here: use HTTP/JSON, see `/openapi.json`";
    Fault::new(Code::Unimplemented, "UNSUPPORTED_MEDIA_TYPE", message)
        .http(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        .response()
}
