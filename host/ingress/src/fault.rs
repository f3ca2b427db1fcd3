//! [`Fault`]: why a request was not answered as asked, in the two forms that callers read.
//!
//! Owns the forms of errors in gRPC (status, `google.rpc.ErrorInfo`, and `google.rpc.RetryInfo` where trying again may
//! help) and in HTTP (`application/problem+json`, RFC 9457, and `Retry-After`). Must not know who produced the error. Invariant: both forms carry the same `reason`, and a caller's mistake
//! never becomes INTERNAL.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use platform_proto::code;
use serde::Serialize;
use tonic::{Code, Status, body::Body};
use tonic_types::{ErrorDetails, StatusExt};

/// `domain` of every `ErrorInfo`.
const DOMAIN: &str = "platform";
/// When something that is unavailable is asked again: as often as storage looks whether it is back.
const RETRY: Duration = Duration::from_secs(1);

/// Why a request was not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    code: Code,
    http: StatusCode,
    reason: String,
    message: String,
    metadata: Vec<(String, String)>,
}

impl Fault {
    /// A fault with a stable `reason` in UPPER_SNAKE and a message in words that a person can act on.
    pub(crate) fn new(code: Code, reason: impl Into<String>, message: impl Into<String>) -> Self {
        let http = StatusCode::from_u16(code::http_status(code)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { code, http, reason: reason.into(), message: message.into(), metadata: Vec::new() }
    }

    /// An argument that is not allowed.
    pub(crate) fn invalid(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, reason, message)
    }

    /// Answers with this HTTP status where the code alone says less, such as 405 or 413.
    pub(crate) fn http(mut self, status: StatusCode) -> Self {
        self.http = status;
        self
    }

    /// Adds a fact that programs read, such as the revision that a condition met.
    pub(crate) fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.metadata.push((key.to_owned(), value.into()));
        self
    }

    /// HTTP status of the fault.
    pub(crate) fn http_status(&self) -> StatusCode {
        self.http
    }

    /// The stable reason.
    #[cfg(test)]
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// The message.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The fault as an HTTP answer.
    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = Response::new(body(serde_json::to_vec(&self.problem()).unwrap_or_default()));
        *response.status_mut() = self.http;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.http == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.code == Code::Unavailable {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY.as_secs()));
        }
        if let Some((_, allow)) = self.metadata.iter().find(|(key, _)| key == "allow")
            && let Ok(allow) = HeaderValue::from_str(allow)
        {
            headers.insert(header::ALLOW, allow);
        }
        response
    }

    /// The members of the problem, for answers that stream.
    pub(crate) fn problem(&self) -> Problem<'_> {
        Problem {
            r#type: "about:blank",
            title: self.http.canonical_reason().unwrap_or("Client Closed Request"),
            status: self.http.as_u16(),
            detail: &self.message,
            reason: &self.reason,
            code: code::name(self.code),
            metadata: self.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        }
    }
}

/// The members of `application/problem+json`.
#[derive(Debug, Serialize)]
pub(crate) struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    reason: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    metadata: HashMap<&'a str, &'a str>,
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let metadata: HashMap<String, String> = fault.metadata.into_iter().collect();
        let mut details = ErrorDetails::with_error_info(fault.reason, DOMAIN, metadata);
        if fault.code == Code::Unavailable {
            details.set_retry_info(Some(RETRY));
        }
        Self::with_error_details(fault.code, fault.message, details)
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        let fault = Self::new(status.code(), code::name(status.code()), status.message());
        let Some(info) = status.get_details_error_info() else { return fault };
        let mut metadata: Vec<_> = info.metadata.into_iter().collect();
        metadata.sort();
        Self { reason: info.reason, metadata, ..fault }
    }
}

/// A body that is known in full.
pub(crate) fn body(bytes: impl Into<Bytes>) -> Body {
    Body::new(Full::new(bytes.into()).map_err(|never| match never {}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_survives_the_way_through_a_status() {
        let fault = Fault::new(Code::Aborted, "CONFLICT", "the key is at revision 7").with("revision", "7");
        assert_eq!(Fault::from(Status::from(fault.clone())), fault);
    }

    #[test]
    fn a_bare_status_keeps_its_code_as_reason() {
        let fault = Fault::from(Status::unimplemented("no such method"));
        assert_eq!(fault, Fault::new(Code::Unimplemented, "UNIMPLEMENTED", "no such method"));
    }

    #[test]
    fn what_is_unavailable_says_when_to_try_again() {
        let away = Fault::new(Code::Unavailable, "UNAVAILABLE", "storage is unavailable");
        assert_eq!(away.response().headers()[header::RETRY_AFTER], "1");
        let status = Status::from(away.clone());
        assert_eq!(status.get_details_retry_info().and_then(|info| info.retry_delay), Some(RETRY));
        assert_eq!(Fault::from(status), away);
        let refused = Status::from(Fault::invalid("INVALID_ARGUMENT", "no"));
        assert!(refused.get_details_retry_info().is_none());
    }

    #[tokio::test]
    async fn a_problem_has_the_members_of_the_standard() {
        let fault =
            Fault::invalid("METHOD_NOT_ALLOWED", "no").http(StatusCode::METHOD_NOT_ALLOWED).with("allow", "GET, PUT");
        let response = fault.response();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[header::ALLOW], "GET, PUT");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let expected = serde_json::json!({
            "type": "about:blank", "title": "Method Not Allowed", "status": 405, "detail": "no",
            "reason": "METHOD_NOT_ALLOWED", "code": "INVALID_ARGUMENT", "metadata": {"allow": "GET, PUT"},
        });
        assert_eq!(problem, expected);
    }
}
