//! Control: what is installed, what it may reach, and what serves in which slot.
//!
//! Owns the desired state and brings the data plane to it; knows nothing of wire formats. Every change goes the same way:
//! checked, prepared off the request path, made durable in one commit, flipped. Invariant: a change that fails leaves
//! everything as it was, and a crash at any point comes back with the old binding or with the new one.
//!
//! In reading order: [`inspect`] (what a file is, before anything of it runs) and its [`manifest`], [`settings`] (checked
//! against the manifest's schema), the records of plugins and bindings, `files` (components on disk), `followed` (a
//! table that all daemons of a storage see alike), `state` (the desired state in it), `daemons` (who else is there), `cycle` (who calls whom), the audit trail, [`Control`] (the operations), [`mod@file`] (the configuration
//! file's part).

pub mod inspect;
pub mod manifest;
pub mod settings;

mod record;

mod files;

mod followed;
mod state;

mod daemons;

mod cycle;

mod audit;
mod error;
mod page;

mod control;
pub mod file;

pub use audit::{AuditEvent, AuditRecord};
pub use control::{
    Advisories, Applied, Bind, Change, Control, ControlParts, GrantChange, Install, Installed, LinkRequest, PluginView,
    Restored, RevokedRule, RolloutView, SlotView, Trust, Upgrade, parse_mode,
};
pub use daemons::{DaemonView, Following, Towards};
pub use error::{Error, Kind, Result};
pub use page::{Page, PageRequest};
pub use record::{
    BindingRecord, InvalidReference, LimitChanges, Link, PluginKey, PluginRecord, Reference, Revocation, RolloutRecord,
    StopRecord,
};
