//! HTTP/JSON from the same definitions as gRPC: finds the method for a path, makes its message, calls it in this process,
//! and writes its answer.
//!
//! Owns the order of these steps; must not know any method by name. Invariant: a method reached here runs the very code
//! that gRPC runs, after the same admission.

mod request;
mod response;
mod table;
mod template;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prost_reflect::DescriptorPool;
use tonic::{Code, Status, body::Body};

use crate::{
    admission::{Admission, Demand},
    config::Limits,
    fault::{self, Fault},
    methods::Methods,
};
pub(crate) use request::TIMESTAMP;
pub(crate) use table::{Binding, Operation, RequestBody, Table, TableError};

/// The method whose body is a component.
const INSTALL: &str = "/platform.plugin.v1.Plugins/Install";

/// Answers HTTP/JSON requests.
#[derive(Debug)]
pub(crate) struct Transcoder {
    table: Table,
    methods: Arc<Methods>,
    admission: Arc<Admission>,
    limits: Limits,
}

impl Transcoder {
    /// Answers for every method in `pool` that has a mapping, through `methods`.
    pub(crate) fn new(
        pool: &DescriptorPool, methods: Arc<Methods>, admission: Arc<Admission>, limits: Limits,
    ) -> Result<Self, TableError> {
        Ok(Self { table: Table::new(pool)?, methods, admission, limits })
    }

    /// Every mapping, for the OpenAPI document.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// Answers a request; a fault becomes a problem.
    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.call(request).await.unwrap_or_else(|fault| fault.response())
    }

    async fn call<B>(&self, request: Request<B>) -> Result<Response<Body>, Fault>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut parts, body) = request.into_parts();
        let (operation, captures) = self.find(&parts)?;
        let rpc = &operation.rpc;
        // Before the body is read: who may not call does not get to send 64 MiB either.
        if let Some(demand) = Demand::of(&rpc.path) {
            let admitted = self.admission.admit(demand, &parts.headers)?;
            parts.extensions.insert(admitted);
        }
        let body = self.read(&rpc.path, body).await?;
        let binding = request::choose(operation, &parts.headers, !body.is_empty())?;
        let query = parts.uri.query().unwrap_or_default();
        let message = request::build(operation, binding, captures, query, &parts.headers, &body)?;
        drop(body);
        let answer = self.dispatch(&mut parts, &rpc.path, response::frame(&message)?).await;
        if rpc.descriptor.is_server_streaming() {
            return response::streaming(rpc, &parts.headers, answer);
        }
        response::unary(rpc, binding, answer).await
    }

    /// Calls the method in this process, the way the network would.
    async fn dispatch(&self, parts: &mut Parts, path: &str, frame: Bytes) -> Response<Body> {
        let mut request = Request::new(fault::body(frame));
        *request.method_mut() = Method::POST;
        let Ok(uri) = path.parse() else { return Status::internal("the method has no path").into_http() };
        *request.uri_mut() = uri;
        *request.headers_mut() = parts.headers.clone();
        let headers = request.headers_mut();
        for name in [header::CONTENT_LENGTH, header::ACCEPT, header::ACCEPT_ENCODING, header::TRANSFER_ENCODING] {
            headers.remove(name);
        }
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, http::HeaderValue::from_static("trailers"));
        *request.extensions_mut() = std::mem::take(&mut parts.extensions);
        self.methods.call(request).await
    }

    fn find(&self, parts: &Parts) -> Result<(&Operation, Vec<String>), Fault> {
        let path = parts.uri.path();
        match self.table.find(&parts.method, path) {
            table::Found::Operation(operation, Ok(captures)) => Ok((operation, captures)),
            table::Found::Operation(_, Err(_)) => {
                Err(Fault::invalid("INVALID_PATH", "the path is no UTF-8 once decoded"))
            }
            table::Found::OtherMethods(methods) => {
                let message = format!("`{path}` does not take {}, but {methods}", parts.method);
                let fault = Fault::new(Code::Unimplemented, "METHOD_NOT_ALLOWED", message);
                Err(fault.http(StatusCode::METHOD_NOT_ALLOWED).with("allow", methods))
            }
            table::Found::Nothing => {
                let message = format!("there is nothing at `{path}`: `/openapi.json` lists all paths");
                Err(Fault::new(Code::NotFound, "NO_SUCH_PATH", message))
            }
        }
    }

    async fn read<B>(&self, rpc_path: &str, body: B) -> Result<Bytes, Fault>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let limit = if rpc_path == INSTALL { self.limits.component_bytes } else { self.limits.request_bytes };
        let collected = tokio::time::timeout(self.limits.body_timeout(), Limited::new(body, limit).collect()).await;
        match collected {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let message = format!("the body is larger than {limit} bytes");
                let fault = Fault::new(Code::ResourceExhausted, "REQUEST_TOO_LARGE", message);
                Err(fault.http(StatusCode::PAYLOAD_TOO_LARGE).with("limit", limit.to_string()))
            }
            Ok(Err(error)) => Err(Fault::invalid("BODY_INCOMPLETE", format!("the body broke off: {error}"))),
            Err(_) => {
                let message = "the body did not arrive in time";
                Err(Fault::new(Code::DeadlineExceeded, "BODY_TIMEOUT", message).http(StatusCode::REQUEST_TIMEOUT))
            }
        }
    }
}
