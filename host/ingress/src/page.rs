//! The door of pages: a browser's request becomes a call of the slot `web.page`, and its answer one that a browser may be given.
//!
//! Owns what a page learns of a request, which of its headers count, and what browsers are told to refuse. Must not know what a page shows. Invariants: no page
//! sees a token or a cookie; what changes something was asked for by a form of this very origin; every answer carries the same policy of content.

mod asking;
mod beside;
mod fits;
mod session;
mod sign_in;

use std::{convert::Infallible, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use platform_capability::{NAMESPACE_DEFAULT, Name};
use platform_control::Control;
use platform_dataplane::{CallError, Market, Plane};
use platform_marketplace::Marketplace;
use platform_runtime::Fault;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tonic::body::Body;

use crate::{
    admission::{Admission, Demand},
    fault::body,
    identity::Identity,
};
use asking::Asking;
use fits::Fits;
use session::Sessions;

/// Where the marketplace's page is, and what its slot is qualified by.
const ROOT: &str = "/marketplace";
const NAME: &str = "marketplace";
/// Largest body: forms are small.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Longest that a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Components that are looked at for pages at once; each may be 64 MiB.
const COMPONENTS_MAX: usize = 2;
/// What a page learns of a request besides method, path, query and body.
const TOLD: [HeaderName; 5] =
    [header::ACCEPT, header::ACCEPT_LANGUAGE, header::CONTENT_TYPE, header::HOST, header::USER_AGENT];
/// What of a page's answer counts besides status and body; places are looked at.
const KEPT: [HeaderName; 4] = [header::ALLOW, header::CONTENT_LANGUAGE, header::CONTENT_TYPE, header::RETRY_AFTER];

/// What browsers are told with every answer. An answer that has a style says more of where it comes from.
pub(crate) const FOR_BROWSERS: [(&str, &str); 5] = [
    ("content-security-policy", "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
    // Not `no-referrer`: with that, browsers hide from us where a form was sent from.
    ("referrer-policy", "same-origin"),
    ("cache-control", "no-store"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// The door.
#[derive(Debug)]
pub(crate) struct Pages {
    plane: Arc<Plane>,
    control: Arc<Control>,
    marketplace: Arc<Marketplace>,
    admission: Arc<Admission>,
    sessions: Sessions,
    components: Arc<Semaphore>,
    fits: Arc<Fits>,
    /// The policies of content: of pages, and of what is shown here itself.
    policies: (HeaderValue, HeaderValue),
}

/// Who made an answer, which says where its style comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Page,
    Door,
}

type Answer = (Of, Response<Bytes>);

impl Pages {
    pub(crate) fn new(
        plane: Arc<Plane>, control: Arc<Control>, marketplace: Arc<Marketplace>, admission: Arc<Admission>,
    ) -> Self {
        let limits = marketplace.limits();
        let sessions = Sessions::new(limits.sessions_max, Duration::from_millis(limits.session_ms));
        let own = format!("'sha256-{}'", STANDARD.encode(Sha256::digest(sign_in::STYLE)));
        let policies = (policy("'self'"), policy(&own));
        let components = Arc::new(Semaphore::new(COMPONENTS_MAX));
        Self { plane, control, marketplace, admission, sessions, components, fits: Arc::default(), policies }
    }

    /// Whether a path is one of a page.
    pub(crate) fn serves(path: &str) -> bool {
        path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let is_head = request.method() == Method::HEAD;
        let (of, mut answer) = self.route(request).await;
        let headers = answer.headers_mut();
        let (pages, own) = &self.policies;
        headers.insert(header::CONTENT_SECURITY_POLICY, if of == Of::Page { pages.clone() } else { own.clone() });
        for (name, value) in FOR_BROWSERS {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
        answer.map(|bytes| body(if is_head { Bytes::new() } else { bytes }))
    }

    async fn route(&self, request: Request<Incoming>) -> Answer {
        let (parts, incoming) = request.into_parts();
        let posts = parts.method == Method::POST;
        if !posts && ![Method::GET, Method::HEAD].contains(&parts.method) {
            let mut answer =
                text(StatusCode::METHOD_NOT_ALLOWED, "pages are looked at (GET) and their forms are sent (POST)");
            answer.1.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
            return answer;
        }
        if posts && !is_of_this_origin(&parts) {
            let why = "this form was sent from another site, or without saying from where, so nothing was done; go to the page itself and send its form";
            return text(StatusCode::FORBIDDEN, why);
        }
        let form = match tokio::time::timeout(BODY_TIME, Limited::new(incoming, BODY_BYTES_MAX).collect()).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return text(StatusCode::PAYLOAD_TOO_LARGE, "a form has at most 64 KiB; nothing was done");
            }
            Ok(Err(_)) => return text(StatusCode::BAD_REQUEST, "the form broke off; nothing was done"),
            Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the form did not come in time; nothing was done"),
        };
        match (parts.uri.path().strip_prefix(ROOT).unwrap_or_default(), posts) {
            ("", _) => see(&format!("{ROOT}/")),
            ("/sign-in", false) => sign_in::page(StatusCode::OK, &sign_in::next(parts.uri.query()), ""),
            ("/sign-in", true) => self.sign_in(&parts, &form),
            ("/sign-out", true) => self.sign_out(&parts),
            ("/sign-out", false) => see(&format!("{ROOT}/")),
            _ => self.show(&parts, form).await,
        }
    }

    fn sign_in(&self, parts: &Parts, form: &[u8]) -> Answer {
        let form = String::from_utf8_lossy(form);
        let next = sign_in::next(Some(&form));
        let token = sign_in::parameter(&form, "token").unwrap_or_default();
        let refused = |status, why: &str| sign_in::page(status, &next, why);
        if token.trim().is_empty() {
            return refused(StatusCode::BAD_REQUEST, "the token is missing");
        }
        let identity = match self.admission.authenticator.verify(token.trim()) {
            Ok(identity) if asking::may_look(&identity) => identity,
            Ok(_) => {
                return refused(
                    StatusCode::FORBIDDEN,
                    "this token is not good for looking around: it has to have access `data`",
                );
            }
            Err(error) => return refused(StatusCode::UNAUTHORIZED, &error.to_string()),
        };
        let cookie = self.sessions.begin(token.trim(), &identity);
        let (of, mut answer) = see(&next);
        insert(
            answer.headers_mut(),
            header::SET_COOKIE,
            &session::set(ROOT, &cookie, self.sessions.time(), is_secure(parts)),
        );
        (of, answer)
    }

    fn sign_out(&self, parts: &Parts) -> Answer {
        if let Some(cookie) = session::cookie(&parts.headers) {
            self.sessions.end(&cookie);
        }
        let (of, mut answer) = see(&format!("{ROOT}/"));
        insert(answer.headers_mut(), header::SET_COOKIE, &session::set(ROOT, "", Duration::ZERO, is_secure(parts)));
        (of, answer)
    }

    /// Who is signed in, as the token of the session proves now.
    fn identity(&self, headers: &HeaderMap) -> Option<Arc<Identity>> {
        let cookie = session::cookie(headers)?;
        let token = self.sessions.token(&cookie)?;
        let verified = self.admission.authenticator.verify(token.reveal());
        verified.inspect_err(|_| self.sessions.end(&cookie)).ok()
    }

    async fn show(&self, parts: &Parts, form: Bytes) -> Answer {
        let identity = self.identity(&parts.headers);
        let Ok(namespace) = NAMESPACE_DEFAULT.parse::<Name>() else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the daemon has no namespace for pages");
        };
        let time = Some(Duration::from_millis(self.admission.deadlines.max_ms));
        let call = self.admission.context(identity.as_ref(), &namespace, Demand::Data, time, &parts.headers);
        let asking = Asking {
            control: Arc::clone(&self.control),
            marketplace: Arc::clone(&self.marketplace),
            components: Arc::clone(&self.components),
            fits: Arc::clone(&self.fits),
            identity,
            changes: parts.method == Method::POST,
        };
        let market: Market = Some(Arc::new(asking));
        let request = told(parts, form);
        match self.plane.page(NAME, &Arc::new(call), &request, &market).await {
            Ok(answer) => passed_on(answer),
            Err(error) => {
                tracing::warn!(%error, path = parts.uri.path(), "a page could not be shown");
                failed(&error)
            }
        }
    }
}

/// What a page is given of a request.
fn told(parts: &Parts, form: Bytes) -> Request<Bytes> {
    let mut request = Request::new(form);
    // The head of an answer is that of the whole answer.
    *request.method_mut() = if parts.method == Method::HEAD { Method::GET } else { parts.method.clone() };
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = parts.uri.path_and_query().cloned();
    *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
    for name in TOLD {
        if let Some(value) = parts.headers.get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    // What came over HTTP/2 says it elsewhere.
    if let Some(authority) = parts.uri.authority() {
        insert(request.headers_mut(), header::HOST, authority.as_str());
    } else if !request.headers().contains_key(header::HOST) {
        insert(request.headers_mut(), header::HOST, "localhost");
    }
    request
}

/// What of a page's answer counts.
fn passed_on(answer: Response<Bytes>) -> Answer {
    let (mut head, bytes) = answer.into_parts();
    let given = std::mem::take(&mut head.headers);
    for name in KEPT {
        if let Some(value) = given.get(&name) {
            head.headers.insert(name, value.clone());
        }
    }
    if let Some(place) = given.get(header::LOCATION) {
        match place.to_str() {
            Ok(text) if sign_in::is_within(text) => drop(head.headers.insert(header::LOCATION, place.clone())),
            _ => {
                return text(
                    StatusCode::BAD_GATEWAY,
                    "the page leads to somewhere else than to itself, which pages may not",
                );
            }
        }
    }
    if !(200..600).contains(&head.status.as_u16()) {
        return text(StatusCode::BAD_GATEWAY, "the page answered with a status that no answer has");
    }
    head.headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("text/plain; charset=utf-8"));
    (Of::Page, Response::from_parts(head, bytes))
}

/// What those are told who asked for a page that has no answer. What went wrong in the plugin is for its operator: the log has it.
fn failed(error: &CallError<Infallible>) -> Answer {
    let (status, why) = match error {
        CallError::Fault { fault: Fault::Deadline(_) | Fault::Expired(_), .. } => {
            (StatusCode::GATEWAY_TIMEOUT, "the page did not answer in time")
        }
        CallError::Fault { fault, .. } if fault.was_entered() => (StatusCode::BAD_GATEWAY, "the page failed"),
        CallError::Fault { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, "the page is busy or rests after failures; try again")
        }
        CallError::NotBound(_) | CallError::Capability(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "no page is bound: `platform plugin bind web.page/marketplace NAME`")
        }
    };
    text(status, &format!("{why}; the log of the daemon tells more"))
}

