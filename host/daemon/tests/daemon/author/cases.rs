//! `platform plugin test`: what the cases of components that are there say, and how failures read.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::{author, done, edit, project, refused};
use crate::support::{plugins, text};

fn repository() -> PathBuf {
    plugins().join("../..").canonicalize().unwrap()
}

/// The cases of shipped components, on the components as they are shipped.
#[test]
fn shipped_cases_pass() {
    for (folder, component, passed) in [
        ("examples/auth-policy-rust", "examples/auth-policy-rust", 6),
        ("examples/config-validator-rust", "examples/config-validator-rust", 4),
        ("examples/event-filter-rust", "examples/event-filter-rust", 4),
        ("plugins/router-round-robin", "plugins/router-round-robin", 2),
    ] {
        let cases = repository().join(folder).join("cases.toml").display().to_string();
        let file = repository().join("dist").join(component).with_extension("wasm").display().to_string();
        let report = done(&["test", &file, "--cases", &cases, "--plugins-dir", plugins().to_str().unwrap()]);
        let cases = report["cases"].as_array().unwrap();
        assert!(cases.iter().all(|case| case["passed"] == true), "{folder}: {report}");
        assert_eq!(cases.len(), passed, "{folder}: {report}");
        assert!(report["failed"] == 0 && !report["promises"].as_array().unwrap().is_empty(), "{folder}: {report}");
    }
}

