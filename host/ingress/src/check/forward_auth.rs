//! Forward authentication over HTTP: nginx `auth_request`, Caddy `forward_auth`, Traefik `forwardAuth`, and Envoy's
//! `ext_authz` with an HTTP service.
//!
//! Owns paths, dialects and answers of these; must not know policies. Invariant: 200 means that a policy allowed the
//! request that the gateway told, and nothing else does.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use platform_capability::auth::{ATTRIBUTES, Facts};
use platform_dataplane::Verdict;
use tonic::{Code, body::Body};

use super::{
    Checker, Gateway, Presented, Question,
    told::{Told, Untold},
    usable, visible,
};
use crate::{fault::Fault, identity::Identity};

/// Names of headers that the gateway should take away from the request that passes.
const REMOVE: HeaderName = HeaderName::from_static("x-platform-remove-headers");

/// Where a question came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Door<'a> {
    /// `/forward-auth` and `/forward-auth/POLICY`: the request is told by headers.
    Forward { policy: Option<&'a str> },
    /// `/ext-authz/POLICY/...`, `-` for no policy: what follows is the path of the request.
    Prefixed { policy: Option<&'a str>, path: &'a str },
}

impl<'a> Door<'a> {
    /// The door at a path, if there is one.
    pub(crate) fn at(path: &'a str) -> Option<Self> {
        if let Some(rest) = path.strip_prefix("/forward-auth") {
            return match rest.strip_prefix('/') {
                None if rest.is_empty() => Some(Self::Forward { policy: None }),
                Some(policy) if !policy.is_empty() && !policy.contains('/') => {
                    Some(Self::Forward { policy: Some(policy) })
                }
                _ => None,
            };
        }
        let rest = path.strip_prefix("/ext-authz/")?;
        let slash = rest.find('/')?;
        let (policy, path) = rest.split_at(slash);
        (!policy.is_empty()).then_some(Self::Prefixed { policy: Some(policy).filter(|policy| *policy != "-"), path })
    }
}

/// The request in question.
#[derive(Debug)]
struct ForwardedFacts {
    told: Told,
    headers: HeaderMap,
}

impl Facts for ForwardedFacts {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut values = self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let first = values.next()?;
        if !visible(name, first) {
            return None;
        }
        match values.next() {
            None => Some(Cow::Borrowed(first)),
            Some(second) => Some(Cow::Owned([first, second].into_iter().chain(values).collect::<Vec<_>>().join(", "))),
        }
    }

    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        self.told.attribute(name).map(Cow::Borrowed)
    }

    fn headers(&self) -> BTreeMap<String, String> {
        let names = self.headers.keys().map(HeaderName::as_str);
        names.filter_map(|name| Some((name.to_owned(), self.header(name)?.into_owned()))).collect()
    }

    fn attributes(&self) -> BTreeMap<String, String> {
        let names = ATTRIBUTES.into_iter();
        names.filter_map(|name| Some((name.to_owned(), self.told.attribute(name)?.to_owned()))).collect()
    }
}

impl Checker {
    /// Answers a gateway.
    pub(crate) async fn forward(&self, door: Door<'_>, parts: &Parts) -> Response<Body> {
        if let Err(fault) = self.admit(&parts.headers, false) {
            return fault.response();
        }
        let (policy, told) = match door {
            Door::Forward { policy } => (policy, self.told(parts)),
            Door::Prefixed { policy, path } => {
                let told = Told::envoy(&parts.method, path, parts.uri.query(), &parts.headers);
                (policy, told.map_err(untold))
            }
        };
        let told = match told {
            Ok(told) => told,
            Err(fault) => {
                self.refuse(fault.http_status().as_u16(), String::new());
                return fault.response();
            }
        };
        let nginx = told.gateway == "nginx";
        let facts = Arc::new(ForwardedFacts { told, headers: parts.headers.clone() });
        let question = Question {
            policy,
            authorization: presented(&parts.headers),
            action: &facts.told.method,
            target: &facts.told.path,
            traceparent: parts.headers.get("traceparent").and_then(|value| value.to_str().ok()),
            facts: Arc::clone(&facts) as Arc<dyn Facts>,
        };
        let (verdict, identity) = self.ask(question).await;
        if verdict.allowed { self.allowed(&verdict, identity.as_ref()) } else { denied(&verdict, nginx) }
    }

