//! `platform.marketplace.v1.Marketplace`.

use std::{sync::Arc, time::Duration};

use platform_marketplace::{
    Attachment, Broken, Error, Figures, Listing, Marketplace, Query, Report, Verdict, Version, in_words,
};
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
        let proto::GetRequest { name, version: wanted } = request.into_inner();
        let found = self.on()?.details(&name, &wanted, is_publisher).await.map_err(status)?;
        Ok(Response::new(proto::GetResponse {
            listing: found.listing.map(listing),
            versions: found.versions.into_iter().map(version).collect(),
            version: found.version,
            attachments: found.attachments.into_iter().map(attachment).collect(),
            readme: found.readme,
            settings_schema: found.settings_schema.map(|schema| schema.to_string()).unwrap_or_default(),
        }))
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
        report: version.report.map(report),
    }
}

fn attachment(attachment: Attachment) -> proto::Attachment {
    proto::Attachment {
        kind: attachment.kind.to_owned(),
        artifact_type: attachment.artifact_type,
        digest: attachment.digest.to_string(),
        media_type: attachment.media_type,
        content: attachment.content.to_string(),
        size: attachment.size,
        publish_time: Some(timestamp(attachment.at_ms)),
        publisher: attachment.by,
    }
}

fn report(report: Report) -> proto::Report {
    let verdict = match report.verdict {
        Verdict::Passed => proto::Verdict::Passed,
        Verdict::Failed => proto::Verdict::Failed,
        Verdict::NotTried => proto::Verdict::NotTried,
    };
    let ns = |figures: &Option<Figures>| {
        figures.as_ref().map_or(Duration::ZERO, |figures| Duration::from_nanos(figures.p50_ns))
    };
    let (own, other) = (ns(&report.measured), ns(&report.reference));
    proto::Report {
        verdict: verdict.into(),
        why: report.why,
        settings: report.settings,
        kept: report.kept,
        left_out: report.left_out,
        broken: report.broken.into_iter().map(broken).collect(),
        p50_ratio: if other.is_zero() { 0.0 } else { own.as_secs_f64() / other.as_secs_f64() },
        measured: report.measured.map(figures),
        reference: report.reference.map(figures),
        unmeasured: report.unmeasured,
        trial_time: Some(timestamp(report.at_ms)),
        platform: report.platform,
    }
}

fn broken(broken: Broken) -> proto::Broken {
    let Broken { name, promise, found } = broken;
    proto::Broken { name, promise, found }
}

fn figures(figures: Figures) -> proto::Figures {
    let Figures { component, calls, p50_ns, p99_ns, memory_bytes, size_bytes } = figures;
    proto::Figures { component, calls, p50_ns, p99_ns, memory_bytes, size_bytes }
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
