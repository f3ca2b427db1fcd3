//! Rollouts with real components: who answers, what a bad candidate costs, and what is left of it.

#![expect(clippy::unwrap_used, reason = "what a test can't set up has failed")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use platform_capability::{
    SlotKind,
    discovery::{Node, Registration},
    event::TopicSettings,
};
use platform_dataplane::{
    Action, BindError, BindingSpec, By, CallError, ConfigError, Edit, FailureMode, NewEvent, Plan, Plugin, Rollout,
    RolloutStatus, SelectRequest, StopLimits, Trial, Verdict,
};
use platform_testkit::{Fixture, MapFacts, acts, alone, call, call_of, component, name, plugin, slot, until, weighs};
use serde_json::json;
use tokio::task::JoinSet;

const POLICY: &str = "auth.policy";

fn tagged(tag: &str) -> Plugin {
    acts(&json!({"tag": tag}))
}

fn canary(percent: u32) -> Plan {
    Plan { trial: Trial::Canary { percent, by: By::Caller }, stop: StopLimits::default() }
}

/// A shadow that stops beyond so many percent of divergence.
fn shadow(divergence_percent_max: Option<f64>) -> Plan {
    Plan { trial: Trial::Shadow, stop: StopLimits { divergence_percent_max, ..StopLimits::default() } }
}

async fn begin(fixture: &Fixture, at: &str, spec: BindingSpec, generation: u64, plan: Plan) -> Arc<Rollout> {
    let prepared = fixture.plane.prepare(&slot(at), spec).await.unwrap();
    fixture.plane.begin_rollout(&slot(at), prepared, generation, plan).await.unwrap()
}

async fn ask(fixture: &Fixture, subject: &str, action: &str, target: &str) -> Verdict {
    let facts = Arc::new(MapFacts::default());
    fixture.plane.auth().check(&call_of(subject, &[]), None, action, target, facts).await
}

