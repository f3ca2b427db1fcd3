//! The policy around the clock.

use std::time::Duration;

use platform_sdk::{
    auth::{Decision, Policy, Request},
    native, settings,
};

use super::*;

fn ask(policy: &BusinessHours, facts: &native::Facts) -> bool {
    policy.authorize(&Request::native("alice", "GET", "/", facts)) == Decision::abstain()
}

#[test]
fn opens_and_closes_on_the_hour() {
    let policy = BusinessHours::configure(settings::parse(r#"{"opens": 8, "closes": 18}"#).unwrap()).unwrap();
    let since_midnight = context::time_ns() % 86_400_000_000_000;
    native::advance(Duration::from_nanos(86_400_000_000_000 - since_midnight));
    let nobody = native::Facts::default();
    let on_call = native::Facts::default().role("on-call");
    for hour in 0..24 {
        assert_eq!(ask(&policy, &nobody), (8..18).contains(&hour), "{hour}:00");
        assert!(ask(&policy, &on_call));
        native::advance(Duration::from_hours(1));
    }
}

#[test]
fn hours_that_make_no_sense_are_refused() {
    for text in [r#"{"opens": 9, "closes": 9}"#, r#"{"opens": 8, "closes": 25}"#] {
        let Err(problem) = BusinessHours::configure(settings::parse(text).unwrap()) else { unreachable!() };
        assert_eq!(problem.pointer(), Some("/closes"));
    }
}
