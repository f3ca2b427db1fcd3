//! What a gateway tells about the request that it asks about, over HTTP.
//!
//! Owns which header is a fact in which dialect; must not know policies. Invariant: a fact comes from a header that the
//! gateway itself sets, never from one that the client could have sent in its place; where the two can't be told apart
//! the request is refused.

use std::net::IpAddr;

use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};

use super::target::target;

/// How a gateway tells about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gateway {
    /// Whichever of the dialects below the headers are in; refused when they are in two.
    Auto,
    /// nginx `auth_request`: `X-Original-URI`, `X-Original-Method`.
    Nginx,
    /// Caddy `forward_auth`: `X-Forwarded-Method`, `-Uri`, `-Host`, `-Proto`, `-For`.
    Caddy,
    /// Traefik `forwardAuth`: the same headers.
    Traefik,
}

impl Gateway {
    /// The gateway of this name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Auto, Self::Nginx, Self::Caddy, Self::Traefik].into_iter().find(|gateway| gateway.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Nginx => "nginx",
            Self::Caddy => "caddy",
            Self::Traefik => "traefik",
        }
    }
}

/// The request that a gateway asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) gateway: &'static str,
    pub(crate) method: String,
    /// Path as policies judge it.
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) scheme: Option<String>,
    pub(crate) source_address: Option<String>,
}

/// Why it can't be known which request the gateway asks about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Untold {
    #[error(
        "no request is told: nginx has to set `X-Original-URI` and `X-Original-Method`, Caddy and Traefik set `X-Forwarded-Uri` \
         and `X-Forwarded-Method`; for Envoy use the path `/ext-authz/`"
    )]
    Nothing,
    #[error("both `X-Original-*` and `X-Forwarded-*` tell a request: say which gateway asks, with `?gateway=NAME`")]
    TwoDialects,
    #[error("the header `{0}` is missing")]
    Missing(&'static str),
    #[error("the header `{0}` came more than once, or is no text")]
    Garbled(&'static str),
    #[error("`{0}` is no HTTP method")]
    Method(String),
    #[error("the path is refused: {0}")]
    Path(&'static str),
}

const ORIGINAL_URI: &str = "x-original-uri";
const ORIGINAL_METHOD: &str = "x-original-method";
const FORWARDED_URI: &str = "x-forwarded-uri";
const FORWARDED_METHOD: &str = "x-forwarded-method";

/// Headers by which gateways tell facts. Policies never see them as headers of the request.
const FACTS: [&str; 15] = [
    ORIGINAL_URI,
    ORIGINAL_METHOD,
    "x-original-host",
    "x-original-scheme",
    "x-original-url",
    "x-real-ip",
    FORWARDED_URI,
    FORWARDED_METHOD,
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-for",
    "x-forwarded-port",
    "x-forwarded-server",
    "forwarded",
    "host",
];

/// Whether policies may see a header of this name: facts of gateways and the platform's own are not the client's.
pub(crate) fn visible(name: &str) -> bool {
    !FACTS.contains(&name) && !name.starts_with("x-platform-")
}

impl Told {
    /// What `headers` tell in the dialect of `gateway`. Of nginx's optional facts only the `trusted` are taken: nginx passes
    /// those that it does not set on from the client.
    pub(crate) fn parse(gateway: Gateway, headers: &HeaderMap, trusted: &[String]) -> Result<Self, Untold> {
        let original = [ORIGINAL_URI, ORIGINAL_METHOD].iter().any(|name| headers.contains_key(*name));
        let forwarded = [FORWARDED_URI, FORWARDED_METHOD].iter().any(|name| headers.contains_key(*name));
        match (gateway, original, forwarded) {
            (Gateway::Auto, true, true) => Err(Untold::TwoDialects),
            (Gateway::Auto, false, false) => Err(Untold::Nothing),
            (Gateway::Auto, true, false) | (Gateway::Nginx, ..) => Self::original(headers, trusted),
            (Gateway::Auto, false, true) => Self::forwarded("forwarded", headers),
            (Gateway::Caddy | Gateway::Traefik, ..) => Self::forwarded(gateway.name(), headers),
        }
    }

    /// What Envoy tells over HTTP: the request itself is the original one, under a path prefix.
    pub(crate) fn envoy(method: &Method, path: &str, query: Option<&str>, headers: &HeaderMap) -> Result<Self, Untold> {
        Ok(Self {
            gateway: "envoy",
            method: method.as_str().to_owned(),
            path: target(path).map_err(Untold::Path)?.into_owned(),
            query: query.map(str::to_owned),
            host: optional(headers, "host")?,
            scheme: None,
            source_address: None,
        })
    }

    fn original(headers: &HeaderMap, trusted: &[String]) -> Result<Self, Untold> {
        let trust = |name: &'static str| match trusted.iter().any(|trusted| trusted.eq_ignore_ascii_case(name)) {
            true => optional(headers, name),
            false => Ok(None),
        };
        let source_address = trust("x-real-ip")?;
        Ok(Self {
            host: trust("x-original-host")?,
            scheme: trust("x-original-scheme")?,
            source_address: source_address.filter(|text| text.parse::<IpAddr>().is_ok()),
            ..Self::line("nginx", headers, ORIGINAL_METHOD, ORIGINAL_URI)?
        })
    }

    fn forwarded(gateway: &'static str, headers: &HeaderMap) -> Result<Self, Untold> {
        // The gateway appends the address it saw; what stands before it came from the client.
        let last = headers.get_all("x-forwarded-for").iter().next_back().and_then(|value| value.to_str().ok());
        let last = last.and_then(|text| text.rsplit(',').next()).map(str::trim);
        Ok(Self {
            host: optional(headers, "x-forwarded-host")?,
            scheme: optional(headers, "x-forwarded-proto")?,
            source_address: last.filter(|text| text.parse::<IpAddr>().is_ok()).map(str::to_owned),
            ..Self::line(gateway, headers, FORWARDED_METHOD, FORWARDED_URI)?
        })
    }

    /// The request line.
    fn line(
        gateway: &'static str, headers: &HeaderMap, method: &'static str, uri: &'static str,
    ) -> Result<Self, Untold> {
        let method = optional(headers, method)?.ok_or(Untold::Missing(method))?;
        let uri = optional(headers, uri)?.ok_or(Untold::Missing(uri))?;
        if Method::from_bytes(method.as_bytes()).is_err() {
            return Err(Untold::Method(method));
        }
        let uri = uri.split('#').next().unwrap_or_default();
        let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
        Ok(Self {
            gateway,
            method,
            path: target(path).map_err(Untold::Path)?.into_owned(),
            query: query.map(str::to_owned),
            host: None,
            scheme: None,
            source_address: None,
        })
    }

    /// A fact by the name that policies know it by.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        match name {
            "gateway" => Some(self.gateway),
            "method" => Some(&self.method),
            "path" => Some(&self.path),
            "query" => self.query.as_deref(),
            "host" => self.host.as_deref(),
            "scheme" => self.scheme.as_deref(),
            "source-address" => self.source_address.as_deref(),
            _ => None,
        }
    }
}

