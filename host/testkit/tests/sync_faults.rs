//! Locks where things go wrong: many who want one, holders that sleep, clocks that go back, stores that are exchanged.
//! Histories of locks and of what is written under them are checked for linearizability.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that can't go on has failed")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use platform_base::clock;
use platform_capability::{
    Call, SlotKind,
    kv::{self, Condition, Expiry},
    sync::{Error, Mode, Want},
};
use platform_dataplane::{CallError, Held, Keep, PlaneConfig, Plugin, Sync, Taken};
use platform_runtime::EngineConfig;
use platform_storage::{Clock, Memory, Options};
use platform_testkit::{
    Fixture, alone, call, call_of, component, fenced,
    history::{self, Access, Event, Register, Turn},
    plugin, until,
};
use rand::Rng;
use tokio::task::JoinSet;

const TTL_MS: u64 = 20_000;
const LONG: Duration = Duration::from_secs(60);

fn shipped(kind: SlotKind, name: &str) -> Plugin {
    plugin(kind, name, &component("plugins", name), &["storage"])
}

async fn bind(fixture: &Fixture) {
    fixture.bind("sync.lock", alone(shipped(SlotKind::SyncLock, "sync-storage"))).await;
}

fn of(subject: &str) -> Call {
    call_of(subject, &[])
}

async fn acquire(sync: &Sync, who: &str, name: &str, ttl_ms: u64, wait: Duration) -> Result<Held, CallError<Error>> {
    let want = Want { mode: Mode::Exclusive, value: None };
    match sync.acquire(&of(who), name, &want, &Keep::Own(ttl_ms), clock::now() + wait).await? {
        Taken::Held(held) => Ok(held),
        Taken::Queued(queued) => queued.held().await,
    }
}

fn is_held<T>(answer: &Result<T, CallError<Error>>) -> bool {
    matches!(answer, Err(CallError::Capability(Error::Held(_))))
}

fn is_gone<T>(answer: &Result<T, CallError<Error>>) -> bool {
    matches!(answer, Err(CallError::Capability(Error::NotFound(_))))
}

/// What was done with a lock, and with what it guards.
#[derive(Debug, Default)]
struct Histories {
    lock: Mutex<Vec<Event<Turn>>>,
    register: Mutex<Vec<Event<Access>>>,
}

impl Histories {
    fn turn(&self, action: Turn, begun: clock::Instant, ended: Option<clock::Instant>) {
        self.lock.lock().push(Event { action, begun, ended });
    }

    fn access(&self, action: Access, begun: clock::Instant) {
        self.register.lock().push(Event { action, begun, ended: Some(clock::now()) });
    }

    fn check(&self) {
        history::check::<history::Mutex>(&self.lock.lock()).unwrap_or_else(|illegal| panic!("{illegal:?}"));
        history::check::<Register>(&self.register.lock()).unwrap_or_else(|illegal| panic!("{illegal:?}"));
    }
}

/// Takes the lock, writes what it guards with its token, reads it, and gives the lock up; whether it was served.
async fn once(fixture: &Fixture, histories: &Histories, who: &str, wait: Duration) -> bool {
    let (sync, kv) = (fixture.plane.sync(), fixture.plane.kv());
    let begun = clock::now();
    let held = match acquire(sync, who, "orders", TTL_MS, wait).await {
        Ok(held) => held,
        Err(CallError::Capability(Error::Held(_))) => return false,
        Err(error) => panic!("{who}: {error}"),
    };
    let token = held.place.token;
    histories.turn(Turn::Granted(token), begun, Some(clock::now()));
    let begun = clock::now();
    let text = token.to_string();
    kv.put(&fenced(token), "guarded", text.as_bytes(), Condition::Always, Expiry::Never).await.unwrap();
    histories.access(Access::Write(token), begun);
    let begun = clock::now();
    let found = kv.get(&call(), "guarded").await.unwrap().unwrap();
    let found = String::from_utf8(found.value).unwrap().parse().unwrap();
    assert_eq!(found, token, "nobody else writes while it holds");
    histories.access(Access::Read(Some(found)), begun);
    let begun = clock::now();
    sync.release(&of(who), "orders", token).await.unwrap();
    histories.turn(Turn::Over(token), begun, Some(clock::now()));
    true
}

