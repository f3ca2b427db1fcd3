//! All gRPC services of the process behind one call.
//!
//! Owns the dispatch by path and the count of requests; must not know the transport. Invariant: every request to a method
//! passes here once, whichever front door it came in by.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use envoy_types::ext_authz::v3::pb::AuthorizationServer;
use http::{Request, Response};
use platform_base::clock;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::Service;

use crate::{check::ext_authz::ExtAuthz, metrics::Requests};

/// Path of the method that gateways call for every request of theirs.
pub(crate) const EXT_AUTHZ: &str = "/envoy.service.auth.v3.Authorization/Check";

/// All gRPC services.
#[derive(Debug, Clone)]
pub(crate) struct Methods {
    pub(crate) routes: Routes,
    /// Beside the routes: it is called more than all others together, and skips their look-up.
    pub(crate) ext_authz: AuthorizationServer<ExtAuthz>,
    pub(crate) requests: Arc<Requests>,
}

impl Methods {
    /// Answers a gRPC request.
    pub(crate) async fn call<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let started = clock::now();
        let uri = request.uri().clone();
        let answer: Result<Response<Body>, Infallible> = if uri.path() == EXT_AUTHZ {
            self.ext_authz.clone().call(request).await
        } else {
            self.routes.clone().call(request).await
        };
        let response = answer.unwrap_or_else(|never| match never {});
        let code = match response.headers().contains_key(Status::GRPC_STATUS) {
            true => Status::from_header_map(response.headers()).map_or(Code::Unknown, |status| status.code()),
            false => Code::Ok,
        };
        self.requests.record(uri.path(), code, clock::now().saturating_duration_since(started));
        response
    }
}
