//! What a registration and the arguments of a call may be. Every refusal names the argument and the rule.

use platform_sdk::discovery::{Error, Registration, Result};

use crate::MAX_LIMIT;

/// Longest name, version, node id or zone.
const MAX_NAME_BYTES: usize = 128;
/// Largest weight.
const MAX_WEIGHT: u32 = 65_535;
/// Largest stored registration.
const MAX_RECORD_BYTES: usize = 1 << 20;
/// Times to live.
const TTL_MS: std::ops::RangeInclusive<u64> = 100..=86_400_000;

fn invalid<T>(message: String) -> Result<T> {
    Err(Error::Invalid(message))
}

/// All that can be checked of a registration before it is encoded.
pub(crate) fn registration(registration: &Registration) -> Result<()> {
    let node = &registration.node;
    name("service", &registration.service)?;
    name("version", &registration.version)?;
    node_id(&node.id)?;
    address(&node.address)?;
    text("zone", &node.zone)?;
    if node.weight > MAX_WEIGHT {
        return invalid(format!("the weight is {}, the most is {MAX_WEIGHT}", node.weight));
    }
    for (index, endpoint) in registration.endpoints.iter().enumerate() {
        if endpoint.name.is_empty() {
            return invalid(format!("endpoint {index} has no name"));
        }
    }
    Ok(())
}

/// A service's name or version.
pub(crate) fn name(what: &str, name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let length = name.len();
    if name.is_empty() || length > MAX_NAME_BYTES {
        return invalid(format!("the {what} has {length} bytes, allowed are 1 to {MAX_NAME_BYTES}"));
    }
    if !name.bytes().all(allowed) {
        return invalid(format!("the {what} `{}` has other characters than A-Z a-z 0-9 . _ -", name.escape_debug()));
    }
    Ok(())
}

/// A node's id: readable text.
pub(crate) fn node_id(id: &str) -> Result<()> {
    if id.is_empty() {
        return invalid("the node id is empty".to_owned());
    }
    text("node id", id)
}

fn text(what: &str, text: &str) -> Result<()> {
    if text.len() > MAX_NAME_BYTES {
        return invalid(format!("the {what} has {} bytes, the limit is {MAX_NAME_BYTES}", text.len()));
    }
    if text.chars().any(char::is_control) {
        return invalid(format!("the {what} has a control character"));
    }
    Ok(())
}

/// `HOST:PORT`, an IPv6 host in brackets.
fn address(address: &str) -> Result<()> {
    let refused =
        || invalid(format!("the address `{}` is no HOST:PORT; IPv6 hosts stand in brackets", address.escape_debug()));
    let Some((host, port)) = address.rsplit_once(':') else { return refused() };
    let port_fits = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    let host_fits = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            (1..=253).contains(&host.len()) && host.bytes().all(allowed)
        }
    };
    if port_fits && host_fits { Ok(()) } else { refused() }
}

/// A time to live.
pub(crate) fn ttl(ttl_ms: u64) -> Result<()> {
    if TTL_MS.contains(&ttl_ms) {
        return Ok(());
    }
    invalid(format!("the time to live is {ttl_ms} ms, allowed are {} to {}", TTL_MS.start(), TTL_MS.end()))
}

/// A limit that can be served: larger ones are cut to 1000.
pub(crate) fn limit(limit: u32) -> Result<u32> {
    if limit == 0 { invalid("the limit is 0, the least is 1".to_owned()) } else { Ok(limit.min(MAX_LIMIT)) }
}

/// The size of what would be stored.
pub(crate) fn record(record: &[u8]) -> Result<()> {
    if record.len() <= MAX_RECORD_BYTES {
        return Ok(());
    }
    Err(Error::TooLarge(format!("the registration has {} bytes, the limit is {MAX_RECORD_BYTES}", record.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for good in ["10.0.0.1:80", "localhost:65535", "[::1]:8080", "a_b.example.com:1"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in
            ["", ":80", "a", "a:", "a:0", "a:65536", "a:+1", "::1:80", "[::1]", "[x]:1", "a b:1", "a/b:1", "a\n:1"]
        {
            assert!(address(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_plain() {
        assert!(name("service", "a.b_c-9").is_ok());
        for bad in ["", "a!b", "a/b", "\u{e9}", "a b", &"x".repeat(129)] {
            assert!(name("service", bad).is_err(), "{bad:?}");
        }
    }
}
