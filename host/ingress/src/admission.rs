//! Who may come in, and with what context: the first step of every call to a method of the platform.
//!
//! Owns the way from request headers to a [`CallContext`]; must not know what the method does, nor read the body.
//! Invariant: no method of the platform runs without an [`Admitted`] made here, so caller and namespace are verified ones.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use platform_base::clock;
use platform_capability::{Call, CallContext, Fence, NAMESPACE_DEFAULT, Name};
use platform_proto::{FENCING_HEADER, NAMESPACE_HEADER};
use serde::{Deserialize, Serialize};
use tonic::Code;

use crate::{
    fault::Fault,
    identity::{ADMIN_ROLE, Access, Authenticator, Identity, TokenError},
};

/// Header with the caller's timeout, for HTTP callers: `1500`, `1500ms` or `2s`.
const TIMEOUT_HEADER: &str = "x-request-timeout";
/// Header with the caller's timeout, as gRPC writes it.
const GRPC_TIMEOUT_HEADER: &str = "grpc-timeout";

/// How long calls may take.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeadlineConfig {
    /// Of a call to a capability that names none, in milliseconds.
    pub default_ms: u64,
    /// Of any call to a capability, in milliseconds: longer ones are cut to it.
    pub max_ms: u64,
    /// Of a call to control, in milliseconds: compiling a component takes its time.
    pub control_ms: u64,
}

impl Default for DeadlineConfig {
    fn default() -> Self {
        Self { default_ms: 5_000, max_ms: 60_000, control_ms: 600_000 }
    }
}

/// What a service asks of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// A verified caller in a namespace of its token.
    Data,
    /// The role `admin`.
    Control,
}

impl Demand {
    /// What the service of `/package.Service/Method` asks; none for services that are open to all.
    pub(crate) fn of(rpc_path: &str) -> Option<Self> {
        let package = rpc_path.strip_prefix("/platform.")?;
        let control = package.starts_with("plugin.") || package.starts_with("server.");
        Some(if control { Self::Control } else { Self::Data })
    }
}

/// A call that may go on.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    /// Its context.
    pub(crate) call: Call,
    /// When a stream ends at the latest: at the timeout that its caller named, or when its token expires.
    pub(crate) until: Option<Instant>,
}

/// Lets calls in.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) deadlines: DeadlineConfig,
}

impl Admission {
    /// Lets a call in that carries `headers`, or says why not.
    pub(crate) fn admit(&self, demand: Demand, headers: &HeaderMap) -> Result<Admitted, Fault> {
        let identity = self.authenticator.identify(headers).map_err(unauthenticated)?;
        let identity = identity.ok_or_else(|| {
            let message = "this method needs a caller: send `Authorization: Bearer TOKEN`";
            Fault::new(Code::Unauthenticated, "TOKEN_MISSING", message)
        })?;
        let namespace = namespace(headers)?;
        permit(demand, &identity, &namespace)?;
        let named = timeout(headers)?;
        let mut call = self.context(Some(&identity), &namespace, demand, named, headers);
        call.fence = fence(headers)?;
        let until = [named.map(|_| call.deadline), expiry(&identity)].into_iter().flatten().min();
        Ok(Admitted { call: Arc::new(call), until })
    }

    /// Lets a caller into the capabilities whom a door knows by other means than headers.
    pub(crate) fn enter(&self, identity: &Arc<Identity>, namespace: &Name) -> Result<Call, Fault> {
        permit(Demand::Data, identity, namespace)?;
        Ok(Arc::new(self.context(Some(identity), namespace, Demand::Data, None, &HeaderMap::new())))
    }

    /// The context of a call whose caller is known already, or need not be.
    pub(crate) fn context(
        &self, identity: Option<&Arc<Identity>>, namespace: &Name, demand: Demand, named: Option<Duration>,
        headers: &HeaderMap,
    ) -> CallContext {
        let (default_ms, max_ms) = match demand {
            Demand::Data => (self.deadlines.default_ms, self.deadlines.max_ms),
            Demand::Control => (self.deadlines.control_ms, self.deadlines.control_ms),
        };
        let timeout = named.unwrap_or_else(|| Duration::from_millis(default_ms)).min(Duration::from_millis(max_ms));
        let traceparent =
            headers.get("traceparent").and_then(|value| value.to_str().ok()).filter(|text| is_trace(text));
        let caller = identity.map(|identity| Arc::clone(&identity.caller));
        CallContext { traceparent: traceparent.map(Arc::from), ..CallContext::new(caller, namespace, timeout) }
    }
}

/// When the token of `identity` expires, on the clock that deadlines are told by.
fn expiry(identity: &Identity) -> Option<Instant> {
    let left_s = identity.expires_s?.saturating_sub(clock::unix_ms() / 1000);
    clock::now().checked_add(Duration::from_secs(left_s))
}

