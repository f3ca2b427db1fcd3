//! Slots: the one door to plugins.
//!
//! Owns which plugin answers which call, and how that changes while calls are in flight. Knows nothing of wire formats
//! or of who decided what is bound. Invariant: a call sees exactly one generation from its first instruction to its
//! last, and a swap that fails before its flip leaves no trace.
//!
//! In reading order: [`Plane`] (all slots), [`Slot`] (one), [`Binding`] (what it holds), `prepare` (everything before
//! the flip), `swap` (the flip), `drain` (what follows), `decide` (who is asked), [`Recorder`] (what was), [`Rollout`] (a candidate beside what serves), then what each capability makes of its slots: `provider` (what
//! those with a provider share), `carry` (how what they keep moves), [`Kv`], [`Discovery`], [`Config`], [`Sync`], [`Db`], [`Events`], [`Auth`], [`Router`], `page`.

mod auth;
mod binding;
mod carry;
mod config;
mod db;
mod decide;
mod discovery;
mod drain;
mod error;
mod event;
mod kv;
mod metrics;
mod page;
mod plane;
mod prepare;
mod provider;
mod recorder;
mod rollout;
mod router;
mod share;
mod slot;
mod slot_name;
mod status;
mod swap;
mod sync;
mod tables;
mod watch;
mod witness;

pub use auth::{Auth, Verdict};
pub use binding::{Binding, BindingSpec, Entry, FailureMode, InvalidFailureMode, Plugin, Snapshot};
pub use carry::{Carried, CarryError};
pub use config::{
    Action, Audit, Config, ConfigError, Difference, Edit, Edited, KeyError, Keys, Read, Reading, Sealed, Search,
    SecretKey, SecretsConfig, Seen,
};
pub use db::{Db, Place};
pub use discovery::Discovery;
pub use error::{BindError, CallError, PrepareError};
pub use event::{
    Consumer, Deliveries, Event as Events, EventError, NewEvent, Node, Outcome, PLATFORM_TOPIC, Receipt, Tree,
    platform_event, renewed,
};
pub use kv::Kv;
pub use metrics::{BUCKETS_US, Counts, Metrics};
pub use page::Market;
pub use plane::{Plane, PlaneConfig, PlaneParts};
pub use prepare::Prepared;
pub use recorder::{
    Asker, Decision, Decisions, DecisionsConfig, InvalidPosition, InvalidRedaction, Named, Outcome as DecisionOutcome,
    Position, REDACTED, Recorder, RecorderCounts, RecorderError, Wanted,
};
pub use rollout::{By, Compared, Divergence, InvalidPlan, Plan, Rollout, StopLimits, Stopped, Trial};
pub use router::{Report, RouteError, Router, SHARES_RESEND, SelectRequest, Selection, Shares};
pub use slot::Slot;
pub use slot_name::{InvalidSlotName, SlotName};
pub use status::{EntryStatus, RolloutStatus, SlotStatus};
pub use swap::Swapped;
pub use sync::{Fate, Held, Keep, Queued, Sync, Taken};
pub use watch::{Event, Revised};
pub use witness::Witness;
