//! What all pages have in common: head, navigation, errors, and how single facts are written.
//!
//! Must not know what a page is about.

use maud::{DOCTYPE, Markup, html};
use platform_sdk::{client::marketplace::Error, web::Response};

use crate::{ROOT, fields::encoded};

/// The style of all pages.
pub(crate) const STYLE: &str = include_str!("style.css");

/// Who looks, and at what.
pub(crate) struct Look<'a> {
    /// Subject of who is signed in.
    pub(crate) who: Option<&'a str>,
    /// What is looked at: path and query.
    pub(crate) here: &'a str,
}

/// A whole page.
pub(crate) fn page(look: &Look<'_>, status: u16, title: &str, content: &Markup) -> Response {
    let html = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " – marketplace" }
                link rel="stylesheet" href={ (ROOT) "/style.css" };
            }
            body {
                a .skip href="#content" { "Skip to the content" }
                header {
                    nav aria-label="Site" {
                        a .home href={ (ROOT) "/" } { "Marketplace" }
                        @match look.who {
                            Some(who) => {
                                form method="post" action={ (ROOT) "/sign-out" } {
                                    span { "Signed in as " strong { (who) } }
                                    " "
                                    button .plain { "Sign out" }
                                }
                            }
                            None => (sign_in(look)),
                        }
                    }
                }
                main id="content" tabindex="-1" { (content) }
            }
        }
    };
    Response::html(status, html.into_string())
}

/// The way to sign in and back here.
fn sign_in(look: &Look<'_>) -> Markup {
    html! { a href={ (ROOT) "/sign-in?next=" (encoded(look.here)) } { "Sign in" } }
}

/// A page that says why there is no other.
pub(crate) fn failure(look: &Look<'_>, error: &Error) -> Response {
    let (status, title, why) = match error {
        Error::Unauthenticated => (401, "Sign in first", "This marketplace is not open to everybody."),
        Error::Denied(why) => (403, "You may not do this", why.as_str()),
        Error::NotFound(why) => (404, "Not found", why.as_str()),
        Error::Invalid(why) => (400, "That can't be asked for", why.as_str()),
        Error::Refused(why) => (409, "Not done", why.as_str()),
        Error::Unavailable(why) => (503, "Not now", why.as_str()),
    };
    let content = html! {
        h1 { (title) }
        p role="alert" { (why) }
        @if status == 401 { p { (sign_in(look)) " with a token of this platform." } }
        @if status != 401 { p { a href={ (ROOT) "/" } { "Back to the search" } } }
    };
    page(look, status, title, &content)
}

/// What an operator should know.
pub(crate) fn warnings(warnings: &[String]) -> Markup {
    html! {
        @if !warnings.is_empty() {
            h2 { "Good to know" }
            ul { @for warning in warnings { li { (warning) } } }
        }
    }
}

/// Where a source is: a link only when it is a plain address of the web.
pub(crate) fn source(source: &str) -> Markup {
    let is_plain = source.starts_with("https://") && source.bytes().all(|byte| byte.is_ascii_graphic());
    html! {
        @if is_plain { a href=(source) rel="noopener noreferrer nofollow" { (source) } } @else { (source) }
    }
}

/// Bytes in words.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{}.{} MiB", bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20),
    }
}

/// The day of a unix time in milliseconds, such as `2026-11-23` (Howard Hinnant's `civil_from_days`).
pub(crate) fn day(unix_ms: u64) -> String {
    let shifted = unix_ms / 86_400_000 + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    format!("{:04}-{month:02}-{day:02}", year_of_era + era * 400 + u64::from(month <= 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01"),
            (951_782_400_000, "2000-02-29"),
            (1_709_164_800_000, "2024-02-29"),
            (1_795_392_000_000, "2026-11-23"),
            (4_102_444_799_999, "2099-12-31"),
        ] {
            assert_eq!(day(ms), text);
        }
    }

    #[test]
    fn only_plain_addresses_of_the_web_are_links() {
        assert!(source("https://example.com/a?b").into_string().starts_with("<a href=\"https://example.com/a?b\""));
        for text in ["javascript:alert(1)", "https://a b", "https://é", "data:text/html,x", "http://a", ""] {
            assert!(!source(text).into_string().contains("<a"), "{text}");
        }
    }

    #[test]
    fn sizes_are_in_words() {
        assert_eq!([size(17), size(1025), size(3 << 19), size(64 << 20)], ["17 bytes", "2 KiB", "1.5 MiB", "64.0 MiB"]);
    }
}
