//! Everything before the flip: compile, link, configure, test, warm. Off the request path; leaves no trace on error.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use platform_base::clock;
use platform_capability::{
    Call, CallContext, Grant, Guest, GuestParts, LinkError, Linked, Reach, SlotKind, config, db, discovery, event, kv,
    link,
    logs::LogMeter,
    plugin::{CONFIGURE, Configure, Problem, SelfTest, describe},
    sync,
};
use platform_runtime::{Fault, Initialize, Instance, Mode, Pool, Template, snapshot};
use wasmtime::component::Component;

use crate::{
    binding::{BindingSpec, Entry, FailureMode, Plugin, Snapshot},
    error::PrepareError,
    metrics::Metrics,
    plane::Plane,
    slot_name::SlotName,
    witness::Hearable as _,
};

/// A binding that is ready to be flipped to.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) spec: BindingSpec,
    pub(crate) entries: Vec<Arc<Entry>>,
    pub(crate) fallback: Option<Arc<Entry>>,
}

/// Namespace of self-tests. No caller can name it: names start with a letter or a digit.
const NAMESPACE_SELF_TEST: &str = "_self-test";

impl Plane {
    /// Prepares `spec` for `slot`: every plugin is compiled, linked under its grants, configured, tested and warm.
    ///
    /// # Errors
    /// Which plugin is in the way, and why. Nothing was changed.
    pub async fn prepare(&self, slot: &SlotName, spec: BindingSpec) -> Result<Prepared, PrepareError> {
        check_shape(slot, &spec)?;
        let mut entries = Vec::with_capacity(spec.plugins.len());
        for plugin in &spec.plugins {
            entries.push(Arc::new(self.prepare_entry(slot, plugin).await?));
        }
        let fallback = match &spec.fallback {
            Some(plugin) => Some(Arc::new(self.prepare_entry(slot, plugin).await?)),
            None => None,
        };
        Ok(Prepared { spec, entries, fallback })
    }

    async fn prepare_entry(&self, slot: &SlotName, plugin: &Plugin) -> Result<Entry, PrepareError> {
        self.check_limits(plugin)?;
        let parts = Arc::new(self.guest_parts(slot, plugin));
        let (component, snapshot) = self.configured_component(slot.kind, plugin, &parts).await?;
        let Linked { linker, asynchronous } = link(&self.parts.engine, &component, slot.kind, &plugin.grants)
            .map_err(|why| PrepareError::Link { plugin: plugin.name.clone(), why })?;
        let misfit = |error: wasmtime::Error| PrepareError::Type {
            plugin: plugin.name.clone(),
            slot: slot.clone(),
            why: format!("{error:#}"),
        };
        let template = Template::new(&component, &linker, slot.kind.functions(), plugin.limits.clone(), asynchronous)
            .map_err(misfit)?;

        let settings = (snapshot != Snapshot::Cloned).then(|| plugin.settings.clone());
        let prepare_time = self.prepare_time();
        let preparation =
            Preparation { parts: Arc::clone(&parts), settings, idle: host_call(prepare_time), prepare_time };
        let deadline = clock::now() + prepare_time;
        let faulted = |stage| move |fault| PrepareError::Fault { plugin: plugin.name.clone(), stage, fault };
        let mut first =
            template.instantiate(preparation.guest(), deadline).await.map_err(faulted("it was instantiated"))?;
        template.check(&mut first).map_err(misfit)?;
        if let Some(settings) = &preparation.settings {
            let (answer,) = first
                .call::<Configure>(&template, deadline, (settings,))
                .await
                .map_err(faulted("it read its settings"))?;
            answer.map_err(|problem| PrepareError::Settings { plugin: plugin.name.clone(), problem })?;
        }
        let (answer,) = first.call::<SelfTest>(&template, deadline, ()).await.map_err(faulted("it tested itself"))?;
        answer.map_err(|problem| PrepareError::SelfTest { plugin: plugin.name.clone(), problem })?;

        let pool = Pool::new(Arc::new(template), plugin.mode, Arc::new(preparation));
        pool.keep(first);
        Ok(Entry {
            label: Arc::clone(&parts.plugin),
            plugin: plugin.clone(),
            pool,
            metrics: Metrics::default(),
            snapshot,
            parts,
        })
    }