/// A header that may come once.
fn optional(headers: &HeaderMap, name: &'static str) -> Result<Option<String>, Untold> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text.to_owned())),
        _ => Err(Untold::Garbled(name)),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    const NGINX: [(&str, &str); 2] = [(ORIGINAL_METHOD, "GET"), (ORIGINAL_URI, "/orders/7?full=1")];
    const TRAEFIK: [(&str, &str); 5] = [
        (FORWARDED_METHOD, "GET"),
        (FORWARDED_URI, "/orders/7?full=1"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "10.0.0.9"),
    ];

    #[test]
    fn each_dialect_is_read() {
        let nginx = Told::parse(Gateway::Auto, &headers(&NGINX), &[]).unwrap();
        assert_eq!((nginx.gateway, &*nginx.method, &*nginx.path), ("nginx", "GET", "/orders/7"));
        assert_eq!((nginx.query.as_deref(), nginx.host), (Some("full=1"), None));
        let traefik = Told::parse(Gateway::Traefik, &headers(&TRAEFIK), &[]).unwrap();
        assert_eq!((traefik.gateway, traefik.attribute("host")), ("traefik", Some("shop.example")));
        assert_eq!(traefik.attribute("source-address"), Some("10.0.0.9"));
        let envoy = Told::envoy(&Method::PUT, "/a", None, &headers(&[("host", "shop.example")])).unwrap();
        assert_eq!((envoy.attribute("method"), envoy.attribute("host")), (Some("PUT"), Some("shop.example")));
    }

    #[test]
    fn nginx_facts_count_when_the_operator_says_that_nginx_sets_them() {
        let all = headers(&[NGINX[0], NGINX[1], ("x-real-ip", "10.0.0.9"), ("x-original-host", "evil.example")]);
        let told = Told::parse(Gateway::Nginx, &all, &["X-Real-IP".into()]).unwrap();
        assert_eq!((told.source_address.as_deref(), told.host), (Some("10.0.0.9"), None));
    }

    #[test]
    fn what_the_client_put_before_the_gateways_address_does_not_count() {
        let mut pairs = TRAEFIK;
        pairs[4].1 = "127.0.0.1, 10.0.0.9";
        assert_eq!(
            Told::parse(Gateway::Caddy, &headers(&pairs), &[]).unwrap().source_address.as_deref(),
            Some("10.0.0.9")
        );
        pairs[4].1 = "10.0.0.9, evil";
        assert_eq!(Told::parse(Gateway::Caddy, &headers(&pairs), &[]).unwrap().source_address, None);
    }

    #[test]
    fn doubt_is_refused() {
        let both = headers(&[NGINX[0], NGINX[1], (FORWARDED_URI, "/public")]);
        assert_eq!(Told::parse(Gateway::Auto, &both, &[]), Err(Untold::TwoDialects));
        assert_eq!(Told::parse(Gateway::Nginx, &both, &[]).unwrap().path, "/orders/7");
        assert_eq!(Told::parse(Gateway::Auto, &headers(&[]), &[]), Err(Untold::Nothing));
        assert_eq!(Told::parse(Gateway::Auto, &headers(&NGINX[..1]), &[]), Err(Untold::Missing(ORIGINAL_URI)));
        assert_eq!(Told::parse(Gateway::Caddy, &headers(&NGINX), &[]), Err(Untold::Missing(FORWARDED_METHOD)));
        let twice = headers(&[NGINX[0], NGINX[1], NGINX[1]]);
        assert_eq!(Told::parse(Gateway::Auto, &twice, &[]), Err(Untold::Garbled(ORIGINAL_URI)));
        let method = headers(&[(ORIGINAL_METHOD, "GE T"), NGINX[1]]);
        assert_eq!(Told::parse(Gateway::Auto, &method, &[]), Err(Untold::Method("GE T".into())));
        let path = headers(&[NGINX[0], (ORIGINAL_URI, "/a/../admin")]);
        assert!(matches!(Told::parse(Gateway::Auto, &path, &[]), Err(Untold::Path(_))));
    }

    #[test]
    fn facts_are_no_headers_of_the_request() {
        for name in ["x-original-uri", "x-forwarded-for", "host", "x-platform-subject", "x-real-ip"] {
            assert!(!visible(name), "{name}");
        }
        assert!(visible("cookie"));
    }

    /// Any header that a client may send, with values that would change a decision.
    fn injected() -> impl Strategy<Value = Vec<(HeaderName, HeaderValue)>> {
        let name = prop::sample::select(FACTS.to_vec()).prop_map(HeaderName::from_static);
        let value = prop::sample::select(vec!["GET", "/public", "evil.example", "127.0.0.1", "https", "", "\u{e9}"]);
        let value = value.prop_map(|text| HeaderValue::from_bytes(text.as_bytes()).unwrap());
        proptest::collection::vec((name, value), 0..8)
    }

    /// What reaches us: the client's headers, with those replaced that the gateway sets.
    fn through(gateway: &[(&str, &str)], client: Vec<(HeaderName, HeaderValue)>) -> HeaderMap {
        let mut all = HeaderMap::new();
        for (name, value) in client {
            all.append(name, value);
        }
        for (name, value) in gateway {
            all.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        all
    }

    proptest! {
        #[test]
        fn no_client_changes_what_nginx_tells(client in injected()) {
            let truth = Told::parse(Gateway::Nginx, &headers(&NGINX), &[]);
            let all = through(&NGINX, client);
            prop_assert_eq!(&Told::parse(Gateway::Nginx, &all, &[]), &truth);
            let auto = Told::parse(Gateway::Auto, &all, &[]);
            prop_assert!(auto.is_err() || auto == truth);
        }

        #[test]
        fn no_client_changes_what_traefik_tells(client in injected()) {
            let truth = Told::parse(Gateway::Traefik, &headers(&TRAEFIK), &[]).unwrap();
            let all = through(&TRAEFIK, client);
            let told = Told::parse(Gateway::Traefik, &all, &[]);
            prop_assert_eq!(told.as_ref(), Ok(&truth));
            let auto = Told::parse(Gateway::Auto, &all, &[]).map(|told| Told { gateway: truth.gateway, ..told });
            prop_assert!(auto.is_err() || auto.as_ref() == Ok(&truth));
        }
    }
}