/// The fault of a token that proves nothing.
pub(crate) fn unauthenticated(error: TokenError) -> Fault {
    let reason = if error == TokenError::Expired { "TOKEN_EXPIRED" } else { "TOKEN_INVALID" };
    Fault::new(Code::Unauthenticated, reason, error.to_string())
}

fn permit(demand: Demand, identity: &Identity, namespace: &Name) -> Result<(), Fault> {
    let denied = |reason, message| Err(Fault::new(Code::PermissionDenied, reason, message));
    let subject = &identity.caller.subject;
    match demand {
        Demand::Control if identity.access < Access::Control || !identity.caller.roles.contains(ADMIN_ROLE) => denied(
            "ADMIN_REQUIRED",
            format!("`{subject}` lacks the role `{ADMIN_ROLE}`, or its token has no access `control`"),
        ),
        Demand::Data if identity.access < Access::Data => {
            let message = format!("the token of `{subject}` is good for checks only: its issuer needs access `data`");
            denied("DATA_ACCESS_REQUIRED", message)
        }
        Demand::Data if !identity.namespaces.contains(namespace.as_str()) => {
            denied("NAMESPACE_DENIED", format!("the token of `{subject}` is not good in the namespace `{namespace}`"))
        }
        Demand::Data | Demand::Control => Ok(()),
    }
}

/// The namespace that the headers name.
pub(crate) fn namespace(headers: &HeaderMap) -> Result<Name, Fault> {
    let invalid = |problem: String| Fault::invalid("INVALID_NAMESPACE", format!("`{NAMESPACE_HEADER}`: {problem}"));
    let text = match headers.get(NAMESPACE_HEADER) {
        None => NAMESPACE_DEFAULT,
        Some(value) => value.to_str().map_err(|error| invalid(error.to_string()))?,
    };
    text.parse().map_err(|error: platform_capability::InvalidName| invalid(error.to_string()))
}

/// What the headers fence the writes of the call with.
fn fence(headers: &HeaderMap) -> Result<Option<Arc<Fence>>, Fault> {
    let Some(value) = headers.get(FENCING_HEADER) else { return Ok(None) };
    let text = value.to_str().ok().and_then(|text| percent_decode_str(text).decode_utf8().ok());
    let fence = text.and_then(|text| text.parse().ok());
    let message = || {
        format!(
            "`{FENCING_HEADER}` is no fence: write `NAME:TOKEN`, the name percent-encoded and of at most 512 bytes, the token at least 1"
        )
    };
    fence.map(|fence| Some(Arc::new(fence))).ok_or_else(|| Fault::invalid("INVALID_FENCING", message()))
}

/// The timeout that the headers name; a gRPC one goes before.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Fault> {
    for (name, parse) in
        [(GRPC_TIMEOUT_HEADER, grpc_timeout as fn(&str) -> Option<Duration>), (TIMEOUT_HEADER, http_timeout)]
    {
        let Some(value) = headers.get(name) else { continue };
        let parsed = value.to_str().ok().and_then(parse);
        let message =
            || format!("`{name}` is no timeout: write for example `1500m` for gRPC, `1500ms` or `2s` for HTTP");
        return parsed.map(Some).ok_or_else(|| Fault::invalid("INVALID_TIMEOUT", message()));
    }
    Ok(None)
}

/// At most 8 digits and a unit, as the gRPC protocol says.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

fn http_timeout(text: &str) -> Option<Duration> {
    let (digits, scale_ms) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(digits), _) => (digits, 1),
        (None, Some(digits)) => (digits, 1000),
        (None, None) => (text, 1),
    };
    let digits_only = !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits_only.then(|| digits.parse().ok()).flatten().map(|number: u64| Duration::from_millis(number * scale_ms))
}

