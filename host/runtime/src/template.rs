//! A component that is linked, checked and ready to be instantiated.

use std::{fmt, sync::Arc, time::Instant};

use wasmtime::{
    Engine,
    component::{Component, ComponentExportIndex, InstancePre, Linker},
};

use crate::{
    fault::{self, Fault},
    function::{Function, Functions},
    instance::{Instance, Seat},
    limits::Limits,
};

/// Linked code, the places of its exports, and the limits of whoever runs it. Immutable.
pub struct Template<T: 'static> {
    /// Held so that whoever asks for the same code meanwhile gets the same.
    _component: Arc<Component>,
    pre: InstancePre<Seat<T>>,
    exports: Box<[Option<ComponentExportIndex>]>,
    functions: Functions<T>,
    limits: Limits,
    asynchronous: bool,
}

impl<T: Send + 'static> Template<T> {
    /// Links `component`. `asynchronous` tells whether the linker holds functions that can wait.
    ///
    /// # Errors
    /// An import that the linker lacks or has under another type, or an export that is missing.
    pub fn new(
        component: &Arc<Component>, linker: &Linker<Seat<T>>, functions: Functions<T>, limits: Limits,
        asynchronous: bool,
    ) -> wasmtime::Result<Self> {
        let pre = linker.instantiate_pre(component)?;
        let width = functions.iter().map(|row| row.index + 1).max().unwrap_or(0);
        let mut exports = vec![None; width];
        for row in functions {
            let index = component
                .get_export_index(None, row.interface)
                .and_then(|interface| component.get_export_index(Some(&interface), row.name));
            match (index, exports.get_mut(row.index)) {
                (Some(index), Some(place)) => *place = Some(index),
                _ if row.optional => {}
                _ => wasmtime::bail!("it does not export the function `{}` of `{}`", row.name, row.interface),
            }
        }
        Ok(Self { _component: Arc::clone(component), pre, exports: exports.into(), functions, limits, asynchronous })
    }

    /// Limits of every instance.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether it imports functions that can wait, so that it must be called on a fiber.
    #[must_use]
    pub fn is_asynchronous(&self) -> bool {
        self.asynchronous
    }

    /// Whether the component exports the function.
    #[must_use]
    pub fn has<F: Function>(&self) -> bool {
        self.export(F::INDEX).is_some()
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.pre.engine()
    }

    #[inline]
    pub(crate) fn export(&self, index: usize) -> Option<&ComponentExportIndex> {
        self.exports.get(index)?.as_ref()
    }

    /// Makes an instance. Its first memory is that of the component; nothing has been called.
    ///
    /// # Errors
    /// No room for another instance, or a start function that faults.
    pub async fn instantiate(&self, guest: T, deadline: Instant) -> Result<Instance<T>, Fault> {
        let mut store = Instance::store(self, guest, deadline);
        let instance = if self.asynchronous {
            self.pre.instantiate_async(&mut store).await
        } else {
            self.pre.instantiate(&mut store)
        };
        match instance {
            Ok(instance) => Ok(Instance::new(store, instance)),
            Err(error) => Err(instantiation(&error)),
        }
    }

    /// Compares the types of all exports with what the host calls. Once per template, before anything else is called.
    ///
    /// # Errors
    /// The function whose type differs.
    pub fn check(&self, instance: &mut Instance<T>) -> wasmtime::Result<()> {
        let (store, exports) = instance.parts();
        for row in self.functions {
            let Some(index) = self.export(row.index) else { continue };
            let func = exports.get_func(&mut *store, index);
            let Some(func) = func else { wasmtime::bail!("`{}` of `{}` is not a function", row.name, row.interface) };
            (row.check)(&func, store)
                .map_err(|error| error.context(format!("the type of `{}` in `{}` differs", row.name, row.interface)))?;
        }
        Ok(())
    }
}

fn instantiation(error: &wasmtime::Error) -> Fault {
    if error.downcast_ref::<wasmtime::Trap>().is_some() || error.downcast_ref::<fault::DeadlinePassed>().is_some() {
        return fault::classify(error, std::time::Duration::ZERO, None);
    }
    Fault::Instantiate(format!("{error:#}"))
}

impl<T> fmt::Debug for Template<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("limits", &self.limits)
            .field("asynchronous", &self.asynchronous)
            .finish_non_exhaustive()
    }
}
