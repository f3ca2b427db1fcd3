//! Targets: which URLs events may be posted to.
//!
//! Must not connect; where a name leads is looked at when it is connected to. Invariant: a target has a host, no
//! credentials and no fragment, and is `https` unless the operator allows otherwise.

use http::Uri;

use crate::config::Config;

/// Longest URL, in bytes.
const BYTES_MAX: usize = 2048;

/// Why a URL is no target. The URL itself is not repeated: it may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// It is longer than any.
    #[error("the URL has {0} bytes, more than {BYTES_MAX}")]
    Long(usize),
    /// It is none.
    #[error("the target is no URL: {0}; write for example `https://example.com/hooks`")]
    Malformed(&'static str),
    /// It is not encrypted.
    #[error("the URL is `http`; use `https`, or allow this with `webhooks.plain_http` in the configuration file")]
    Plain,
    /// It leads to an address that is not public.
    #[error(
        "the host leads to `{0}`, which is no public address; to allow it, name its network in `webhooks.networks` in the configuration file"
    )]
    Inside(std::net::IpAddr),
}

/// Reads the URL of a target.
pub(crate) fn parse(url: &str, config: &Config) -> Result<Uri, InvalidTarget> {
    use InvalidTarget::Malformed;
    if url.len() > BYTES_MAX {
        return Err(InvalidTarget::Long(url.len()));
    }
    // The parser drops it without a word.
    if url.contains('#') {
        return Err(Malformed("it has a fragment"));
    }
    let uri: Uri = url.parse().map_err(|_malformed| Malformed("it can't be read"))?;
    let authority = uri.authority().ok_or(Malformed("it has no host"))?;
    if authority.as_str().contains('@') {
        return Err(Malformed("it has credentials; requests are signed instead"));
    }
    if uri.host().is_none_or(|host| host.trim_matches(['[', ']']).is_empty()) {
        return Err(Malformed("it has no host"));
    }
    // The parser leaves what is no port without a word too.
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    let number = port.strip_prefix(':').and_then(|port| port.parse::<u16>().ok());
    if !port.is_empty() && number.is_none_or(|number| number == 0) {
        return Err(Malformed("its port is none"));
    }
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if config.plain_http => Ok(uri),
        Some("http") => Err(InvalidTarget::Plain),
        _ => Err(Malformed("it does not begin with `https://`")),
    }
}

/// Host and port to connect to.
pub(crate) fn place(uri: &Uri) -> Option<(&str, u16)> {
    let host = uri.host()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, uri.port_u16().unwrap_or(if is_tls(uri) { 443 } else { 80 })))
}

/// Whether the connection is encrypted.
pub(crate) fn is_tls(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_urls_with_a_host() {
        let open = Config { plain_http: true, ..Config::default() };
        for (url, expected) in [
            ("https://example.com/hooks?key=1", ("example.com", 443)),
            ("https://example.com:8443", ("example.com", 8443)),
            ("http://[::1]:80/", ("::1", 80)),
            ("http://127.0.0.1", ("127.0.0.1", 80)),
        ] {
            let uri = parse(url, &open).unwrap();
            assert_eq!(place(&uri), Some(expected), "{url}");
        }
        for wrong in [
            "",
            "/",
            "example.com",
            "example.com/a",
            "ftp://example.com",
            "file:///etc/passwd",
            "https://",
            "https:///a",
            "https://a@example.com",
            "https://a:b@example.com",
            "https://example.com/#a",
            "https://exa mple.com",
            "https://example.com:0/",
            "https://example.com:/",
            "https://example.com:99999/",
            "https://example.com:x/",
            "https://[]/",
            "https://é/",
            "https://example.com/\r\nX: y",
        ] {
            assert!(
                matches!(parse(wrong, &open), Err(InvalidTarget::Malformed(_))),
                "{wrong}: {:?}",
                parse(wrong, &open)
            );
        }
        let long = format!("https://example.com/{}", "a".repeat(BYTES_MAX));
        assert_eq!(parse(&long, &open), Err(InvalidTarget::Long(long.len())));
    }

    #[test]
    fn plain_http_is_the_operators_choice() {
        assert_eq!(parse("http://example.com", &Config::default()), Err(InvalidTarget::Plain));
    }
}