    /// The component to make instances of: for decisions that start clean, one whose memory is already configured.
    async fn configured_component(
        &self, kind: SlotKind, plugin: &Plugin, parts: &Arc<GuestParts>,
    ) -> Result<(Arc<Component>, Snapshot), PrepareError> {
        let deadline = clock::now() + self.prepare_time();
        let work = Work {
            engine: self.parts.engine.clone(),
            artifacts: self.parts.artifacts.clone(),
            plugin: plugin.clone(),
            kind,
            guest: Guest::new(Arc::clone(parts), host_call(self.prepare_time())),
            deadline,
        };
        tokio::task::spawn_blocking(move || work.run()).await.unwrap_or_else(|error| {
            Err(PrepareError::Host { plugin: plugin.name.clone(), why: format!("preparing it did not end: {error}") })
        })
    }

    fn guest_parts(&self, slot: &SlotName, plugin: &Plugin) -> GuestParts {
        let granted = |grant: Grant| plugin.grants.contains(&grant);
        let witness = self.parts.witness.as_ref();
        let kv: Option<Arc<dyn kv::Backend>> = granted(Grant::Kv).then(|| self.kv().backend().heard_by(witness));
        let discovery: Option<Arc<dyn discovery::Backend>> =
            granted(Grant::Discovery).then(|| self.discovery().backend().heard_by(witness));
        let config: Option<Arc<dyn config::Backend>> =
            granted(Grant::Config).then(|| self.configurations().backend().heard_by(witness));
        let db: Option<Arc<dyn db::Backend>> = granted(Grant::Db).then(|| self.db().backend().heard_by(witness));
        let event: Option<Arc<dyn event::Backend>> =
            granted(Grant::Event).then(|| self.event().backend().heard_by(witness));
        let sync: Option<Arc<dyn sync::Backend>> =
            granted(Grant::Sync).then(|| self.sync().backend().heard_by(witness));
        GuestParts {
            plugin: format!("{}@{}", plugin.name, plugin.version).into(),
            slot: slot.to_string().into(),
            log: LogMeter::new(plugin.limits.log_lines_per_second),
            tail: self.logs.tail(plugin.name.as_str()),
            storage: granted(Grant::Storage).then(|| Arc::clone(&self.parts.storage)),
            kv,
            discovery,
            config,
            db,
            event,
            sync,
            reach: Reach::of(&plugin.grants, &self.parts.trust),
        }
    }

    fn check_limits(&self, plugin: &Plugin) -> Result<(), PrepareError> {
        let limits = &plugin.limits;
        let refuse = |what: String| Err(PrepareError::Limit { plugin: plugin.name.clone(), what });
        let memory_kib_max = self.parts.engine.memory_bytes_max() >> 10;
        if limits.memory_kib as usize > memory_kib_max {
            return refuse(format!("`memory_kib` can be at most {memory_kib_max}, which `engine.memory_mib_max` sets"));
        }
        for (name, value) in [
            ("memory_kib", limits.memory_kib),
            ("deadline_ms", limits.deadline_ms),
            ("concurrency", limits.concurrency),
            ("calls_per_instance", limits.calls_per_instance),
            ("transfer_kib", limits.transfer_kib),
        ] {
            if value == 0 {
                return refuse(format!("`{name}` has to be at least 1"));
            }
        }
        Ok(())
    }
}

fn check_shape(slot: &SlotName, spec: &BindingSpec) -> Result<(), PrepareError> {
    let given = spec.plugins.len();
    let expected = if slot.kind.is_chain() { "1 to 32" } else { "1" };
    let most = if slot.kind.is_chain() { 32 } else { 1 };
    if given == 0 || given > most {
        return Err(PrepareError::Count { slot: slot.clone(), expected, given });
    }
    let refuse = |why| Err(PrepareError::Failure { slot: slot.clone(), mode: spec.failure.to_string(), why });
    match (&spec.failure, &spec.fallback) {
        (FailureMode::Open, _) if slot.kind.is_provider() => refuse("a provider can't be left out"),
        (FailureMode::Fallback(name), Some(plugin)) if plugin.name == *name => Ok(()),
        (FailureMode::Fallback(_), _) => refuse("the plugin to fall back to is not given"),
        (_, Some(_)) => refuse("it does not use the plugin to fall back to"),
        (_, None) => Ok(()),
    }
}

