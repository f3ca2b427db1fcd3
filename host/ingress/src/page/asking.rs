//! [`Asking`]: the marketplace as whoever is signed in may use it through a page.
//!
//! Owns who may do what, and what an installation takes. Must not know what a page shows. Invariants: nothing is shown or done that the caller's token is not good
//! for; nothing is installed unless the request may change something, the component is the one that was reviewed, and everything that it asks for was accepted.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use platform_capability::{
    Grant,
    marketplace::{Backend, Error, Found, Grant as Asked, Installed, Listing, Plan, Query, Version},
};
use platform_control::{Control, Error as ControlError, Install, Kind, PageRequest, inspect};
use platform_marketplace::{Error as MarketError, Marketplace, Taken, in_words};
use platform_runtime::{Digest, Limits};
use tokio::sync::Semaphore;

use super::{beside::beside, fits::Fits};
use crate::{
    identity::{ADMIN_ROLE, Access, Identity},
    market::PUBLISHER_ROLE,
};

/// Most listings of one answer.
const LIMIT_MAX: u32 = 100;

/// One request's use of the marketplace.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) control: Arc<Control>,
    pub(super) marketplace: Arc<Marketplace>,
    /// Turns for holding a component in memory.
    pub(super) components: Arc<Semaphore>,
    /// What was found of components before.
    pub(super) fits: Arc<Fits>,
    /// Who is signed in.
    pub(super) identity: Option<Arc<Identity>>,
    /// Whether the request may change something.
    pub(super) changes: bool,
}

/// Whether the bearer of a token may look around.
pub(super) fn may_look(identity: &Identity) -> bool {
    identity.access >= Access::Data
}

type Result<T, E = Error> = std::result::Result<T, E>;

impl Asking {
    /// Lets those look who may; whether they may see what is not listed.
    fn look(&self) -> Result<bool> {
        match &self.identity {
            Some(identity) if may_look(identity) => {
                let has = |role: &str| identity.caller.roles.contains(role);
                Ok(has(ADMIN_ROLE) || has(PUBLISHER_ROLE))
            }
            _ if self.marketplace.is_open() => Ok(false),
            Some(_) => Err(Error::Denied("looking around takes a token with access `data`".to_owned())),
            None => Err(Error::Unauthenticated),
        }
    }

    /// Lets administrators install; the subject.
    fn install_by(&self) -> Result<&str> {
        let identity = self.identity.as_ref().ok_or(Error::Unauthenticated)?;
        if identity.access == Access::Control && identity.caller.roles.contains(ADMIN_ROLE) {
            return Ok(&identity.caller.subject);
        }
        Err(Error::Denied(format!(
            "`{}` may look around, but not install: that takes a token with access `control` and the role `{ADMIN_ROLE}`",
            identity.caller.subject
        )))
    }

    async fn take(&self, name: &str, version: &str, is_publisher: bool) -> Result<Taken> {
        self.marketplace.take(name, version, is_publisher).await.map_err(of_marketplace)
    }

    async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>> {
        self.components.acquire().await.map_err(|error| Error::Unavailable(error.to_string()))
    }

    /// What keeps this daemon from running a version, whose component this is.
    async fn misfits(&self, name: &str, version: &str, component: Digest, is_publisher: bool) -> Result<Vec<String>> {
        if let Some(misfits) = self.fits.find(component) {
            return Ok(misfits);
        }
        let _turn = self.turn().await?;
        // Whoever had the turn before may have looked at the same.
        if let Some(misfits) = self.fits.find(component) {
            return Ok(misfits);
        }
        let taken = self.take(name, version, is_publisher).await?;
        let component = taken.version.component;
        let inspected = tokio::task::spawn_blocking(move || inspect::inspect(&taken.component)).await;
        let misfits = match inspected.map_err(|error| Error::Unavailable(error.to_string()))? {
            Ok(_) => Vec::new(),
            Err(inspect::Rejection::Differs(differences)) => differences,
            Err(rejection) => vec![rejection.to_string()],
        };
        self.fits.keep(component, &misfits);
        Ok(misfits)
    }

