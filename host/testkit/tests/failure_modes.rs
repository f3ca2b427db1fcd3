//! What becomes of a call whose plugin faults or rests: each failure mode of a slot.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what a test can't set up has failed")]

use platform_capability::Name;
use platform_dataplane::{BindingSpec, Plugin};
use platform_testkit::{Fixture, acts, alone, until};
use serde_json::json;

const BAD: &str = "auth.policy/bad";

/// A policy that misses its deadline where [`patient`] does not.
fn hasty() -> Plugin {
    let mut hasty = acts(&json!({"tag": "hasty"}));
    hasty.limits.deadline_ms = 50;
    hasty
}

fn patient(tag: &str) -> Plugin {
    let mut patient = acts(&json!({"tag": tag}));
    patient.name = "auth-patient".parse::<Name>().unwrap();
    patient.limits.deadline_ms = 5_000;
    patient
}

async fn bound(mode: &str, fallback: Option<Plugin>) -> Fixture {
    let fixture = Fixture::new();
    fixture.bind(BAD, alone(patient("before"))).await;
    fixture.bind(BAD, BindingSpec { plugins: vec![hasty()], failure: mode.parse().unwrap(), fallback }).await;
    fixture
}

/// Asks until the guest rests, so that a refusal goes the way of a fault.
async fn rested(fixture: &Fixture) {
    until("it rests", async || {
        fixture.ask("bad", "busy", "200", false).await;
        fixture.status(BAD).entries[0].rest.is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_denies() {
    let fixture = bound("closed", None).await;
    let verdict = fixture.ask("bad", "trap", "", false).await;
    assert_eq!((verdict.allowed, verdict.status, verdict.generation), (false, 503, 2));
    assert_eq!((verdict.fault, verdict.decided_by.as_deref()), (Some("trap"), Some("auth-acts@0.1.0")));
    assert_eq!(verdict.reason, "a policy failed", "the caller does not learn how");
    rested(&fixture).await;
    assert_eq!(fixture.ask("bad", "ok", "", false).await.fault, Some("resting"));
}

#[tokio::test(flavor = "multi_thread")]
async fn open_leaves_the_policy_out() {
    let fixture = Fixture::new();
    let plugins = vec![hasty(), patient("next")];
    let open = BindingSpec { plugins, failure: "open".parse().unwrap(), fallback: None };
    fixture.bind(BAD, open).await;
    assert_eq!(fixture.ask("bad", "ok", "", false).await.set_headers.len(), 2, "both allow");
    let verdict = fixture.ask("bad", "busy", "200", false).await;
    assert_eq!(verdict.set_headers, [("tag".to_owned(), "next".to_owned())], "{verdict:?}");
    assert_eq!(verdict.decided_by.as_deref(), Some("auth-patient@0.1.0"));
    assert_eq!(fixture.counts(BAD).faults["deadline"], 1);
    assert!(!fixture.ask("bad", "deny-if", "next", false).await.allowed, "the rest of the chain decides");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_with_nobody_left_denies() {
    let fixture = bound("open", None).await;
    let verdict = fixture.ask("bad", "trap", "", false).await;
    assert_eq!((verdict.allowed, verdict.status, verdict.fault), (false, 401, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn last_good_asks_the_generation_before() {
    let fixture = bound("last-good", None).await;
    let verdict = fixture.ask("bad", "busy", "200", false).await;
    assert_eq!((verdict.allowed, verdict.generation), (true, 1), "{verdict:?}");
    assert_eq!(verdict.set_headers, [("tag".to_owned(), "before".to_owned())]);
    assert_eq!(fixture.counts(BAD).faults["deadline"], 1);
    let verdict = fixture.ask("bad", "ok", "", false).await;
    assert_eq!(verdict.generation, 2, "the new generation is asked first: {verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fallback_asks_the_plugin_named() {
    let fixture = bound("fallback:auth-patient", Some(patient("fallback"))).await;
    rested(&fixture).await;
    let verdict = fixture.ask("bad", "ok", "", false).await;
    assert_eq!(verdict.set_headers, [("tag".to_owned(), "fallback".to_owned())], "{verdict:?}");
    assert_eq!(verdict.decided_by.as_deref(), Some("auth-patient@0.1.0"));
    let status = fixture.status(BAD);
    assert!(status.entries[0].counts.faults["deadline"] > 0 && status.entries[0].counts.faults["resting"] > 0);
    assert_eq!(status.entries[1].counts.faults.values().sum::<u64>(), 0);
    assert!(!status.ready);
}
