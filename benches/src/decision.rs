//! Decisions: through a slot against a bare typed call, chains, fresh sandboxes on one and two threads, many plugins.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Result, anyhow};
use platform_base::clock;
use platform_capability::{
    Call, CallContext, SlotKind,
    auth::{Decision, Request, request},
};
use platform_dataplane::{BindingSpec, FailureMode, PlaneConfig, Plugin};
use platform_runtime::{EngineConfig, Mode};
use platform_testkit::{Fixture, MapFacts, alone, component, name, plugin};
use wasmtime::{
    Store,
    component::{Component, Linker, Resource, ResourceType, TypedFunc},
};

use crate::measure::{compare, figure, per_call, quantile, row, us};

const CALLS: u32 = 20_000;
const MANY: u32 = 1000;

/// Fifty rules, of which the last one matches.
pub(crate) fn rules() -> String {
    let mut rules = String::new();
    for index in 0..49 {
        let _ =
            write!(rules, r#"{{"effect":"allow","roles":["r{index}"],"methods":["PUT"],"paths":["/p{index}/**"]}},"#);
    }
    format!(r#"{{"rules":[{rules}{{"effect":"allow","methods":["GET"],"paths":["/open/**"]}}]}}"#)
}

fn scopes(mode: Mode) -> Plugin {
    let wasm = component("plugins", "auth-scopes");
    Plugin { mode, settings: rules(), ..plugin(SlotKind::AuthPolicy, "auth-scopes", &wasm, &[]) }
}

fn chain(of: usize, mode: Mode) -> BindingSpec {
    BindingSpec { plugins: vec![scopes(mode); of], failure: FailureMode::Closed, fallback: None }
}

/// What a front door knows before it asks.
struct Asker {
    call: Call,
    facts: Arc<MapFacts>,
}

impl Asker {
    fn new() -> Self {
        Self { call: call_for(Duration::from_secs(3600)), facts: Arc::default() }
    }

    async fn ask(&self, fixture: &Fixture, policy: Option<&str>) {
        let facts = Arc::clone(&self.facts);
        let verdict = fixture.plane.auth().check(&self.call, policy, "GET", "/open/a", facts).await;
        assert!(verdict.allowed, "{verdict:?}");
    }
}

fn call_for(time: Duration) -> Call {
    Arc::new(CallContext::new(None, &name("default"), time))
}

/// The policy in a store of its own, called with nothing around it.
struct Bare {
    store: Mutex<Store<()>>,
    authorize: TypedFunc<(&'static str, &'static str, &'static str, Resource<Request>), (Decision,)>,
}

impl Bare {
    fn new() -> Result<Self> {
        let mut config = wasmtime::Config::new();
        config.concurrency_support(false).epoch_interruption(true);
        let engine = wasmtime::Engine::new(&config)?;
        let component = Component::new(&engine, component("plugins", "auth-scopes"))?;
        let mut linker = Linker::new(&engine);
        linker.instance("platform:auth/types@0.1.0")?.resource(
            "request",
            ResourceType::host::<Request>(),
            |_, _| Ok(()),
        )?;
        linker.define_unknown_imports_as_traps(&component)?;
        let mut store = Store::new(&engine, ());
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = linker.instantiate(&mut store, &component)?;
        let find = |store: &mut Store<()>, interface: &str, name: &str| {
            let interface = instance.get_export_index(&mut *store, None, interface)?;
            instance.get_export_index(store, Some(&interface), name)
        };
        let missing = || anyhow!("the component lacks an export");
        let configure = find(&mut store, "platform:plugin/lifecycle@0.1.0", "configure").ok_or_else(missing)?;
        let configure = instance
            .get_typed_func::<(&str,), (Result<(), platform_capability::plugin::Problem>,)>(&mut store, configure)?;
        let (configured,) = configure.call(&mut store, (rules().as_str(),))?;
        configured.map_err(|problem| anyhow!("{problem:?}"))?;
        let authorize = find(&mut store, "platform:auth/policy@0.1.0", "authorize").ok_or_else(missing)?;
        let authorize = instance.get_typed_func(&mut store, authorize)?;
        Ok(Self { store: Mutex::new(store), authorize })
    }

    fn ask(&self) {
        let mut store = self.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let answer = self.authorize.call(&mut *store, ("", "GET", "/open/a", request()));
        assert!(matches!(answer, Ok((Decision::Allow(_),))), "{answer:?}");
    }
}

/// Through a slot against a typed call in a store of its own.
pub(crate) async fn through_a_slot() -> Result<()> {
    let fixture = Fixture::new();
    fixture.bind("auth.policy", alone(scopes(Mode::Reused))).await;
    let (bare, asker) = (Bare::new()?, Asker::new());
    let (ours, theirs, ratio) = compare(
        async || per_call(CALLS, async || asker.ask(&fixture, None).await).await,
        async || per_call(CALLS, async || bare.ask()).await,
    )
    .await;
    row("decision through a slot, reused / bare typed call", ours, theirs, ratio, "aim <= 1.5");
    Ok(())
}

/// Five policies against one.
pub(crate) async fn chains() {
    let asker = Asker::new();
    for (mode, name) in [(Mode::Reused, "reused"), (Mode::Fresh, "fresh")] {
        let (one, five) = (Fixture::new(), Fixture::new());
        one.bind("auth.policy", chain(1, mode)).await;
        five.bind("auth.policy", chain(5, mode)).await;
        let (ours, theirs, ratio) = compare(
            async || per_call(CALLS / 4, async || asker.ask(&five, None).await).await,
            async || per_call(CALLS / 4, async || asker.ask(&one, None).await).await,
        )
        .await;
        row(&format!("chain of five / one, {name}"), ours, theirs, ratio, "aim <= 1.5");
    }
}

/// A sandbox per call.
pub(crate) async fn fresh() {
    let fixture = Arc::new(Fixture::new());
    fixture.bind("auth.policy", alone(scopes(Mode::Fresh))).await;
    let on_threads = async |threads: u32| -> f64 {
        let begun = clock::now();
        let tasks: Vec<_> = (0..threads)
            .map(|_| {
                let fixture = Arc::clone(&fixture);
                #[expect(clippy::disallowed_methods, reason = "awaited below")]
                tokio::spawn(async move {
                    let asker = Asker::new();
                    for _ in 0..CALLS {
                        asker.ask(&fixture, None).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            let _ = task.await;
        }
        us(clock::now().saturating_duration_since(begun)) / f64::from(CALLS * threads)
    };
    let (two, one, ratio) = compare(async || on_threads(2).await, async || on_threads(1).await).await;
    figure("fresh sandbox per call, 50 rules, one thread", one, "us", "aim <= 7");
    row("  two threads / one thread, per call", two, one, ratio, "aim <= 0.59 (>= 1.7x)");
}

/// Calls with many plugins bound: of one of them, and of all in turns.
pub(crate) async fn many_plugins() {
    let asker = Asker::new();
    let p99 = async |fixture: &Fixture, policies: u32| -> f64 {
        let mut times = Vec::with_capacity(CALLS as usize);
        for index in 0..CALLS {
            let name = format!("p{}", index.wrapping_mul(7919) % policies);
            let begun = clock::now();
            asker.ask(fixture, Some(&name)).await;
            times.push(us(clock::now().saturating_duration_since(begun)));
        }
        quantile(&mut times, 0.99)
    };
    let daemon = || Fixture::with(&EngineConfig::default(), PlaneConfig::default());
    let (one, many) = (daemon(), daemon());
    one.bind("auth.policy/p0", alone(scopes(Mode::Fresh))).await;
    for index in 0..MANY {
        // Settings of its own, so that it is a plugin with code and memory of its own.
        let settings = rules().replace("/open/**", &format!("/open/**\", \"/p{index}"));
        let policy = Plugin { settings, ..scopes(Mode::Fresh) };
        many.bind(&format!("auth.policy/p{index}"), alone(policy)).await;
    }
    let cases = [(1, "one of 1,000 plugins bound", "aim <= 1.1"), (MANY, "all of 1,000 plugins bound, in turns", "")];
    for (asked, what, aim) in cases {
        let (ours, theirs, ratio) = compare(async || p99(&many, asked).await, async || p99(&one, 1).await).await;
        row(&format!("p99 of a fresh decision: {what} / 1 bound"), ours, theirs, ratio, aim);
    }
}