async fn both() -> Arc<Fixture> {
    let fixture = Arc::new(Fixture::new());
    bind(&fixture).await;
    fixture.bind("kv.store", alone(shipped(SlotKind::KvStore, "kv-storage"))).await;
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_want_one_each_is_served_or_told() {
    let (fixture, histories) = (both().await, Arc::new(Histories::default()));
    let mut contenders = JoinSet::new();
    for contender in 0..24 {
        let (fixture, histories) = (Arc::clone(&fixture), Arc::clone(&histories));
        contenders.spawn(async move {
            let who = format!("svc/{contender}");
            let mut served = 0;
            for _ in 0..5 {
                // Some are in a hurry; all others have to be served.
                let hurry = contender % 4 == 0;
                let wait = if hurry { Duration::from_millis(rand::rng().random_range(0..40)) } else { LONG };
                let done = once(&fixture, &histories, &who, wait).await;
                assert!(done || hurry);
                served += usize::from(done);
            }
            served
        });
    }
    let served: usize = contenders.join_all().await.into_iter().sum();
    assert!(served >= 18 * 5, "{served}");
    histories.check();
    until("nobody to be left", async || fixture.plane.sync().get(&call(), "orders").await.unwrap().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_under_load_loses_no_waiter() {
    let (fixture, histories) = (both().await, Arc::new(Histories::default()));
    let stop = Arc::new(AtomicBool::new(false));
    let mut contenders = JoinSet::new();
    for contender in 0..12 {
        let (fixture, histories, stop) = (Arc::clone(&fixture), Arc::clone(&histories), Arc::clone(&stop));
        contenders.spawn(async move {
            let mut served = 0;
            while !stop.load(Ordering::Relaxed) {
                assert!(once(&fixture, &histories, &format!("svc/{contender}"), LONG).await);
                served += 1;
            }
            served
        });
    }
    for _ in 0..10 {
        bind(&fixture).await;
        tokio::task::yield_now().await;
    }
    stop.store(true, Ordering::Relaxed);
    let served = contenders.join_all().await;
    assert!(served.iter().all(|served| *served > 0), "{served:?}");
    histories.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_sleeps_past_its_lease_writes_nothing() {
    let (fixture, histories) = (both().await, Histories::default());
    let (sync, kv) = (fixture.plane.sync(), fixture.plane.kv());
    let put = async |token: u64| {
        let text = token.to_string();
        kv.put(&fenced(token), "guarded", text.as_bytes(), Condition::Always, Expiry::Never).await
    };
    let begun = clock::now();
    let sleeper = acquire(sync, "sleeper", "orders", 500, Duration::ZERO).await.unwrap().place.token;
    histories.turn(Turn::Granted(sleeper), begun, Some(clock::now()));
    // Its lease ends some time from now on, and nobody tells when.
    histories.turn(Turn::Over(sleeper), clock::now(), None);
    put(sleeper).await.unwrap();
    let begun = clock::now();
    let next = acquire(sync, "next", "orders", TTL_MS, LONG).await.unwrap().place.token;
    histories.turn(Turn::Granted(next), begun, Some(clock::now()));
    put(next).await.unwrap();
    let refused = put(sleeper).await;
    assert!(matches!(refused, Err(CallError::Capability(kv::Error::Stale(seen))) if seen == next), "{refused:?}");
    let found = kv.get(&call(), "guarded").await.unwrap().unwrap();
    assert_eq!(String::from_utf8(found.value).unwrap(), next.to_string());
    histories.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_goes_back_makes_nobody_hold_twice() {
    let hour = Duration::from_secs(3600);
    let time = Clock::manual(1_700_000_000_000);
    // Nobody looks for what is due by itself, so that only what callers do settles it.
    let options = Options { clock: time.clone(), expiry_tick: hour, ..Options::default() };
    let engine = EngineConfig { instances_max: 1000, ..EngineConfig::default() };
    let fixture = Fixture::over(Arc::new(Memory::new(options)), &engine, PlaneConfig::default());
    bind(&fixture).await;
    let sync = fixture.plane.sync();
    let holders = async || -> Vec<String> {
        let lock = sync.get(&call(), "l").await.unwrap();
        lock.map(|lock| lock.held.into_iter().map(|place| place.holder).collect()).unwrap_or_default()
    };
    let mut last = 0;
    for (round, who) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let held = acquire(sync, who, "l", TTL_MS, Duration::ZERO).await.unwrap();
        assert!(held.place.token > last, "{round}");
        last = held.place.token;
        assert_eq!(holders().await, [who]);
        time.rewind(hour);
        assert_eq!(holders().await, [who], "the lease lasts longer rather than shorter");
        assert!(is_held(&acquire(sync, "x", "l", TTL_MS, Duration::ZERO).await));
        time.advance(hour + Duration::from_millis(TTL_MS - 1));
        assert!(is_held(&acquire(sync, "x", "l", TTL_MS, Duration::ZERO).await), "not a millisecond early");
        time.advance(Duration::from_millis(1));
        let next = acquire(sync, "x", "l", TTL_MS, Duration::ZERO).await.unwrap();
        time.rewind(hour);
        assert_eq!(holders().await, ["x"], "who has lost it does not get it back");
        assert!(is_gone(&sync.keep_alive(&of(who), &held.lease.id).await));
        assert!(is_gone(&sync.release(&of(who), "l", held.place.token).await));
        assert!(next.place.token > last);
        last = next.place.token;
        sync.release(&of("x"), "l", last).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_wait_in_one_line_and_are_served_in_order() {
    let fixture = Arc::new(Fixture::new());
    bind(&fixture).await;
    let sync = fixture.plane.sync();
    let first = acquire(sync, "first", "l", TTL_MS, Duration::ZERO).await.unwrap();
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut waiters = JoinSet::new();
    for waiter in 0..200 {
        let (sync, served) = (sync.clone(), Arc::clone(&served));
        waiters.spawn(async move {
            let who = format!("svc/{waiter}");
            let held = acquire(&sync, &who, "l", TTL_MS, LONG).await.unwrap();
            served.lock().push(held.place.token);
            sync.release(&of(&who), "l", held.place.token).await.unwrap();
        });
    }
    until("all to wait", async || sync.get(&call(), "l").await.unwrap().unwrap().waiting == 200).await;
    sync.release(&of("first"), "l", first.place.token).await.unwrap();
    waiters.join_all().await;
    let served = served.lock();
    assert!(served.len() == 200 && served.is_sorted() && served[0] > first.place.token, "{served:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_by_the_thousand_end_and_leave_nothing() {
    let fixture = Arc::new(Fixture::new());
    bind(&fixture).await;
    let mut holders = JoinSet::new();
    for holder in 0..40 {
        let sync = fixture.plane.sync().clone();
        holders.spawn(async move {
            for lock in 0..50 {
                acquire(&sync, "a", &format!("l/{holder}/{lock}"), 5000, Duration::ZERO).await.unwrap();
            }
        });
    }
    let sync = fixture.plane.sync();
    let mut watch = Box::pin(sync.watch(&call(), "", 0).unwrap());
    holders.join_all().await;
    // Whoever follows the changes sees every one of the 2000 taken, and lost again.
    let (mut taken, mut lost) = (0, 0);
    while lost < 2000 {
        if let Some(Ok(platform_dataplane::Event::Changes(locks))) = futures::StreamExt::next(&mut watch).await {
            taken += locks.iter().filter(|lock| !lock.held.is_empty()).count();
            lost += locks.iter().filter(|lock| lock.held.is_empty()).count();
        }
    }
    assert_eq!((taken, lost), (2000, 2000));
    assert!(sync.search(&call(), "", None, 1000).await.unwrap().is_empty());
}
