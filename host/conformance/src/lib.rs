//! Conformance: what every component for a slot has to keep of what its interface promises.
//!
//! One suite for each kind of slot, run through the host against whatever is bound there: ours, in tests, and an author's, by
//! `platform plugin verify`. Must not know how the component came to be bound. Invariant: a check fails with words that
//! its author can act on, never with a panic, and ends within a stated time whatever the component does.
//!
//! In reading order: [`Check`] and [`suite`], `outcome` (how a check says what it found), then one file for each kind of
//! slot.

mod auth;
mod config;
mod db;
mod discovery;
mod event;
mod kv;
mod outcome;
mod router;
mod subject;
mod sync;
mod web;

use std::time::Duration;

use futures::future::LocalBoxFuture;
use platform_base::clock;
use platform_capability::SlotKind;

pub use outcome::{Checked, Failure};
pub use subject::Subject;

/// Longest time of one check.
const TIME: Duration = Duration::from_secs(60);

/// One promise, and how it is checked.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Names the check, in `kebab-case`; stable across versions.
    pub name: &'static str,
    /// What is promised, in a sentence.
    pub promise: &'static str,
    /// The interface that a component may leave out, and its promise with it; none when every component keeps the promise.
    pub optional: Option<&'static str>,
    run: fn(Subject) -> LocalBoxFuture<'static, Checked>,
}

/// What came of a check.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The check.
    pub check: Check,
    /// How long it took.
    pub took: Duration,
    /// What was found.
    pub result: Checked,
}

impl Check {
    /// Checks the promise on what is bound to the check's slot, a component with these exports.
    pub async fn run(self, subject: Subject, exports: &[String]) -> Outcome {
        let begun = clock::now();
        if let Some(interface) = self.optional.filter(|interface| !exports.iter().any(|export| export == interface)) {
            let result = Err(Failure::NotMade(format!("the component does not export `{interface}`")));
            return Outcome { check: self, took: Duration::ZERO, result };
        }
        let result = match tokio::time::timeout(TIME, (self.run)(subject)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::new(format!("the check did not end within {} s", TIME.as_secs()))),
        };
        Outcome { check: self, took: clock::now().saturating_duration_since(begun), result }
    }
}

/// The checks for a kind of slot, the most basic ones first.
#[must_use]
pub fn suite(kind: SlotKind) -> &'static [Check] {
    match kind {
        SlotKind::KvStore => kv::SUITE,
        SlotKind::DiscoveryRegistry => discovery::SUITE,
        SlotKind::AuthPolicy => auth::SUITE,
        SlotKind::RouterPolicy => router::SUITE,
        SlotKind::ConfigStore => config::STORE,
        SlotKind::ConfigValidator => config::VALIDATOR,
        SlotKind::ConfigSource => config::SOURCE,
        SlotKind::SyncLock => sync::SUITE,
        SlotKind::DbStore => db::SUITE,
        SlotKind::EventBroker => event::BROKER,
        SlotKind::EventFilter => event::FILTER,
        SlotKind::WebPage => web::SUITE,
    }
}

/// Checks of a suite: for each its name, the promise, and the function that checks it; after `where` the optional interface
/// that the promise is of.
macro_rules! checks {
    ($($name:literal $promise:literal $run:path $(where $interface:path)?,)*) => {
        &[$($crate::Check {
            name: $name,
            promise: $promise,
            optional: checks!(@optional $($interface)?),
            run: |subject| Box::pin($run(subject)),
        }),*]
    };
    (@optional) => { None };
    (@optional $interface:path) => { Some($interface) };
}
pub(crate) use checks;
