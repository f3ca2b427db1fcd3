//! `platform plugin search` and `show`: what is published in the marketplace of the daemon.
//!
//! Knows the arguments and how listings look; what is found is the daemon's. Invariant: what a component says of itself can't move the cursor of a terminal.

use std::time::Duration;

use clap::Args;
use platform_proto::marketplace::v1::{
    Attachment, GetRequest, GetResponse, Listing, Report, SearchRequest, SearchResponse, Verdict, Version,
};

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
    /// The version; the newest when not given.
    #[arg(long = "of", value_name = "VERSION", default_value = "")]
    version: String,
    /// Prints its README and nothing else.
    #[arg(long)]
    readme: bool,
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
        let request = client.request(TIMEOUT, GetRequest { name: self.name.clone(), version: self.version });
        let answer = client.call(client.marketplace().get(request)).await?;
        if self.readme && context.output.is_human() {
            if answer.readme.is_empty() {
                let message = format!("`{}` has no README of whoever published version {}", self.name, answer.version);
                return Err(Failure::new(Exit::No, "NO_README", message));
            }
            context.output.text(&lines(&answer.readme))?;
            return Ok(Exit::Done);
        }
        let human = || detail(context.output, &self.name, &answer);
        context.output.answer("platform.marketplace.v1.GetResponse", &answer, human)?;
        Ok(Exit::Done)
    }
}

fn rows(output: Output, listings: &[Listing]) -> String {
    if listings.is_empty() {
        return String::new();
    }
    let mut table = output.table(&["NAME", "VERSIONS", "SLOT", "SIGNED", "TRIED", "SIZE", "PULLS", "DESCRIPTION"]);
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
            tried(newest.report.as_ref()).to_owned(),
            human_bytes(newest.size),
            listing.downloads.to_string(),
            plain(&newest.description).chars().take(DESCRIPTION).collect(),
        ]);
    }
    show(&table)
}

fn detail(output: Output, name: &str, answer: &GetResponse) -> String {
    let newest = answer.listing.as_ref().and_then(|listing| listing.newest.clone());
    let shown = answer.versions.iter().find(|version| version.version == answer.version).cloned();
    let newest = shown.or(newest).unwrap_or_default();
    let downloads = answer.listing.as_ref().map(|listing| listing.downloads.to_string()).unwrap_or_default();
    let grants: Vec<String> =
        newest.grants.iter().map(|grant| format!("{}: {}", plain(&grant.grant), plain(&grant.words))).collect();
    let mut text = output.fields(&[
        ("name", name.to_owned()),
        ("version", newest.version.clone()),
        ("description", plain(&newest.description)),
        ("license", plain(&newest.license)),
        ("source", plain(&newest.source)),
        ("slot", newest.slot.clone()),
        ("size", human_bytes(newest.size)),
        ("digest", newest.digest.clone()),
        ("signed by", newest.signer.clone()),
        ("tried", trial(newest.report.as_ref())),
        ("pulls", downloads),
        ("asks for", grants.join("\n")),
        ("imports", newest.imports.iter().map(|import| plain(import)).collect::<Vec<_>>().join("\n")),
        ("exports", newest.exports.iter().map(|export| plain(export)).collect::<Vec<_>>().join("\n")),
        ("beside it", answer.attachments.iter().map(beside).collect::<Vec<_>>().join("\n")),
        ("settings", plain(&answer.settings_schema)),
        ("warnings", newest.warnings.iter().map(|warning| plain(warning)).collect::<Vec<_>>().join("\n")),
    ]);
    let mut table = output.table(&["VERSION", "PUBLISHED", "BY", "TRIED", "LISTED"]);
    for Version { version, publish_time, publisher, unlisted, report, .. } in answer.versions.clone() {
        let listed = if unlisted.is_empty() { "yes".to_owned() } else { format!("no: {}", plain(&unlisted)) };
        let tried = tried(report.as_ref()).to_owned();
        table.add_row([version, time(publish_time), plain(&publisher), tried, listed]);
    }
    text.push_str("\n\n");
    text.push_str(&show(&table));
    text
}

/// What came of trying a component, in a word.
fn tried(report: Option<&Report>) -> &'static str {
    match report.map(Report::verdict) {
        Some(Verdict::Passed) => "passed",
        Some(Verdict::Failed) => "FAILED",
        Some(Verdict::NotTried) => "can't be",
        Some(Verdict::Unspecified) | None => "not yet",
    }
}

/// The same at length.
fn trial(report: Option<&Report>) -> String {
    let Some(report) = report else { return tried(None).to_owned() };
    let (when, platform) = (time(report.trial_time), &report.platform);
    let mut lines = vec![match report.verdict() {
        Verdict::Passed => format!("passed: it keeps all {} promises checked", report.kept),
        _ => format!("{}: {}", tried(Some(report)), plain(&report.why)),
    }];
    let broken = report.broken.iter().map(|one| format!("{}: {}", plain(&one.promise), plain(&one.found)));
    lines.extend(broken);
    if let Some(own) = &report.measured {
        lines.push(format!(
            "{} µs, 99% within {} µs, {}",
            us(own.p50_ns),
            us(own.p99_ns),
            human_bytes(own.memory_bytes)
        ));
    }
    if let Some(other) = &report.reference {
        let (name, p50, ratio) = (plain(&other.component), us(other.p50_ns), report.p50_ratio);
        lines.push(format!("`{name}` took {p50} µs in the same run: {ratio:.2} times that"));
    }
    lines.push(format!("{when}, by version {platform}"));
    lines.join("\n")
}

fn us(ns: u64) -> String {
    format!("{:.1}", Duration::from_nanos(ns).as_secs_f64() * 1e6)
}

fn beside(attachment: &Attachment) -> String {
    let Attachment { kind, media_type, size, content, publisher, .. } = attachment;
    let kind = if kind.is_empty() { "other" } else { kind };
    format!("{kind} of {}: {}, {}, {content}", plain(publisher), plain(media_type), human_bytes(*size))
}

/// Lines of somebody else, without what a terminal would obey.
fn lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
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
