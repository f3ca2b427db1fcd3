//! One attempt to post an event, and what the answer means.
//!
//! Owns the request and the judgement of statuses (CloudEvents HTTP 1.1 Web Hooks 2.3, and the practice of Standard
//! Webhooks); must not know when it is made again. Invariant: an attempt ends in its time, follows no redirect, and reads no
//! more of an answer than a little.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use platform_base::clock;
use platform_capability::{Trust, event::Event};
use sha2::{Digest, Sha256};

use crate::{
    cloudevents,
    config::Config,
    connect::{ConnectError, Connector},
    record::{Key, Mode},
    sign::Secret,
};

/// Bytes of an answer that are read, so that its connection can be used again.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Time for them.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// Bytes of the headers of an answer.
const HEADER_BYTES_MAX: usize = 32 << 10;
/// How long an unused connection is kept, and how many to one host.
const IDLE: (Duration, usize) = (Duration::from_secs(30), 8);

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The target took the event.
    Delivered(u16),
    /// It did not, and may the next time; why, and how long it asks to be left alone.
    Failed { status: Option<u16>, why: String, rest: Option<Duration> },
    /// It never will.
    Rejected { status: Option<u16>, why: String },
    /// There is no such target any more.
    Gone,
}

/// Posts events.
#[derive(Clone)]
pub(crate) struct Sender {
    client: Client<Connector, Full<Bytes>>,
    rest_max: Duration,
}

/// What a request needs beside the event.
#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) key: Key,
    pub(crate) uri: Uri,
    pub(crate) mode: Mode,
    pub(crate) secret: Option<Secret>,
    pub(crate) timeout: Duration,
}

impl Sender {
    pub(crate) fn new(config: &Arc<Config>, trust: Trust) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE.0)
            .pool_max_idle_per_host(IDLE.1)
            .http1_max_buf_size(HEADER_BYTES_MAX)
            .build(Connector::new(Arc::clone(config), trust));
        Self { client, rest_max: Duration::from_millis(config.retry_after_ms_max) }
    }

    /// Posts an event.
    pub(crate) async fn attempt(&self, address: &Address, event: &Event) -> Outcome {
        let Some(request) = request(address, event) else {
            let why = "its content type can't be a header; use the structured mode".to_owned();
            return Outcome::Rejected { status: None, why };
        };
        let response = match tokio::time::timeout(address.timeout, self.client.request(request)).await {
            Err(_over) => return failed(format!("no answer within {} ms", address.timeout.as_millis())),
            Ok(Err(error)) => return failed(describe(&error)),
            Ok(Ok(response)) => response,
        };
        let outcome = judge(response.status(), response.headers(), self.rest_max);
        finish(response.into_body()).await;
        outcome
    }
}

/// Reads what little an answer says, and lets go of one that says much or nothing.
async fn finish(body: Incoming) {
    let _ = tokio::time::timeout(ANSWER_TIME, Limited::new(body, ANSWER_BYTES_MAX).collect()).await;
}

fn failed(why: String) -> Outcome {
    Outcome::Failed { status: None, why, rest: None }
}

/// What went wrong, without the URL.
fn describe(error: &hyper_util::client::legacy::Error) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<ConnectError>() {
            return error.to_string();
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return format!("the connection failed: {error}");
        }
        cause = error.source();
    }
    "the connection failed".to_owned()
}

fn request(address: &Address, event: &Event) -> Option<Request<Full<Bytes>>> {
    let (mut headers, body) = match address.mode {
        Mode::Binary => (cloudevents::binary(event)?, Bytes::copy_from_slice(&event.content.data)),
        Mode::Structured => {
            let body = serde_json::to_vec(&cloudevents::structured(event)).ok()?;
            let kind = HeaderValue::from_static("application/cloudevents+json; charset=utf-8");
            (HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]), body.into())
        }
    };
    let (id, timestamp_s) = (message_id(&address.key, event), clock::unix_ms() / 1000);
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("platform/", env!("CARGO_PKG_VERSION"))));
    headers.insert("webhook-timestamp", HeaderValue::from(timestamp_s));
    if let Some(secret) = &address.secret {
        headers.insert("webhook-signature", HeaderValue::from_str(&secret.sign(&id, timestamp_s, &body)).ok()?);
    }
    headers.insert("webhook-id", HeaderValue::from_str(&id).ok()?);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = address.uri.clone();
    *request.headers_mut() = headers;
    Some(request)
}

/// Names the event to the target: the same at every attempt, and that of no other event.
fn message_id(key: &Key, event: &Event) -> String {
    let told = format!("{key}\n{}\n{}\n{}", event.sequence, event.time_ms, event.content.id);
    format!("msg_{:.32}", format!("{:x}", Sha256::digest(told)))
}

fn judge(status: StatusCode, headers: &HeaderMap, rest_max: Duration) -> Outcome {
    let code = status.as_u16();
    let why = || format!("the target answered {code}");
    match code {
        200..=299 => Outcome::Delivered(code),
        410 => Outcome::Gone,
        // What was not received in full, too early, or too much, may be taken later.
        408 | 425 | 429 | 500..=599 => {
            let rest = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(retry_after);
            Outcome::Failed { status: Some(code), why: why(), rest: rest.map(|rest| rest.min(rest_max)) }
        }
        300..=399 => {
            let why = format!("the target answered {code}, and redirects are not followed");
            Outcome::Failed { status: Some(code), why, rest: None }
        }
        400..=499 => Outcome::Rejected { status: Some(code), why: why() },
        _ => Outcome::Failed { status: Some(code), why: why(), rest: None },
    }
}

/// Seconds, or a date.
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(then.saturating_sub(Duration::from_millis(clock::unix_ms())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(code: u16, after: Option<&str>) -> Outcome {
        let after = after.map(|after| (header::RETRY_AFTER, HeaderValue::from_str(after).unwrap()));
        judge(StatusCode::from_u16(code).unwrap(), &after.into_iter().collect(), Duration::from_secs(60))
    }

    #[test]
    fn statuses_mean_what_the_standards_say() {
        for code in [200, 201, 202, 204, 299] {
            assert_eq!(judged(code, None), Outcome::Delivered(code));
        }
        for code in [301, 302, 307, 308, 408, 425, 429, 500, 502, 503, 504, 999] {
            assert!(matches!(judged(code, None), Outcome::Failed { status: Some(_), rest: None, .. }), "{code}");
        }
        for code in [400, 401, 403, 404, 405, 409, 413, 415, 422, 451] {
            assert!(matches!(judged(code, None), Outcome::Rejected { .. }), "{code}");
        }
        assert_eq!(judged(410, None), Outcome::Gone);
    }

    #[test]
    fn a_rest_that_is_asked_for_has_a_bound() {
        let rest = |after: &str| match judged(503, Some(after)) {
            Outcome::Failed { rest, .. } => rest,
            other => panic!("{other:?}"),
        };
        assert_eq!(rest("7"), Some(Duration::from_secs(7)));
        assert_eq!(rest("86400"), Some(Duration::from_secs(60)));
        assert_eq!(rest("18446744073709551615"), Some(Duration::from_secs(60)));
        assert_eq!(rest("Fri, 31 Dec 2100 23:59:59 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(rest("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        for wrong in ["-1", "soon", ""] {
            assert_eq!(rest(wrong), None, "{wrong}");
        }
    }
}
