//! What reads and writes cost as what is kept grows from ten thousand to a million.

use std::{
    fmt::Debug,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Result, anyhow};
use platform_capability::{
    SlotKind,
    event::TopicSettings,
    kv::{Action, Condition, Content, Expiry, Write},
};
use platform_dataplane::{NewEvent, PlaneConfig};
use platform_runtime::EngineConfig;
use platform_storage::{Embedded, Options};
use platform_testkit::{Fixture, alone, call, component, plugin};

use crate::measure::{compare, per_call, row};

const SIZES: [u32; 3] = [10_000, 100_000, 1_000_000];
const BATCH: u32 = 1000;
const EVENTS_BATCH: u32 = 100;
const TOPIC: &str = "bench";

/// A plane with so many keys and events.
struct Filled {
    fixture: Fixture,
    size: u32,
    turn: AtomicU32,
    _folder: tempfile::TempDir,
}

pub(crate) async fn run() -> Result<()> {
    let small = Filled::with(SIZES[0]).await?;
    for size in &SIZES[1..] {
        let large = Filled::with(*size).await?;
        for (what, calls, ask) in [
            ("get", 2_000, Filled::get as for<'a> fn(&'a Filled) -> Asked<'a>),
            ("scan of 100", 200, Filled::scan),
            ("publish", 200, Filled::publish),
        ] {
            let (ours, theirs, ratio) = compare(
                async || per_call(calls, async || ask(&large).await).await,
                async || per_call(calls, async || ask(&small).await).await,
            )
            .await;
            row(&format!("{what}, {size} kept / {}", SIZES[0]), ours, theirs, ratio, "");
        }
    }
    Ok(())
}

type Asked<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>;

fn key(number: u32) -> String {
    format!("key/{number:08}")
}

fn event() -> NewEvent {
    NewEvent { kind: "bench".to_owned(), data: vec![7; 100], ..NewEvent::default() }
}

fn in_words(error: impl Debug) -> anyhow::Error {
    anyhow!("{error:?}")
}

impl Filled {
    async fn with(size: u32) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let storage = Embedded::open(folder.path().join("storage"), Options::default())?;
        let fixture = Fixture::over(std::sync::Arc::new(storage), &EngineConfig::default(), PlaneConfig::default());
        for (slot, kind, name) in
            [("kv.store", SlotKind::KvStore, "kv-storage"), ("event.broker", SlotKind::EventBroker, "event-storage")]
        {
            fixture.bind(slot, alone(plugin(kind, name, &component("plugins", name), &["storage"]))).await;
        }
        let kept = TopicSettings { age_ms: None, count: None, bytes: None, window_ms: 60_000 };
        fixture.plane.event().put_topic(&call(), TOPIC, kept, true).await.map_err(in_words)?;
        for first in (0..size).step_by(BATCH as usize) {
            let content = || Content { value: vec![7; 100], expiry: Expiry::Never };
            let writes: Vec<_> = (first..first + BATCH)
                .map(|number| Write { key: key(number), condition: Condition::Always, action: Action::Put(content()) })
                .collect();
            fixture.plane.kv().commit(&call(), &writes).await.map_err(in_words)?;
        }
        for _ in 0..size / EVENTS_BATCH {
            let events = (0..EVENTS_BATCH).map(|_| event()).collect();
            fixture.plane.event().publish(&call(), TOPIC, events).await.map_err(in_words)?;
        }
        Ok(Self { fixture, size, turn: AtomicU32::new(0), _folder: folder })
    }

    /// A key, far from the one before.
    fn next(&self) -> String {
        key(self.turn.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9) % self.size)
    }

    fn get(&self) -> Asked<'_> {
        Box::pin(async {
            let found = self.fixture.plane.kv().get(&call(), &self.next()).await;
            assert!(matches!(found, Ok(Some(_))), "{found:?}");
        })
    }

    fn scan(&self) -> Asked<'_> {
        Box::pin(async {
            let found = self.fixture.plane.kv().scan(&call(), "key/", Some(&self.next()), 100).await;
            assert!(found.is_ok(), "{found:?}");
        })
    }

    fn publish(&self) -> Asked<'_> {
        Box::pin(async {
            let published = self.fixture.plane.event().publish(&call(), TOPIC, vec![event()]).await;
            assert!(published.is_ok(), "{published:?}");
        })
    }
}