/// A call of the host itself.
fn host_call(time: Duration) -> Call {
    Arc::new(CallContext::host(Arc::from(NAMESPACE_SELF_TEST), time))
}

/// Compiling and snapshotting, for a thread that may be busy for long.
struct Work {
    engine: platform_runtime::Engine,
    artifacts: platform_runtime::Artifacts,
    plugin: Plugin,
    kind: SlotKind,
    guest: Guest,
    deadline: std::time::Instant,
}

impl Work {
    fn run(self) -> Result<(Arc<Component>, Snapshot), PrepareError> {
        let Self { engine, artifacts, plugin, kind, guest, deadline } = self;
        let compile =
            |error: wasmtime::Error| PrepareError::Compile { plugin: plugin.name.clone(), why: format!("{error:#}") };
        if plugin.mode == Mode::Fresh
            && let Some(component) = artifacts.snapshot(plugin.digest, &plugin.settings)
        {
            return Ok((component, Snapshot::Cloned));
        }
        let component =
            artifacts.component(plugin.digest, "component", || Ok(plugin.wasm.to_vec())).map_err(compile)?;
        if plugin.mode != Mode::Fresh {
            return Ok((component, Snapshot::Configured));
        }
        // Before it runs for the first time: what it imports has to be granted, even if configuring it needs none.
        link(&engine, &component, kind, &plugin.grants)
            .map_err(|why: LinkError| PrepareError::Link { plugin: plugin.name.clone(), why })?;
        let request = snapshot::Request {
            digest: plugin.digest,
            wasm: &plugin.wasm,
            functions: CONFIGURE,
            limits: &plugin.limits,
            deadline,
        };
        let configured = snapshot::configured(&artifacts, engine.wasmtime(), &request, guest, |instance, template| {
            instance
                .call_here::<Configure>(template, clock::now(), deadline, (plugin.settings.as_str(),))
                .map(|(answer,)| answer)
        });
        match configured {
            Ok(Ok(wasm)) => {
                let component = artifacts.keep_snapshot(plugin.digest, &plugin.settings, &wasm).map_err(compile)?;
                Ok((component, Snapshot::Cloned))
            }
            Ok(Err(problem)) => Err(PrepareError::Settings { plugin: plugin.name.clone(), problem }),
            Err(error) => {
                let why = error.to_string();
                tracing::warn!(plugin = %plugin.name, why, "every call configures an instance of its own");
                Ok((component, Snapshot::Unsupported(why)))
            }
        }
    }
}

/// Prepares the instances of one entry.
#[derive(Debug)]
struct Preparation {
    parts: Arc<GuestParts>,
    /// Settings to be read by every instance; none when instances start out configured.
    settings: Option<String>,
    /// What an instance holds until it is given the call that it serves.
    idle: Call,
    prepare_time: Duration,
}

impl Initialize<Guest> for Preparation {
    fn guest(&self) -> Guest {
        let call = if self.prepares() { host_call(self.prepare_time) } else { Arc::clone(&self.idle) };
        Guest::new(Arc::clone(&self.parts), call)
    }

    fn prepare<'a>(
        &'a self, instance: &'a mut Instance<Guest>, template: &'a Template<Guest>, deadline: std::time::Instant,
    ) -> Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 'a>> {
        Box::pin(async move {
            let Some(settings) = &self.settings else { return Ok(()) };
            let (answer,) = instance.call::<Configure>(template, deadline, (settings,)).await?;
            answer.map_err(|problem: Problem| {
                Fault::Instantiate(format!("it refuses its settings: {}", describe(&problem)))
            })
        })
    }

    fn prepares(&self) -> bool {
        self.settings.is_some()
    }
}
