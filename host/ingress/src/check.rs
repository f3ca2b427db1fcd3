//! How gateways ask whether a request may go on.
//!
//! Owns what the wire formats of gateways have in common: settings, the question to the chain of policies, and the headers
//! that carry the caller's identity on. Must not know a single format. Invariant: every failure is a denial, and identity
//! headers that a client sent never reach what stands behind the gateway.

pub(crate) mod ext_authz;
pub(crate) mod forward_auth;
pub(crate) mod target;
mod told;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use platform_capability::{CallContext, Name, auth::Facts};
use platform_dataplane::{Plane, Verdict};
use serde::{Deserialize, Serialize};

use crate::{
    admission::is_trace,
    fault::Fault,
    identity::{Access, Authenticator, Identity, TokenError, bearer},
};
pub use told::Gateway;

/// Header with the gateway's own token, where `authorization` is that of the request it asks about.
const GATEWAY_TOKEN: &str = "x-platform-token";
/// Headers that belong to a connection or frame a message: no policy sets or removes them.
const FRAMING: [&str; 10] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-type",
];
/// What is escaped in identity headers: what a header can't carry, and what separates roles.
const IDENTITY: &AsciiSet = &CONTROLS.add(b'%').add(b',');

/// How gateways ask for decisions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckConfig {
    /// Whether a gateway has to present a token of its own, besides that of the request it asks about: in
    /// `x-platform-token`, or over gRPC in `authorization`.
    pub require_token: bool,
    /// Which gateway asks over HTTP, where the request does not say (`?gateway=NAME`).
    pub gateway: Gateway,
    /// Facts that nginx is known to set besides the method and the URI: `x-original-host`, `x-original-scheme`, `x-real-ip`.
    pub trusted_headers: Vec<String>,
    /// Namespace that policies are asked in.
    pub namespace: Name,
    /// Time for a decision, in milliseconds.
    pub deadline_ms: u64,
    /// Header in which the gateway passes the verified subject on.
    pub subject_header: String,
    /// Header in which the gateway passes the verified roles on, separated by commas.
    pub roles_header: String,
}

impl Default for CheckConfig {
    fn default() -> Self {
        Self {
            require_token: false,
            gateway: Gateway::Auto,
            trusted_headers: Vec::new(),
            namespace: platform_capability::NAMESPACE_DEFAULT.parse().unwrap_or_else(|_| unreachable!("it is a name")),
            deadline_ms: 1_000,
            subject_header: "x-platform-subject".to_owned(),
            roles_header: "x-platform-roles".to_owned(),
        }
    }
}

/// A name in the settings is no header name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no name of a header")]
pub struct InvalidHeaderName(String);

/// Asks policies on behalf of gateways.
#[derive(Debug)]
pub(crate) struct Checker {
    plane: Arc<Plane>,
    authenticator: Arc<Authenticator>,
    config: CheckConfig,
    /// In lowercase, as in `config`.
    subject_header: HeaderName,
    roles_header: HeaderName,
    pub(crate) counts: Counts,
}

/// Decisions made.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) allowed: AtomicU64,
    pub(crate) denied: AtomicU64,
}

/// What is asked.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// Qualifier of the slot to ask; none for the plain one.
    pub(crate) policy: Option<&'a str>,
    /// Value of the `authorization` header of the request in question.
    pub(crate) authorization: Presented<'a>,
    /// HTTP method, or an action.
    pub(crate) action: &'a str,
    /// Path, or a resource.
    pub(crate) target: &'a str,
    /// `traceparent` of the request in question.
    pub(crate) traceparent: Option<&'a str>,
    pub(crate) facts: Arc<dyn Facts>,
}

/// The credentials of the request in question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presented<'a> {
    None,
    One(&'a str),
    /// Several, or no text: servers would not agree on one.
    Garbled,
}

