//! `platform.router.v1.Router`.

use std::{sync::Arc, time::Duration};

use futures::stream;
use platform_capability::{Call, CallContext, SlotKind, router::Node};
use platform_dataplane::{Plane, Report, SelectRequest, SlotName};
use platform_proto::{
    discovery::v1 as discovery,
    router::v1::{self as proto, router_server::Router},
};
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

use super::{Shared, admitted, discovery::registration_out, error::status, stream::Answers};
use crate::{admission::Admitted, fault::Fault};

/// Most results in one report.
const RESULTS_MAX: usize = 1000;
/// How often the nodes are sent when nothing changes.
const RESEND: Duration = Duration::from_secs(60);
/// Registrations read at once.
const PAGE: u32 = 1000;
/// Time to read all registrations of a service.
const READ: Duration = Duration::from_secs(5);

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
        let Node { id, address, zone, version, weight, labels } = selection.node;
        let metadata = labels.into_iter().collect();
        Ok(Response::new(proto::SelectResponse {
            node: Some(discovery::Node { id, address, zone, weight: Some(weight), metadata }),
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
        let wanted = Arc::new(request.into_inner());
        let changes = self.0.plane.router().nodes_changed(&admitted.call, &wanted.service).await.map_err(status)?;
        let (plane, call) = (Arc::clone(&self.0.plane), Arc::clone(&admitted.call));
        let tables = stream::unfold((changes, false), move |(mut changes, sent)| {
            let (plane, call, wanted) = (Arc::clone(&plane), Arc::clone(&call), Arc::clone(&wanted));
            async move {
                if sent && let Ok(Err(_)) = tokio::time::timeout(RESEND, changes.changed()).await {
                    return None;
                }
                // Before the nodes are read: what changes meanwhile is sent next.
                changes.borrow_and_update();
                Some((nodes(&plane, &call, &wanted).await, (changes, true)))
            }
        });
        Ok(Response::new(self.0.guard(&admitted, tables)?))
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

/// All nodes that the stream asks for, as they are now.
async fn nodes(
    plane: &Arc<Plane>, call: &Call, wanted: &proto::SelectStreamRequest,
) -> Result<proto::SelectStreamResponse, Status> {
    let call = Arc::new(CallContext { deadline: platform_base::clock::now() + READ, ..CallContext::clone(call) });
    let mut nodes = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = plane.discovery().get(&call, &wanted.service, after.as_deref(), PAGE).await.map_err(status)?;
        let full = page.len() >= PAGE as usize;
        after = page.last().map(|last| last.node.id.clone());
        nodes.extend(page.into_iter().map(registration_out).filter_map(|registration| weighted(registration, wanted)));
        if !full {
            break;
        }
    }
    let (policy, generation) = serving(plane, &wanted.service);
    let valid_ms = u64::try_from(RESEND.as_millis()).unwrap_or(u64::MAX) * 2;
    Ok(proto::SelectStreamResponse { nodes, policy, generation, valid_ms })
}

fn weighted(registration: discovery::Registration, wanted: &proto::SelectStreamRequest) -> Option<proto::WeightedNode> {
    let node = registration.node?;
    let fits = (wanted.version.is_empty() || wanted.version == registration.version)
        && wanted.labels.iter().all(|(name, value)| node.metadata.get(name) == Some(value));
    let weight = node.weight.unwrap_or_default();
    fits.then_some(proto::WeightedNode { node: Some(node), version: registration.version, weight })
}

/// Who serves the slot of a service.
fn serving(plane: &Plane, service: &str) -> (String, u64) {
    let plain = SlotName::plain(SlotKind::RouterPolicy);
    let own = service.parse().ok().map(|name| SlotName { qualifier: Some(name), ..plain.clone() });
    let status = own.and_then(|own| plane.slot_status(&own)).or_else(|| plane.slot_status(&plain));
    let Some(status) = status else { return (String::new(), 0) };
    let policy = status.entries.first().map(|entry| format!("{}@{}", entry.name, entry.version));
    (policy.unwrap_or_default(), status.generation)
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
