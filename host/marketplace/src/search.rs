//! Looking for what is listed.
//!
//! Owns what a search finds; must not know wire formats. Invariant: only what is listed is found, and a search is bounded in what it reads and gives.

use serde_json::Value;

use crate::{
    attachments::{Attachment, Enclosed},
    error::{Error, Result},
    listing::{Listing, Version},
    marketplace::Marketplace,
    name::RepositoryName,
    store::Listed,
    table::{key, read},
};

/// Longest text to search for, in bytes.
pub const QUERY_BYTES_MAX: usize = 256;
/// Most words of it.
const WORDS_MAX: usize = 8;
/// Listings that are read at once.
const PAGE: usize = 1000;
/// Versions that are told of one name.
const VERSIONS_MAX: usize = 100;

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Words that all occur in the name, the description, the licence or the slot; nothing finds everything.
    pub text: String,
    /// The slot, such as `kv.store`; any when empty.
    pub slot: String,
    /// Only names after this one.
    pub after: Option<String>,
    /// At most this many.
    pub limit: usize,
}

/// What is listed under a name.
#[derive(Debug, Clone)]
pub struct Details {
    /// The name; not there while none of its versions is listed.
    pub listing: Option<Listing>,
    /// Its newest versions, the newest first.
    pub versions: Vec<Version>,
    /// The version that the rest is about.
    pub version: String,
    /// What was published beside it, the newest first.
    pub attachments: Vec<Attachment>,
    /// The README that its publisher attached; empty without one.
    pub readme: String,
    /// JSON Schema of its settings.
    pub settings_schema: Option<Value>,
}

/// A page of what was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Listings in the order of names.
    pub listings: Vec<Listing>,
    /// Where the next page begins; none when this is the last.
    pub next: Option<String>,
}

impl Marketplace {
    /// Looks for components.
    ///
    /// # Errors
    /// The text is too long, or storage can't answer.
    pub async fn search(&self, query: &Query) -> Result<Found> {
        let words = words(&query.text)?;
        if query.slot.len() > QUERY_BYTES_MAX {
            return Err(Error::Query(format!("`slot` is longer than {QUERY_BYTES_MAX} bytes")));
        }
        let mut after = query.after.as_ref().map(|name| format!("{}{name}", key::LISTINGS));
        let mut listings: Vec<Listing> = Vec::new();
        loop {
            let page = self.store.table.page(key::LISTINGS, after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { return self.counted(listings, None).await };
            after = Some(last.key.clone());
            for entry in &page {
                let listing: Listing = read(entry)?;
                if !is_wanted(&listing, &words, &query.slot) {
                    continue;
                }
                if listings.len() == query.limit {
                    let next = listings.last().map(|listing| listing.name.clone());
                    return self.counted(listings, next).await;
                }
                listings.push(listing);
            }
        }
    }

    async fn counted(&self, mut listings: Vec<Listing>, next: Option<String>) -> Result<Found> {
        self.downloads.note(&self.store.table, &mut listings).await?;
        Ok(Found { listings, next })
    }

    /// What is listed under a name, with its versions, the newest first; publishers also see what is not listed yet, and why. What lies beside
    /// a version is told of the one that is asked for, else of the newest.
    ///
    /// # Errors
    /// Nothing is listed under the name, or no such version, or storage can't answer.
    pub async fn details(&self, name: &str, version: &str, is_publisher: bool) -> Result<Details> {
        let repository: RepositoryName = name.parse()?;
        let mut listing: Option<Listing> = self.store.table.record(&key::listing(&repository)).await?;
        let mut versions = self.store.versions(&repository).await?;
        versions.retain(|version| is_publisher || version.unlisted.is_none());
        if versions.is_empty() {
            return Err(Error::NotListed(repository.to_string()));
        }
        versions.sort_by_cached_key(|version| std::cmp::Reverse(platform_registry::version(&version.version)));
        let newest = listing.as_ref().map(|listing| &listing.newest).or(versions.first()).cloned();
        let chosen = match version {
            "" => newest,
            wanted => versions.iter().find(|version| version.version == wanted).cloned(),
        };
        let chosen = chosen.ok_or_else(|| Error::NotListed(format!("{repository}:{version}")))?;
        let Enclosed { attachments, readme, settings_schema } = self.enclosed(&repository, &chosen).await?;
        versions.truncate(VERSIONS_MAX);
        self.downloads.note(&self.store.table, listing.as_mut_slice()).await?;
        Ok(Details { listing, versions, version: chosen.version, attachments, readme, settings_schema })
    }
}

fn words(text: &str) -> Result<Vec<String>> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(Error::Query(format!("the text to search for is longer than {QUERY_BYTES_MAX} bytes")));
    }
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    if words.len() > WORDS_MAX {
        return Err(Error::Query(format!("the text to search for has more than {WORDS_MAX} words")));
    }
    Ok(words)
}

fn is_wanted(listing: &Listing, words: &[String], slot: &str) -> bool {
    let newest = &listing.newest;
    if !slot.is_empty() && newest.slot != slot {
        return false;
    }
    let texts = [listing.name.as_str(), &newest.description, &newest.license, &newest.slot].map(str::to_lowercase);
    words.iter().all(|word| texts.iter().any(|text| text.contains(word.as_str())))
}

impl<T> Listed<T> {
    /// The same list without some.
    pub(crate) fn without(mut self, is_hidden: impl Fn(&T) -> bool) -> Self {
        self.entries.retain(|entry| !is_hidden(entry));
        self
    }
}
