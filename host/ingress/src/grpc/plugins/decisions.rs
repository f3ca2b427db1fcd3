//! Decisions that were kept, as messages.

use std::time::{Duration, UNIX_EPOCH};

use platform_dataplane::{Asker, Decision, DecisionOutcome, Decisions, Plane, Position, SlotName, Wanted};
use platform_proto::plugin::v1 as proto;
use tonic::{Code, Status};

use crate::{
    fault::Fault,
    grpc::{
        milliseconds, object,
        page::{Page, token},
    },
};

/// A page of the decisions of a slot.
pub(super) async fn page(
    plane: &Plane, slot: SlotName, request: &proto::DecisionsRequest,
) -> Result<proto::DecisionsResponse, Status> {
    let page = Page::parse(request.limit, &request.page_token)?;
    let invalid = || Fault::invalid("INVALID_PAGE_TOKEN", "`page_token` is not one that a page before has given");
    let after = page.after.map(|text| text.parse::<Position>().map_err(|_invalid| invalid())).transpose()?;
    let recorder = plane.recorder().ok_or_else(|| {
        let message = "no decisions are kept: set `sample_percent` of `[decisions]` in the daemon's configuration";
        Fault::new(Code::FailedPrecondition, "DECISIONS_NOT_KEPT", message)
    })?;
    let since_ns = request.since.as_ref().map_or(0, milliseconds).saturating_mul(1_000_000);
    let wanted = Wanted { slot, since_ns, limit: usize::try_from(page.limit).unwrap_or(usize::MAX) };
    let Decisions { lines, next } = recorder.read(wanted, after).await.map_err(|error| {
        Fault::new(
            Code::Internal,
            "DECISIONS_UNREADABLE",
            format!("the decisions that were kept can't be read: {error}"),
        )
    })?;
    let next_page_token = next.map(|next| token(&next.to_string())).unwrap_or_default();
    Ok(match request.as_lines {
        true => proto::DecisionsResponse { lines: lines.into(), next_page_token, ..Default::default() },
        false => {
            let decisions = Decisions::read(&lines).map(decision).collect();
            proto::DecisionsResponse { decisions, next_page_token, ..Default::default() }
        }
    })
}

fn decision(kept: Decision<'_>) -> proto::Decision {
    proto::Decision {
        interface: kept.interface.into_owned(),
        slot: kept.slot.into_owned(),
        time: Some((UNIX_EPOCH + Duration::from_nanos(kept.time_ns)).into()),
        namespace: kept.namespace.into_owned(),
        caller: kept.caller.map(asker),
        action: kept.action.into_owned(),
        target: kept.target.into_owned(),
        headers: kept.headers.to_map().into_iter().collect(),
        attributes: kept.attributes.to_map().into_iter().collect(),
        redacted: kept.redacted.into_iter().collect(),
        outcome: Some(outcome(kept.outcome)),
    }
}

fn asker(asker: Asker) -> proto::Asker {
    let roles = asker.roles.into_iter().collect();
    proto::Asker { subject: asker.subject, roles, claims: Some(object(&asker.claims)) }
}

fn outcome(outcome: DecisionOutcome<'_>) -> proto::Outcome {
    let headers = |headers: Vec<(String, String)>| {
        headers.into_iter().map(|(name, value)| proto::HeaderValue { name, value }).collect()
    };
    proto::Outcome {
        allowed: outcome.allowed,
        reason: outcome.reason.into_owned(),
        status: outcome.status.into(),
        set_headers: headers(outcome.set_headers),
        remove_headers: outcome.remove_headers,
        response_headers: headers(outcome.response_headers),
        decided_by: outcome.decided_by.into_owned(),
        generation: outcome.generation,
        fault: outcome.fault.into_owned(),
    }
}
