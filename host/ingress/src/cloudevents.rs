//! The door for CloudEvents 1.0 (<https://cloudevents.io>): events come in by HTTP in all three content modes, and go out as
//! server-sent events, or what a subscription delivers through a WebSocket.
//!
//! Owns the path and what it answers; must not know how events are kept. Invariant: an event that comes in and goes out again
//! has the same id, source, type and data.

mod format;
mod socket;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Frame;
use http_body_util::{BodyExt, LengthLimitError, Limited, StreamBody};
use percent_encoding::percent_decode_str;
use platform_capability::event::Event;
use platform_dataplane::Outcome;
use platform_webhook::cloudevents;
use serde_json::{Value, json};
use tonic::{Code, Status, body::Body};

use crate::{
    admission::{Admission, Admitted, Demand},
    config::Limits,
    fault::{self, Fault},
    grpc::{Shared, status},
};

pub(crate) use socket::Socket;

/// Where the door is; the topic follows.
const PATH: &str = "/cloudevents/";
/// Whose demands the door makes.
const SERVICE: &str = "/platform.event.v1.Events/Publish";
/// How often a quiet stream shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The door.
#[derive(Debug)]
pub(crate) struct CloudEvents {
    pub(crate) shared: Shared,
    pub(crate) admission: Arc<Admission>,
    pub(crate) limits: Limits,
}

impl CloudEvents {
    /// The topic that a path is for, when it is one of this door.
    pub(crate) fn topic(path: &str) -> Option<&str> {
        path.strip_prefix(PATH).filter(|topic| !topic.is_empty() && !topic.contains('/'))
    }

    /// Answers a request; a fault becomes a problem.
    pub(crate) async fn answer<B>(&self, topic: &str, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let answer = match parts.method {
            Method::POST => self.publish(topic, &parts, body).await,
            Method::GET => self.follow(topic, &parts).await,
            _ => {
                let message = format!("`{PATH}{topic}` does not take {}, but GET, POST", parts.method);
                let fault = Fault::new(Code::Unimplemented, "METHOD_NOT_ALLOWED", message);
                Err(fault.http(StatusCode::METHOD_NOT_ALLOWED).with("allow", "GET, POST"))
            }
        };
        answer.unwrap_or_else(|fault| fault.response())
    }

    fn admit(&self, headers: &HeaderMap) -> Result<Admitted, Fault> {
        self.admission.admit(Demand::of(SERVICE).unwrap_or(Demand::Control), headers)
    }

    async fn publish<B>(&self, topic: &str, parts: &Parts, body: B) -> Result<Response<Body>, Fault>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let admitted = self.admit(&parts.headers)?;
        let body = self.read(body).await?;
        let events = format::incoming(&parts.headers, &body)?;
        let published = self.shared.plane.event().publish(&admitted.call, topic, events).await;
        let published = published.map_err(|error| Fault::from(status(error)))?;
        let told: Vec<Value> = published.into_iter().map(told).collect();
        let mut response = Response::new(fault::body(json!({ "published": told }).to_string()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    async fn read<B>(&self, body: B) -> Result<Bytes, Fault>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let limit = self.limits.request_bytes;
        match tokio::time::timeout(self.limits.body_timeout(), Limited::new(body, limit).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let message = format!("the body is larger than {limit} bytes");
                let fault = Fault::new(Code::ResourceExhausted, "REQUEST_TOO_LARGE", message);
                Err(fault.http(StatusCode::PAYLOAD_TOO_LARGE))
            }
            Ok(Err(error)) => Err(Fault::invalid("BODY_INCOMPLETE", format!("the body broke off: {error}"))),
            Err(_) => {
                let message = "the body did not arrive in time";
                Err(Fault::new(Code::DeadlineExceeded, "BODY_TIMEOUT", message).http(StatusCode::REQUEST_TIMEOUT))
            }
        }
    }

