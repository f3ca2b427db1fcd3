//! Envoy's external authorization over gRPC: `envoy.service.auth.v3.Authorization/Check`.
//!
//! Owns the translation of Envoy's messages; must not know policies. Invariant: an answer that Envoy gets always carries
//! the decision, so that Envoy's own `failure_mode_allow` never decides for us.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use envoy_types::{
    ext_authz::v3::pb::{
        Address, Authorization, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderAppendAction, HeaderValue,
        HeaderValueOption, HttpResponse, HttpStatus, HttpStatusCode, OkHttpResponse,
    },
    pb::{envoy::service::auth::v3::attribute_context::HttpRequest, google::rpc},
};
use platform_capability::auth::{ATTRIBUTES, Facts};
use platform_dataplane::Verdict;
use tonic::{Code, Request, Response, Status};

use super::{Checker, Presented, Question, target::target, usable, visible};
use crate::identity::Identity;

/// Context extension with the policy to ask: the operator sets it for a route.
const POLICY: &str = "policy";

/// Answers Envoy.
#[derive(Debug, Clone)]
pub(crate) struct ExtAuthz {
    checker: Arc<Checker>,
}

impl ExtAuthz {
    pub(crate) fn new(checker: Arc<Checker>) -> Self {
        Self { checker }
    }
}

/// The request in question as Envoy describes it.
#[derive(Debug, Default)]
struct EnvoyFacts {
    http: HttpRequest,
    /// How much of what Envoy sent as path is path.
    path_bytes: usize,
    /// Path as policies judge it, where that differs.
    normal: Option<String>,
    source_address: Option<String>,
    extensions: HashMap<String, String>,
}

impl EnvoyFacts {
    fn path(&self) -> &str {
        self.normal.as_deref().or_else(|| self.http.path.get(..self.path_bytes)).unwrap_or_default()
    }
}

impl Facts for EnvoyFacts {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let value = self.http.headers.get(name).filter(|value| visible(name, value))?;
        Some(Cow::Borrowed(value))
    }

    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        let text = match name {
            "gateway" => "envoy",
            "method" => &self.http.method,
            "path" => self.path(),
            "query" => self.http.path.split_once('?')?.1,
            "host" => &self.http.host,
            "scheme" => &self.http.scheme,
            "source-address" => self.source_address.as_deref()?,
            name => return self.extensions.get(name).map(|value| Cow::Borrowed(value.as_str())),
        };
        (!text.is_empty()).then_some(Cow::Borrowed(text))
    }

    fn headers(&self) -> BTreeMap<String, String> {
        let seen = self.http.headers.iter().filter(|(name, value)| visible(name, value));
        seen.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn attributes(&self) -> BTreeMap<String, String> {
        let names = ATTRIBUTES.into_iter().chain(self.extensions.keys().map(String::as_str));
        names.filter_map(|name| Some((name.to_owned(), self.attribute(name)?.into_owned()))).collect()
    }
}

#[tonic::async_trait]
impl Authorization for ExtAuthz {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        self.checker.admit(metadata.as_ref(), true)?;
        let (verdict, identity) = self.decide(message).await;
        Ok(Response::new(self.response(&verdict, identity.as_ref())))
    }
}

impl ExtAuthz {
    async fn decide(&self, message: CheckRequest) -> (Verdict, Option<Arc<Identity>>) {
        let attributes = message.attributes.unwrap_or_default();
        let Some(http) = attributes.request.and_then(|request| request.http) else {
            return (self.checker.refuse(400, "Envoy described no HTTP request".to_owned()), None);
        };
        let path = http.path.split(['?', '#']).next().unwrap_or_default();
        let (path_bytes, normal) = match target(path) {
            Ok(Cow::Borrowed(path)) => (path.len(), None),
            Ok(Cow::Owned(normal)) => (0, Some(normal)),
            Err(problem) => return (self.checker.refuse(400, format!("the path is refused: {problem}")), None),
        };
        let address = attributes.source.and_then(|peer| peer.address).and_then(|address| address.address);
        let source_address = address.and_then(|address| match address {
            Address::SocketAddress(socket) => Some(socket.address),
            _ => None,
        });
        let extensions = attributes.context_extensions;
        let facts = Arc::new(EnvoyFacts { http, path_bytes, normal, source_address, extensions });
        let authorization = match facts.http.headers.get("authorization") {
            None => Presented::None,
            // Envoy joins repeated headers by commas.
            Some(value) => Presented::One(value),
        };
        let question = Question {
            policy: facts.extensions.get(POLICY).map(String::as_str).filter(|policy| !policy.is_empty()),
            authorization,
            action: &facts.http.method,
            target: facts.path(),
            traceparent: facts.http.headers.get("traceparent").map(String::as_str),
            facts: Arc::clone(&facts) as Arc<dyn Facts>,
        };
        self.checker.ask(question).await
    }

    fn response(&self, verdict: &Verdict, identity: Option<&Arc<Identity>>) -> CheckResponse {
        let (code, http) = if verdict.allowed {
            let set = self.checker.passed_headers(verdict, identity);
            // An identity that nobody proved is taken away rather than set to nothing.
            let (set, empty): (Vec<_>, Vec<_>) = set.into_iter().partition(|(_, value)| !value.is_empty());
            let removed = self.checker.removed_headers(verdict).chain(empty.into_iter().map(|(name, _)| name));
            let headers_to_remove = removed.map(|name| name.as_str().to_owned()).collect();
            let headers = set.iter().map(|(name, value)| option(name.as_str(), value)).collect();
            (Code::Ok, HttpResponse::OkResponse(OkHttpResponse { headers, headers_to_remove, ..Default::default() }))
        } else {
            let status = i32::from(verdict.status);
            // Envoy knows a closed list of statuses and takes any other for a broken answer.
            let known = HttpStatusCode::try_from(status).is_ok();
            let status = HttpStatus { code: if known { status } else { HttpStatusCode::Forbidden as i32 } };
            let headers =
                usable(&verdict.response_headers).map(|(name, value)| option(name.as_str(), &value)).collect();
            let body = verdict.reason.clone();
            (
                Code::PermissionDenied,
                HttpResponse::DeniedResponse(DeniedHttpResponse { status: Some(status), headers, body }),
            )
        };
        CheckResponse {
            status: Some(rpc::Status { code: code.into(), ..Default::default() }),
            http_response: Some(http),
            ..Default::default()
        }
    }
}

/// A header that replaces those of its name.
fn option(name: &str, value: &http::HeaderValue) -> HeaderValueOption {
    let value = value.to_str().unwrap_or_default().to_owned();
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value, ..Default::default() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    }
}
