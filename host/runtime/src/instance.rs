//! One instance of a component in its own store, and the only code that enters a guest.
//!
//! Invariant: a guest is entered under a deadline that covers its own code (by the epoch) and the host functions it
//! waits for (by a timer); after a fault, or a call that was dropped half way, the instance is never used again.

use std::{
    fmt,
    time::{Duration, Instant},
};

use platform_base::clock;
use wasmtime::{
    Store, UpdateDeadline,
    component::{self, TypedFunc},
};

use crate::{
    engine::TICK,
    fault::{self, DeadlinePassed, Fault},
    function::Function,
    limits::{Limits, Meter},
    template::Template,
};

/// What a store holds: the guest's own state as the host sees it, and what bounds it.
#[derive(Debug)]
pub struct Seat<T> {
    /// State behind the host functions.
    pub guest: T,
    meter: Meter,
    deadline: Instant,
    yields: bool,
    /// Ticks that passed during the call.
    ticks: u32,
}

/// An instance and its store.
pub struct Instance<T: 'static> {
    store: Store<Seat<T>>,
    instance: component::Instance,
    calls: u32,
    entered: bool,
}

impl<T: Send + 'static> Instance<T> {
    /// An empty store, ready to be instantiated in.
    pub(crate) fn store(template: &Template<T>, guest: T, deadline: Instant) -> Store<Seat<T>> {
        let limits = template.limits();
        let seat = Seat { guest, meter: Meter::new(limits), deadline, yields: template.is_asynchronous(), ticks: 0 };
        let mut store = Store::new(template.engine(), seat);
        store.limiter(|seat| &mut seat.meter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut context| {
            let seat = context.data_mut();
            seat.ticks += 1;
            if clock::now() >= seat.deadline {
                Err(DeadlinePassed.into())
            } else if seat.yields {
                Ok(UpdateDeadline::Yield(1))
            } else {
                Ok(UpdateDeadline::Continue(1))
            }
        });
        store.set_hostcall_fuel((limits.transfer_kib as usize) << 10);
        store
    }

    pub(crate) fn new(store: Store<Seat<T>>, instance: component::Instance) -> Self {
        Self { store, instance, calls: 0, entered: false }
    }

    /// The state behind the host functions.
    pub fn guest(&mut self) -> &mut T {
        &mut self.store.data_mut().guest
    }

    /// Calls served so far.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// Linear memory in use, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.store.data().meter.memory_bytes()
    }

    /// Whether it may be called again.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.entered
    }

    /// Whether the last call took so long that, made on a worker's own thread, it kept others from it. One tick passes
    /// during a short call now and then; between two the guest ran for all of a [`TICK`].
    pub(crate) fn was_slow(&self) -> bool {
        self.store.data().ticks > 1
    }

    /// Until when calls that are no functions of the plugin have to be done.
    pub(crate) fn allow_until(&mut self, deadline: Instant) {
        self.store.data_mut().deadline = deadline;
        // What is short would be done before the next tick, also when its time is over.
        self.store.set_epoch_deadline(u64::from(clock::now() < deadline));
    }

    pub(crate) fn parts(&mut self) -> (&mut Store<Seat<T>>, component::Instance) {
        (&mut self.store, self.instance)
    }

    /// Calls on the current thread, without a fiber, counting from `now`. Only for templates that import nothing that can
    /// wait. The caller's thread is busy until the guest is done or its deadline has passed.
    ///
    /// # Errors
    /// The guest's fault.
    pub fn call_here<F: Function>(
        &mut self, template: &Template<T>, now: Instant, deadline: Instant, params: F::Params<'_>,
    ) -> Result<F::Results, Fault> {
        let begun = self.begin(template.limits(), now, deadline, false);
        let function = self.function::<F>(template)?;
        let result = function.call(&mut self.store, params);
        self.end(result, begun)
    }

    /// Calls on a fiber: the guest gives way to other tasks at every tick and while it waits for the host.
    ///
    /// # Errors
    /// The guest's fault.
    pub async fn call<F: Function>(
        &mut self, template: &Template<T>, deadline: Instant, params: F::Params<'_>,
    ) -> Result<F::Results, Fault> {
        let begun = self.begin(template.limits(), clock::now(), deadline, true);
        let function = self.function::<F>(template)?;
        // The epoch stops guest code; the timer stops what the guest waits for. It is a little later, so that a guest
        // that loops is told apart by its trap.
        let timer = tokio::time::Instant::from_std(begun.deadline + 2 * TICK);
        let result = match tokio::time::timeout_at(timer, function.call_async(&mut self.store, params)).await {
            Ok(result) => result,
            Err(_) => Err(DeadlinePassed.into()),
        };
        self.end(result, begun)
    }

    fn begin(&mut self, limits: &Limits, now: Instant, deadline: Instant, yields: bool) -> Begun {
        let callers = deadline;
        let deadline = limits.until(now, callers);
        let seat = self.store.data_mut();
        // What an earlier call was denied and could do without is no reason for what comes now.
        seat.meter.forget_denied();
        seat.deadline = deadline;
        seat.yields = yields;
        seat.ticks = 0;
        self.store.set_epoch_deadline(1);
        self.entered = true;
        self.calls += 1;
        Begun {
            deadline,
            allowed: deadline.saturating_duration_since(now),
            is_callers: deadline == callers,
            transfer_kib: limits.transfer_kib,
        }
    }

    fn function<'a, F: Function>(
        &mut self, template: &Template<T>,
    ) -> Result<TypedFunc<F::Params<'a>, F::Results>, Fault> {
        let func = template.export(F::INDEX).and_then(|index| self.instance.get_func(&mut self.store, index));
        let Some(func) = func else {
            return Err(Fault::Trap {
                message: format!("it does not export `{}` of `{}`", F::NAME, F::INTERFACE),
                backtrace: Vec::new(),
            });
        };
        // SAFETY: the template compared this export's type with `F` before the first call (`Template::check`).
        #[expect(unsafe_code, reason = "the type was checked once for all calls")]
        Ok(unsafe { TypedFunc::new_unchecked(func) })
    }

    fn end<R>(&mut self, result: wasmtime::Result<R>, begun: Begun) -> Result<R, Fault> {
        match result {
            Ok(value) => {
                self.entered = false;
                Ok(value)
            }
            Err(error) => {
                let denied = if fault::is_transfer(&error) {
                    Some(("transfer", format!("{} KiB", begun.transfer_kib)))
                } else {
                    self.store.data_mut().meter.take_denied()
                };
                Err(match fault::classify(&error, begun.allowed, denied) {
                    Fault::Deadline(allowed) if begun.is_callers => Fault::Expired(allowed),
                    fault => fault,
                })
            }
        }
    }
}

impl<T> fmt::Debug for Instance<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("calls", &self.calls).field("usable", &!self.entered).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct Begun {
    deadline: Instant,
    allowed: Duration,
    /// Whether the deadline is the caller's, which came before the plugin's.
    is_callers: bool,
    transfer_kib: u32,
}

impl<T: wasmtime_wasi::WasiView> wasmtime_wasi::WasiView for Seat<T> {
    fn ctx(&mut self) -> wasmtime_wasi::WasiCtxView<'_> {
        self.guest.ctx()
    }
}

impl<T: wasmtime_wasi_http::WasiHttpView> wasmtime_wasi_http::WasiHttpView for Seat<T> {
    fn http(&mut self) -> wasmtime_wasi_http::WasiHttpCtxView<'_> {
        self.guest.http()
    }
}

impl<T: wasmtime_wasi_tls::WasiTlsView> wasmtime_wasi_tls::WasiTlsView for Seat<T> {
    fn tls(&mut self) -> wasmtime_wasi_tls::WasiTlsCtxView<'_> {
        self.guest.tls()
    }
}
