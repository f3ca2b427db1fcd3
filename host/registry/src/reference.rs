//! [`Reference`]: where a component lies, as a user writes it.
//!
//! Owns the grammar (OCI distribution 1.1, "Pulling manifests"); must not know what is there. Invariant: what parsed is safe as a part
//! of a URL, and of nothing else: no name here is ever a path of a file.

use std::{fmt, net::IpAddr, str::FromStr};

use platform_runtime::Digest;
use semver::VersionReq;

/// The tag that is meant when none is given, as with all clients of registries.
const LATEST: &str = "latest";
/// Longest host and repository together, as most registries have it.
const NAME_BYTES_MAX: usize = 255;
/// Longest tag (OCI distribution 1.1).
const TAG_BYTES_MAX: usize = 128;

/// `[oci://]HOST[:PORT]/NAME[:TAG|@DIGEST|@RANGE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    host: String,
    repository: String,
    selector: Selector,
}

/// Which of the artifacts under a name is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The one that the tag leads to now.
    Tag(String),
    /// The one with this digest.
    Digest(Digest),
    /// The one with the highest version among the tags that are versions and lie in the range.
    Range(VersionReq),
}

/// The text is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no reference: {why}; write `oci://HOST/NAME:TAG`, `…@sha256:DIGEST` or `…@RANGE` such as `@^1.2`")]
pub struct InvalidReference {
    text: String,
    why: &'static str,
}

impl Reference {
    /// The registry: a host, with its port if there is one.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The name in the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Which artifact of that name.
    #[must_use]
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// Whether the registry is on this machine by what it is called.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = bare_host(&self.host);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = match text.split_once("://") {
            Some(("oci", rest)) => rest,
            Some(_) => return Err("only `oci://` leads to a registry"),
            None => text,
        };
        let (host, rest) = rest.split_once('/').ok_or("it has no name behind the registry")?;
        let host = host.to_ascii_lowercase();
        check_host(&host)?;
        let (repository, selector) = if let Some((name, selector)) = rest.split_once('@') {
            // A tag beside a digest is what some tools print; the digest is what counts.
            let (name, tag) = name.split_once(':').map_or((name, None), |(name, tag)| (name, Some(tag)));
            (name, selected(selector, tag)?)
        } else if let Some((name, tag)) = rest.split_once(':') {
            (name, Selector::Tag(checked_tag(tag)?))
        } else {
            (rest, Selector::Tag(LATEST.to_owned()))
        };
        check_repository(repository)?;
        if host.len() + repository.len() > NAME_BYTES_MAX {
            return Err("it is longer than 255 characters");
        }
        Ok(Self { host, repository: repository.to_owned(), selector })
    }
}

fn selected(selector: &str, tag: Option<&str>) -> Result<Selector, &'static str> {
    if let Some(tag) = tag {
        checked_tag(tag)?;
    }
    if selector.contains(':') {
        let wrong = "its digest is not `sha256:` and 64 hexadecimal digits";
        let digest = selector.parse().ok().ok_or(wrong)?;
        return Ok(Selector::Digest(digest));
    }
    if tag.is_some() {
        return Err("it has a tag and a range");
    }
    let range = VersionReq::parse(selector).ok().filter(|_| !selector.trim().is_empty());
    Ok(Selector::Range(range.ok_or("what stands behind `@` is neither a digest nor a range of versions")?))
}

/// The host without its port and brackets.
pub(crate) fn bare_host(host: &str) -> &str {
    let end = match host.rfind(']') {
        Some(end) => end + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    host.get(..end).unwrap_or(host).trim_matches(['[', ']'])
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let name = bare_host(host);
    let rest = host.trim_start_matches('[').get(name.len()..).unwrap_or_default().trim_start_matches(']');
    let port =
        rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let is_address = host.starts_with('[') && name.parse::<std::net::Ipv6Addr>().is_ok();
    let label = |label: &str| {
        let inside = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        !label.is_empty() && inside && !label.starts_with('-') && !label.ends_with('-')
    };
    if !port || !(is_address || name.split('.').all(label)) {
        return Err("its registry is not a host with or without a port");
    }
    // Without this `acme/policy` would ask a machine called `acme`.
    if !host.contains(['.', ':']) && host != "localhost" {
        return Err("its registry is missing");
    }
    Ok(())
}

fn check_repository(name: &str) -> Result<(), &'static str> {
    let part = |part: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let known = |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
        edge(part.chars().next()) && edge(part.chars().next_back()) && separators.into_iter().all(known)
    };
    if name.split('/').all(part) {
        Ok(())
    } else {
        Err("its name is not lowercase letters, digits and single separators `.`, `_`, `-`, in parts between `/`")
    }
}