impl Checker {
    pub(crate) fn new(
        plane: Arc<Plane>, authenticator: Arc<Authenticator>, config: CheckConfig,
    ) -> Result<Self, InvalidHeaderName> {
        let name = |text: &str| text.parse::<HeaderName>().map_err(|_invalid| InvalidHeaderName(text.to_owned()));
        let (subject_header, roles_header) = (name(&config.subject_header)?, name(&config.roles_header)?);
        Ok(Self { plane, authenticator, config, subject_header, roles_header, counts: Counts::default() })
    }

    /// Checks the gateway's own token where one is required.
    pub(crate) fn admit(&self, headers: &HeaderMap, grpc: bool) -> Result<(), Fault> {
        if !self.config.require_token {
            return Ok(());
        }
        let identity = match headers.get(GATEWAY_TOKEN) {
            Some(value) => value
                .to_str()
                .map_err(|_not_text| TokenError::Malformed)
                .and_then(|token| self.authenticator.verify(token)),
            None if grpc => {
                self.authenticator.identify(headers).and_then(|identity| identity.ok_or(TokenError::Unknown))
            }
            None => Err(TokenError::Unknown),
        };
        match identity {
            Ok(identity) if identity.access >= Access::Data => Ok(()),
            _ => {
                let message = format!("the gateway has to present a token in `{GATEWAY_TOKEN}`, with access `data`");
                Err(Fault::new(tonic::Code::Unauthenticated, "GATEWAY_TOKEN_REQUIRED", message))
            }
        }
    }

    /// The verdict, and whom it is about. Credentials that are not bearer tokens are left to policies.
    pub(crate) async fn ask(&self, question: Question<'_>) -> (Verdict, Option<Arc<Identity>>) {
        let identity = match question.authorization {
            Presented::None => Ok(None),
            Presented::Garbled => Err(TokenError::Malformed),
            Presented::One(value) if is_bearer(value) => match bearer(value) {
                Some(token) => self.authenticator.verify(token).map(Some),
                None => Err(TokenError::Malformed),
            },
            Presented::One(_) => Ok(None),
        };
        let identity = match identity {
            Ok(identity) => identity,
            Err(error) => return (self.count(invalid_token(error)), None),
        };
        let caller = identity.as_ref().map(|identity| Arc::clone(&identity.caller));
        let traceparent = question.traceparent.filter(|text| is_trace(text)).map(Arc::from);
        let timeout = Duration::from_millis(self.config.deadline_ms);
        let call = CallContext { traceparent, ..CallContext::new(caller, &self.config.namespace, timeout) };
        let Question { policy, action, target, facts, .. } = question;
        let verdict = self.plane.auth().check(&Arc::new(call), policy, action, target, facts).await;
        (self.count(verdict), identity)
    }

    /// Counts a denial that no policy was asked about.
    pub(crate) fn refuse(&self, status: u16, reason: String) -> Verdict {
        self.count(denial(status, reason))
    }

    fn count(&self, verdict: Verdict) -> Verdict {
        let counter = if verdict.allowed { &self.counts.allowed } else { &self.counts.denied };
        counter.fetch_add(1, Ordering::Relaxed);
        verdict
    }

    /// Values of the two identity headers; empty without a verified caller.
    fn identity_values(identity: Option<&Arc<Identity>>) -> (String, String) {
        let Some(caller) = identity.map(|identity| &identity.caller) else { return (String::new(), String::new()) };
        let escape = |text: &str| utf8_percent_encode(text, IDENTITY).to_string();
        let roles: Vec<_> = caller.roles.iter().map(|role| escape(role)).collect();
        (escape(&caller.subject), roles.join(","))
    }