    /// What control makes of a component, under the name that it gives itself, else the last part of its place.
    async fn reviewed(&self, name: &str, taken: &Taken, by: &str) -> Result<(platform_control::Installed, Install)> {
        let request = Install { signatures: taken.signatures.clone(), by: by.to_owned(), ..Install::default() };
        let reviewed = match self.control.review(taken.component.clone(), &request).await {
            Err(ControlError::Unnamed(_)) => {
                let last = name.rsplit('/').next().unwrap_or_default();
                let version = taken.version.version.trim_start_matches('v');
                let request =
                    Install { name: Some(last.to_owned()), version: Some(version.to_owned()), ..request.clone() };
                self.control.review(taken.component.clone(), &request).await.map(|reviewed| (reviewed, request))
            }
            reviewed => reviewed.map(|reviewed| (reviewed, request)),
        };
        reviewed.map_err(of_control)
    }
}

#[async_trait]
impl Backend for Asking {
    async fn search(&self, query: Query) -> Result<Found> {
        self.look()?;
        let limit = usize::try_from(query.limit.clamp(1, LIMIT_MAX)).unwrap_or(1);
        let query = platform_marketplace::Query { text: query.text, slot: query.slot, after: query.after, limit };
        let found = self.marketplace.search(&query).await.map_err(of_marketplace)?;
        Ok(Found { listings: found.listings.into_iter().map(listing).collect(), next: found.next })
    }

    async fn show(&self, name: &str) -> Result<(Option<Listing>, Vec<Version>)> {
        let is_publisher = self.look()?;
        let details = self.marketplace.details(name, "", is_publisher).await.map_err(of_marketplace)?;
        let shown = details.versions.iter().find(|version| version.version == details.version);
        let misfits = match shown.map(|version| version.component) {
            Some(component) => self.misfits(name, &details.version, component, is_publisher).await?,
            None => Vec::new(),
        };
        let more = beside(&details);
        let mut found = details.listing.map(listing);
        let mut versions: Vec<Version> = details.versions.into_iter().map(version).collect();
        let told = versions.iter_mut().chain(found.as_mut().map(|found| &mut found.newest));
        for version in told.filter(|version| version.version == details.version) {
            version.misfits.clone_from(&misfits);
            version.more.clone_from(&more);
        }
        Ok((found, versions))
    }

    async fn review(&self, name: &str, version: &str) -> Result<Plan> {
        let by = self.install_by()?;
        let _turn = self.turn().await?;
        let taken = self.take(name, version, true).await?;
        let (reviewed, _) = self.reviewed(name, &taken, by).await?;
        let plugin = &reviewed.plugin;
        let is_held = |grant: &Grant| match &reviewed.upgrade {
            _ if reviewed.existed => plugin.grants.contains(grant),
            Some(upgrade) => !upgrade.added.contains(grant),
            None => false,
        };
        let all = PageRequest { limit: 1000, ..PageRequest::default() };
        let slots = self.control.slots(&all).items.into_iter();
        let bound = slots.filter(|slot| slot.binding.chain.iter().any(|link| link.name == plugin.name));
        Ok(Plan {
            plugin: plugin.name.to_string(),
            version: plugin.version.clone(),
            slot: plugin.slot.to_string(),
            digest: plugin.digest.to_string(),
            grants: plugin.requested.iter().map(|grant| asked(grant, is_held(grant))).collect(),
            limits: limits(&plugin.slot.limits()),
            upgrade_from: reviewed.upgrade.as_ref().map(|upgrade| upgrade.from.clone()),
            dropped: reviewed
                .upgrade
                .iter()
                .flat_map(|upgrade| &upgrade.dropped)
                .map(|grant| asked(grant, true))
                .collect(),
            installed: reviewed.existed,
            bound: bound.map(|slot| slot.name.to_string()).collect(),
            warnings: reviewed.warnings,
        })
    }

