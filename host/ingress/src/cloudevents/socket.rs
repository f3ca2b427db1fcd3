//! A WebSocket (RFC 6455) to a subscription: deliveries go out as CloudEvents in JSON, verdicts on them come in.
//!
//! Owns the handshake and what is said on the socket; must not know how events are kept. Invariants: no more deliveries are in
//! the client's hands than it asked for; a delivery that the client says nothing of comes again.

mod command;
mod handshake;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::{FutureExt, SinkExt, StreamExt, future::BoxFuture};
use http::{Method, Request, Response, StatusCode};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use platform_base::{TaskGroup, clock};
use platform_capability::{Call, event::Delivery};
use platform_dataplane::{CallError, Consumer, Deliveries, EventError, Events, renewed};
use platform_webhook::cloudevents;
use serde_json::{Value, json};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tonic::{Code, Status, body::Body};

use super::CloudEvents;
use crate::{
    fault::Fault,
    grpc::{Answers, status},
};
use command::Command;
use handshake::Handshake;

/// Largest message of a client.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Longest wait for the connection after the answer, for the client to take a message, and for its goodbye.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a client is asked whether it lives, and how long it may be silent.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(75));
/// Attribute that says how often the event was delivered.
const ATTEMPT: &str = "deliveryattempt";
/// Longest reason in a goodbye, by the protocol.
const REASON_BYTES_MAX: usize = 123;

type Line = WebSocketStream<TokioIo<Upgraded>>;

/// What the broker answers.
type Received = Result<Vec<Delivery>, CallError<EventError>>;

/// Why a conversation ends: what is said at the end, when anything can be.
type Goodbye = Option<(CloseCode, String)>;

impl CloudEvents {
    /// Answers the request for a socket; a fault becomes a problem.
    pub(crate) async fn connect(
        &self, topic: &str, subscription: &str, request: Request<Incoming>, tasks: &TaskGroup,
    ) -> Response<Body> {
        let answer = self.open(topic, subscription, request, tasks).await;
        answer.unwrap_or_else(|fault| {
            let mut response = fault.response();
            if response.status() == StatusCode::UPGRADE_REQUIRED {
                Handshake::demand(response.headers_mut());
            }
            response
        })
    }

    async fn open(
        &self, topic: &str, subscription: &str, mut request: Request<Incoming>, tasks: &TaskGroup,
    ) -> Result<Response<Body>, Fault> {
        if request.method() != Method::GET {
            let message = format!("`{}` does not take {}, but GET", request.uri().path(), request.method());
            let fault = Fault::new(Code::Unimplemented, "METHOD_NOT_ALLOWED", message);
            return Err(fault.http(StatusCode::METHOD_NOT_ALLOWED).with("allow", "GET"));
        }
        let handshake = Handshake::read(request.headers(), request.uri().query().unwrap_or_default())?;
        let admitted = self.admit(&handshake.headers)?;
        let consumer = Consumer {
            topic: topic.to_owned(),
            subscription: subscription.to_owned(),
            name: handshake.consumer.clone(),
        };
        let events = self.shared.plane.event().clone();
        let refused = |error| Fault::from(status(error));
        let settings = events.subscription(&admitted.call, topic, subscription).await.map_err(refused)?.settings;
        let deliveries = events.consume(&admitted.call, consumer.clone()).await.map_err(refused)?;
        // Nothing comes of it but its end: at the drain, or when the caller's time is over.
        let end = self.shared.guard(&admitted, futures::stream::pending()).map_err(Fault::from)?;
        let socket = Socket {
            events,
            call: admitted.call.clone(),
            consumer,
            limit: handshake.limit,
            ack_wait_ms: settings.ack_wait_ms,
            held: BTreeMap::new(),
            receiving: None,
            resting: Some(deliveries),
        };
        let upgrade = hyper::upgrade::on(&mut request);
        tasks.spawn("web socket", async move {
            // A client that leaves at once is its own affair.
            if let Ok(Ok(upgraded)) = tokio::time::timeout(PATIENCE, upgrade).await {
                socket.talk(upgraded, end).await;
            }
        });
        Ok(handshake.answer())
    }
}

