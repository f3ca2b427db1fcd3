//! The search, and what it found.

use maud::{Markup, html};
use platform_sdk::{
    client::marketplace::{Found, Listing, Query},
    web::Response,
};

use crate::{
    ROOT,
    fields::{Fields, encoded},
    layout::{Look, page},
};

/// Listings on one page.
const LIMIT: u32 = 20;

pub(crate) fn read(fields: &Fields) -> Query {
    let after = Some(fields.first("after").to_owned()).filter(|after| !after.is_empty());
    Query { text: fields.first("q").trim().to_owned(), slot: fields.first("slot").to_owned(), after, limit: LIMIT }
}

pub(crate) fn show(look: &Look<'_>, query: &Query, found: &Found, slots: &[String]) -> Response {
    let next = found.next.as_ref().map(|next| {
        format!("{ROOT}/?q={}&slot={}&after={}", encoded(&query.text), encoded(&query.slot), encoded(next))
    });
    let content = html! {
        h1 { "Components" }
        (form(query, slots))
        @if found.listings.is_empty() {
            p role="status" { "Nothing is listed that fits. Fewer words find more." }
        } @else {
            ul .cards { @for listing in &found.listings { (card(listing)) } }
        }
        @if let Some(next) = &next { p { a href=(next) { "More components" } } }
    };
    page(look, 200, "Search", &content)
}

fn form(query: &Query, slots: &[String]) -> Markup {
    html! {
        form role="search" method="get" action={ (ROOT) "/" } {
            label for="q" { "Words in name, description or licence" }
            input id="q" name="q" type="search" value=(query.text) maxlength="256" autocomplete="off";
            label for="slot" { "Slot" }
            select id="slot" name="slot" {
                option value="" { "any slot" }
                @for slot in slots { option value=(slot) selected[*slot == query.slot] { (slot) } }
            }
            button { "Search" }
        }
    }
}

fn card(listing: &Listing) -> Markup {
    let newest = &listing.newest;
    html! {
        li {
            h2 { a href={ (ROOT) "/c/" (encoded(&listing.name)) } { (listing.name) } }
            @if !newest.description.is_empty() { p { (newest.description) } }
            p .facts {
                span { "for " code { (newest.slot) } }
                span { "version " (newest.version) }
                span { @if newest.signer.is_some() { "signed" } @else { "not signed" } }
                span { (listing.downloads) " downloads" }
            }
        }
    }
}
