//! The one wasmtime engine of the daemon and the thread that advances its epoch.
//!
//! Invariant: every engine has a running ticker, so every guest loop meets its deadline within one [`TICK`].

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::artifacts::IncrementalCache;

/// Time between two looks at the deadline of a running guest.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// What the engine sets aside for all plugins together. Address space, not memory: pages are committed when touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// Instances that can exist at once, over all plugins.
    pub instances_max: u32,
    /// Memories per core that stay with the plugin that used them last. A plugin beyond that number pays for the change
    /// at every fresh call; each of them may keep up to 128 KiB resident.
    pub instances_warm_per_core: u32,
    /// Largest linear memory that any plugin may be allowed, in MiB.
    pub memory_mib_max: u32,
    /// Stack that a guest may use, in KiB.
    pub stack_kib_max: u32,
    /// Memory for the incremental compilation cache, in MiB.
    pub compile_cache_mib_max: u32,
    /// Whether a trap is told with files and lines, where a component carries line tables. They are read when it traps, outside of
    /// its limits: for components of one's own.
    pub backtrace_lines: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            instances_max: 4000,
            instances_warm_per_core: 64,
            memory_mib_max: 64,
            stack_kib_max: 512,
            compile_cache_mib_max: 64,
            backtrace_lines: false,
        }
    }
}

/// The engine. Cheap to clone; the ticker ends with the last clone.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: wasmtime::Engine,
    memory_bytes_max: usize,
    _ticker: Arc<Ticker>,
}

impl Engine {
    /// Builds the engine and starts its ticker.
    ///
    /// # Errors
    /// The machine does not offer what the configuration asks for, such as address space.
    pub fn new(config: &EngineConfig) -> wasmtime::Result<Self> {
        let exact = u64::from(config.memory_mib_max) << 20;
        let inner = wasmtime::Engine::new(&wasmtime_config(config, RESERVATION)?).or_else(|error| {
            tracing::info!(%error, "address space is short: guests check the bounds of every access");
            wasmtime::Engine::new(&wasmtime_config(config, exact)?)
        })?;
        let ticker = Ticker::start(&inner)?;
        Ok(Self { inner, memory_bytes_max: (config.memory_mib_max as usize) << 20, _ticker: Arc::new(ticker) })
    }

    /// The engine itself, for linkers and components.
    #[must_use]
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner
    }

    /// Largest linear memory that any plugin may be allowed, in bytes.
    #[must_use]
    pub fn memory_bytes_max(&self) -> usize {
        self.memory_bytes_max
    }

    /// Names compiled code that this engine can load: wasmtime's version and everything in its configuration that
    /// code depends on.
    #[must_use]
    pub fn compatibility(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.inner.precompile_compatibility_hash().hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// Address space of one memory: all that 32 bits can name, so that no access has to be checked.
const RESERVATION: u64 = 4 << 30;

fn wasmtime_config(config: &EngineConfig, reservation: u64) -> wasmtime::Result<Config> {
    let memory_bytes = u64::from(config.memory_mib_max) << 20;
    let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(config.instances_max)
        .total_core_instances(config.instances_max.saturating_mul(4))
        .total_memories(config.instances_max)
        .total_tables(config.instances_max.saturating_mul(2))
        .total_stacks(config.instances_max)
        .max_unused_warm_slots(config.instances_warm_per_core.saturating_mul(cores))
        .max_core_instances_per_component(40)
        .max_tables_per_component(40)
        .max_memories_per_component(20)
        .max_memory_size(usize::try_from(memory_bytes)?)
        .table_elements(20_000)
        // What a memory keeps of one plugin when it goes to the next: enough for decisions, the rest is given back.
        .linear_memory_keep_resident(128 << 10)
        .table_keep_resident(1 << 16)
        .pagemap_scan(Enabled::Auto);

    // Said either way, so that no variable of the environment does.
    let lines = if config.backtrace_lines { WasmBacktraceDetails::Enable } else { WasmBacktraceDetails::Disable };
    let stack_bytes = (config.stack_kib_max as usize) << 10;
    let mut wasm = Config::new();
    wasm.wasm_component_model(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .memory_guaranteed_dense_image_size(64 << 20)
        .memory_reservation(reservation)
        .max_wasm_stack(stack_bytes)
        // A fiber also holds the host's frames: lowering, WASI, storage.
        .async_stack_size(stack_bytes + (512 << 10))
        .wasm_backtrace_details(lines)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(16))
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    wasm.enable_incremental_compilation(Arc::new(IncrementalCache::new(
        (config.compile_cache_mib_max as usize) << 20,
    )))?;
    Ok(wasm)
}

/// A thread that advances the epoch. It holds the engine weakly, so that it never keeps one alive.
#[derive(Debug)]
struct Ticker {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: &wasmtime::Engine) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let engine = engine.weak();
        let thread = std::thread::Builder::new().name("epoch".into()).spawn(move || {
            while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(TICK) {
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread never panics, and at this point it only waits for the channel to close.
            let _ = thread.join();
        }
    }
}