/// Whether a text is a `traceparent` of W3C trace context, version 00 or later. Others count as absent, as it says.
pub(crate) fn is_trace(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let some = |part: &str| part.bytes().any(|byte| byte != b'0');
    let mut parts = text.splitn(5, '-');
    let (Some(version), Some(trace), Some(span), Some(flags)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let rest_fits = parts.next().is_none() || (version != "00" && text.len() <= 256);
    hex(version, 2)
        && version != "ff"
        && hex(trace, 32)
        && some(trace)
        && hex(span, 16)
        && some(span)
        && hex(flags, 2)
        && rest_fits
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, header};

    use super::*;
    use crate::identity::{IdentityConfig, StaticToken};

    fn admission() -> Admission {
        let tokens = vec![
            StaticToken::admin("the-admins-token"),
            StaticToken::new("svc/a", "the-token-of-svc-a"),
            StaticToken { access: Access::Check, ..StaticToken::new("user", "the-token-of-user") },
            StaticToken {
                roles: vec!["admin".into()],
                access: Access::Data,
                ..StaticToken::new("b", "the-token-of-b-b")
            },
        ];
        let authenticator = Arc::new(IdentityConfig { tokens, jwt: Vec::new() }.build().unwrap());
        Admission { authenticator, deadlines: DeadlineConfig::default() }
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    fn admit(demand: Demand, token: &str, more: &[(&str, &str)]) -> Result<Admitted, String> {
        let mut headers = headers(more);
        if !token.is_empty() {
            headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        admission().admit(demand, &headers).map_err(|fault| fault.reason().to_owned())
    }

    #[test]
    fn callers_get_what_their_token_allows() {
        let space = &[(NAMESPACE_HEADER, "dev")][..];
        for (demand, token, more, reason) in [
            (Demand::Data, "the-token-of-svc-a", &[][..], None),
            (Demand::Data, "the-admins-token", space, None),
            (Demand::Control, "the-admins-token", &[], None),
            (Demand::Data, "", &[], Some("TOKEN_MISSING")),
            (Demand::Data, "wrong", &[], Some("TOKEN_INVALID")),
            (Demand::Data, "the-token-of-svc-a", space, Some("NAMESPACE_DENIED")),
            (Demand::Data, "the-token-of-user", &[], Some("DATA_ACCESS_REQUIRED")),
            (Demand::Control, "the-token-of-svc-a", &[], Some("ADMIN_REQUIRED")),
            (Demand::Control, "the-token-of-b-b", &[], Some("ADMIN_REQUIRED")),
            (Demand::Data, "the-admins-token", &[(NAMESPACE_HEADER, "../a")], Some("INVALID_NAMESPACE")),
            (Demand::Data, "the-admins-token", &[(NAMESPACE_HEADER, "")], Some("INVALID_NAMESPACE")),
            (Demand::Data, "the-admins-token", &[("grpc-timeout", "5")], Some("INVALID_TIMEOUT")),
            (Demand::Data, "the-admins-token", &[(FENCING_HEADER, "a%2Fb:7")], None),
            (Demand::Data, "the-admins-token", &[(FENCING_HEADER, "a%2Fb")], Some("INVALID_FENCING")),
            (Demand::Data, "the-admins-token", &[(FENCING_HEADER, "%ff:7")], Some("INVALID_FENCING")),
            (Demand::Data, "the-admins-token", &[(FENCING_HEADER, "%00:7")], Some("INVALID_FENCING")),
            (Demand::Data, "the-admins-token", &[(FENCING_HEADER, "a:18446744073709551616")], Some("INVALID_FENCING")),
        ] {
            assert_eq!(admit(demand, token, more).err().as_deref(), reason, "{demand:?} {token} {more:?}");
        }
        let admitted = admit(Demand::Data, "the-admins-token", space).unwrap();
        assert_eq!(&*admitted.call.namespace, "dev");
        assert_eq!(admitted.call.caller.as_ref().unwrap().subject, "admin");
        assert_eq!(admitted.until, None);
    }

    #[test]
    fn deadlines_are_the_callers_up_to_a_limit() {
        for (header, value, least_ms, most_ms) in [
            ("x-none", "", 4_000, 5_000),
            ("grpc-timeout", "2S", 1_000, 2_000),
            ("grpc-timeout", "99999999H", 59_000, 60_000),
            ("x-request-timeout", "800ms", 1, 800),
            ("x-request-timeout", "3s", 2_000, 3_000),
            ("x-request-timeout", "700", 1, 700),
        ] {
            let admitted = admit(Demand::Data, "the-admins-token", &[(header, value)]).unwrap();
            let remaining_ms = admitted.call.remaining().as_millis();
            assert!((least_ms..=most_ms).contains(&remaining_ms), "{header}: {value}: {remaining_ms}");
        }
    }

    #[test]
    fn timeouts_have_a_strict_form() {
        for text in ["", "m", "1", "123456789m", "-1m", "1 m", "1x", "1é", "é"] {
            assert_eq!(grpc_timeout(text), None, "{text}");
        }
        for text in ["", "s", "ms", "-1s", "1m", "1.5s", "99999999999s"] {
            assert_eq!(http_timeout(text), None, "{text}");
        }
    }

    #[test]
    fn traces_have_a_strict_form() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_trace(good));
        assert!(is_trace(&format!("cc{}-later", &good[2..])));
        for bad in [
            "",
            "00",
            &good[1..],
            &good.to_uppercase(),
            &format!("ff{}", &good[2..]),
            &format!("{good}-more"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert!(!is_trace(bad), "{bad}");
        }
    }

    #[test]
    fn services_know_what_they_ask() {
        assert_eq!(Demand::of("/platform.kv.v1.Kv/Get"), Some(Demand::Data));
        assert_eq!(Demand::of("/platform.plugin.v1.Plugins/List"), Some(Demand::Control));
        assert_eq!(Demand::of("/platform.server.v1.Server/GetStatus"), Some(Demand::Control));
        assert_eq!(Demand::of("/grpc.health.v1.Health/Check"), None);
        assert_eq!(Demand::of("/envoy.service.auth.v3.Authorization/Check"), None);
    }
}