/// Whether a request was sent by a page of the origin that it goes to. A browser always says where a form was sent from.
fn is_of_this_origin(parts: &Parts) -> bool {
    let value = |name: HeaderName| {
        let mut all = parts.headers.get_all(name).iter();
        all.next().filter(|_| all.next().is_none()).and_then(|value| value.to_str().ok())
    };
    let site = HeaderName::from_static("sec-fetch-site");
    if parts.headers.contains_key(&site) && value(site) != Some("same-origin") {
        return false;
    }
    let host = parts.uri.authority().map(http::uri::Authority::as_str).or_else(|| value(header::HOST));
    let origin = value(header::ORIGIN)
        .and_then(|origin| origin.split_once("://"))
        .filter(|(scheme, _)| ["http", "https"].contains(scheme));
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
}

/// Whether the browser came over TLS to what stands in front. Who says so without it only keeps the cookie from being sent back.
fn is_secure(parts: &Parts) -> bool {
    parts.headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https")
}

fn policy(style: &str) -> HeaderValue {
    let text =
        format!("default-src 'none'; style-src {style}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'");
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

fn see(place: &str) -> Answer {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = StatusCode::SEE_OTHER;
    insert(answer.headers_mut(), header::LOCATION, place);
    (Of::Door, answer)
}

/// An answer of a plain sentence.
fn text(status: StatusCode, sentence: &str) -> Answer {
    let mut answer = Response::new(Bytes::from(format!("{sentence}\n")));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    (Of::Door, answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method("POST").uri("/marketplace/x?y");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn forms_of_other_origins_are_told_apart() {
        for (headers, same) in [
            (&[("host", "a:1"), ("origin", "http://a:1")][..], true),
            (&[("host", "a:1"), ("origin", "https://A:1"), ("sec-fetch-site", "same-origin")], true),
            (&[("host", "a:1"), ("origin", "http://a:1"), ("sec-fetch-site", "cross-site")], false),
            (&[("host", "a:1"), ("origin", "http://a:1"), ("sec-fetch-site", "same-site")], false),
            (&[("host", "a:1"), ("origin", "http://a:2")], false),
            (&[("host", "a:1"), ("origin", "null")], false),
            (&[("host", "a:1"), ("origin", "ftp://a:1")], false),
            (&[("host", "a:1"), ("origin", "http://a:1"), ("origin", "http://b")], false),
            (&[("host", "a:1")], false),
            (&[("origin", "http://a:1")], false),
        ] {
            assert_eq!(is_of_this_origin(&parts(headers)), same, "{headers:?}");
        }
    }

    #[test]
    fn a_page_learns_no_secret() {
        let request = told(
            &parts(&[("host", "a"), ("cookie", "s=1"), ("authorization", "Bearer t"), ("accept", "text/html")]),
            Bytes::new(),
        );
        let told: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!((told.len(), request.uri().to_string()), (2, "/marketplace/x?y".to_owned()), "{told:?}");
        assert!(request.headers().contains_key("accept") && request.headers().contains_key("host"));
    }

    #[test]
    fn of_an_answer_only_what_is_harmless_is_passed_on() {
        let of = |name: &str, value: &str| {
            let answer = Response::builder().header(name, value).body(Bytes::from_static(b"x")).unwrap();
            let (_, answer) = passed_on(answer);
            (answer.status().as_u16(), answer.headers().get(name).is_some())
        };
        assert_eq!(of("content-type", "text/html"), (200, true));
        assert_eq!(of("set-cookie", "a=b"), (200, false));
        assert_eq!(of("content-security-policy", "default-src *"), (200, false));
        assert_eq!(of("location", "/marketplace/x"), (200, true));
        for elsewhere in ["//evil", "https://evil", "/v1/x", "/marketplace/\\evil", "/marketplacex"] {
            assert_eq!(of("location", elsewhere), (502, false), "{elsewhere}");
        }
    }
}
