//! What every provider of `sync.lock` does alike, checked through the host.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that can't go on has failed")]
#![expect(clippy::disallowed_methods, reason = "a waiter is a task of its own, and the test waits for it")]

use std::time::Duration;

use futures::StreamExt;
use platform_base::clock;
use platform_capability::{
    Call, SlotKind,
    sync::{Error, Mode, Permits, Want},
};
use platform_dataplane::{CallError, Event, Fate, Held, Keep, Plugin, Queued, Sync, Taken};
use platform_testkit::{Fixture, alone, call, call_of, component, plugin, until};

const TTL_MS: u64 = 30_000;
const LONG: Duration = Duration::from_secs(30);

fn storage() -> Plugin {
    plugin(SlotKind::SyncLock, "sync-storage", &component("plugins", "sync-storage"), &["storage"])
}

/// A host in which the provider is bound.
async fn bound() -> (Fixture, Sync) {
    let fixture = Fixture::new();
    fixture.bind("sync.lock", alone(storage())).await;
    let sync = fixture.plane.sync().clone();
    (fixture, sync)
}

fn of(subject: &str) -> Call {
    call_of(subject, &[])
}

fn want(mode: Mode) -> Want {
    Want { mode, value: None }
}

fn permits(count: u32, limit: u32) -> Mode {
    Mode::Permits(Permits { count, limit })
}

async fn take(sync: &Sync, who: &str, name: &str, mode: Mode, wait: Duration) -> Result<Taken, CallError<Error>> {
    sync.acquire(&of(who), name, &want(mode), &Keep::Own(TTL_MS), clock::now() + wait).await
}

/// Takes a place that is free.
async fn held(sync: &Sync, who: &str, name: &str, mode: Mode) -> Held {
    match take(sync, who, name, mode, Duration::ZERO).await.unwrap() {
        Taken::Held(held) => held,
        Taken::Queued(queued) => panic!("{queued:?}"),
    }
}

/// Waits for a place that is not.
async fn queued(sync: &Sync, who: &str, name: &str, mode: Mode) -> Queued {
    match take(sync, who, name, mode, LONG).await.unwrap() {
        Taken::Queued(queued) => queued,
        Taken::Held(held) => panic!("{held:?}"),
    }
}

fn reason<T: std::fmt::Debug>(answer: Result<T, CallError<Error>>) -> &'static str {
    match answer {
        Err(CallError::Capability(error)) => match error {
            Error::NotFound(_) => "not found",
            Error::Held(_) => "held",
            Error::Denied(_) => "denied",
            Error::Crowded(_) => "crowded",
            Error::TooLarge(_) => "too large",
            Error::Invalid(_) => "invalid",
            _ => "other",
        },
        other => panic!("{other:?}"),
    }
}

