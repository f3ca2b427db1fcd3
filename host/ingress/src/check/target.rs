//! The path that a policy judges, from the path that a client sent.
//!
//! Owns one question: would every server behind the gateway take this path for the same resource? Must not know policies.
//! Invariant: a path that servers read in different ways is refused, and of those they read alike one form is judged, so
//! that no rule about `/admin` is passed by `//admin`, `/x/../admin`, `/%61dmin` or `/x%2f..%2fadmin`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The path in the normal form of RFC 3986, 6.2.2: what needs no escape is not escaped, other escapes are in upper case. A
/// policy that decodes it decodes it once, one that compares it as it is sees `/admin` for `/%61dmin`.
///
/// # Errors
/// Why servers would not agree on it.
pub(crate) fn target(path: &str) -> Result<Cow<'_, str>, &'static str> {
    if path == "*" {
        return Ok(Cow::Borrowed(path));
    }
    if !path.starts_with('/') {
        return Err("it does not start with `/`");
    }
    if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err("it holds a space or a control character");
    }
    if !path.contains('%') {
        return agreed(path).map(|()| Cow::Borrowed(path));
    }
    let mut normal = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, escape)) = rest.split_once('%') {
        let digits = escape.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let Some((digits, byte)) = digits.and_then(|digits| Some((digits, u8::from_str_radix(digits, 16).ok()?)))
        else {
            return Err("it holds a `%` that starts no escape");
        };
        normal.push_str(before);
        match byte {
            b'/' | b'\\' => return Err("it holds an encoded slash or backslash"),
            0..b' ' | 0x7f => return Err("it holds an encoded control character"),
            b'-' | b'.' | b'_' | b'~' => normal.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => normal.push(char::from(byte)),
            _ => {
                normal.push('%');
                normal.push_str(&digits.to_ascii_uppercase());
            }
        }
        rest = escape.get(2..).unwrap_or_default();
    }
    normal.push_str(rest);
    let Ok(decoded) = percent_decode_str(&normal).decode_utf8() else { return Err("it is no UTF-8 once decoded") };
    agreed(&decoded)?;
    Ok(Cow::Owned(normal))
}

fn agreed(path: &str) -> Result<(), &'static str> {
    if path.contains('\\') {
        return Err("it holds a backslash");
    }
    if path.contains("//") {
        return Err("it holds an empty segment");
    }
    // What follows `;` is a parameter to some servers and part of the name to others.
    if path.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | ".."))) {
        return Err("it holds a segment `.` or `..`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_paths_stay_as_they_are() {
        for path in ["/", "/orders/7", "/a.b/..c/d..", "/files/", "/a;v=1/b", "*", "/ü", "/a:b@c"] {
            assert!(matches!(target(path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
        }
    }

    #[test]
    fn escapes_have_one_form() {
        for (path, expected) in [
            ("/%61dmin", "/admin"),
            ("/a%20b%3a", "/a%20b%3A"),
            ("/%252e%252e", "/%252e%252e"),
            ("/%c3%bc%7E", "/%C3%BC~"),
        ] {
            assert_eq!(target(path).unwrap(), expected);
            assert_eq!(target(expected).unwrap(), expected);
        }
    }

    #[test]
    fn what_servers_disagree_on_is_refused() {
        for path in [
            "",
            "admin",
            "//admin",
            "/a//b",
            "/a/../b",
            "/..",
            "/.",
            "/a/.",
            "/%2e%2e/b",
            "/.%2E/b",
            "/a%2fb",
            "/a%5Cb",
            "/a\\b",
            "/%00",
            "/a%0d%0ab",
            "/a b",
            "/a\nb",
            "/%",
            "/%4",
            "/%zz",
            "/%ff",
            "/a/..;x/b",
            "/a/..%3bx/b",
            "/%é",
            "http://a/b",
        ] {
            assert!(target(path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_is_plain(path in "/(\\.|/|%2e|%2F|%61|a|;|\\\\|\\PC){0,12}") {
            if let Ok(target) = target(&path) {
                prop_assert!(!target.contains("//") && !target.contains('\\'));
                prop_assert!(!target.split('/').any(|segment| segment == "." || segment == ".."));
            }
        }
    }
}
