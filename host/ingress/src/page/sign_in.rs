//! Signing in: the one form that a token is typed into, which is the daemon's own and no page's.
//!
//! Owns the form and where it leads to. Must not know what a token is good for. Invariant: nobody is led away from the page.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use percent_encoding::percent_decode_str;
use platform_base::html::escape;

use super::{Answer, Of, ROOT};

/// The style, which the policy of content names by its digest.
pub(super) const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--line:#6a737d;--act:#0a58ca;--bad:#b00020}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--paper:#14171a;--line:#9aa4ae;--act:#8ab4ff;--bad:#ff9a9a}}\
body{margin:0 auto;max-width:34rem;padding:1rem;font:1rem/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);overflow-wrap:anywhere}\
label,input,button{display:block;font:inherit}\
input{box-sizing:border-box;width:100%;padding:.6rem;margin:.25rem 0 1rem;color:inherit;background:var(--paper);border:1px solid var(--line);border-radius:.3rem}\
button{padding:.6rem 1.2rem;color:var(--paper);background:var(--act);border:0;border-radius:.3rem}\
a{color:var(--act)}\
:focus-visible{outline:3px solid var(--act);outline-offset:2px}\
[role=alert]{color:var(--bad)}";

/// The form, with what is wrong where something is.
pub(super) fn page(status: StatusCode, next: &str, wrong: &str) -> Answer {
    let next = escape(next);
    let (alert, described) = match wrong {
        "" => (String::new(), ""),
        wrong => (
            format!("<p role=\"alert\" id=\"wrong\">Not signed in: {}.</p>", escape(wrong)),
            " aria-describedby=\"wrong\" aria-invalid=\"true\"",
        ),
    };
    let html = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
        <title>Sign in – marketplace</title><style>{STYLE}</style></head><body><main><h1>Sign in</h1>\
        <p>A token of this platform says who you are: the administrator's is in the file <code>admin.token</code> of the data directory.</p>{alert}\
        <form method=\"post\" action=\"{ROOT}/sign-in\"><input type=\"hidden\" name=\"next\" value=\"{next}\">\
        <label for=\"token\">Token</label><input id=\"token\" name=\"token\" type=\"password\" autocomplete=\"current-password\" required{described}>\
        <button>Sign in</button></form><p><a href=\"{ROOT}/\">Back to the marketplace</a></p></main></body></html>"
    );
    let mut answer = Response::new(Bytes::from(html));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    (Of::Door, answer)
}

/// Where a form or a query says to go on; to the page itself when it says something else.
pub(super) fn next(pairs: Option<&str>) -> String {
    let next = pairs.and_then(|pairs| parameter(pairs, "next")).filter(|next| is_within(next));
    next.unwrap_or_else(|| format!("{ROOT}/"))
}

/// Whether a place is one of the page, however a browser reads it.
pub(super) fn is_within(place: &str) -> bool {
    let rest = place.strip_prefix(ROOT);
    let below = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    below
        && place.len() <= 4096
        && place.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && !place.contains("/..")
        && !place.contains("//")
}

/// The value of a field of a form or a query; none when it is not there, or is no UTF-8.
pub(super) fn parameter(pairs: &str, name: &str) -> Option<String> {
    let value = pairs.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))?.1;
    let spaced = value.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_away() {
        for good in ["/marketplace", "/marketplace/", "/marketplace/c/team/x?v=1", "/marketplace?q=a"] {
            assert_eq!(next(Some(&format!("next={good}"))), good);
        }
        for bad in [
            "",
            "//evil",
            "https://evil",
            "/marketplacex",
            "/marketplace/../v1/x",
            "/marketplace/%5Cevil",
            "/marketplace//evil",
            "%2F%2Fevil",
            "/marketplace/%0d%0aset-cookie:a",
            "/marketplace/%ff",
        ] {
            assert_eq!(next(Some(&format!("a=b&next={bad}"))), "/marketplace/", "{bad}");
        }
    }

    #[test]
    fn what_is_shown_is_escape() {
        let (_, answer) = page(StatusCode::UNAUTHORIZED, "/marketplace/?q=\"'><img>", "<script>");
        let html = String::from_utf8(answer.into_body().to_vec()).unwrap();
        assert!(html.contains("&quot;&#39;&gt;&lt;img&gt;") && html.contains("&lt;script&gt;"), "{html}");
        assert!(!html.contains("<img") && !html.contains("<script"), "{html}");
    }

    #[test]
    fn fields_are_found_by_their_whole_names() {
        assert_eq!(parameter("xtoken=1&token=a%2Bb+c", "token"), Some("a+b c".to_owned()));
        assert_eq!(
            (parameter("token=%ff", "token"), parameter("token", "token"), parameter("", "token")),
            (None, None, None)
        );
    }
}
