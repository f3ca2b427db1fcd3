//! `platform.router.v1.Router`.

use std::sync::Arc;

use futures::StreamExt;
use platform_capability::router::Node;
use platform_dataplane::{Report, SHARES_RESEND, SelectRequest, Shares};
use platform_proto::{
    discovery::v1 as discovery,
    router::v1::{self as proto, router_server::Router},
};
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

use super::{Shared, admitted, error::status, stream::Answers};
use crate::{admission::Admitted, fault::Fault};

/// Most results in one report.
const RESULTS_MAX: usize = 1000;

/// Decisions of the slot `router.policy`.
#[derive(Debug, Clone)]
pub(crate) struct RouterService(pub(crate) Shared);

#[tonic::async_trait]
impl Router for RouterService {
    async fn select(&self, request: Request<proto::SelectRequest>) -> Result<Response<proto::SelectResponse>, Status> {
        let call = Arc::clone(&admitted(&request)?.call);
        let select = request.into_inner();
        let labels: Vec<_> = select.labels.into_iter().collect();
        let question = SelectRequest {
            service: &select.service,
            key: affinity(&select.key),
            zone: &select.zone,
            attempt: select.attempt,
            version: Some(select.version.as_str()).filter(|version| !version.is_empty()),
            labels: &labels,
        };
        let selection = self.0.plane.router().select(&call, question).await.map_err(status)?;
        let (node, version) = node_out(selection.node);
        Ok(Response::new(proto::SelectResponse {
            node: Some(node),
            version,
            pick_id: format!("{:x}", selection.pick_id),
            policy: selection.policy.to_string(),
            generation: selection.generation,
        }))
    }

    type SelectStreamStream = Answers<proto::SelectStreamResponse>;

    async fn select_stream(
        &self, request: Request<proto::SelectStreamRequest>,
    ) -> Result<Response<Self::SelectStreamStream>, Status> {
        let admitted: Admitted = admitted(&request)?.clone();
        let wanted = request.into_inner();
        let labels: Vec<_> = wanted.labels.into_iter().collect();
        let question = SelectRequest {
            service: &wanted.service,
            zone: &wanted.zone,
            version: Some(wanted.version.as_str()).filter(|version| !version.is_empty()),
            labels: &labels,
            ..SelectRequest::default()
        };
        let shares = self.0.plane.router().shares(&admitted.call, question).await.map_err(status)?;
        let answers = shares.map(|shares| shares.map(|shares| weighted(&shares)).map_err(status));
        Ok(Response::new(self.0.guard(&admitted, answers)?))
    }

    async fn report(&self, request: Request<proto::ReportRequest>) -> Result<Response<proto::ReportResponse>, Status> {
        admitted(&request)?;
        let results = request.into_inner().results;
        if results.len() > RESULTS_MAX {
            let message = format!("`results` holds {}, more than {RESULTS_MAX}", results.len());
            return Err(Fault::invalid("TOO_LARGE", message).into());
        }
        let reports: Vec<_> = results.iter().filter_map(report).collect();
        let accepted = self.0.plane.router().report(&reports);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (accepted, unknown) = (count(accepted), count(results.len() - accepted));
        Ok(Response::new(proto::ReportResponse { accepted, unknown }))
    }
}

/// The affinity hash of a key: the same on every host and in every version. 0 is kept for "none".
fn affinity(key: &str) -> u64 {
    if key.is_empty() {
        return 0;
    }
    let digest: [u8; 32] = Sha256::digest(key).into();
    digest.iter().take(8).fold(0_u64, |hash, byte| (hash << 8) | u64::from(*byte)).max(1)
}

fn report(result: &proto::PickResult) -> Option<Report> {
    let latency_us = u32::try_from(result.latency_us).unwrap_or(u32::MAX);
    let pick_id = u64::from_str_radix(&result.pick_id, 16).ok()?;
    Some(Report { pick_id, latency_us, failed: !result.success })
}

/// All nodes with their weights.
fn weighted(shares: &Shares) -> proto::SelectStreamResponse {
    let nodes = shares.table.nodes.iter().zip(&shares.weights).map(|(node, weight)| {
        let (node, version) = node_out(node.clone());
        proto::WeightedNode { node: Some(node), version, weight: *weight }
    });
    proto::SelectStreamResponse {
        nodes: nodes.collect(),
        policy: shares.policy.to_string(),
        generation: shares.generation,
        valid_ms: u64::try_from(SHARES_RESEND.as_millis()).unwrap_or(u64::MAX).saturating_mul(2),
    }
}

/// A node as a message, and its version.
fn node_out(node: Node) -> (discovery::Node, String) {
    let Node { id, address, zone, version, weight, labels } = node;
    (discovery::Node { id, address, zone, weight: Some(weight), metadata: labels.into_iter().collect() }, version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_is_stable_and_never_none() {
        assert_eq!(affinity(""), 0);
        assert_eq!(affinity("abc"), 0xba78_16bf_8f01_cfea);
    }

    #[test]
    fn results_of_broken_picks_are_passed_over() {
        let result = |pick_id: &str| proto::PickResult { pick_id: pick_id.into(), latency_us: u64::MAX, success: true };
        assert!(report(&result("xyz")).is_none());
        let report = report(&result("ff")).unwrap();
        assert_eq!((report.pick_id, report.latency_us, report.failed), (255, u32::MAX, false));
    }
}
