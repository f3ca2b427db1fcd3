//! `platform plugin search` and `show`: what is published in the marketplace of the daemon.
//!
//! Knows the arguments and how listings look; what is found is the daemon's. Invariant: what a component says of itself can't move the cursor of a terminal.

use clap::Args;
use platform_proto::marketplace::v1::{GetRequest, GetResponse, Listing, SearchRequest, SearchResponse, Version};

use crate::cli::{
    Context,
    client::TIMEOUT,
    failure::{Exit, Failure},
    kv::time,
    output::{Output, show},
    pages,
    quantity::human_bytes,
};

/// Longest description in a row, in characters.
const DESCRIPTION: usize = 60;
/// Versions in a row.
const VERSIONS: usize = 3;

/// Looks for components.
#[derive(Debug, Args)]
pub(crate) struct Search {
    /// Words that all occur in the name, the description, the licence or the slot; everything when not given.
    text: Vec<String>,
    /// Only components for this slot, such as `kv.store`.
    #[arg(long, default_value = "")]
    slot: String,
    /// At most this many.
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

/// Shows what is listed under a name.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The name, such as `team/kv-storage`.
    name: String,
}

impl Search {
    /// Searches.
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.connect().await?;
        let text = self.text.join(" ");
        let (listings, next_page_token) = pages::read(Some(self.limit), async |limit, page_token| {
            let message = SearchRequest { text: text.clone(), slot: self.slot.clone(), limit, page_token };
            let page = client.call(client.marketplace().search(client.request(TIMEOUT, message))).await?;
            Ok((page.listings, page.next_page_token))
        })
        .await?;
        let answer = SearchResponse { listings, next_page_token };
        context.output.remark("nothing was found", answer.listings.is_empty(), &answer.next_page_token);
        let human = || rows(context.output, &answer.listings);
        context.output.answer("platform.marketplace.v1.SearchResponse", &answer, human)?;
        Ok(Exit::Done)
    }
}

impl Show {
    /// Shows.
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.connect().await?;
        let request = client.request(TIMEOUT, GetRequest { name: self.name.clone() });
        let answer = client.call(client.marketplace().get(request)).await?;
        let human = || detail(context.output, &self.name, &answer);
        context.output.answer("platform.marketplace.v1.GetResponse", &answer, human)?;
        Ok(Exit::Done)
    }
}

fn rows(output: Output, listings: &[Listing]) -> String {
    if listings.is_empty() {
        return String::new();
    }
    let mut table = output.table(&["NAME", "VERSIONS", "SLOT", "SIGNED", "SIZE", "PULLS", "DESCRIPTION"]);
    for listing in listings {
        let newest = listing.newest.clone().unwrap_or_default();
        let mut versions = listing.versions.iter().take(VERSIONS).cloned().collect::<Vec<_>>().join(", ");
        if listing.versions.len() > VERSIONS {
            versions.push_str(", …");
        }
        table.add_row([
            listing.name.clone(),
            versions,
            newest.slot.clone(),
            (if newest.signer.is_empty() { "no" } else { "yes" }).to_owned(),
            human_bytes(newest.size),
            listing.downloads.to_string(),
            plain(&newest.description).chars().take(DESCRIPTION).collect(),
        ]);
    }
    show(&table)
}

fn detail(output: Output, name: &str, answer: &GetResponse) -> String {
    let newest = answer.listing.as_ref().and_then(|listing| listing.newest.clone());
    let newest = newest.or_else(|| answer.versions.first().cloned()).unwrap_or_default();
    let downloads = answer.listing.as_ref().map(|listing| listing.downloads.to_string()).unwrap_or_default();
    let grants: Vec<String> =
        newest.grants.iter().map(|grant| format!("{}: {}", plain(&grant.grant), plain(&grant.words))).collect();
    let mut text = output.fields(&[
        ("name", name.to_owned()),
        ("newest", newest.version.clone()),
        ("description", plain(&newest.description)),
        ("license", plain(&newest.license)),
        ("source", plain(&newest.source)),
        ("slot", newest.slot.clone()),
        ("size", human_bytes(newest.size)),
        ("digest", newest.digest.clone()),
        ("signed by", newest.signer.clone()),
        ("pulls", downloads),
        ("asks for", grants.join("\n")),
        ("imports", newest.imports.iter().map(|import| plain(import)).collect::<Vec<_>>().join("\n")),
        ("exports", newest.exports.iter().map(|export| plain(export)).collect::<Vec<_>>().join("\n")),
        ("warnings", newest.warnings.iter().map(|warning| plain(warning)).collect::<Vec<_>>().join("\n")),
    ]);
    let mut table = output.table(&["VERSION", "PUBLISHED", "BY", "LISTED"]);
    for Version { version, publish_time, publisher, unlisted, .. } in answer.versions.clone() {
        let listed = if unlisted.is_empty() { "yes".to_owned() } else { format!("no: {unlisted}") };
        table.add_row([version, time(publish_time), plain(&publisher), listed]);
    }
    text.push_str("\n\n");
    text.push_str(&show(&table));
    text
}

/// A text of somebody else, without what a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Format;

    #[test]
    fn what_a_component_says_is_one_harmless_line() {
        let newest = Version { description: "a\u{1b}[2J\nb".to_owned(), ..Version::default() };
        let listing = Listing { name: "a".to_owned(), newest: Some(newest), ..Listing::default() };
        let shown = rows(Output::new(Format::Table), &[listing]);
        assert!(shown.contains("a [2J b") && shown.lines().count() == 2, "{shown}");
    }
}
