//! Steps of all sizes.

use platform_sdk::{config::Validator, native, settings};
use serde_json::{Value, json};

use super::*;

fn validate(before: Value, after: Value, roles: &[&str]) -> Result<(), config::Refusal> {
    let steps = SmallSteps::configure(settings::parse(r#"{"factor": 10, "role": "on-call"}"#).unwrap()).unwrap();
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    let proposed = native::Proposed { before, after, roles, ..native::Proposed::default() };
    steps.validate(&config::Proposal::native("shop", &proposed))
}

#[test]
fn small_steps_are_taken_and_large_ones_are_not() {
    let limits = |requests: i64| json!({"limits": {"requests": requests, "note": "text"}});
    for (from, to, taken) in [(10, 100, true), (10, 101, false), (10, 1, true), (100, 9, false), (0, 1000, true)] {
        assert_eq!(validate(limits(from), limits(to), &[]).is_ok(), taken, "{from} to {to}");
        assert_eq!(validate(limits(from), limits(to), &["on-call"]), Ok(()));
    }
    let refusal = validate(limits(10), limits(1000), &[]).unwrap_err();
    assert_eq!(refusal.at.as_deref(), Some("/limits/requests"));
    assert_eq!(refusal.reason, "`requests` would go from 10 to 1000, which is more than a factor of 10");
}

#[test]
fn what_is_new_or_gone_is_no_step() {
    for (before, after) in [
        (Value::Null, json!({"limits": {"a": 1}})),
        (json!({"limits": {"a": 1}}), Value::Null),
        (json!({"limits": {"a": 1}}), json!({"limits": 7})),
        (json!({"limits": {"a": "1"}}), json!({"limits": {"a": 1000}})),
    ] {
        assert_eq!(validate(before, after, &[]), Ok(()));
    }
}

#[test]
fn a_factor_below_one_is_refused() {
    let Err(problem) = SmallSteps::configure(SmallSteps { factor: 0.5, role: String::new() }) else { unreachable!() };
    assert_eq!(problem.pointer(), Some("/factor"));
}