#[test]
fn a_project_is_built_tried_and_tested_natively() {
    let (_root, folder) = project("auth.policy", "tested");
    let report = done(&["test", &folder]);
    assert_eq!((report["failed"].as_u64(), report["unitTests"].as_bool()), (Some(0), Some(true)), "{report}");

    // The rule is turned round: cases and unit tests say so, each with what came.
    edit(&PathBuf::from(&folder).join("src/lib.rs"), "if open {", "if !open {");
    let output = author(&["test", &folder]);
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    for words in ["FAILED  open at noon", "decision: expected \"abstain\"", "got      \"deny\"", "unit tests FAILED"] {
        assert!(printed.contains(words), "no `{words}` in {printed}");
    }
    let output = author(&["test", &folder, "--only", "noon", "--output", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{report}");
    let found = &report["cases"][0]["differences"];
    assert_eq!(found[0], json!({"what": "decision", "expected": "abstain", "got": "deny"}), "{report}");
    assert_eq!((report["cases"].as_array().unwrap().len(), &report["unitTests"]), (1, &Value::Null));
}

#[test]
fn a_component_is_measured_beside_the_one_that_is_the_measure() {
    let shipped = plugins().display().to_string();
    let file = |name: &str| repository().join("dist").join(name).with_extension("wasm").display().to_string();
    let cases = repository().join("examples/auth-policy-rust/cases.toml").display().to_string();
    let policy = file("examples/auth-policy-rust");
    let bench = ["bench", "--for", "200ms", "--plugins-dir", &shipped];
    let figures = done(&[&bench[..], &[&policy, "--cases", &cases]].concat());
    assert_eq!(
        (figures["slot"].as_str(), figures["mode"].as_str(), figures["reference"]["component"].as_str()),
        (Some("auth.policy"), Some("fresh"), Some("auth-scopes"))
    );
    for what in ["p50", "p99", "memory", "size"] {
        assert!(figures["ratio"][what].as_f64() > Some(0.0), "{what}: {figures}");
    }
    assert_eq!(figures["measured"]["sizeBytes"].as_u64(), Some(fs::metadata(&policy).unwrap().len()));
    assert_eq!(figures["measured"]["calls"], figures["reference"]["calls"]);

    let itself = done(&[&bench[..], &[&policy, "--cases", &cases, "--against", &policy]].concat());
    assert_eq!(itself["ratio"]["size"].as_f64(), Some(1.0));
    let store = done(&[&bench[..], &[&file("plugins/kv-storage"), "--grant", "requested"]].concat());
    assert_eq!(store["reference"]["component"].as_str(), Some("kv-memory"));
    let complaint = refused(2, &[&bench[..], &[&file("plugins/sync-storage")]].concat());
    assert!(complaint.contains("there is nothing to ask"), "{complaint}");
    let complaint = refused(1, &[&bench[..], &[&policy]].concat());
    assert!(complaint.contains("missing properties 'opens'"), "no cases, no settings: {complaint}");
}

/// A policy that asks its host for everything there is.
const CURIOUS: &str = r#"//! Allows who is on a list, and writes down who asked.
use platform_sdk::{Problem, auth, client::{config, db, event, kv, sync}, log};

struct Listed;

platform_sdk::export!(auth::Policy for Listed, grants = ["config", "db", "event", "kv", "sync"]);

impl auth::Policy for Listed {
    type Settings = ();

    fn configure((): ()) -> Result<Self, Problem> {
        Ok(Self)
    }

    fn authorize(&self, request: &auth::Request<'_>) -> auth::Decision {
        if let Some(id) = request.target.strip_prefix("/orders/") {
            let order = db::get("shop", "orders", id).ok().flatten();
            let status = order.as_ref().and_then(|order| db::field(&order.metadata, "status"));
            let open = status.is_some_and(|status| *status == db::Value::Text("open".to_owned()));
            return if open { auth::Decision::allow("open") } else { auth::Decision::deny("closed") };
        }
        if request.target == "/next" {
            let placed = event::receive("orders", "billing", "", 1).unwrap_or_default();
            let seen = event::json("order.seen", "").and_then(|event| event::publish("orders", &[event]));
            let data = placed.first().map(|delivery| delivery.event.content.data.clone()).unwrap_or_default();
            return auth::Decision::allow(format!("{} {}", String::from_utf8_lossy(&data), seen.is_ok()));
        }
        if request.target == "/busy" {
            let lock = sync::get("orders").ok().flatten();
            let holder = lock.and_then(|lock| lock.held.into_iter().next()).map(|place| place.holder);
            return auth::Decision::allow(holder.unwrap_or_default());
        }
        let allowed: Option<Vec<String>> = config::get("policy", "/allowed").unwrap_or_default();
        let team = kv::get(&format!("team/{}", request.subject)).ok().flatten();
        log::info!("asked", subject = request.subject);
        if !allowed.unwrap_or_default().iter().any(|name| name == request.subject) {
            return auth::Decision::deny("not on the list").with_header("x-why", "list");
        }
        let team = team.map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
        auth::Decision::allow("on the list").with_header("x-team", team.unwrap_or_default())
    }
}
"#;

const CURIOUS_CASES: &str = r#"
strict = true

[host]
config.policy = { allowed = ["alice", "bob"] }

[[case]]
name = "known"
caller.subject = "alice"
host.kv."team/alice" = "payments"
[case.expect]
decision = "allow"
reason = "on the list"
set_headers = { x-team = "payments" }
remove_headers = []
log = [{ has = "subject=alice" }]

[[case]]
name = "unknown"
caller.subject = "mallory"
host.calls = ["kv.get team/*"]
expect = { decision = "deny", status = 403, response_headers = { x-why = "list" } }

[[case]]
name = "calls"
caller.subject = "bob"
expect.calls = ["config.get policy/allowed", "kv.get team/bob"]

[[case]]
name = "not given"
caller.subject = "bob"
expect.decision = "allow"

[[case]]
name = "lenient"
strict = false
caller.subject = "bob"
expect.decision = "allow"

[[case]]
name = "a record"
ask.target = "/orders/o-1"
host.db."shop/orders/o-1" = { metadata = { status = "open", total = 12.5, paid = false }, data = "two chairs" }
expect = { decision = "allow", reason = "open" }

[[case]]
name = "no record"
strict = false
ask.target = "/orders/o-1"
expect = { decision = "deny", reason = "closed", calls = ["db.get shop/orders/o-1"] }

[[case]]
name = "an event"
ask.target = "/next"
host.topics.orders = { events = [{ type = "order.placed", data = "two chairs" }], subscriptions = ["billing"] }
host.calls = ["event.publish orders/order.seen"]
expect = { decision = "allow", reason = "two chairs true" }

[[case]]
name = "a lock"
ask.target = "/busy"
host.locks.orders = "bob"
expect = { decision = "allow", reason = "bob" }
"#;

#[test]
fn what_a_component_asks_its_host_is_given_and_watched() {
    let (root, folder) = project("auth.policy", "curious");
    let source = PathBuf::from(&folder).join("src");
    fs::write(source.join("lib.rs"), CURIOUS).unwrap();
    fs::remove_file(source.join("tests.rs")).unwrap();
    fs::write(PathBuf::from(&folder).join("cases.toml"), CURIOUS_CASES).unwrap();
    let shipped = plugins().display().to_string();
    let arguments = ["test", &folder, "--plugins-dir", &shipped, "--no-unit-tests", "--output", "json"];
    let output = author(&arguments);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    assert_eq!(output.status.code(), Some(1), "{report}");
    let cases = report["cases"].as_array().unwrap();
    let passed: Vec<bool> = cases.iter().map(|case| case["passed"] == true).collect();
    assert_eq!(passed, [true, true, true, false, true, true, true, true, true], "{report}");
    let found = &cases[3]["differences"][0];
    assert_eq!((&found["what"], &found["got"]), (&json!("calls"), &json!(["kv.get team/bob"])), "{report}");

    let complaint = refused(2, &["test", &folder, "--plugins-dir", root.path().to_str().unwrap()]);
    assert!(complaint.contains("`config-storage`, which is not there"), "{complaint}");
    for (cases, words) in [
        ("[[case]]\nname = \"a\"\nexpect.colour = 1\n", "`expect.colour` is unknown"),
        ("[[case]]\nname = \"a\"\nask.colour = 1\nexpect.decision = \"deny\"\n", ""),
        ("settings = 1\n", "cases.toml"),
    ] {
        fs::write(PathBuf::from(&folder).join("cases.toml"), cases).unwrap();
        let output = author(&["test", &folder, "--plugins-dir", &shipped, "--no-unit-tests"]);
        let told = text(&output.stdout) + &text(&output.stderr);
        if words.is_empty() {
            assert!(output.status.code() == Some(1) && told.contains("unknown field `colour`"), "{told}");
        } else {
            assert!(output.status.code() == Some(2) && told.contains(words), "{told}");
        }
    }
}
