//! The marketplace as a web page, rendered here without a script: search, read, and install with a review of what is asked for.
//!
//! Owns which path shows what. Who asks, and what they may, is the host's: every call is made with the caller's rights, and signing in never comes here.
//! Invariant: texts are escaped where they are shown, by the templates, and nothing that a component says of itself becomes a link or a style.

mod fields;
mod install;
mod layout;
mod listing;
mod search;

use platform_sdk::{
    Problem,
    client::marketplace::{self, Error},
    context,
    web::{Page, Request, Response},
};

use fields::Fields;
use layout::{Look, failure};

/// Where the page is.
const ROOT: &str = "/marketplace";

struct Shop;

platform_sdk::export!(web::Page for Shop, mode = "fresh", grants = ["marketplace", "wasi"]);

impl Page for Shop {
    type Settings = Settings;

    fn configure(_: Settings) -> Result<Self, Problem> {
        Ok(Self)
    }

    fn answer(&self, request: &Request) -> Response {
        let who = context::who().map(|caller| caller.subject);
        let target =
            if request.query.is_empty() { request.path.clone() } else { format!("{}?{}", request.path, request.query) };
        let look = Look { who: who.as_deref(), here: &target };
        route(request, &look).unwrap_or_else(|error| failure(&look, &error))
    }
}

/// There are none.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {}

fn route(request: &Request, look: &Look<'_>) -> Result<Response, Error> {
    let path = fields::decoded(request.path.strip_prefix(ROOT).unwrap_or_default())?;
    match (request.method.as_str(), path.as_str()) {
        ("GET", "/") => {
            let query = search::read(&Fields::read(&request.query)?);
            let found = marketplace::search(&query)?;
            Ok(search::show(look, &query, &found, &marketplace::slots()))
        }
        ("GET", "/style.css") => Ok(Response::new(200, "text/css; charset=utf-8", layout::STYLE)),
        ("GET", "/install") => {
            let fields = Fields::read(&request.query)?;
            let (name, version) = (fields.needed("name")?, fields.needed("version")?);
            Ok(install::review(look, name, &marketplace::review(name, version)?))
        }
        ("POST", "/install") => {
            let form = std::str::from_utf8(&request.body)
                .map_err(|_error| Error::Invalid("the form is no text".to_owned()))?;
            order(look, &Fields::read(form)?)
        }
        ("GET", _) if let Some(name) = path.strip_prefix("/c/") => {
            let (found, versions) = marketplace::show(name)?;
            Ok(listing::show(look, name, found.as_ref(), &versions))
        }
        _ => Err(Error::NotFound("there is no such page".to_owned())),
    }
}

/// Installs what a form orders; what is not done as things are is reviewed again.
fn order(look: &Look<'_>, form: &Fields) -> Result<Response, Error> {
    let (name, version, digest) = (form.needed("name")?, form.needed("version")?, form.needed("digest")?);
    let accepted: Vec<String> = form.all("grant").map(str::to_owned).collect();
    match marketplace::install(name, version, digest, &accepted) {
        Ok(installed) => Ok(install::done(look, name, &installed)),
        Err(Error::Refused(why)) => {
            let plan = marketplace::review(name, version)?;
            Ok(install::refused(look, name, &plan, &accepted, &why))
        }
        Err(error) => Err(error),
    }
}