fn tried(fixture: &Fixture) -> RolloutStatus {
    fixture.status(POLICY).rollout.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_traps_on_one_percent_is_stopped_and_fails_nobody() {
    let fixture = Arc::new(Fixture::new());
    fixture.bind(POLICY, alone(tagged("good"))).await;
    let rollout = begin(&fixture, POLICY, alone(tagged("traps")), 2, canary(30)).await;
    let stopped = rollout.stopped();
    drop(rollout);
    let (stop, candidates) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut askers = JoinSet::new();
    for asker in 0..4 {
        let (fixture, stop, candidates) = (Arc::clone(&fixture), Arc::clone(&stop), Arc::clone(&candidates));
        askers.spawn(async move {
            let mut of_candidate = BTreeMap::new();
            let mut asked = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let user = asked % 53;
                let verdict = ask(&fixture, &format!("user-{asker}-{user}"), "rarely", &asked.to_string()).await;
                assert!(verdict.allowed && verdict.fault.is_none(), "{verdict:?}");
                let taken = verdict.generation == 2;
                assert!(taken || verdict.generation == 1, "{verdict:?}");
                candidates.fetch_add(taken.into(), Ordering::Relaxed);
                if taken {
                    of_candidate.insert(user, asked);
                }
                asked += 1;
            }
            (asked, of_candidate.len())
        });
    }
    let ended = tokio::time::timeout(Duration::from_secs(30), stopped).await.unwrap().unwrap();
    assert!(ended.why.contains("calls failed") && ended.why.contains("% more are allowed"), "{}", ended.why);
    assert!(ended.status.candidate.calls >= 100 && ended.status.candidate.faults["trap"] > 0);
    assert_eq!(ended.status.current.faults.values().sum::<u64>(), 0);
    // Those that saw the candidate end on it, and no call that begins now does.
    until("no call is with the candidate", async || fixture.status(POLICY).draining.is_empty()).await;
    assert!(candidates.load(Ordering::Relaxed) > 0);
    for user in 0..500 {
        assert_eq!(ask(&fixture, &format!("user-0-{user}"), "rarely", "1").await.generation, 1);
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(asker) = askers.join_next().await {
        let (asked, users) = asker.unwrap();
        assert!(asked > 0 && users <= 30, "callers that are not among 30 % never saw the candidate: {users} of 53");
    }
    let status = fixture.status(POLICY);
    assert!(status.rollout.is_none() && status.kept.is_empty() && status.ready, "{status:?}");
    assert_eq!(status.generation, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_stick_and_every_answer_is_of_one_generation() {
    let fixture = Fixture::new();
    fixture.bind(POLICY, alone(tagged("good"))).await;
    begin(&fixture, POLICY, alone(tagged("next")), 2, canary(20)).await;
    let seen = |verdict: &Verdict| {
        let expected = if verdict.generation == 1 { "good" } else { "next" };
        assert_eq!(verdict.set_headers, [("tag".to_owned(), expected.to_owned())]);
        verdict.generation
    };
    let mut first = Vec::new();
    for user in 0..200 {
        let user = format!("user-{user}");
        let generation = seen(&ask(&fixture, &user, "ok", "/").await);
        assert_eq!(seen(&ask(&fixture, &user, "ok", "/").await), generation);
        first.push(generation);
    }
    let taken = first.iter().filter(|generation| **generation == 2).count();
    assert!(taken.abs_diff(40) < 25, "{taken} of 200 at 20 %");

    fixture.plane.change_rollout(&slot(POLICY), 2, canary(60)).await.unwrap();
    let before = tried(&fixture).candidate.calls;
    assert_eq!(before, taken as u64 * 2, "what it came to counts on");
    let mut more = 0;
    for (user, generation) in first.iter().enumerate() {
        let now = seen(&ask(&fixture, &format!("user-{user}"), "ok", "/").await);
        assert!(now >= *generation, "who was with the candidate stays there");
        more += usize::from(now == 2);
    }
    assert!(more.abs_diff(120) < 35, "{more} of 200 at 60 %");
    let verdict = fixture.plane.auth().check(&call(), None, "ok", "/", Arc::new(MapFacts::default())).await;
    seen(&verdict);

    for (percent, expected) in [(0, 1), (100, 2)] {
        fixture.plane.change_rollout(&slot(POLICY), 2, canary(percent)).await.unwrap();
        for user in 0..50 {
            assert_eq!(seen(&ask(&fixture, &format!("user-{user}"), "ok", "/").await), expected, "at {percent} %");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_faults_is_as_if_it_had_not_been_asked() {
    let fixture = Fixture::new();
    fixture.bind(POLICY, alone(tagged("good"))).await;
    // Its own failure mode would let everything pass that its second policy allows.
    let plugins = vec![tagged("bad"), tagged("too")];
    let open = BindingSpec { plugins, failure: FailureMode::Open, fallback: None };
    let plan = Plan { stop: StopLimits { failure_percent_max: 100.0, ..StopLimits::default() }, ..canary(100) };
    begin(&fixture, POLICY, open, 2, plan).await;
    let verdict = ask(&fixture, "ada", "ok", "/").await;
    assert_eq!((verdict.generation, verdict.set_headers.len()), (2, 2), "the whole chain is tried");
    let facts = MapFacts { headers: [("x-bad".to_owned(), "1".to_owned())].into(), ..MapFacts::default() };
    let ada = call_of("ada", &[]);
    let verdict = fixture.plane.auth().check(&ada, None, "trap-if", "/", Arc::new(facts)).await;
    assert_eq!((verdict.allowed, verdict.fault), (false, Some("trap")), "what serves faults too, and has the word");
    assert_eq!((verdict.generation, verdict.decided_by.as_deref()), (1, Some("auth-acts@0.1.0")));
    let status = tried(&fixture);
    assert_eq!((status.candidate.calls, status.candidate.faults["trap"]), (2, 1));
    assert_eq!((status.current.calls, status.current.faults["trap"]), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_reports_exactly_what_differs_and_is_never_used() {
    let fixture = Fixture::new();
    fixture.bind(POLICY, alone(tagged("good"))).await;
    begin(&fixture, POLICY, alone(tagged("differs")), 2, shadow(None)).await;
    for target in 1..=1000_u64 {
        let verdict = ask(&fixture, "ada", "rarely", &target.to_string()).await;
        assert_eq!((verdict.allowed, verdict.generation), (true, 1));
        // So that nothing is dropped.
        until("it is compared", async || tried(&fixture).compared.answers + 100 > target).await;
    }
    until("all are compared", async || tried(&fixture).compared.answers == 1000).await;
    let status = tried(&fixture);
    assert_eq!((status.compared.diverged, status.compared.dropped, status.divergences.len()), (50, 0, 50));
    let mut targets: Vec<u64> = status.divergences.iter().map(|one| one.resource.parse().unwrap()).collect();
    targets.sort_unstable();
    assert_eq!(targets, (1..=50).map(|number| number * 20).collect::<Vec<_>>());
    let one = &status.divergences[0];
    assert_eq!((one.subject.as_str(), one.action.as_str()), ("ada", "rarely"));
    assert_eq!((one.used.as_str(), one.candidate.as_str()), ("allow", "deny 403"));

    let ended = fixture.plane.change_rollout(&slot(POLICY), 2, shadow(Some(4.0))).await.unwrap().stopped();
    let ended = tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap().unwrap();
    assert!(ended.why.starts_with("50 of 1000 answers differed (5.00 %)"), "{}", ended.why);
    assert!(fixture.status(POLICY).rollout.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_shadow_is_asked_is_compared_or_dropped_and_shows_no_secret() {
    let fixture = Fixture::new();
    fixture.bind(POLICY, alone(tagged("good"))).await;
    let rollout = begin(&fixture, POLICY, alone(tagged("other")), 2, shadow(None)).await;
    for _ in 0..2000 {
        assert!(ask(&fixture, "ada", "ok", "/").await.allowed);
    }
    until("all were compared or dropped", async || {
        let compared = tried(&fixture).compared;
        compared.answers + compared.dropped == 2000
    })
    .await;
    assert_eq!(tried(&fixture).compared.diverged, tried(&fixture).compared.answers, "another tag is another answer");
    let shown = &tried(&fixture).divergences[0];
    assert!(shown.used.starts_with("allow, sets tag #") && !shown.used.contains("good"), "{shown:?}");
    assert_ne!(shown.used, shown.candidate);
    assert_eq!(rollout.generation(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_candidate_serves_on_and_can_be_gone_back_from() {
    let fixture = Fixture::new();
    fixture.bind(POLICY, alone(tagged("good"))).await;
    begin(&fixture, POLICY, alone(tagged("next")), 2, canary(100)).await;
    assert_eq!(ask(&fixture, "ada", "ok", "/").await.generation, 2);
    let swapped = fixture.plane.promote(&slot(POLICY), 2).await.unwrap();
    assert_eq!((swapped.generation, swapped.previous), (2, Some(1)));
    assert_eq!(ask(&fixture, "ada", "ok", "/").await.generation, 2);
    let status = fixture.status(POLICY);
    assert_eq!(status.entries[0].counts.calls, 2, "it is the same that was tried");
    assert!(status.rollout.is_none());
    until("the generation before has drained", async || fixture.status(POLICY).draining.is_empty()).await;
    assert_eq!(fixture.status(POLICY).kept, [1]);
    fixture.plane.rollback(&slot(POLICY), None, 3).await.unwrap();
    let verdict = ask(&fixture, "ada", "ok", "/").await;
    assert_eq!((verdict.generation, verdict.set_headers[0].1.as_str()), (3, "good"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_a_rollout_leaves_nothing_of_it() {
    let fixture = Fixture::new();
    let policy = slot(POLICY);
    let prepared = fixture.plane.prepare(&policy, alone(tagged("next"))).await.unwrap();
    let none = fixture.plane.begin_rollout(&policy, prepared, 1, canary(50)).await.unwrap_err();
    assert!(matches!(none, BindError::NotBound(_)), "{none}");
    fixture.bind(POLICY, alone(tagged("good"))).await;
    assert!(fixture.plane.promote(&policy, 2).await.is_err());
    assert!(fixture.plane.end_rollout(&policy, 2).await.is_err());

    for (generation, how) in [(2, "end"), (3, "bind"), (5, "unbind")] {
        begin(&fixture, POLICY, alone(tagged("next")), generation, canary(100)).await;
        let prepared = fixture.plane.prepare(&policy, alone(tagged("other"))).await.unwrap();
        let second = fixture.plane.begin_rollout(&policy, prepared, generation + 1, canary(1)).await.unwrap_err();
        assert!(second.to_string().contains("promote or abort it first"), "{second}");
        assert_eq!(ask(&fixture, "ada", "ok", "/").await.generation, generation);
        match how {
            "end" => fixture.plane.end_rollout(&policy, generation).await.unwrap(),
            "bind" => {
                let prepared = fixture.plane.prepare(&policy, alone(tagged("good"))).await.unwrap();
                fixture.plane.bind(&policy, prepared, generation + 1).await.map(drop).unwrap();
            }
            _ => fixture.plane.unbind(&policy).await.unwrap(),
        }
        assert_ne!(ask(&fixture, "ada", "ok", "/").await.generation, generation);
        assert!(fixture.plane.rollout(&policy).is_none());
        let drained = async || fixture.plane.slot_status(&policy).is_none_or(|status| status.draining.is_empty());
        until("the candidate has drained", drained).await;
    }
    // Its tasks are gone too.
    let idle = async || fixture.tasks.running().iter().all(|task| task != "rollout limits" && task != "shadow");
    until("nobody watches", idle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn router_policies_are_tried_too() {
    let fixture = Fixture::new();
    let registry = component("plugins", "discovery-storage");
    let registry = plugin(SlotKind::DiscoveryRegistry, "discovery-storage", &registry, &["storage"]);
    fixture.bind("discovery.registry", alone(registry)).await;
    for id in ["a", "b"] {
        let node = Node {
            id: id.to_owned(),
            address: "127.0.0.1:1".to_owned(),
            zone: String::new(),
            weight: 100,
            metadata: Vec::new(),
        };
        let registration = Registration {
            service: "pay".to_owned(),
            version: "1".to_owned(),
            node,
            metadata: Vec::new(),
            endpoints: Vec::new(),
        };
        fixture.plane.discovery().register(&call(), &registration, 60_000).await.unwrap();
    }
    let at = "router.policy";
    fixture.bind(at, alone(weighs(&json!({"weights": [1, 1]})))).await;
    let mut round =
        plugin(SlotKind::RouterPolicy, "router-round-robin", &component("plugins", "router-round-robin"), &[]);
    round.name = name("round");
    begin(&fixture, at, alone(round.clone()), 2, canary(50)).await;
    let request = SelectRequest { service: "pay", ..SelectRequest::default() };
    let mut generations = [0; 3];
    for user in 0..100 {
        let call = call_of(&format!("user-{user}"), &[]);
        let picked = fixture.plane.router().select(&call, request).await.unwrap();
        assert_eq!(picked.policy.starts_with("round"), picked.generation == 2, "{picked:?}");
        generations[usize::try_from(picked.generation).unwrap()] += 1;
    }
    assert!(generations[1] > 20 && generations[2] > 20, "{generations:?}");
    fixture.plane.end_rollout(&slot(at), 2).await.unwrap();

    begin(&fixture, at, alone(round), 3, shadow(None)).await;
    for _ in 0..40 {
        let picked = fixture.plane.router().select(&call(), request).await.unwrap();
        assert_eq!((picked.node.id.as_str(), picked.generation), ("a", 1));
    }
    let tried = || fixture.status(at).rollout.unwrap();
    until("all are compared", async || tried().compared.answers == 40).await;
    let compared = tried().compared;
    assert!(compared.diverged > 0 && compared.diverged < 40, "turns go to both nodes: {compared:?}");
    assert_eq!((tried().divergences[0].used.as_str(), tried().divergences[0].candidate.as_str()), ("a", "b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_validators_are_tried_too() {
    let fixture = Fixture::new();
    let broker = plugin(SlotKind::EventBroker, "event-storage", &component("plugins", "event-storage"), &["storage"]);
    fixture.bind("event.broker", alone(broker)).await;
    let topic = TopicSettings { age_ms: None, count: None, bytes: None, window_ms: 60_000 };
    let events = fixture.plane.event();
    events.put_topic(&call(), "orders", topic, true).await.unwrap();
    let filter = |settings: &str| {
        let filter = component("examples", "event-filter-rust");
        let filter = plugin(SlotKind::EventFilter, "event-filter-rust", &filter, &[]);
        Plugin { settings: settings.to_owned(), ..filter }
    };
    fixture.bind("event.filter", alone(filter("{}"))).await;
    begin(&fixture, "event.filter", alone(filter(r#"{"types":["order.*"]}"#)), 2, shadow(None)).await;
    for kind in ["order.placed", "mail.sent"] {
        let event = NewEvent { kind: kind.to_owned(), ..NewEvent::default() };
        let published = events.publish(&call_of("ada", &[]), "orders", vec![event]).await.unwrap();
        assert!(published[0].published.is_ok(), "what a shadow drops is kept");
    }
    let tried = |at: &str| fixture.status(at).rollout.unwrap();
    until("both are compared", async || tried("event.filter").compared.answers == 2).await;
    let differed = &tried("event.filter").divergences;
    assert_eq!(
        (differed.len(), differed[0].action.as_str(), differed[0].resource.as_str()),
        (1, "mail.sent", "orders")
    );
    assert!(differed[0].used.starts_with("keep as `mail.sent` #") && differed[0].candidate == "drop", "{differed:?}");

    let store = plugin(SlotKind::ConfigStore, "config-storage", &component("plugins", "config-storage"), &["storage"]);
    fixture.bind("config.store", alone(store)).await;
    let example = component("examples", "config-validator-rust");
    let lenient = plugin(SlotKind::ConfigValidator, "config-validator-rust", &example, &[]);
    let lenient = Plugin { settings: json!({"factor": 2.0, "role": "on-call"}).to_string(), ..lenient };
    fixture.bind("config.validator", alone(lenient)).await;
    let acts = plugin(SlotKind::ConfigValidator, "config-acts", &component("testkit", "config-acts"), &[]);
    begin(&fixture, "config.validator", alone(acts), 2, canary(100)).await;
    let set = async |value: &str| {
        let edit = Edit { value, ..Edit::new("shop", Action::Set) };
        fixture.plane.configurations().edit(&call_of("ada", &[]), &edit).await
    };
    let refused = set(r#"{"act":"refuse"}"#).await.unwrap_err();
    let refused =
        matches!(&refused, CallError::Capability(ConfigError::Refused { by, .. }) if by.starts_with("config-acts"));
    assert!(refused, "the candidate's answer counts");
    set(r#"{"act":"trap"}"#).await.unwrap();
    assert_eq!(tried("config.validator").candidate.faults["trap"], 1, "what serves judged in its place");
}