    async fn install(&self, name: &str, version: &str, digest: &str, accepted: Vec<String>) -> Result<Installed> {
        let by = self.install_by()?;
        if !self.changes {
            return Err(Error::Denied("looking at a page installs nothing; send its form".to_owned()));
        }
        let _turn = self.turn().await?;
        let taken = self.take(name, version, true).await?;
        if taken.version.component.to_string() != digest {
            return Err(Error::Refused(
                "this is another component than the one that was reviewed; review it again".to_owned(),
            ));
        }
        let (reviewed, install) = self.reviewed(name, &taken, by).await?;
        let requested = &reviewed.plugin.requested;
        let missing: Vec<String> = missing(requested, &accepted).iter().map(|grant| format!("`{grant}`")).collect();
        if !missing.is_empty() {
            let why = "it was not installed, because not everything that it asks for was accepted; missing:";
            return Err(Error::Refused(format!("{why} {}", missing.join(", "))));
        }
        let install = Install { accept_grants: true, ..install };
        let installed = self.control.install(taken.component, install).await.map_err(of_control)?;
        self.marketplace.count(name);
        Ok(Installed {
            plugin: installed.plugin.label(),
            slot: installed.plugin.slot.to_string(),
            grants: installed.plugin.grants.iter().map(ToString::to_string).collect(),
            existed: installed.existed,
            warnings: installed.warnings,
        })
    }
}

/// What is asked for and was not accepted.
fn missing<'a>(requested: &'a BTreeSet<Grant>, accepted: &[String]) -> Vec<&'a Grant> {
    let accepted: BTreeSet<Grant> = accepted.iter().filter_map(|text| text.parse().ok()).collect();
    requested.iter().filter(|grant| !accepted.contains(grant)).collect()
}

fn asked(grant: &Grant, held: bool) -> Asked {
    Asked { grant: grant.to_string(), words: in_words(grant), held }
}

fn listing(listing: platform_marketplace::Listing) -> Listing {
    let platform_marketplace::Listing { name, newest, versions, downloads, .. } = listing;
    Listing { name, newest: version(newest), versions, downloads }
}

fn version(version: platform_marketplace::Version) -> Version {
    Version {
        grants: version.grants.iter().map(|grant| asked(grant, false)).collect(),
        version: version.version,
        digest: version.component.to_string(),
        size: version.size,
        published_ms: version.at_ms,
        publisher: version.by,
        description: version.description,
        license: version.license,
        source: version.source,
        slot: version.slot,
        imports: version.imports,
        exports: version.exports,
        warnings: version.warnings,
        signer: version.signer.map(|key| key.to_string()),
        misfits: Vec::new(),
        unlisted: version.unlisted,
        more: Vec::new(),
    }
}

/// Limits in words.
fn limits(limits: &Limits) -> Vec<(String, String)> {
    [
        ("Memory of an instance", format!("{} MiB", limits.memory_kib >> 10)),
        ("Longest call", format!("{} ms", limits.deadline_ms)),
        ("Calls at once", format!("{}, and {} waiting", limits.concurrency, limits.queue)),
        ("Data in one call", format!("{} KiB", limits.transfer_kib)),
        ("Log lines", format!("{} a second", limits.log_lines_per_second)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[expect(clippy::needless_pass_by_value, reason = "it maps errors, which are given by value")]
fn of_marketplace(error: MarketError) -> Error {
    let why = error.to_string();
    match error {
        MarketError::NotListed(_) | MarketError::NoManifest(_) | MarketError::NoRepository(_) => Error::NotFound(why),
        MarketError::Name(_) | MarketError::Query(_) => Error::Invalid(why),
        _ => Error::Unavailable(why),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it maps errors, which are given by value")]
fn of_control(error: ControlError) -> Error {
    let why = error.to_string();
    match error.kind() {
        Kind::InvalidArgument | Kind::AlreadyExists | Kind::FailedPrecondition => Error::Refused(why),
        Kind::NotFound => Error::NotFound(why),
        Kind::Aborted | Kind::Unavailable | Kind::DataLoss | Kind::Internal => Error::Unavailable(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_to_be_accepted() {
        let requested: BTreeSet<Grant> = ["kv", "network:h:1"].iter().map(|text| text.parse().unwrap()).collect();
        let lacks = |accepted: &[&str]| {
            missing(&requested, &accepted.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).len()
        };
        assert_eq!(lacks(&[]), 2);
        assert_eq!(lacks(&["kv", "network:h:2", "nonsense"]), 1);
        assert_eq!(lacks(&["network:h:1", "kv", "storage"]), 0);
    }
}
