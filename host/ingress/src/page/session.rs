//! [`Sessions`]: who is signed in to pages of this daemon, and the cookie that says so.
//!
//! Owns the cookie's form and life. Must not know what a token is good for. Invariants: a token never leaves the daemon's memory again; a session lasts no longer than its
//! time and its token; there are never more than so many.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, header};
use parking_lot::Mutex;
use platform_base::clock;
use sha2::{Digest as _, Sha256};

use crate::identity::{Identity, Secret};

/// Name of the cookie.
const COOKIE: &str = "platform_session";
/// Random bytes of it.
const BYTES: usize = 32;

/// Who is signed in.
#[derive(Debug)]
pub(super) struct Sessions {
    /// By the digest of the cookie, so that how long a look takes tells nothing.
    held: Mutex<HashMap<[u8; 32], Session>>,
    most: usize,
    time: Duration,
}

#[derive(Debug)]
struct Session {
    token: Secret,
    begun: Instant,
    until: Instant,
}

impl Sessions {
    pub(super) fn new(most: usize, time: Duration) -> Self {
        Self { held: Mutex::default(), most: most.max(1), time }
    }

    /// How long a session lasts.
    pub(super) fn time(&self) -> Duration {
        self.time
    }

    /// Begins a session with a verified token; its cookie.
    pub(super) fn begin(&self, token: &str, identity: &Identity) -> String {
        let mut bytes = [0_u8; BYTES];
        rand::fill(&mut bytes[..]);
        let cookie = URL_SAFE_NO_PAD.encode(bytes);
        let begun = clock::now();
        let left = identity.expires_s.map(|end_s| end_s.saturating_sub(clock::unix_ms() / 1000));
        let time = left.map_or(self.time, |left| self.time.min(Duration::from_secs(left)));
        let until = begun.checked_add(time).unwrap_or(begun);
        let mut held = self.held.lock();
        held.retain(|_, session| session.until > begun);
        if held.len() >= self.most {
            let oldest = held.iter().min_by_key(|(_, session)| session.begun).map(|(digest, _)| *digest);
            oldest.map(|digest| held.remove(&digest));
        }
        held.insert(Sha256::digest(&cookie).into(), Session { token: Secret::new(token), begun, until });
        cookie
    }

    /// The token of a session.
    pub(super) fn token(&self, cookie: &str) -> Option<Secret> {
        let digest: [u8; 32] = Sha256::digest(cookie).into();
        let held = self.held.lock();
        held.get(&digest).filter(|session| session.until > clock::now()).map(|session| session.token.clone())
    }

    /// Ends a session.
    pub(super) fn end(&self, cookie: &str) {
        let digest: [u8; 32] = Sha256::digest(cookie).into();
        self.held.lock().remove(&digest);
    }
}

/// The cookie of a request; none when there are several, of which one may be somebody else's.
pub(super) fn cookie(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut ours = pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value.to_owned());
    let first = ours.next().filter(|value| !value.is_empty() && value.len() <= 2 * BYTES)?;
    ours.next().is_none().then_some(first)
}

/// The value of `Set-Cookie`: for this origin's own requests below `path` only, out of reach of scripts.
pub(super) fn set(path: &str, cookie: &str, time: Duration, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE}={cookie}; Path={path}; HttpOnly; SameSite=Strict; Max-Age={}{secure}", time.as_secs())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::identity::{IdentityConfig, StaticToken};

    fn identity() -> Arc<Identity> {
        let config = IdentityConfig { tokens: vec![StaticToken::new("ada", "0123456789abcdef")], jwt: Vec::new() };
        config.build().unwrap().verify("0123456789abcdef").unwrap()
    }

    #[test]
    fn sessions_begin_and_end() {
        let sessions = Sessions::new(2, Duration::from_secs(60));
        let first = sessions.begin("t", &identity());
        assert_eq!(sessions.token(&first).unwrap().reveal(), "t");
        assert!(sessions.token("").is_none() && sessions.token(&format!("{first}x")).is_none());
        sessions.end(&first);
        assert!(sessions.token(&first).is_none());
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let sessions = Sessions::new(2, Duration::from_secs(60));
        let cookies: Vec<_> = (0..3).map(|_| sessions.begin("t", &identity())).collect();
        let live = cookies.iter().filter(|cookie| sessions.token(cookie).is_some()).count();
        assert_eq!((live, sessions.token(&cookies[2]).is_some()), (2, true));
    }

    #[test]
    fn a_session_ends_with_its_time_and_with_its_token() {
        let over = Sessions::new(2, Duration::ZERO);
        assert!(over.token(&over.begin("t", &identity())).is_none());
        let ended = Identity { expires_s: Some(1), ..(*identity()).clone() };
        let sessions = Sessions::new(2, Duration::from_secs(60));
        assert!(sessions.token(&sessions.begin("t", &ended)).is_none());
    }

    #[test]
    fn one_cookie_counts_and_several_do_not() {
        let of = |lines: &[&str]| cookie(&lines.iter().map(|line| (header::COOKIE, line.parse().unwrap())).collect());
        assert_eq!(of(&["a=b; platform_session=x; c"]), Some("x".to_owned()));
        assert_eq!(of(&["platform_session=x; platform_session=y"]), None);
        assert_eq!(of(&["platform_session=x", "platform_session=y"]), None);
        assert_eq!((of(&["platform_session="]), of(&["xplatform_session=1"]), of(&[])), (None, None, None));
    }
}
