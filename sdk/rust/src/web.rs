//! Web pages: the trait of plugins for the slot `web.page`, for plugins with the grant `wasi`; the crate's feature `web`.
//!
//! Owns the way from WASI's request to a plain one, and back. Who asks is in [`crate::context`]; the page never sees a token or a cookie.

use serde::de::DeserializeOwned;
use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{ErrorCode, Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam},
    io::streams::{OutputStream, StreamError},
};

use crate::{
    Problem,
    export::{Adapter, Instance},
};

/// Bytes that are read and written at once; WASI takes no more at a time.
const PIECE: usize = 4096;
/// Largest body that is read; the host sends none that is larger.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Answers requests of browsers. Each runs in an instance of its own by default: nothing of one caller reaches the next.
pub trait Page: Sized + 'static {
    /// The settings, read from JSON; `()` for none.
    type Settings: DeserializeOwned + 'static;

    /// Makes the page from its settings. No import may be called.
    ///
    /// # Errors
    /// When the settings make no sense; the previous generation then stays.
    fn configure(settings: Self::Settings) -> Result<Self, Problem>;

    /// Checks itself before a generation takes traffic.
    ///
    /// # Errors
    /// When the page would not work; the previous generation then stays.
    fn self_test(&self) -> Result<(), Problem> {
        Ok(())
    }

    /// Answers one request.
    fn answer(&self, request: &Request) -> Response;
}

/// A request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The method: `GET` or `POST`.
    pub method: String,
    /// The path, as the browser wrote it.
    pub path: String,
    /// What stands behind the `?`, as the browser wrote it; empty when there is nothing.
    pub query: String,
    /// The body of a POST.
    pub body: Vec<u8>,
}

/// What a page answers.
pub struct Response {
    /// The status.
    pub status: u16,
    /// Headers, of which the host passes on what is harmless.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Body,
}

/// The body of an answer.
pub enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// Piece by piece. The host shows it when it is complete.
    Pieces(Box<dyn Iterator<Item = Vec<u8>>>),
}

impl Response {
    /// An answer of this media type.
    #[must_use]
    pub fn new(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("content-type", media_type.to_owned())], body: Body::Whole(body.into()) }
    }

    /// A page.
    #[must_use]
    pub fn html(status: u16, html: impl Into<Vec<u8>>) -> Self {
        Self::new(status, "text/html; charset=utf-8", html)
    }

    /// Leads elsewhere within the page, to be looked at with GET.
    #[must_use]
    pub fn see(place: &str) -> Self {
        Self { status: 303, headers: vec![("location", place.to_owned())], body: Body::Whole(Vec::new()) }
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response").field("status", &self.status).field("headers", &self.headers).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body")
    }
}

impl<P: Page + Instance<State = P>> Guest for Adapter<P> {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let given = read(&request).map(|request| P::with(|page| page.answer(&request)));
        match given {
            Ok(Ok(response)) => write(response, answer),
            // Not to be configured is a fault of the host's.
            Ok(Err(problem)) => refuse(answer, problem.message().to_owned()),
            Err(why) => refuse(answer, why),
        }
    }
}

fn refuse(answer: ResponseOutparam, why: String) {
    ResponseOutparam::set(answer, Err(ErrorCode::InternalError(Some(why))));
}

fn read(request: &IncomingRequest) -> Result<Request, String> {
    let target = request.path_with_query().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let method = match request.method() {
        Method::Get => "GET".to_owned(),
        Method::Post => "POST".to_owned(),
        Method::Head => "HEAD".to_owned(),
        Method::Other(name) => name,
        other => format!("{other:?}"),
    };
    let broken = |()| "the request has no body".to_owned();
    let incoming = request.consume().map_err(broken)?;
    let stream = incoming.stream().map_err(broken)?;
    let mut body = Vec::new();
    while body.len() <= BODY_BYTES_MAX {
        match stream.blocking_read(PIECE as u64) {
            Ok(bytes) => body.extend(bytes),
            Err(StreamError::Closed) => {
                return Ok(Request { method, path: path.to_owned(), query: query.to_owned(), body });
            }
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
    Err("the request's body is too large".to_owned())
}

fn write(response: Response, answer: ResponseOutparam) {
    let headers = Fields::new();
    for (name, value) in &response.headers {
        if headers.append(name, value.as_bytes()).is_err() {
            return refuse(answer, format!("the header `{name}` can't be sent"));
        }
    }
    let outgoing = OutgoingResponse::new(headers);
    if outgoing.set_status_code(response.status).is_err() {
        return refuse(answer, format!("{} is no status", response.status));
    }
    let Ok(body) = outgoing.body() else { return refuse(answer, "the answer has no body".to_owned()) };
    ResponseOutparam::set(answer, Ok(outgoing));
    let sent = body.write().map(|stream| match response.body {
        Body::Whole(bytes) => send(&stream, &bytes),
        Body::Pieces(mut pieces) => pieces.all(|piece| send(&stream, &piece).is_ok()).then_some(()).ok_or(()),
    });
    // An answer that nobody takes any more needs no end.
    if matches!(sent, Ok(Ok(()))) {
        drop(OutgoingBody::finish(body, None));
    }
}

fn send(stream: &OutputStream, bytes: &[u8]) -> Result<(), ()> {
    bytes.chunks(PIECE).try_for_each(|piece| stream.blocking_write_and_flush(piece)).map_err(drop)
}