fn checked_tag(tag: &str) -> Result<String, &'static str> {
    let first = tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let inside = tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if first && inside && tag.len() <= TAG_BYTES_MAX {
        Ok(tag.to_owned())
    } else {
        Err("its tag is not up to 128 letters, digits, `_`, `.` and `-`")
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        Self::parse(text).map_err(|why| InvalidReference { text: text.chars().take(100).collect(), why })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        match &self.selector {
            Selector::Tag(tag) => write!(f, ":{tag}"),
            Selector::Digest(digest) => write!(f, "@{digest}"),
            Selector::Range(range) => write!(f, "@{range}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn references_are_what_they_look_like() {
        let hex = "a".repeat(64);
        for (text, host, repository, shown) in [
            ("oci://ghcr.io/acme/policy:1.2.0", "ghcr.io", "acme/policy", "ghcr.io/acme/policy:1.2.0"),
            ("GHCR.io/policy", "ghcr.io", "policy", "ghcr.io/policy:latest"),
            ("localhost/a__b/c--d.e", "localhost", "a__b/c--d.e", "localhost/a__b/c--d.e:latest"),
            ("127.0.0.1:5000/a@^1.2", "127.0.0.1:5000", "a", "127.0.0.1:5000/a@^1.2"),
            ("[::1]:5000/a@>=1.0, <3", "[::1]:5000", "a", "[::1]:5000/a@>=1.0, <3"),
            ("x.io/a@1.2", "x.io", "a", "x.io/a@^1.2"),
            (&format!("x.io/a:1@sha256:{hex}"), "x.io", "a", &format!("x.io/a@sha256:{hex}")),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!((reference.host(), reference.repository()), (host, repository));
            assert_eq!(reference.to_string(), shown);
            assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for text in [
            "",
            "/",
            "policy",
            "acme/policy",
            "oci://",
            "https://ghcr.io/a",
            "ghcr.io/",
            "ghcr.io/../../x",
            "ghcr.io/a/../b",
            "ghcr.io/a//b",
            "ghcr.io/a/./b",
            "ghcr.io/A",
            "ghcr.io/a%2e%2e",
            "ghcr.io/a?b",
            "ghcr.io/a#b",
            "ghcr.io/a:",
            "ghcr.io/a:-b",
            "ghcr.io/a:../x",
            "ghcr.io/a:b/c",
            "ghcr.io/a@",
            "ghcr.io/a@sha256:12",
            "ghcr.io/a@sha512:12",
            "ghcr.io/a:1@^1",
            "user@ghcr.io/a",
            "user:word@ghcr.io/a",
            "ghcr.io:0/a",
            "ghcr.io:99999/a",
            "gh_cr.io/a",
            "[::1/a",
            "[::1]x/a",
            "ghcr.io/ä",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_is_told_by_its_name() {
        for (text, is) in [
            ("localhost:5000/a", true),
            ("127.0.0.1:5000/a", true),
            ("[::1]:5000/a", true),
            ("localhost.example.com/a", false),
            ("127.0.0.1.example.com/a", false),
            ("10.0.0.1/a", false),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().is_loopback(), is, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text: String) {
            let _ = text.parse::<Reference>();
        }

        #[test]
        fn names_never_climb(name in "[a-z./_-]{1,30}") {
            if let Ok(reference) = format!("x.io/{name}").parse::<Reference>() {
                prop_assert!(!reference.repository().split('/').any(|part| matches!(part, "" | "." | "..")));
            }
        }
    }
}
