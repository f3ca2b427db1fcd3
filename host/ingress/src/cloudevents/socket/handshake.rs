//! The opening handshake of a WebSocket, and what is asked for with it.
//!
//! Browsers send no headers of a page's choosing: a token may stand among the protocols that are offered, and the namespace in
//! the query. Invariant: a token is never sent back.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use percent_encoding::percent_decode_str;
use platform_proto::NAMESPACE_HEADER;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tonic::{Code, body::Body};

use crate::fault::Fault;

/// The protocol that is spoken on the socket.
const PROTOCOL: &str = "platform.event.v1";
/// What stands before a token among the protocols that a client offers.
const BEARER: &str = "bearer.";
/// Version of RFC 6455.
const VERSION: &str = "13";
/// Deliveries in a client's hands unless it says otherwise, and the most.
const LIMIT: (usize, usize) = (32, 256);

/// A handshake that a client began.
#[derive(Debug)]
pub(super) struct Handshake {
    /// What admission looks at.
    pub(super) headers: HeaderMap,
    /// Which consumer of a fan-out it is.
    pub(super) consumer: String,
    /// Most deliveries in its hands.
    pub(super) limit: usize,
    accept: String,
    /// Whether it offered our protocol.
    offered: bool,
}

impl Handshake {
    pub(super) fn read(headers: &HeaderMap, query: &str) -> Result<Self, Fault> {
        let has = |name, wanted: &str| list(headers, name).any(|one| one.eq_ignore_ascii_case(wanted));
        if !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
            return Err(required("deliveries of a subscription come through a WebSocket over HTTP/1.1"));
        }
        if !has(header::SEC_WEBSOCKET_VERSION, VERSION) {
            return Err(required("the version of the WebSocket has to be 13"));
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
        if STANDARD.decode(key).map_or(0, |key| key.len()) != 16 {
            return Err(Fault::invalid("INVALID_HANDSHAKE", "`Sec-WebSocket-Key` has to be 16 bytes in base64"));
        }
        let mut handshake = Self {
            headers: headers.clone(),
            consumer: String::new(),
            limit: LIMIT.0,
            accept: derive_accept_key(key),
            offered: list(headers, header::SEC_WEBSOCKET_PROTOCOL).any(|one| one == PROTOCOL),
        };
        let token = list(headers, header::SEC_WEBSOCKET_PROTOCOL).find_map(|one| one.strip_prefix(BEARER));
        if let Some(token) = token.filter(|_| !headers.contains_key(header::AUTHORIZATION)) {
            handshake.set(header::AUTHORIZATION.as_str(), &format!("Bearer {token}"))?;
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            handshake.ask(pair)?;
        }
        Ok(handshake)
    }

    /// Takes a parameter of the query.
    fn ask(&mut self, pair: &str) -> Result<(), Fault> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(value)
            .decode_utf8()
            .map_err(|_no_text| Fault::invalid("INVALID_QUERY", format!("`{name}` is no UTF-8 once decoded")))?;
        match name {
            "consumer" => self.consumer = value.into_owned(),
            "namespace" => self.set(NAMESPACE_HEADER, &value)?,
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT.1).contains(limit));
                let message = || format!("`limit` has to be 1 to {}, not `{}`", LIMIT.1, value.escape_debug());
                self.limit = limit.ok_or_else(|| Fault::invalid("INVALID_PARAMETER", message()))?;
            }
            other => {
                let message = format!("there is no parameter `{other}`; there are `consumer`, `limit` and `namespace`");
                return Err(Fault::invalid("UNKNOWN_PARAMETER", message));
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &'static str, value: &str) -> Result<(), Fault> {
        let value = HeaderValue::from_str(value)
            .map_err(|_no_value| Fault::invalid("INVALID_HANDSHAKE", format!("what is given for `{name}` is none")))?;
        self.headers.insert(name, value);
        Ok(())
    }

    /// The answer that opens the socket.
    pub(super) fn answer(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        if self.offered {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
        }
        response
    }

    /// Adds what says how to do it right.
    pub(super) fn demand(headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
    }
}

fn required(message: &str) -> Fault {
    Fault::new(Code::FailedPrecondition, "UPGRADE_REQUIRED", message).http(StatusCode::UPGRADE_REQUIRED)
}

/// The members of a header that is a list.
fn list(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    const OPENING: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn read(more: &[(&'static str, &'static str)], query: &str) -> Result<Handshake, Fault> {
        let mut headers = HeaderMap::new();
        for (name, value) in OPENING.iter().chain(more) {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Handshake::read(&headers, query)
    }

    #[test]
    fn the_example_of_the_standard_is_answered_as_it_says() {
        let answer = read(&[], "").unwrap().answer();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["sec-websocket-accept"]),
            (101, &HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
        );
        assert!(!answer.headers().contains_key("sec-websocket-protocol"));
    }

    #[test]
    fn a_token_among_the_protocols_is_taken_and_not_sent_back() {
        let offered = ("sec-websocket-protocol", "platform.event.v1, bearer.the-token.x");
        let handshake = read(&[offered], "namespace=dev&limit=7&consumer=a").unwrap();
        assert_eq!(handshake.headers["authorization"], "Bearer the-token.x");
        assert_eq!(handshake.headers[NAMESPACE_HEADER], "dev");
        assert_eq!((handshake.limit, handshake.consumer.as_str()), (7, "a"));
        assert_eq!(handshake.answer().headers()["sec-websocket-protocol"], PROTOCOL);
        let both = read(&[offered, ("authorization", "Bearer other")], "").unwrap();
        assert_eq!(both.headers["authorization"], "Bearer other");
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        for (more, status) in [
            (("connection", "close"), 426),
            (("upgrade", "h2c"), 426),
            (("sec-websocket-version", "8"), 426),
            (("sec-websocket-key", ""), 400),
            (("sec-websocket-key", "dGhlIHNhbXBsZSBub25j"), 400),
        ] {
            assert_eq!(read(&[more], "").unwrap_err().http_status(), status, "{more:?}");
        }
        for query in ["limit=0", "limit=257", "limit=x", "from=1", "namespace=%0a", "consumer=%ff"] {
            assert!(read(&[], query).is_err(), "{query}");
        }
    }
}