/// A conversation with a consumer.
pub(crate) struct Socket {
    events: Events,
    call: Call,
    consumer: Consumer,
    /// Most deliveries in the client's hands.
    limit: usize,
    ack_wait_ms: u64,
    /// Deliveries in the client's hands, by sequence.
    held: BTreeMap<u64, Held>,
    /// A question to the broker that is under way.
    receiving: Option<BoxFuture<'static, (Deliveries, Received)>>,
    /// What asks the broker, while nothing is asked.
    resting: Option<Deliveries>,
}

/// A delivery in a client's hands.
#[derive(Debug, Clone, Copy)]
struct Held {
    attempt: u32,
    /// When it is delivered again, unix time in milliseconds.
    due_ms: u64,
}

impl Socket {
    /// Topic and subscription that a path is for, when it is one of a socket.
    pub(crate) fn place(path: &str) -> Option<(&str, &str)> {
        let (topic, subscription) = path.strip_prefix(super::PATH)?.split_once("/subscriptions/")?;
        let one = |name: &str| !name.is_empty() && !name.contains('/');
        (one(topic) && one(subscription)).then_some((topic, subscription))
    }

    /// Talks until either side ends it.
    async fn talk(mut self, upgraded: Upgraded, mut end: Answers<()>) {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let mut line = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        let (mut heard, mut asked) = (clock::now(), clock::now());
        let goodbye = loop {
            self.ask();
            let relief = self.relief();
            let step = tokio::select! {
                (deliveries, received) = next(&mut self.receiving) => {
                    self.resting = Some(deliveries);
                    self.receiving = None;
                    self.hand_out(&mut line, received).await
                }
                message = line.next() => {
                    heard = clock::now();
                    self.hear(&mut line, message).await
                }
                ended = end.next() => Err(farewell(ended)),
                () = tokio::time::sleep_until((asked + PING.0).into()) => {
                    asked = clock::now();
                    if asked.saturating_duration_since(heard) > PING.1 {
                        break None;
                    }
                    send(&mut line, Message::Ping(tungstenite::Bytes::new())).await
                }
                () = tokio::time::sleep_until(relief.into()) => Ok(()),
            };
            if let Err(goodbye) = step {
                break goodbye;
            }
        };
        if let Some((code, reason)) = goodbye {
            leave(line, code, reason).await;
        }
    }

    /// Asks for as many deliveries as there is room for.
    fn ask(&mut self) {
        let now_ms = clock::unix_ms();
        self.held.retain(|_, held| held.due_ms > now_ms);
        let room = u32::try_from(self.limit.saturating_sub(self.held.len())).unwrap_or(u32::MAX);
        if room > 0
            && let Some(mut deliveries) = self.resting.take()
        {
            let receive = async move {
                let received = deliveries.next(room).await;
                (deliveries, received)
            };
            self.receiving = Some(receive.boxed());
        }
    }

    /// When the first delivery in the client's hands is taken from it.
    fn relief(&self) -> Instant {
        let due_ms = self.held.values().map(|held| held.due_ms).min();
        let left_ms = due_ms.map_or(u64::from(u32::MAX), |due_ms| due_ms.saturating_sub(clock::unix_ms()).max(1));
        clock::now() + Duration::from_millis(left_ms)
    }

    async fn hand_out(&mut self, line: &mut Line, received: Received) -> Result<(), Goodbye> {
        let received = received.map_err(|error| {
            let fault = Fault::from(status(error));
            Some((CloseCode::Error, fault.message().to_owned()))
        })?;
        for Delivery { event, attempt, due_ms } in received {
            let mut json = cloudevents::structured(&event);
            json.insert(ATTEMPT.to_owned(), attempt.into());
            self.held.insert(event.sequence, Held { attempt, due_ms });
            send(line, Message::text(Value::Object(json).to_string())).await?;
        }
        Ok(())
    }

