//! The protocol over HTTP (OCI distribution 1.1): which request does what, and who may.
//!
//! Owns methods, headers and the form of errors; must not know how a caller was verified. Invariant: nothing is done for a caller
//! whose access was not compared with what it takes.

mod blobs;
mod content;
mod lists;
mod manifests;

use std::{error::Error as StdError, io};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use serde_json::json;

use crate::{
    error::{Error, Result},
    marketplace::Marketplace,
    route::{self, Route},
    traffic::{Operation, Traffic},
};

/// An answer.
pub type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// What a caller may do, each also what stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing that not everybody may.
    Nothing,
    /// Look and pull.
    Pull,
    /// Publish.
    Push,
    /// Delete.
    Admin,
}

/// Who asks.
#[derive(Debug, Clone)]
pub enum Who {
    /// Nobody said.
    Anonymous,
    /// A caller that was verified.
    Known {
        /// What the caller is called.
        subject: String,
        /// What the caller may do.
        access: Access,
    },
    /// Who presented something that proves nothing, and why.
    Refused(String),
}

impl Who {
    pub(crate) fn subject(&self) -> &str {
        match self {
            Self::Known { subject, .. } => subject,
            Self::Anonymous | Self::Refused(_) => "",
        }
    }

    fn access(&self) -> Access {
        match self {
            Self::Known { access, .. } => *access,
            Self::Anonymous | Self::Refused(_) => Access::Nothing,
        }
    }
}

/// The version of the protocol, which some clients ask for.
const VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

impl Marketplace {
    /// Whether a path is one of the registry.
    #[must_use]
    pub fn serves(path: &str) -> bool {
        Route::of(path).is_some()
    }

    /// What was asked of it and what it moved.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Uploads that are open.
    #[must_use]
    pub fn uploads_open(&self) -> usize {
        self.uploads.count()
    }

    /// Answers a request.
    pub async fn answer<B>(&self, who: &Who, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let operation = Operation::of(&route_of(&parts), &parts.method);
        let mut answer = match self.route(who, &parts, self.traffic.incoming(body)).await {
            Ok(answer) => answer,
            Err(error) => refusal(&error, parts.method == Method::HEAD),
        };
        answer.headers_mut().insert(VERSION, HeaderValue::from_static("registry/2.0"));
        self.traffic.count(operation, answer.status());
        answer.map(|body| self.traffic.outgoing(body))
    }

    async fn route<B>(&self, who: &Who, parts: &Parts, body: B) -> Result<Answer>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let route = route_of(parts);
        // Whoever asks nothing in particular learns that there are tokens: clients take it from here how to go on, also where pulling needs none.
        let is_base = matches!(route, Ok(Route::Base));
        self.permit(who, demand(&route, &parts.method), is_base)?;
        let (route, query) = (route?, parts.uri.query());
        let reads = [Method::GET, Method::HEAD].contains(&parts.method);
        match (route, &parts.method) {
            (Route::Base, _) if reads => json_answer(StatusCode::OK, &json!({}), parts),
            (Route::Catalogue, _) if reads => self.list_repositories(query, parts).await,
            (Route::Tags(name), _) if reads => self.list_tags(who, &name, query, parts).await,
            (Route::Referrers(name, subject), _) if reads => self.list_referrers(&name, subject, query, parts).await,
            (Route::Manifest(name, selector), _) if reads => self.get_manifest(who, &name, &selector, parts).await,
            (Route::Manifest(name, selector), &Method::PUT) => {
                self.put_manifest(who, &name, &selector, parts, body).await
            }
            (Route::Manifest(name, selector), &Method::DELETE) => self.delete_manifest(&name, &selector).await,
            (Route::Blob(name, digest), _) if reads => self.get_blob(&name, digest, parts).await,
            (Route::Uploads(name), &Method::POST) => self.begin_upload(&name, query, body).await,
            (Route::Upload(name, id), &Method::PATCH) => self.append_upload(&name, &id, parts, body).await,
            (Route::Upload(name, id), &Method::PUT) => self.finish_upload(&name, &id, parts, body).await,
            (Route::Upload(name, id), &Method::GET) => self.show_upload(&name, &id).await,
            (Route::Upload(name, id), &Method::DELETE) => self.drop_upload(&name, &id),
            (Route::Blob(..), &Method::DELETE) => {
                let why = "blobs go by themselves when no manifest names them any more";
                Err(Error::Unsupported(why.to_owned()))
            }
            (_, method) => Err(Error::Unsupported(format!("there is no {method} at this path of the registry"))),
        }
    }

    fn permit(&self, who: &Who, demand: Access, is_base: bool) -> Result<()> {
        let is_open = self.config.anonymous_pull && demand == Access::Pull && !is_base;
        match who {
            Who::Refused(why) => Err(Error::Unauthorized(why.clone())),
            _ if who.access() >= demand || (is_open && matches!(who, Who::Anonymous)) => Ok(()),
            Who::Anonymous => {
                let how = "send `Authorization: Bearer TOKEN`, or log in with any user name and a token of this platform as the password";
                Err(Error::Unauthorized(format!("this needs a token: {how}")))
            }
            Who::Known { subject, .. } => {
                Err(Error::Denied(format!("`{subject}` may not do this: it needs {}", words(demand))))
            }
        }
    }
}

/// What a request is about.
fn route_of(parts: &Parts) -> Result<Route> {
    let unknown = || Err(Error::Unsupported("the registry is at `/v2/`".to_owned()));
    Route::of(parts.uri.path()).unwrap_or_else(unknown)
}

/// What a request takes.
fn demand(route: &Result<Route>, method: &Method) -> Access {
    match route {
        Ok(Route::Uploads(_) | Route::Upload(..)) => Access::Push,
        _ if [Method::GET, Method::HEAD].contains(method) => Access::Pull,
        _ if method == Method::DELETE => Access::Admin,
        _ => Access::Push,
    }
}

fn words(access: Access) -> &'static str {
    match access {
        Access::Nothing | Access::Pull => "a token with access `data`",
        Access::Push => "the role `publisher` and access `data`, or an administrator's token",
        Access::Admin => "an administrator's token",
    }
}

fn refusal(error: &Error, is_head: bool) -> Answer {
    let status = error.status();
    let body = json!({"errors": [{"code": error.code(), "message": error.to_string()}]}).to_string();
    let mut answer = response(status, if is_head { Bytes::new() } else { body.into() });
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    match error {
        // Basic is what all clients can do, with a token as the password.
        Error::Unauthorized(_) => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"platform\""));
        }
        Error::Order { offset } => content::insert(headers, header::RANGE, &content::progress(*offset)),
        Error::Range { size } => content::insert(headers, header::CONTENT_RANGE, &format!("bytes */{size}")),
        Error::Unavailable(_) | Error::Busy(_) => {
            drop(headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")));
        }
        _ => {}
    }
    answer
}

/// An answer whose body is known.
fn response(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    answer
}

/// An answer in JSON; without the body for those who ask for the head.
fn json_answer(status: StatusCode, body: &serde_json::Value, parts: &Parts) -> Result<Answer> {
    let text = body.to_string();
    let length = HeaderValue::from(text.len());
    let mut answer = response(status, if parts.method == Method::HEAD { String::new() } else { text });
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(header::CONTENT_LENGTH, length);
    Ok(answer)
}

/// The value of a header.
fn header_text(parts: &Parts, name: HeaderName) -> Option<&str> {
    parts.headers.get(name).and_then(|value| value.to_str().ok())
}

/// A parameter of the query.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    route::parameter(query, name)
}
