//! Requests to a registry: redirects, tokens, and answers that end.
//!
//! Owns HTTP as registries use it (RFC 9110; the token exchange of the distribution project); must not know manifests.
//! Invariant: every wait has an end and every body a bound; credentials and tokens go to the registry and to the place where
//! it hands out tokens, never to where a redirect leads.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::{
    connect::{ConnectError, Connector, Home},
    credentials::Credentials,
    error::{Fault, shown},
};

/// Longest wait for an answer, and for the next piece of one.
const SILENCE: Duration = Duration::from_secs(20);
/// What a registry is at least expected to take in a millisecond.
const UPLOAD_BYTES_PER_MS: usize = 128;
/// Places that one request is led to.
const REDIRECTS_MAX: usize = 5;
/// Bytes of the headers of an answer.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Bytes of an answer that holds a token.
const TOKEN_BYTES_MAX: u64 = 64 << 10;
/// Bytes of an answer that tells what went wrong.
const ERROR_BYTES_MAX: u64 = 16 << 10;

/// Speaks to one registry about one repository.
pub(crate) struct Http {
    client: Client<Connector, Full<Bytes>>,
    home: Arc<Home>,
    credentials: Option<Credentials>,
    /// What the token is to allow.
    scope: String,
    authorization: Mutex<Option<HeaderValue>>,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// What it is for, in words.
    pub(crate) what: &'static str,
}