    async fn hear(
        &mut self, line: &mut Line, message: Option<Result<Message, tungstenite::Error>>,
    ) -> Result<(), Goodbye> {
        let text = match message {
            None => return Err(None),
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Binary(_))) => {
                return Err(Some((CloseCode::Unsupported, "verdicts are text".to_owned())));
            }
            // What a close or a ping is answered with goes out with the next look for a message; a close ends them.
            Some(Ok(_)) => return Ok(()),
            Some(Err(tungstenite::Error::Capacity(_))) => {
                let why = format!("a message has at most {MESSAGE_BYTES_MAX} bytes");
                return Err(Some((CloseCode::Size, why)));
            }
            Some(Err(tungstenite::Error::Utf8(_))) => {
                return Err(Some((CloseCode::Invalid, "a message is no UTF-8".to_owned())));
            }
            Some(Err(tungstenite::Error::Protocol(error))) => {
                return Err(Some((CloseCode::Protocol, error.to_string())));
            }
            Some(Err(_)) => return Err(None),
        };
        let answer = match self.judge(&text).await {
            Ok((settled, unknown)) => json!({"settled": told(&settled), "unknown": told(&unknown)}),
            Err(fault) => json!({ "error": fault.problem() }),
        };
        send(line, Message::text(answer.to_string())).await
    }

    /// Records what the client says of its deliveries; those that were waiting for it, and those that were not.
    async fn judge(&mut self, text: &str) -> Result<(Vec<u64>, Vec<u64>), Fault> {
        let command = Command::read(text)?;
        let (mut settled, mut unknown) = (Vec::new(), Vec::new());
        for (sequences, verdict) in command.verdicts() {
            let mut receipts = Vec::with_capacity(sequences.len());
            for sequence in sequences {
                match self.held.get(&sequence) {
                    Some(held) => receipts.push(platform_dataplane::Receipt { sequence, attempt: held.attempt }),
                    None => unknown.push(sequence),
                }
            }
            if receipts.is_empty() {
                continue;
            }
            let keeps = verdict == platform_capability::event::Verdict::Extend;
            let answer = self.events.settle(&renewed(&self.call), &self.consumer, &receipts, verdict).await;
            let (known, gone) = answer.map_err(|error| Fault::from(status(error)))?;
            let due_ms = clock::unix_ms().saturating_add(self.ack_wait_ms);
            for sequence in &known {
                match self.held.get_mut(sequence) {
                    Some(held) if keeps => held.due_ms = due_ms,
                    _ => {
                        self.held.remove(sequence);
                    }
                }
            }
            self.held.retain(|sequence, _| !gone.contains(sequence));
            settled.extend(known);
            unknown.extend(gone);
        }
        Ok((settled, unknown))
    }
}

/// Sequences as JSON has them: 64 bits are more than its numbers hold.
fn told(sequences: &[u64]) -> Vec<String> {
    sequences.iter().map(u64::to_string).collect()
}

/// Waits for the answer to a question; for ever without one.
async fn next<T>(question: &mut Option<BoxFuture<'static, T>>) -> T {
    match question {
        Some(question) => question.await,
        None => std::future::pending().await,
    }
}

async fn send(line: &mut Line, message: Message) -> Result<(), Goodbye> {
    match tokio::time::timeout(PATIENCE, line.send(message)).await {
        Ok(Ok(())) => Ok(()),
        // Who does not read can't be told.
        Ok(Err(_)) | Err(_) => Err(None),
    }
}

/// What is said when the time is over.
fn farewell(ended: Option<Result<(), Status>>) -> Goodbye {
    let fault = match ended {
        Some(Err(status)) => Fault::from(status),
        Some(Ok(())) | None => return Some((CloseCode::Away, "the stream ended: connect again".to_owned())),
    };
    let code = if fault.http_status() == StatusCode::SERVICE_UNAVAILABLE { CloseCode::Away } else { CloseCode::Policy };
    Some((code, fault.message().to_owned()))
}

/// Says goodbye, and waits for the client's.
async fn leave(mut line: Line, code: CloseCode, mut reason: String) {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    let goodbye = async {
        let said = line.close(Some(CloseFrame { code, reason: reason.into() })).await;
        while said.is_ok() && matches!(line.next().await, Some(Ok(_))) {}
    };
    // A client that does not answer is left all the same.
    let _ = tokio::time::timeout(PATIENCE / 2, goodbye).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_a_subscription() {
        assert_eq!(Socket::place("/cloudevents/orders/subscriptions/billing"), Some(("orders", "billing")));
        for other in [
            "/cloudevents/orders",
            "/cloudevents/orders/subscriptions/",
            "/cloudevents//subscriptions/a",
            "/cloudevents/a/b/subscriptions/c",
            "/cloudevents/a/subscriptions/b/c",
        ] {
            assert_eq!(Socket::place(other), None, "{other}");
        }
    }
}
