//! Asking once more what was decided.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use platform_capability::{
    CallContext,
    auth::{Facts, INTERFACE},
};
use platform_dataplane::{Asker, Decision, DecisionOutcome, Named, Plane, REDACTED, Verdict};

/// Time for one decision.
const TIME: Duration = Duration::from_secs(5);

/// A decision that was asked again.
#[derive(Debug)]
pub(super) struct Again<'a> {
    /// As it was kept.
    pub(super) decision: Decision<'a>,
    /// What it would come to; none when it was asked through an interface that is not known here.
    pub(super) verdict: Option<Verdict>,
    /// Whether the component asked for a header or an attribute that was left out.
    pub(super) asked_redacted: bool,
}

/// What is known of the request.
#[derive(Debug)]
struct Kept {
    headers: Named,
    attributes: Named,
    redacted: BTreeSet<String>,
    asked_redacted: AtomicBool,
}

impl Kept {
    fn fact<'a>(&self, kind: &str, name: &str, facts: &'a Named) -> Option<Cow<'a, str>> {
        let value = facts.get(name)?;
        if value == REDACTED && self.redacted.contains(&format!("{kind}:{name}")) {
            self.asked_redacted.store(true, Ordering::Relaxed);
        }
        Some(Cow::Borrowed(value))
    }
}

impl Facts for Kept {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.fact("header", name, &self.headers)
    }

    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        self.fact("attribute", name, &self.attributes)
    }

    fn headers(&self) -> BTreeMap<String, String> {
        self.headers.to_map()
    }

    fn attributes(&self) -> BTreeMap<String, String> {
        self.attributes.to_map()
    }
}

/// Asks the only policy of `plane`.
pub(super) async fn ask<'a>(plane: &Plane, mut decision: Decision<'a>) -> Again<'a> {
    if decision.interface != INTERFACE {
        return Again { decision, verdict: None, asked_redacted: false };
    }
    let facts = Arc::new(Kept {
        headers: std::mem::take(&mut decision.headers),
        attributes: std::mem::take(&mut decision.attributes),
        redacted: std::mem::take(&mut decision.redacted),
        asked_redacted: AtomicBool::new(false),
    });
    let call = CallContext {
        caller: decision.caller.take().map(|caller| Arc::new(caller.into())),
        time_ns: decision.time_ns,
        reads_only: true,
        ..CallContext::host(decision.namespace.as_ref().into(), TIME)
    };
    let call = Arc::new(call);
    let told = Arc::clone(&facts) as Arc<dyn Facts>;
    let verdict = plane.auth().check(&call, None, &decision.action, &decision.target, told).await;
    let asked_redacted = facts.asked_redacted.load(Ordering::Relaxed);
    decision.caller =
        call.caller.as_deref().map(|caller| Asker { subject: caller.subject.clone(), ..Asker::default() });
    Again { decision, verdict: Some(verdict), asked_redacted }
}

/// Whether headers differ. What was left out is only known to have been there.
fn headers_differ(kept: &[(String, String)], now: &[(String, String)]) -> bool {
    if kept.is_empty() && now.is_empty() {
        return false;
    }
    let left_out = |name: &str| kept.iter().any(|(kept, value)| kept.eq_ignore_ascii_case(name) && value == REDACTED);
    let value = |name: &str, value: &str| if left_out(name) { REDACTED.to_owned() } else { value.to_owned() };
    let kept: BTreeSet<_> = kept.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    let now: BTreeSet<_> = now.iter().map(|(name, given)| (name.to_ascii_lowercase(), value(name, given))).collect();
    kept != now
}

/// Whether a gateway would have done something else with the headers.
pub(super) fn other_headers(kept: &DecisionOutcome<'_>, now: &Verdict) -> bool {
    let removed = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect::<BTreeSet<_>>();
    headers_differ(&kept.set_headers, &now.set_headers)
        || headers_differ(&kept.response_headers, &now.response_headers)
        || removed(&kept.remove_headers) != removed(&now.remove_headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_compared_as_far_as_they_are_known() {
        let kept = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let now = kept;
        assert!(!headers_differ(&kept("X-A", "1"), &now("x-a", "1")));
        assert!(headers_differ(&kept("x-a", "1"), &now("x-a", "2")));
        assert!(headers_differ(&kept("x-a", "1"), &[]));
        assert!(!headers_differ(&kept("cookie", REDACTED), &now("cookie", "secret")));
        assert!(headers_differ(&kept("cookie", REDACTED), &[]));
    }
}
