//! `platform.marketplace.v1.Marketplace`.

use std::sync::Arc;

use platform_marketplace::{Error, Listing, Marketplace, Query, Version, in_words};
use platform_proto::marketplace::v1::{self as proto, marketplace_server::Marketplace as Service};
use tonic::{Code, Request, Response, Status};

use super::{admitted, page, timestamp};
use crate::{fault::Fault, identity::ADMIN_ROLE, market::PUBLISHER_ROLE};

/// The index of the registry.
#[derive(Debug, Clone)]
pub(crate) struct MarketplaceService(pub(crate) Option<Arc<Marketplace>>);

impl MarketplaceService {
    fn on(&self) -> Result<&Marketplace, Status> {
        let message = "this daemon has no marketplace; set `enabled = true` in `[marketplace]` and restart it";
        let off = || Fault::new(Code::FailedPrecondition, "MARKETPLACE_OFF", message);
        self.0.as_deref().ok_or_else(|| off().into())
    }
}

#[tonic::async_trait]
impl Service for MarketplaceService {
    async fn search(&self, request: Request<proto::SearchRequest>) -> Result<Response<proto::SearchResponse>, Status> {
        admitted(&request)?;
        let proto::SearchRequest { text, slot, limit, page_token } = request.into_inner();
        let page = page::Page::parse(limit, &page_token)?;
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let query = Query { text, slot, after: page.after, limit };
        let found = self.on()?.search(&query).await.map_err(status)?;
        Ok(Response::new(proto::SearchResponse {
            listings: found.listings.into_iter().map(listing).collect(),
            next_page_token: found.next.as_deref().map(page::token).unwrap_or_default(),
        }))
    }

    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<proto::GetResponse>, Status> {
        let caller = admitted(&request)?.call.caller.clone();
        let is_publisher = caller
            .is_some_and(|caller| [ADMIN_ROLE, PUBLISHER_ROLE].into_iter().any(|role| caller.roles.contains(role)));
        let name = request.into_inner().name;
        let (found, versions) = self.on()?.listing(&name, is_publisher).await.map_err(status)?;
        let versions = versions.into_iter().map(version).collect();
        Ok(Response::new(proto::GetResponse { listing: found.map(listing), versions }))
    }
}

fn listing(listing: Listing) -> proto::Listing {
    let Listing { name, newest, versions, downloads } = listing;
    proto::Listing { name, newest: Some(version(newest)), versions, downloads }
}

fn version(version: Version) -> proto::Version {
    let grants = version.grants.iter().map(|grant| proto::Grant { grant: grant.to_string(), words: in_words(grant) });
    proto::Version {
        grants: grants.collect(),
        version: version.version,
        digest: version.digest.to_string(),
        component: version.component.to_string(),
        size: version.size,
        publish_time: Some(timestamp(version.at_ms)),
        publisher: version.by,
        description: version.description,
        license: version.license,
        source: version.source,
        slot: version.slot,
        imports: version.imports,
        exports: version.exports,
        warnings: version.warnings,
        signer: version.signer.map(|key| key.to_string()).unwrap_or_default(),
        unlisted: version.unlisted.unwrap_or_default(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it maps errors, which are given by value")]
fn status(error: Error) -> Status {
    let message = error.to_string();
    let fault = match error {
        Error::NotListed(_) => Fault::new(Code::NotFound, "NOT_LISTED", message),
        Error::Name(_) | Error::Query(_) => Fault::invalid("INVALID_ARGUMENT", message),
        _ => Fault::new(Code::Unavailable, "UNAVAILABLE", message),
    };
    fault.into()
}