impl Http {
    pub(crate) fn new(connector: Connector, home: Arc<Home>, credentials: Option<Credentials>, scope: String) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(HEADER_BYTES_MAX)
            .build(connector);
        Self { client, home, credentials, scope, authorization: Mutex::new(None) }
    }

    /// A URL of the registry.
    pub(crate) fn at(&self, path: &str) -> Result<Uri, Fault> {
        let scheme = if self.home.is_tls { "https" } else { "http" };
        parse(&format!("{scheme}://{}{path}", self.home.host))
    }

    /// Sends a request, with credentials when they are asked for, and follows where it is led. The answer is a good one.
    pub(crate) async fn send(&self, ask: &Ask) -> Result<Response<Incoming>, Fault> {
        let response = self.answer(ask).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let said = self.said(response).await;
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Fault::Unauthorized { known: self.credentials.is_some(), said }
            }
            StatusCode::NOT_FOUND => Fault::NotFound { what: ask.what },
            status => Fault::Answer { status: status.as_u16(), what: ask.what, said },
        })
    }

    async fn answer(&self, ask: &Ask) -> Result<Response<Incoming>, Fault> {
        let mut ask = ask.clone();
        let mut asked_for_token = false;
        for _ in 0..=REDIRECTS_MAX {
            let authorization = self.authorization.lock().clone().filter(|_| self.home.is(&ask.uri));
            let response = self.once(&ask, authorization).await?;
            match response.status() {
                StatusCode::UNAUTHORIZED if !asked_for_token && self.home.is(&ask.uri) => {
                    asked_for_token = true;
                    let Some(authorization) = self.authorize(response.headers()).await? else { return Ok(response) };
                    *self.authorization.lock() = Some(authorization);
                }
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT
                    if matches!(ask.method, Method::GET | Method::HEAD) =>
                {
                    ask.uri = self.location(&ask.uri, response.headers())?;
                }
                _ => return Ok(response),
            }
        }
        Err(Fault::Loop)
    }

    async fn once(&self, ask: &Ask, authorization: Option<HeaderValue>) -> Result<Response<Incoming>, Fault> {
        let mut request = Request::new(Full::new(ask.body.clone()));
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = ask.uri.clone();
        *request.headers_mut() = ask.headers.clone();
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("platform/", env!("CARGO_PKG_VERSION"))));
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        let sending = Duration::from_millis((ask.body.len() / UPLOAD_BYTES_PER_MS) as u64);
        match tokio::time::timeout(SILENCE + sending, self.client.request(request)).await {
            Ok(answer) => answer.map_err(|error| self.describe(&ask.uri, &error)),
            Err(_over) => Err(self.silent(&ask.uri)),
        }
    }

    fn silent(&self, uri: &Uri) -> Fault {
        let host = uri.authority().map_or(self.home.host.as_str(), |authority| authority.as_str());
        Fault::Silent { host: host.to_owned(), silence_s: SILENCE.as_secs() }
    }

    fn describe(&self, uri: &Uri, error: &hyper_util::client::legacy::Error) -> Fault {
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        let mut why = "the connection failed".to_owned();
        while let Some(error) = cause {
            match error.downcast_ref::<ConnectError>() {
                Some(ConnectError::Plain) => return Fault::Plain { host },
                Some(ConnectError::Astray(why)) => return Fault::Astray { to: place(uri), why },
                Some(ConnectError::Tls(why)) => return Fault::Tls { host, why: why.clone() },
                Some(error) => return Fault::Unreachable { host, why: error.to_string() },
                None => {}
            }
            if let Some(error) = error.downcast_ref::<hyper::Error>() {
                why = format!("the connection broke: {error}");
            }
            cause = error.source();
        }
        Fault::Unreachable { host, why }
    }

    /// Where an answer leads: another path of the same host, or another URL. Whether it may be gone to is decided when connecting.
    pub(crate) fn location(&self, base: &Uri, headers: &HeaderMap) -> Result<Uri, Fault> {
        let malformed = |why: &str| Fault::Malformed { what: "redirect", why: why.to_owned() };
        let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| malformed("it has no location"))?;
        join(base, location)
    }

    /// What to show the registry after it asked for it; nothing when there is nothing to show.
    async fn authorize(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Fault> {
        let challenges: Vec<_> =
            headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let of = |scheme: &str| {
            challenges.iter().find_map(|challenge| {
                let (name, rest) = challenge.split_once(' ').unwrap_or((*challenge, ""));
                name.eq_ignore_ascii_case(scheme).then_some(rest)
            })
        };
        let Some(bearer) = of("bearer") else {
            return Ok(of("basic").and(self.credentials.as_ref()).and_then(Credentials::header));
        };
        let malformed = |why: &str| Fault::Malformed { what: "request for a token", why: why.to_owned() };
        let realm = parameter(bearer, "realm").ok_or_else(|| malformed("it does not say where"))?;
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut uri = format!("{realm}{}scope={}", if realm.contains('?') { '&' } else { '?' }, encode(&self.scope));
        if let Some(service) = parameter(bearer, "service") {
            uri.push_str(&format!("&service={}", encode(&service)));
        }
        let ask = Ask {
            method: Method::GET,
            uri: parse(&uri)?,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            what: "the request for a token",
        };
        let response = self.once(&ask, self.credentials.as_ref().and_then(Credentials::header)).await?;
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(Fault::Unauthorized { known: self.credentials.is_some(), said: self.said(response).await });
        }
        if !status.is_success() {
            let said = self.said(response).await;
            return Err(Fault::Answer { status: status.as_u16(), what: ask.what, said });
        }
        let body = self.read(response, TOKEN_BYTES_MAX, "token", &mut |_| {}).await?;
        let token: Token = serde_json::from_slice(&body).map_err(|_why| malformed("the token is not JSON"))?;
        let token = token.token.or(token.access_token).ok_or_else(|| malformed("the answer has no token"))?;
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut value = value.map_err(|_why| malformed("the token has characters that no token has"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The body of an answer, which may have so many bytes; `progress` hears how many came.
    pub(crate) async fn read(
        &self, response: Response<Incoming>, bytes_max: u64, what: &'static str, progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Vec<u8>, Fault> {
        let too_large = || Fault::TooLarge { what, bytes_max };
        let said = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if said.is_some_and(|length: u64| length > bytes_max) {
            return Err(too_large());
        }
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        loop {
            let frame = tokio::time::timeout(SILENCE, body.frame()).await;
            let frame =
                frame.map_err(|_over| Fault::Silent { host: self.home.host.clone(), silence_s: SILENCE.as_secs() })?;
            let Some(frame) = frame else { return Ok(bytes) };
            let frame = frame.map_err(|error| Fault::Unreachable {
                host: self.home.host.clone(),
                why: format!("the connection broke: {error}"),
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if (bytes.len() + data.len()) as u64 > bytes_max {
                return Err(too_large());
            }
            bytes.extend_from_slice(&data);
            progress(bytes.len() as u64);
        }
    }

    /// What a registry says went wrong (OCI distribution 1.1, "Error Codes").
    async fn said(&self, response: Response<Incoming>) -> String {
        let status = response.status();
        let body = self.read(response, ERROR_BYTES_MAX, "error", &mut |_| {}).await.unwrap_or_default();
        let errors: Option<Errors> = serde_json::from_slice(&body).ok();
        let first = errors.and_then(|errors| errors.errors.into_iter().next());
        match first {
            Some(error) => shown(&format!("{} {}", error.code, error.message)),
            None => shown(status.canonical_reason().unwrap_or_default()),
        }
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<Said>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// A URL without what it asks for, which may be a secret.
fn place(uri: &Uri) -> String {
    shown(&format!(
        "{}://{}",
        uri.scheme_str().unwrap_or_default(),
        uri.authority().map(ToString::to_string).unwrap_or_default()
    ))
}

fn parse(text: &str) -> Result<Uri, Fault> {
    let malformed = |why: String| Fault::Malformed { what: "URL", why };
    let uri: Uri = text.parse().map_err(|error: http::uri::InvalidUri| malformed(error.to_string()))?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    if !is_http || uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err(malformed("it is not one of HTTP with a host and without credentials".to_owned()));
    }
    Ok(uri)
}

/// A location as seen from a URL (RFC 3986, 5.2, without paths that are relative to a folder).
pub(crate) fn join(base: &Uri, location: &str) -> Result<Uri, Fault> {
    let scheme = base.scheme_str().unwrap_or("https");
    let authority = base.authority().map(ToString::to_string).unwrap_or_default();
    if location.starts_with("//") {
        parse(&format!("{scheme}:{location}"))
    } else if location.starts_with('/') {
        parse(&format!("{scheme}://{authority}{location}"))
    } else {
        parse(location)
    }
}

/// A parameter of a challenge (RFC 9110, 11.2).
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let mut rest = challenge.trim();
    while let Some((key, value)) = rest.split_once('=') {
        let value = value.trim_start();
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => value.split_once(',').unwrap_or((value, "")),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value.trim().to_owned());
        }
        rest = after.trim_start_matches([',', ' ']);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_taken_apart() {
        let challenge = r#"realm="https://auth.example/token?a=1,b",service=registry , scope="x:y:pull,push""#;
        assert_eq!(parameter(challenge, "realm").as_deref(), Some("https://auth.example/token?a=1,b"));
        assert_eq!(parameter(challenge, "Service").as_deref(), Some("registry"));
        assert_eq!(parameter(challenge, "scope").as_deref(), Some("x:y:pull,push"));
        assert_eq!(parameter(challenge, "error"), None);
        for broken in ["", "=", "realm", "realm=\"", "realm=\"x", ",,,="] {
            assert_eq!(parameter(broken, "realm"), None, "{broken}");
        }
    }

    #[test]
    fn locations_lead_where_they_say() {
        let base = "http://127.0.0.1:5000/v2/a".parse().unwrap();
        for (location, leads) in [
            ("/v2/b?c=d", Some("http://127.0.0.1:5000/v2/b?c=d")),
            ("//x.io/b", Some("http://x.io/b")),
            ("https://x.io/b", Some("https://x.io/b")),
            ("ftp://x.io/b", None),
            ("https://user:word@x.io/b", None),
            ("file:///etc/passwd", None),
            ("b", None),
            ("", None),
        ] {
            assert_eq!(join(&base, location).ok().map(|uri| uri.to_string()).as_deref(), leads, "{location}");
        }
    }
}