async fn waiting(sync: &Sync, name: &str) -> u32 {
    sync.get(&call(), name).await.unwrap().map_or(0, |lock| lock.waiting)
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_held_in_the_order_they_were_asked_for() {
    let (_fixture, sync) = bound().await;
    let first = held(&sync, "a", "l", Mode::Exclusive).await;
    assert_eq!(reason(take(&sync, "b", "l", Mode::Exclusive, Duration::ZERO).await), "held");
    let second = queued(&sync, "b", "l", Mode::Exclusive).await;
    let third = queued(&sync, "c", "l", Mode::Exclusive).await;
    assert!(first.place.token < second.place().token && second.place().token < third.place().token);
    let third = tokio::spawn(third.held());
    sync.release(&of("a"), "l", first.place.token).await.unwrap();
    let second = second.held().await.unwrap();
    assert_eq!((second.place.holder.as_str(), second.place.held), ("b", true));
    assert!(!third.is_finished());
    sync.release(&of("b"), "l", second.place.token).await.unwrap();
    let third = third.await.unwrap().unwrap();
    sync.release(&of("c"), "l", third.place.token).await.unwrap();
    assert_eq!(sync.get(&call(), "l").await.unwrap(), None);
    let again = held(&sync, "a", "l", Mode::Exclusive).await;
    assert!(again.place.token > third.place.token, "a token is never given twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_who_waits_is_not_overtaken_by_readers() {
    let (_fixture, sync) = bound().await;
    let first = held(&sync, "a", "rw", Mode::Shared).await;
    let second = held(&sync, "b", "rw", Mode::Shared).await;
    let writer = tokio::spawn(queued(&sync, "w", "rw", Mode::Exclusive).await.held());
    assert_eq!(reason(take(&sync, "c", "rw", Mode::Shared, Duration::ZERO).await), "held");
    let reader = tokio::spawn(queued(&sync, "c", "rw", Mode::Shared).await.held());
    sync.release(&of("a"), "rw", first.place.token).await.unwrap();
    assert!(!writer.is_finished());
    sync.release(&of("b"), "rw", second.place.token).await.unwrap();
    let writer = writer.await.unwrap().unwrap();
    assert!(!reader.is_finished());
    sync.release(&of("w"), "rw", writer.place.token).await.unwrap();
    reader.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_semaphore_has_as_many_permits_as_all_say() {
    let (_fixture, sync) = bound().await;
    held(&sync, "a", "s", permits(2, 3)).await;
    held(&sync, "b", "s", permits(1, 3)).await;
    assert_eq!(reason(take(&sync, "c", "s", permits(1, 3), Duration::ZERO).await), "held");
    for mode in [permits(1, 4), Mode::Exclusive, Mode::Shared] {
        assert_eq!(reason(take(&sync, "c", "s", mode, Duration::ZERO).await), "invalid", "{mode:?}");
    }
    let lock = sync.get(&call(), "s").await.unwrap().unwrap();
    assert_eq!((lock.held.len(), lock.waiting), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_holder_or_an_admin_gives_up() {
    let (_fixture, sync) = bound().await;
    let first = held(&sync, "a", "l", Mode::Exclusive).await;
    let (token, lease) = (first.place.token, first.lease.id);
    assert_eq!(reason(sync.release(&of("b"), "l", token).await), "denied");
    assert_eq!(reason(sync.proclaim(&of("b"), "l", token, Some("me")).await), "denied");
    assert_eq!(reason(sync.keep_alive(&of("b"), &lease).await), "denied");
    assert_eq!(reason(sync.revoke(&of("b"), &lease).await), "denied");
    assert_eq!(reason(sync.release(&call(), "l", token).await), "denied");
    assert_eq!(reason(sync.release(&of("a"), "l", token + 1).await), "not found");
    assert_eq!(reason(take(&sync, "b", "l", Mode::Exclusive, Duration::ZERO).await), "held");
    let nobody = sync.acquire(&call(), "m", &want(Mode::Exclusive), &Keep::Own(TTL_MS), clock::now()).await;
    assert_eq!(reason(nobody), "denied", "a lock is somebody's");
    sync.release(&call_of("root", &["admin"]), "l", token).await.unwrap();
    assert_eq!(reason(sync.release(&of("a"), "l", token).await), "not found");
    assert_eq!(reason(sync.keep_alive(&of("a"), &lease).await), "not found", "its own lease went along");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_places_hang_on_one_lease() {
    let (_fixture, sync) = bound().await;
    let lease = sync.grant(&of("a"), TTL_MS).await.unwrap();
    let keep = Keep::Lease(lease.id.clone());
    let now = clock::now();
    for name in ["x", "y/1", "y/2"] {
        sync.acquire(&of("a"), name, &want(Mode::Exclusive), &keep, now).await.unwrap();
    }
    assert_eq!(reason(sync.acquire(&of("b"), "z", &want(Mode::Exclusive), &keep, now).await), "denied");
    let own = held(&sync, "a", "own", Mode::Exclusive).await;
    let borrowed = Keep::Lease(own.lease.id);
    assert_eq!(reason(sync.acquire(&of("a"), "z", &want(Mode::Exclusive), &borrowed, now).await), "invalid");
    let names = |locks: Vec<platform_capability::sync::Lock>| -> Vec<String> {
        locks.into_iter().map(|lock| lock.name).collect()
    };
    assert_eq!(names(sync.search(&call(), "", None, 10).await.unwrap()), ["own", "x", "y/1", "y/2"]);
    assert_eq!(names(sync.search(&call(), "y/", Some("y/1"), 10).await.unwrap()), ["y/2"]);
    let waiter = queued(&sync, "b", "y/1", Mode::Exclusive).await;
    sync.revoke(&of("a"), &lease.id).await.unwrap();
    waiter.held().await.unwrap();
    assert_eq!(names(sync.search(&call(), "", None, 10).await.unwrap()), ["own", "y/1"], "b holds on");
    sync.revoke(&of("a"), &lease.id).await.unwrap();
    assert_eq!(reason(sync.acquire(&of("a"), "x", &want(Mode::Exclusive), &keep, now).await), "not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_goes_away_leaves_the_line() {
    let (_fixture, sync) = bound().await;
    let first = held(&sync, "a", "l", Mode::Exclusive).await;
    let gone = queued(&sync, "b", "l", Mode::Exclusive).await;
    let Ok(Taken::Queued(late)) = take(&sync, "c", "l", Mode::Exclusive, Duration::from_millis(300)).await else {
        panic!("it was not waited for");
    };
    assert_eq!(waiting(&sync, "l").await, 2);
    drop(gone);
    assert_eq!(reason(late.held().await), "held");
    until("both to be out of the line", async || waiting(&sync, "l").await == 0).await;
    // A call that is dropped before it is answered takes no place either.
    for _ in 0..20 {
        let call = of("d");
        let (mode, keep) = (want(Mode::Exclusive), Keep::Own(TTL_MS));
        let asked = sync.acquire(&call, "l", &mode, &keep, clock::now() + LONG);
        let _ = tokio::time::timeout(Duration::from_micros(200), asked).await;
    }
    sync.release(&of("a"), "l", first.place.token).await.unwrap();
    until("nobody to be left", async || sync.get(&call(), "l").await.unwrap().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ends_passes_its_places_on_and_is_told() {
    let (_fixture, sync) = bound().await;
    for ttl_ms in [500, 700] {
        let keep = Keep::Own(ttl_ms);
        let begun = clock::now();
        let Taken::Held(first) =
            sync.acquire(&of("a"), "l", &want(Mode::Exclusive), &keep, clock::now()).await.unwrap()
        else {
            panic!("it was not free");
        };
        let granted = clock::now();
        let mut fates = Box::pin(sync.hold(&of("a"), "l", first.place.token).await.unwrap());
        assert!(matches!(fates.next().await, Some(Ok(Fate::Held(_)))));
        let second = queued(&sync, "b", "l", Mode::Exclusive).await.held().await.unwrap();
        let passed = clock::now();
        let ttl = Duration::from_millis(ttl_ms);
        assert!(passed.duration_since(begun) >= ttl, "never early");
        let late = passed.duration_since(granted).saturating_sub(ttl);
        assert!(late < Duration::from_millis(250), "{late:?} late");
        assert!(matches!(fates.next().await, Some(Ok(Fate::Lost(_)))));
        assert!(fates.next().await.is_none());
        assert!(second.place.token > first.place.token);
        assert_eq!(reason(sync.keep_alive(&of("a"), &first.lease.id).await), "not found");
        assert_eq!(reason(sync.release(&of("a"), "l", first.place.token).await), "not found");
        sync.release(&of("b"), "l", second.place.token).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_kept_alive_does_not_end() {
    let (_fixture, sync) = bound().await;
    let keep = Keep::Own(500);
    let Taken::Held(first) = sync.acquire(&of("a"), "l", &want(Mode::Exclusive), &keep, clock::now()).await.unwrap()
    else {
        panic!("it was not free");
    };
    let waiter = tokio::spawn(queued(&sync, "b", "l", Mode::Exclusive).await.held());
    let mut ends = first.lease.expires_ms;
    let until = clock::now() + Duration::from_millis(1500);
    while clock::now() < until {
        let kept = sync.keep_alive(&of("a"), &first.lease.id).await.unwrap();
        assert!(kept.expires_ms >= ends);
        ends = kept.expires_ms;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!waiter.is_finished());
    waiter.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn observers_see_every_leader_and_resume() {
    let (_fixture, sync) = bound().await;
    let begun = sync.revision(&call()).await.unwrap();
    let stand = async |who: &str, says: &str| {
        let want = Want { mode: Mode::Exclusive, value: Some(says.to_owned()) };
        let taken = sync.acquire(&of(who), "e", &want, &Keep::Own(TTL_MS), clock::now()).await.unwrap();
        let Taken::Held(held) = taken else { panic!("there is a leader") };
        held.place.token
    };
    let first = stand("a", "at a").await;
    sync.proclaim(&of("a"), "e", first, Some("moved")).await.unwrap();
    sync.release(&of("a"), "e", first).await.unwrap();
    stand("b", "at b").await;
    let mut seen: Vec<(u64, Option<String>)> = Vec::new();
    // A watch that breaks off after each change, and resumes.
    while seen.len() < 4 {
        let after = seen.last().map_or(begun, |last| last.0);
        let mut watch = Box::pin(sync.watch(&call(), "e", after).unwrap());
        if let Some(Ok(Event::Changes(locks))) = watch.next().await {
            let lock = &locks[0];
            seen.push((lock.revision, lock.held.first().and_then(|place| place.value.clone())));
        }
    }
    let said: Vec<_> = seen.into_iter().map(|(_, said)| said).collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(said, [some("at a"), some("moved"), None, some("at b")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_arguments_are_refused_with_the_rule() {
    let (_fixture, sync) = bound().await;
    let now = clock::now();
    let call = of("a");
    let own = Keep::Own(TTL_MS);
    let asked = async |name: &str, want: &Want, keep: &Keep| sync.acquire(&call, name, want, keep, now).await;
    let lock = want(Mode::Exclusive);
    for (name, expected) in [("", "invalid"), ("a\0b", "invalid"), ("a\nb", "invalid"), (&"n".repeat(513), "too large")]
    {
        assert_eq!(reason(asked(name, &lock, &own).await), expected, "{name:?}");
    }
    for name in ["../..", "name/x", "lease/y", "*", ">", "a b", "é", &"n".repeat(512)] {
        asked(name, &lock, &own).await.unwrap();
    }
    for ttl_ms in [0, 1, 499, 86_400_001, u64::MAX] {
        assert_eq!(reason(asked("t", &lock, &Keep::Own(ttl_ms)).await), "invalid", "{ttl_ms}");
        assert_eq!(reason(sync.grant(&call, ttl_ms).await), "invalid", "{ttl_ms}");
    }
    for (count, limit) in [(0, 1), (0, 0), (2, 1), (1, 1_000_001), (u32::MAX, u32::MAX)] {
        assert_eq!(reason(asked("s", &want(permits(count, limit)), &own).await), "invalid", "{count} of {limit}");
    }
    for lease in ["", "x", "0123456789ABCDEF0123456789ABCDEF", &"0".repeat(1 << 20)] {
        assert_eq!(reason(asked("t", &lock, &Keep::Lease(lease.to_owned())).await), "invalid");
    }
    assert_eq!(reason(asked("t", &lock, &Keep::Lease("0".repeat(32))).await), "not found");
    let says = Want { mode: Mode::Exclusive, value: Some("x".repeat(1025)) };
    assert_eq!(reason(asked("t", &says, &own).await), "too large");
    assert_eq!(sync.get(&call, "t").await.unwrap(), None);
    assert_eq!(reason(sync.get(&call, "").await), "invalid");
}
