//! Write plugins for the platform in Rust.
//!
//! Choose the trait of the slot, implement it, export it. A whole authorization policy:
//!
//! ```
//! use platform_sdk::{Problem, auth};
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Settings {
//!     role: String,
//! }
//!
//! struct RequireRole(String);
//!
//! impl auth::Policy for RequireRole {
//!     type Settings = Settings;
//!
//!     fn configure(settings: Settings) -> Result<Self, Problem> {
//!         Ok(Self(settings.role))
//!     }
//!
//!     fn authorize(&self, request: &auth::Request<'_>) -> auth::Decision {
//!         if request.has_role(&self.0) { auth::Decision::abstain() } else { auth::Decision::deny("role missing") }
//!     }
//! }
//!
//! platform_sdk::export!(auth::Policy for RequireRole);
//! # fn main() {}
//! ```
//!
//! The crate is a `cdylib` built for `wasm32-unknown-unknown`; [`export!`] takes name, version, description, license and
//! repository for the manifest from its `Cargo.toml`. The component imports only what the plugin calls.
//!
//! | slot | trait |
//! |---|---|
//! | `auth.policy` | [`auth::Policy`] |
//! | `router.policy` | [`router::Policy`] |
//! | `kv.store` | [`kv::Store`] |
//! | `discovery.registry` | [`discovery::Registry`] |
//! | `config.store` | [`config::Store`] |
//! | `config.validator` | [`config::Validator`] |
//! | `sync.lock` | [`sync::Locks`] |
//! | `db.store` | [`db::Store`] |
//! | `event.broker` | [`event::Broker`] |
//! | `event.filter` | [`event::Filter`] |
//! | `web.page` | `web::Page`, with the feature `web` |
//!
//! Any plugin may call [`context`] and [`log`]; [`storage`] needs the grant `storage`, [`client`] those of the
//! capabilities called, and with the feature `net` the module `net` that of the server connected to. In native builds, that
//! is in the unit tests of a plugin, `native` stands in for the host.
//!
//! The WIT bindings are no part of this crate's interface; the modules below are.

#[doc(hidden)]
pub mod bindings;
#[doc(hidden)]
pub mod export;

pub mod auth;
pub mod client;
pub mod codec;
pub mod config;
pub mod context;
pub mod db;
pub mod discovery;
pub mod event;
pub mod fence;
mod handover;
pub mod kv;
pub mod log;
#[doc(hidden)]
pub mod manifest;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;
#[cfg(feature = "net")]
pub mod net;
mod problem;
pub mod router;
pub mod settings;
pub mod storage;
pub mod sync;
#[cfg(feature = "web")]
pub mod web;

pub use handover::Handover;
pub use problem::Problem;
