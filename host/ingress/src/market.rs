//! The door of the marketplace's registry: who a caller is there, and bodies in both directions.
//!
//! Owns what a token is good for at the registry; must not know its protocol. Invariant: a password counts only as a token, and is verified as every other.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, Request, Response, header};
use hyper::body::Incoming;
use platform_marketplace::{Access, Marketplace, Who};
use tonic::body::Body;

use crate::identity::{self, ADMIN_ROLE, Authenticator, Identity};

/// Role of those who publish.
pub const PUBLISHER_ROLE: &str = "publisher";
/// Longest header that is looked at: a token in base64, with a user name.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// The door.
#[derive(Debug)]
pub(crate) struct Market {
    pub(crate) marketplace: Arc<Marketplace>,
    pub(crate) authenticator: Arc<Authenticator>,
}

impl Market {
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let who = self.who(request.headers());
        self.marketplace.answer(&who, request).await.map(Body::new)
    }

    fn who(&self, headers: &HeaderMap) -> Who {
        let refused = |why: &str| Who::Refused(why.to_owned());
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Who::Anonymous };
        let malformed =
            "the `authorization` header has to be one `Bearer TOKEN`, or `Basic` with a token as the password";
        let text = value.to_str().ok().filter(|text| text.len() <= HEADER_BYTES_MAX && values.next().is_none());
        let Some(text) = text else { return refused(malformed) };
        let token = match basic(text) {
            // What some clients send that have nothing to send.
            Some((user, token)) if user.is_empty() && token.is_empty() => return Who::Anonymous,
            Some((_user, token)) => token,
            None => match identity::bearer(text) {
                Some(token) => token.to_owned(),
                None => return refused(malformed),
            },
        };
        match self.authenticator.verify(&token) {
            Ok(identity) => Who::Known { subject: identity.caller.subject.clone(), access: access(&identity) },
            Err(error) => refused(&error.to_string()),
        }
    }
}

/// User name and password (RFC 7617).
fn basic(value: &str) -> Option<(String, String)> {
    let (scheme, credentials) = value.split_once(' ')?;
    let decoded = STANDARD.decode(credentials.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// What the bearer of a token may do at the registry.
fn access(identity: &Identity) -> Access {
    let has = |role: &str| identity.caller.roles.contains(role);
    match identity.access {
        identity::Access::Check => Access::Nothing,
        identity::Access::Control if has(ADMIN_ROLE) => Access::Admin,
        identity::Access::Data | identity::Access::Control if has(PUBLISHER_ROLE) => Access::Push,
        identity::Access::Data | identity::Access::Control => Access::Pull,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_read_as_they_are_written() {
        let of = |text: &str| basic(&format!("Basic {}", STANDARD.encode(text)));
        assert_eq!(of("any:to:ken"), Some(("any".to_owned(), "to:ken".to_owned())));
        assert_eq!(of(":"), Some((String::new(), String::new())));
        assert_eq!((of("none"), basic("Basic !"), basic("Bearer YTpi"), basic("Basic")), (None, None, None, None));
    }
}
