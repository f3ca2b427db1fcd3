//! A guest's exported function as a type: where it is found, and what goes in and out.
//!
//! The type of a function is compared with the component's once, when a template is made; calls after that don't.

use std::fmt;

use wasmtime::{
    Store,
    component::{ComponentNamedList, Func, Lift, Lower},
};

use crate::instance::Seat;

/// A function that a component exports. Implement it once per function of the WIT; `INDEX` is its place in the
/// [`Functions`] of its world.
pub trait Function {
    /// Place in the table of its world.
    const INDEX: usize;
    /// Interface with package and version, such as `platform:kv/store@0.1.0`.
    const INTERFACE: &'static str;
    /// Name within the interface.
    const NAME: &'static str;
    /// Parameters, as a tuple.
    type Params<'a>: ComponentNamedList + Lower + Send + Sync;
    /// Results, as a tuple of at most one.
    type Results: ComponentNamedList + Lift + Send + Sync + 'static;
}

/// One row of a world's function table.
pub struct Row<T: 'static> {
    pub(crate) interface: &'static str,
    pub(crate) name: &'static str,
    pub(crate) optional: bool,
    pub(crate) index: usize,
    pub(crate) check: fn(&Func, &Store<Seat<T>>) -> wasmtime::Result<()>,
}

impl<T: 'static> Row<T> {
    /// A function that must be there.
    #[must_use]
    pub const fn required<F: Function>() -> Self {
        Self { interface: F::INTERFACE, name: F::NAME, optional: false, index: F::INDEX, check: check::<F, T> }
    }

    /// A function that may be missing.
    #[must_use]
    pub const fn optional<F: Function>() -> Self {
        Self { interface: F::INTERFACE, name: F::NAME, optional: true, index: F::INDEX, check: check::<F, T> }
    }
}

impl<T> fmt::Debug for Row<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.interface, self.name)
    }
}

/// All functions that the host may call in components of a world.
pub type Functions<T> = &'static [Row<T>];

fn check<F: Function, T>(func: &Func, store: &Store<Seat<T>>) -> wasmtime::Result<()> {
    func.typed::<F::Params<'static>, F::Results>(store).map(drop)
}