    /// Events of a topic as they are published: `from` and `types` in the query, or where `Last-Event-ID` left off.
    async fn follow(&self, topic: &str, parts: &Parts) -> Result<Response<Body>, Fault> {
        let admitted = self.admit(&parts.headers)?;
        let wanted = Wanted::of(parts.uri.query().unwrap_or_default(), &parts.headers)?;
        let events = self.shared.plane.event().follow(&admitted.call, topic, wanted.from, wanted.types).await;
        let events = events.map_err(|error| Fault::from(status(error)))?;
        let events = events.map(|event| event.map_err(status));
        let events = self.shared.guard(&admitted, events).map_err(Fault::from)?;
        let frames = stream::unfold(Some(events), |events| async move {
            let mut events = events?;
            let (text, more) = match tokio::time::timeout(HEARTBEAT, events.next()).await {
                Err(_quiet) => (":\n\n".to_owned(), true),
                Ok(Some(Ok(event))) => (message(&event), true),
                Ok(Some(Err(error))) => {
                    let problem = json!({ "error": Fault::from(error).problem() });
                    (format!("event: error\ndata: {problem}\n\n"), false)
                }
                Ok(None) => return None,
            };
            Some((Ok::<_, Status>(Frame::data(Bytes::from(text))), more.then_some(events)))
        });
        let mut response = Response::new(Body::new(StreamBody::new(frames)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

/// An event of a stream. JSON on one line needs no care; the id is where a client goes on after a lost connection.
fn message(event: &Event) -> String {
    let json = Value::Object(cloudevents::structured(event));
    format!("id: {}\ndata: {json}\n\n", event.sequence)
}

fn told(outcome: Outcome) -> Value {
    match outcome.published {
        Ok(published) => {
            json!({"id": outcome.id, "sequence": published.sequence.to_string(), "duplicate": published.duplicate})
        }
        Err(why) => json!({"id": outcome.id, "dropped": why}),
    }
}

/// What a stream is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    from: Option<u64>,
    types: Vec<String>,
}

impl Wanted {
    fn of(query: &str, headers: &HeaderMap) -> Result<Self, Fault> {
        let mut wanted = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value)
                .decode_utf8()
                .map_err(|_no_text| Fault::invalid("INVALID_QUERY", format!("`{name}` is no UTF-8 once decoded")))?;
            match name {
                "from" => wanted.from = Some(sequence("from", &value)?),
                "types" => wanted.types.push(value.into_owned()),
                other => {
                    let message = format!("there is no parameter `{other}`; there are `from` and `types`");
                    return Err(Fault::invalid("UNKNOWN_PARAMETER", message));
                }
            }
        }
        if let Some(last) = headers.get("last-event-id").and_then(|last| last.to_str().ok()) {
            wanted.from = Some(sequence("Last-Event-ID", last)?.saturating_add(1));
        }
        Ok(wanted)
    }
}

fn sequence(what: &str, text: &str) -> Result<u64, Fault> {
    let message = || format!("`{what}` has to be a sequence, not `{}`", text.escape_debug());
    text.parse().map_err(|_no_number| Fault::invalid("INVALID_PARAMETER", message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_goes_on_where_it_was() {
        let mut headers = HeaderMap::new();
        let wanted = Wanted::of("from=7&types=order.%2A&types=b", &headers).unwrap();
        assert_eq!(wanted, Wanted { from: Some(7), types: vec!["order.*".to_owned(), "b".to_owned()] });
        headers.insert("last-event-id", HeaderValue::from_static("9"));
        assert_eq!(Wanted::of("from=7", &headers).unwrap().from, Some(10));
        for wrong in ["from=x", "from=-1", "form=1", "types=%ff"] {
            assert!(Wanted::of(wrong, &HeaderMap::new()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_name_a_topic() {
        assert_eq!(CloudEvents::topic("/cloudevents/orders"), Some("orders"));
        for other in ["/cloudevents/", "/cloudevents", "/cloudevents/a/b", "/v1/kv/a"] {
            assert_eq!(CloudEvents::topic(other), None, "{other}");
        }
    }
}
