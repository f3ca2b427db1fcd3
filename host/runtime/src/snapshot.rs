//! The memory that `configure` leaves behind, made into a component of its own.
//!
//! The component is instrumented, instantiated with every import denied, configured, and rewritten so that its
//! initial memory and globals are what they were after the call. Instances of the result start out configured.
//!
//! A snapshot holds the settings, so it is as secret as they are. Handles, clocks and random numbers can't be carried
//! over; denying every import keeps them out.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use wasmtime::{
    Store,
    component::{Component, ComponentNamedList, Instance as Exports, Lift, Linker, WasmList},
};
use wasmtime_wizer::{ComponentInstanceState, Wizer};

use crate::{Artifacts, Digest, Fault, Functions, Instance, Limits, Template, fault::DeadlinePassed, instance::Seat};

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The component has a form that can't be rewritten, such as nested modules. It can still run without a snapshot.
    #[error("the component can't be snapshotted: {0:#}")]
    Unsupported(wasmtime::Error),
    /// The component could not be run to be configured.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What is to be configured, and under which bounds.
#[derive(Debug)]
pub struct Request<'a, T: 'static> {
    /// Digest of `wasm`.
    pub digest: Digest,
    /// The component.
    pub wasm: &'a [u8],
    /// Functions that the host calls in it.
    pub functions: Functions<T>,
    /// Limits for the configuration.
    pub limits: &'a Limits,
    /// When the configuration has to be done.
    pub deadline: Instant,
}

/// Compiles the instrumented form of a component ahead of its first snapshot.
///
/// # Errors
/// The component can't be snapshotted.
pub fn prepare(artifacts: &Artifacts, digest: Digest, wasm: &[u8]) -> Result<(), Error> {
    let (_, instrumented) = Wizer::new().instrument_component(wasm).map_err(Error::Unsupported)?;
    artifacts.component(digest, "instrumented", || Ok(instrumented)).map_err(Error::Unsupported)?;
    Ok(())
}

/// Runs `configure` in a fresh instance and returns the component that starts where it ended, or what `configure`
/// refused with. Blocks for milliseconds: call it off the request path.
///
/// # Errors
/// See [`Error`].
pub fn configured<T: Send + 'static, R>(
    artifacts: &Artifacts, engine: &wasmtime::Engine, request: &Request<'_, T>, guest: T,
    configure: impl FnOnce(&mut Instance<T>, &Template<T>) -> Result<Result<(), R>, Fault>,
) -> Result<Result<Vec<u8>, R>, Error> {
    let wizer = Wizer::new();
    let (context, instrumented) = wizer.instrument_component(request.wasm).map_err(Error::Unsupported)?;
    let component =
        artifacts.component(request.digest, "instrumented", || Ok(instrumented)).map_err(Error::Unsupported)?;
    let template = denying(engine, &component, request).map_err(Error::Unsupported)?;
    let mut instance = ready(template.instantiate(guest, request.deadline))?;
    template.check(&mut instance).map_err(Error::Unsupported)?;
    if let Err(refusal) = configure(&mut instance, &template)? {
        return Ok(Err(refusal));
    }
    // The time of one call is not enough on a busy machine: it is read within the time that preparing has.
    instance.allow_until(request.deadline);
    let (store, exports) = instance.parts();
    // From here on the host reads all of the guest's memory, which is bounded by its own limit.
    store.set_hostcall_fuel(usize::MAX);
    let mut access = Access { store, exports, failed: None };
    // What reads a memory twice takes for granted that it is there the second time, and panics when it can't be read.
    let snapshot = catch_unwind(AssertUnwindSafe(|| ready_result(wizer.snapshot_component(&context, &mut access))));
    match (access.failed, snapshot) {
        (Some(error), _) if error.is::<DeadlinePassed>() => Err(Fault::Expired(request.limits.deadline()).into()),
        (Some(error), _) => Err(Error::Unsupported(error)),
        (None, Ok(snapshot)) => snapshot.map(Ok).map_err(Error::Unsupported),
        (None, Err(panic)) => resume_unwind(panic),
    }
}

fn denying<T: Send + 'static>(
    engine: &wasmtime::Engine, component: &Arc<Component>, request: &Request<'_, T>,
) -> wasmtime::Result<Template<T>> {
    let mut linker = Linker::<Seat<T>>::new(engine);
    linker.define_unknown_imports_as_traps(component)?;
    Template::new(component, &linker, request.functions, request.limits.clone(), false)
}

/// Runs a future that never waits.
fn ready<R>(future: impl Future<Output = Result<R, Fault>>) -> Result<R, Error> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Ok(result?),
        Poll::Pending => Err(Error::Unsupported(wasmtime::format_err!("it waits while it is instantiated"))),
    }
}

fn ready_result<R>(future: impl Future<Output = wasmtime::Result<R>>) -> wasmtime::Result<R> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => wasmtime::bail!("it waits while its memory is read"),
    }
}

/// Reads the instance's memory and globals through the functions that the instrumentation added. Failures are kept
/// for the end, because the trait has no way to return them.
struct Access<'a, T: 'static> {
    store: &'a mut Store<Seat<T>>,
    exports: Exports,
    failed: Option<wasmtime::Error>,
}

impl<T: Send + 'static> Access<'_, T> {
    fn call<R: ComponentNamedList + Lift>(&mut self, instance: &str, func: &str) -> Option<R> {
        let result = self.try_call(instance, func);
        result.map_err(|error| self.failed.get_or_insert(error)).ok()
    }

    fn try_call<R: ComponentNamedList + Lift>(&mut self, instance: &str, func: &str) -> wasmtime::Result<R> {
        let missing = || wasmtime::format_err!("the instrumented component lacks `{func}` of `{instance}`");
        let interface = self.exports.get_export_index(&mut *self.store, None, instance).ok_or_else(missing)?;
        let index = self.exports.get_export_index(&mut *self.store, Some(&interface), func).ok_or_else(missing)?;
        self.exports.get_typed_func::<(), R>(&mut *self.store, index)?.call(&mut *self.store, ())
    }

    fn scalar<R: Lift + Default>(&mut self, instance: &str, func: &str) -> R
    where
        (R,): ComponentNamedList + Lift,
    {
        self.call::<(R,)>(instance, func).map_or_else(R::default, |(value,)| value)
    }
}

impl<T: Send + 'static> ComponentInstanceState for Access<'_, T> {
    async fn call_func_ret_list_u8(&mut self, instance: &str, func: &str, contents: impl FnOnce(&[u8]) + Send) {
        match self.call::<(WasmList<u8>,)>(instance, func) {
            Some((list,)) => contents(list.as_le_slice(&*self.store)),
            None => contents(&[]),
        }
    }

    async fn call_func_ret_s32(&mut self, instance: &str, func: &str) -> i32 {
        self.scalar(instance, func)
    }

    async fn call_func_ret_s64(&mut self, instance: &str, func: &str) -> i64 {
        self.scalar(instance, func)
    }

    async fn call_func_ret_f32(&mut self, instance: &str, func: &str) -> u32 {
        self.scalar::<f32>(instance, func).to_bits()
    }

    async fn call_func_ret_f64(&mut self, instance: &str, func: &str) -> u64 {
        self.scalar::<f64>(instance, func).to_bits()
    }
}