    fn told(&self, parts: &Parts) -> Result<Told, Fault> {
        let mut gateway = self.config.gateway;
        for pair in parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let named = pair.strip_prefix("gateway=").and_then(Gateway::parse);
            gateway = named.ok_or_else(|| {
                let message = format!("`{pair}` is no `gateway=auto`, `nginx`, `caddy` or `traefik`");
                Fault::invalid("INVALID_PARAMETER", message)
            })?;
        }
        Told::parse(gateway, &parts.headers, &self.config.trusted_headers).map_err(untold)
    }

    /// 200 with the headers that the gateway copies onto the request. Those to be taken away are there without a value: a
    /// gateway that copies them takes them away.
    fn allowed(&self, verdict: &Verdict, identity: Option<&Arc<Identity>>) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        let removed: Vec<_> = self.removed_headers(verdict).collect();
        let list = removed.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(",");
        for name in removed {
            headers.insert(name, HeaderValue::from_static(""));
        }
        if let Ok(list) = HeaderValue::from_str(&list)
            && !list.is_empty()
        {
            headers.insert(REMOVE, list);
        }
        for (name, value) in self.passed_headers(verdict, identity) {
            headers.insert(name, value);
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// The denial as a problem. nginx takes every status but 401 and 403 for a failure of its own.
fn denied(verdict: &Verdict, nginx: bool) -> Response<Body> {
    let status = StatusCode::from_u16(verdict.status).unwrap_or(StatusCode::FORBIDDEN);
    let status = match status {
        StatusCode::UNAUTHORIZED => status,
        _ if nginx && status.is_client_error() => StatusCode::FORBIDDEN,
        _ => status,
    };
    let (code, reason) = match status {
        StatusCode::UNAUTHORIZED => (Code::Unauthenticated, "UNAUTHENTICATED"),
        _ if status.is_server_error() => (Code::Unavailable, "CHECK_FAILED"),
        _ => (Code::PermissionDenied, "DENIED"),
    };
    let mut response = Fault::new(code, reason, verdict.reason.clone()).http(status).response();
    for (name, value) in usable(&verdict.response_headers) {
        response.headers_mut().insert(name, value);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn presented(headers: &HeaderMap) -> Presented<'_> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Presented::None,
        (Some(value), None) => value.to_str().map_or(Presented::Garbled, Presented::One),
        (Some(_), Some(_)) => Presented::Garbled,
    }
}

/// A request that can't be known is refused as the client's where the client wrote it, else as the gateway's.
#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
fn untold(error: Untold) -> Fault {
    let fault = Fault::invalid("REQUEST_UNKNOWN", error.to_string());
    match error {
        Untold::Path(_) | Untold::TwoDialects => fault.http(StatusCode::FORBIDDEN),
        _ => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_are_found_by_their_path() {
        assert_eq!(Door::at("/forward-auth"), Some(Door::Forward { policy: None }));
        assert_eq!(Door::at("/forward-auth/pay"), Some(Door::Forward { policy: Some("pay") }));
        assert_eq!(Door::at("/ext-authz/-/a/b"), Some(Door::Prefixed { policy: None, path: "/a/b" }));
        assert_eq!(Door::at("/ext-authz/pay/"), Some(Door::Prefixed { policy: Some("pay"), path: "/" }));
        for path in
            ["/forward-auth/", "/forward-auth/a/b", "/forward-authx", "/ext-authz", "/ext-authz/-", "/ext-authz//a"]
        {
            assert_eq!(Door::at(path), None, "{path}");
        }
    }

    #[test]
    fn two_credentials_are_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(presented(&headers), Presented::None);
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        assert_eq!(presented(&headers), Presented::One("Bearer a"));
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert_eq!(presented(&headers), Presented::Garbled);
    }

    #[test]
    fn nginx_gets_statuses_that_it_passes_on() {
        let verdict = |status| super::super::denial(status, "no".to_owned());
        assert_eq!(denied(&verdict(429), true).status(), 403);
        assert_eq!(denied(&verdict(429), false).status(), 429);
        assert_eq!(denied(&verdict(401), true).status(), 401);
        assert_eq!(denied(&verdict(503), true).status(), 503);
    }
}
