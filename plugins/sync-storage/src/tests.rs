//! What the lines and leases promise, against the native stand-in for storage.

use std::time::Duration;

use platform_sdk::{context::Caller, native, sync::Mode};

use super::*;

fn locks() -> Durable {
    Durable::default()
}

/// The id of a lease by number.
fn id(number: u32) -> String {
    format!("{number:032x}")
}

fn act_as(subject: &str) {
    native::set_caller(Some(Caller { subject: subject.to_owned(), roles: Vec::new() }));
}

fn take(lease: u32, name: &str, mode: Mode) -> Result<Place> {
    let want = Want { mode, value: None };
    locks().acquire(name, want, &id(lease), Some(1000), true).map(|(place, _)| place)
}

fn held(name: &str) -> Vec<u64> {
    let lock = locks().get(name).unwrap();
    lock.map(|lock| lock.held.iter().map(|place| place.token).collect()).unwrap_or_default()
}

fn keys() -> Vec<String> {
    TABLE.scan("", None, 1000).unwrap().into_iter().map(|entry| entry.key).collect()
}

#[test]
fn tokens_increase_for_ever() {
    act_as("a");
    let mut last = 0;
    for round in 0..20 {
        let place = take(round, "l", Mode::Exclusive).unwrap();
        assert!(place.held && place.token > last, "{place:?} after {last}");
        last = place.token;
        match round % 4 {
            0 => locks().release("l", last).unwrap(),
            1 => locks().revoke(&id(round)).unwrap(),
            2 => native::advance(Duration::from_millis(1000)),
            // Long enough for what is left of the line to go, too.
            _ => native::advance(Duration::from_millis(2 * 3_600_000)),
        }
    }
}

#[test]
fn nothing_is_left_of_what_was_given_up() {
    act_as("a");
    for lease in 0..5 {
        take(lease, "l", Mode::Shared).unwrap();
    }
    let tokens = held("l");
    assert_eq!(tokens.len(), 5);
    for token in tokens {
        locks().release("l", token).unwrap();
    }
    assert_eq!(keys(), ["name/l"]);
    native::advance(Duration::from_millis(3_600_000));
    assert!(keys().is_empty());
}

#[test]
fn what_leases_leave_behind_is_swept() {
    act_as("a");
    for lease in 0..5 {
        take(lease, &lease.to_string(), Mode::Exclusive).unwrap();
    }
    native::advance(Duration::from_millis(1000));
    assert_eq!(keys().iter().filter(|key| key.starts_with("place/")).count(), 5);
    let mut locks = locks();
    for lease in 0..SWEEP_EVERY {
        locks.grant(&id(1000 + lease), 1000).unwrap();
    }
    assert_eq!(keys().iter().filter(|key| key.starts_with("place/")).count(), 0);
}

#[test]
fn a_lease_that_ended_in_the_middle_of_a_line_goes_from_it() {
    act_as("a");
    let first = take(1, "l", Mode::Exclusive).unwrap();
    let gone = take(2, "l", Mode::Exclusive).unwrap();
    let last = take(3, "l", Mode::Exclusive).unwrap();
    locks().revoke(&id(2)).unwrap();
    assert_eq!(locks().find("l", gone.token), Ok(None));
    assert_eq!(locks().get("l").unwrap().unwrap().waiting, 1);
    locks().release("l", first.token).unwrap();
    assert_eq!(held("l"), [last.token]);
}

#[test]
fn following_the_changes_passes_on_what_a_lease_held() {
    act_as("a");
    let first = take(1, "l", Mode::Exclusive).unwrap();
    native::advance(Duration::from_millis(500));
    let second = take(2, "l", Mode::Exclusive).unwrap();
    assert!(!second.held);
    let after = locks().revision().unwrap();
    native::advance(Duration::from_millis(500));
    let changes = locks().changes("", after, 10, 0).unwrap();
    let [lock] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((lock.held[0].token, lock.waiting), (second.token, 0), "instead of {}", first.token);
    assert_eq!(locks().changes("m", after, 10, 0).unwrap(), []);
}

#[test]
fn more_leases_than_fit_one_commit_may_end_at_once() {
    act_as("a");
    for lease in 0..900 {
        take(lease, "l", Mode::Shared).unwrap();
    }
    native::advance(Duration::from_millis(1000));
    let place = take(1000, "l", Mode::Exclusive).unwrap();
    assert!(place.held);
    assert_eq!(held("l"), [place.token]);
}

#[test]
fn a_line_has_an_end() {
    act_as("a");
    for lease in 0..1000 {
        take(lease, "l", Mode::Shared).unwrap();
    }
    assert!(matches!(take(1000, "l", Mode::Shared), Err(Error::Crowded(_))));
}

#[test]
fn a_lease_is_used_once() {
    act_as("a");
    locks().grant(&id(1), 1000).unwrap();
    assert!(matches!(locks().grant(&id(1), 1000), Err(Error::Invalid(_))));
    assert!(matches!(take(1, "l", Mode::Exclusive), Err(Error::Invalid(_))));
    assert!(held("l").is_empty());
}
