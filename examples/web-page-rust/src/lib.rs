//! A page that greets whoever looks at it. The settings are `{"greeting": "Hello"}`.
//!
//! Invariant: what comes from elsewhere is escaped where it is shown, by the templates.

use maud::{DOCTYPE, Markup, html};
use platform_sdk::{
    Problem, context,
    web::{Page, Request, Response},
};

/// Browsers take styles from the page's own paths only.
const STYLE: &str = include_str!("style.css");

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Greeter {
    greeting: String,
}

platform_sdk::export!(
    web::Page for Greeter,
    grants = ["wasi"],
    settings_schema = include_str!("../settings.schema.json")
);

impl Page for Greeter {
    type Settings = Self;

    fn configure(greeter: Self) -> Result<Self, Problem> {
        let is_blank = greeter.greeting.trim().is_empty();
        if is_blank { Err(Problem::new("a greeting has words").at("/greeting")) } else { Ok(greeter) }
    }

    fn answer(&self, request: &Request) -> Response {
        // What stands before it is the name that the page is bound by.
        let place = request.path.trim_start_matches('/').split_once('/').map_or("", |(_name, place)| place);
        match (request.method.as_str(), place) {
            ("GET", "") => {
                let who = context::who().map_or_else(|| "whoever you are".to_owned(), |caller| caller.subject);
                shown(200, &self.greeting, &html! { p { (self.greeting) ", " strong { (who) } "!" } })
            }
            ("GET", "style.css") => Response::new(200, "text/css; charset=utf-8", STYLE),
            ("GET", _) => shown(404, "Not found", &html! { p { "There is nothing at " code { (place) } "." } }),
            _ => {
                let mut answer = shown(405, "Not here", &html! { p { "This page is only looked at." } });
                answer.headers.push(("allow", "GET".to_owned()));
                answer
            }
        }
    }
}

fn shown(status: u16, title: &str, content: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                link rel="stylesheet" href="style.css";
            }
            body { main { h1 { (title) } (content) } }
        }
    };
    Response::html(status, page.into_string())
}

#[cfg(test)]
mod tests;
