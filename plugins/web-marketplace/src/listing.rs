//! One component: what it says, what it asks for, and its versions.

use maud::{Markup, html};
use platform_sdk::{
    client::marketplace::{Listing, Version},
    web::Response,
};

use crate::{
    ROOT,
    fields::encoded,
    layout::{Look, day, page, size, source, warnings},
};

pub(crate) fn show(look: &Look<'_>, name: &str, found: Option<&Listing>, versions: &[Version]) -> Response {
    let content = html! {
        h1 { (name) }
        @match found {
            Some(listing) => (newest(name, listing)),
            None => p role="status" { "No version is listed; those below wait for what is said beside them." },
        }
        h2 { "Versions" }
        ul { @for version in versions { (row(name, version)) } }
    };
    page(look, 200, name, &content)
}

fn newest(name: &str, listing: &Listing) -> Markup {
    let version = &listing.newest;
    html! {
        @if !version.description.is_empty() { p { (version.description) } }
        p { (install(name, &version.version)) }
        dl {
            dt { "Version" } dd { (version.version) ", of " (published(version)) ", by " (version.publisher) }
            dt { "Slot" } dd { code { (version.slot) } }
            dt { "Fits this host" } dd { (fits(version)) }
            dt { "Signature" } dd { (signature(version)) }
            dt { "Licence" } dd { (or(&version.license, "it says none")) }
            dt { "Source" } dd { @if version.source.is_empty() { "it says none" } @else { (source(&version.source)) } }
            dt { "Size" } dd { (size(version.size)) }
            dt { "Downloads" } dd { (listing.downloads) }
            dt { "Digest" } dd { code { (version.digest) } }
        }
        h2 { "What it asks for" }
        @if version.grants.is_empty() {
            p { "Nothing: it has no storage, no network, no files." }
        } @else {
            ul { @for grant in &version.grants { li { "It wants to " (grant.words) " " code { (grant.grant) } } } }
        }
        (warnings(&version.warnings))
        (interfaces("Interfaces that it provides", &version.exports))
        (interfaces("Interfaces that it uses", &version.imports))
        @for (title, text) in &version.more {
            h2 { (title) }
            div .text { (text) }
        }
    }
}

fn install(name: &str, version: &str) -> Markup {
    let place = format!("{ROOT}/install?name={}&version={}", encoded(name), encoded(version));
    html! { a .button href=(place) { "Review and install " (version) } }
}

fn row(name: &str, version: &Version) -> Markup {
    html! {
        li {
            strong { (version.version) } ", " (published(version))
            @if version.signer.is_some() { ", signed" }
            @if let Some(why) = &version.unlisted { p { "Not listed: " (why) } }
            p { (install(name, &version.version)) }
        }
    }
}

fn published(version: &Version) -> Markup {
    let day = day(version.published_ms);
    html! { time datetime=(day) { (day) } }
}

fn fits(version: &Version) -> Markup {
    html! {
        @if version.misfits.is_empty() {
            "yes: its interfaces agree with those of this daemon"
        } @else {
            "no" ul { @for misfit in &version.misfits { li { (misfit) } } }
        }
    }
}

fn signature(version: &Version) -> Markup {
    html! {
        @match &version.signer {
            Some(key) => { "by the trusted key " code { (key) } },
            None => "none by a key that this daemon trusts",
        }
    }
}

fn interfaces(title: &str, names: &[String]) -> Markup {
    html! {
        @if !names.is_empty() {
            details {
                summary { (title) }
                ul { @for name in names { li { code { (name) } } } }
            }
        }
    }
}

fn or<'a>(text: &'a str, none: &'a str) -> &'a str {
    if text.is_empty() { none } else { text }
}

#[cfg(test)]
mod tests {
    use platform_sdk::{client::marketplace::Grant, web::Body};

    use super::*;

    const EVIL: &str = "\"'><img src=x onerror=alert(1)><script>alert(1)</script>";

    fn version() -> Version {
        let evil = || EVIL.to_owned();
        Version {
            version: evil(),
            digest: evil(),
            size: 1,
            published_ms: 0,
            publisher: evil(),
            description: evil(),
            license: evil(),
            source: "javascript:alert(1)".to_owned(),
            slot: evil(),
            grants: vec![Grant { grant: evil(), words: evil(), held: false }],
            imports: vec![evil()],
            exports: vec![evil()],
            warnings: vec![evil()],
            signer: Some(evil()),
            misfits: vec![evil()],
            unlisted: Some(evil()),
            more: vec![(evil(), evil())],
        }
    }

    #[test]
    fn nothing_that_a_component_says_becomes_an_element() {
        let listing = Listing { name: EVIL.to_owned(), newest: version(), versions: Vec::new(), downloads: 0 };
        let look = Look { who: Some(EVIL), here: EVIL };
        let response = show(&look, EVIL, Some(&listing), &[version()]);
        let Body::Whole(html) = response.body else { unreachable!() };
        let html = String::from_utf8(html).unwrap();
        assert!(!html.contains("<img") && !html.contains("<script") && !html.contains("href=\"javascript"), "{html}");
        assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;"));
        // Where it stands in an attribute, it does not end it.
        assert!(!html.contains("\"'>"), "{html}");
    }
}