    /// Headers for the request that passes: the policy's, then the identity's, which a policy can't set.
    fn passed_headers(&self, verdict: &Verdict, identity: Option<&Arc<Identity>>) -> Vec<(HeaderName, HeaderValue)> {
        let ours = |name: &HeaderName| *name == self.subject_header || *name == self.roles_header;
        let mut headers: Vec<_> = usable(&verdict.set_headers).filter(|(name, _)| !ours(name)).collect();
        let (subject, roles) = Self::identity_values(identity);
        for (name, value) in [(&self.subject_header, subject), (&self.roles_header, roles)] {
            let value = HeaderValue::from_str(&value).unwrap_or_else(|_| HeaderValue::from_static(""));
            headers.push((name.clone(), value));
        }
        headers
    }

    /// Headers that the gateway has to take away from the request that passes.
    fn removed_headers<'a>(&self, verdict: &'a Verdict) -> impl Iterator<Item = HeaderName> + 'a {
        verdict.remove_headers.iter().filter_map(|name| name.parse().ok()).filter(|name: &HeaderName| !is_framing(name))
    }
}

/// Those of a policy's headers that can be sent.
fn usable(headers: &[(String, String)]) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    headers.iter().filter_map(|(name, value)| {
        let parsed = name.parse::<HeaderName>().ok().zip(HeaderValue::from_str(value).ok());
        let parsed = parsed.filter(|(name, _)| !is_framing(name));
        if parsed.is_none() {
            tracing::warn!(header = %name.escape_debug(), "a policy set a header that can't be sent");
        }
        parsed
    })
}

fn is_framing(name: &HeaderName) -> bool {
    FRAMING.contains(&name.as_str())
}

/// Whether credentials are a bearer token, good or not.
fn is_bearer(value: &str) -> bool {
    value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer"))
}

/// Whether policies may see a header of the request in question: what the platform has verified, they see as claims.
fn visible(name: &str, value: &str) -> bool {
    told::visible(name) && !(name == "authorization" && is_bearer(value))
}

fn invalid_token(error: TokenError) -> Verdict {
    let challenge = "Bearer error=\"invalid_token\"".to_owned();
    Verdict { response_headers: vec![("www-authenticate".to_owned(), challenge)], ..denial(401, error.to_string()) }
}

pub(crate) fn denial(status: u16, reason: String) -> Verdict {
    Verdict {
        allowed: false,
        reason,
        status,
        set_headers: Vec::new(),
        remove_headers: Vec::new(),
        response_headers: Vec::new(),
        decided_by: None,
        generation: 0,
        fault: None,
    }
}

#[cfg(test)]
mod tests {
    use platform_capability::Caller;

    use super::*;
    use crate::identity::Namespaces;

    #[test]
    fn identity_headers_carry_any_subject_and_role() {
        let caller = Caller {
            subject: "jürgen\r\nx-admin: 1".into(),
            roles: ["a,b".into(), "c".into()].into(),
            ..Caller::default()
        };
        let identity =
            Identity { caller: Arc::new(caller), access: Access::Check, namespaces: Namespaces::All, expires_s: None };
        let (subject, roles) = Checker::identity_values(Some(&Arc::new(identity)));
        assert_eq!(subject, "j%C3%BCrgen%0D%0Ax-admin: 1");
        assert_eq!(roles, "a%2Cb,c");
        assert_eq!(Checker::identity_values(None), (String::new(), String::new()));
    }

    #[test]
    fn policies_set_no_framing() {
        let headers = [("X-A", "1"), ("Content-Length", "0"), ("host", "evil"), ("a b", "1"), ("x-b", "a\r\nb")];
        let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let usable: Vec<_> = usable(&headers).map(|(name, _)| name.to_string()).collect();
        assert_eq!(usable, ["x-a"]);
    }

    #[test]
    fn verified_credentials_are_hidden_and_others_are_not() {
        assert!(!visible("authorization", "Bearer abc"));
        assert!(!visible("authorization", "bearer"));
        assert!(visible("authorization", "Basic abc"));
        assert!(visible("cookie", "a=b"));
        assert!(!visible("x-platform-roles", "admin"));
    }
}
