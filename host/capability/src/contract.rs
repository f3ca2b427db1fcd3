//! The kinds of slots: which world a component must be, and how it is run.

use std::{fmt, str::FromStr};

use platform_runtime::{Functions, Limits, Mode};
use serde::{Deserialize, Serialize};

use crate::{auth, bindings, config, db, discovery, event, guest::Guest, kv, router, sync, web};

/// The WIT that the host was built with: a component type as `wit-component` encodes it, for comparing a guest with.
pub const WIT_WORLD: &[u8] = bindings::COMPONENT_TYPE;

/// What a slot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SlotKind {
    /// Provider of the kv capability.
    #[serde(rename = "kv.store")]
    KvStore,
    /// Provider of the discovery capability.
    #[serde(rename = "discovery.registry")]
    DiscoveryRegistry,
    /// Chain of decisions on who may do what.
    #[serde(rename = "auth.policy")]
    AuthPolicy,
    /// Decision on which node takes a request.
    #[serde(rename = "router.policy")]
    RouterPolicy,
    /// Provider of the config capability.
    #[serde(rename = "config.store")]
    ConfigStore,
    /// Chain of decisions on which changes of configurations may be made.
    #[serde(rename = "config.validator")]
    ConfigValidator,
    /// Chain of places that configurations are loaded from.
    #[serde(rename = "config.source")]
    ConfigSource,
    /// Provider of the sync capability.
    #[serde(rename = "sync.lock")]
    SyncLock,
    /// Provider of the db capability.
    #[serde(rename = "db.store")]
    DbStore,
    /// Provider of the event capability.
    #[serde(rename = "event.broker")]
    EventBroker,
    /// Chain of decisions on which events are kept, and how.
    #[serde(rename = "event.filter")]
    EventFilter,
    /// Web page, answering requests of browsers.
    #[serde(rename = "web.page")]
    WebPage,
}

/// The text names no kind of slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no kind of slot; there are {names}", names = SlotKind::names())]
pub struct UnknownSlot(pub String);

impl SlotKind {
    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::KvStore,
        Self::DiscoveryRegistry,
        Self::AuthPolicy,
        Self::RouterPolicy,
        Self::ConfigStore,
        Self::ConfigValidator,
        Self::ConfigSource,
        Self::SyncLock,
        Self::DbStore,
        Self::EventBroker,
        Self::EventFilter,
        Self::WebPage,
    ];

    /// The kind's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KvStore => "kv.store",
            Self::DiscoveryRegistry => "discovery.registry",
            Self::AuthPolicy => "auth.policy",
            Self::RouterPolicy => "router.policy",
            Self::ConfigStore => "config.store",
            Self::ConfigValidator => "config.validator",
            Self::ConfigSource => "config.source",
            Self::SyncLock => "sync.lock",
            Self::DbStore => "db.store",
            Self::EventBroker => "event.broker",
            Self::EventFilter => "event.filter",
            Self::WebPage => "web.page",
        }
    }

    /// The interface that a component for the slot exports.
    #[must_use]
    pub fn interface(self) -> &'static str {
        match self {
            Self::KvStore => kv::INTERFACE,
            Self::DiscoveryRegistry => discovery::INTERFACE,
            Self::AuthPolicy => auth::INTERFACE,
            Self::RouterPolicy => router::INTERFACE,
            Self::ConfigStore => config::INTERFACE,
            Self::ConfigValidator => config::validator::INTERFACE,
            Self::ConfigSource => config::source::INTERFACE,
            Self::SyncLock => sync::INTERFACE,
            Self::DbStore => db::INTERFACE,
            Self::EventBroker => event::INTERFACE,
            Self::EventFilter => event::filter::INTERFACE,
            Self::WebPage => web::INTERFACE,
        }
    }

    /// The functions that the host calls in such a component.
    #[must_use]
    pub fn functions(self) -> Functions<Guest> {
        match self {
            Self::KvStore => kv::FUNCTIONS,
            Self::DiscoveryRegistry => discovery::FUNCTIONS,
            Self::AuthPolicy => auth::FUNCTIONS,
            Self::RouterPolicy => router::FUNCTIONS,
            Self::ConfigStore => config::FUNCTIONS,
            Self::ConfigValidator => config::validator::FUNCTIONS,
            Self::ConfigSource => config::source::FUNCTIONS,
            Self::SyncLock => sync::FUNCTIONS,
            Self::DbStore => db::FUNCTIONS,
            Self::EventBroker => event::FUNCTIONS,
            Self::EventFilter => event::filter::FUNCTIONS,
            Self::WebPage => web::FUNCTIONS,
        }
    }

    /// Whether it holds an ordered chain; else one component.
    #[must_use]
    pub fn is_chain(self) -> bool {
        matches!(self, Self::AuthPolicy | Self::ConfigValidator | Self::ConfigSource | Self::EventFilter)
    }

    /// Whether it holds providers; else decisions.
    #[must_use]
    pub fn is_provider(self) -> bool {
        matches!(
            self,
            Self::KvStore
                | Self::DiscoveryRegistry
                | Self::ConfigStore
                | Self::SyncLock
                | Self::DbStore
                | Self::EventBroker
        )
    }

    /// How instances are used when neither manifest nor operator says.
    #[must_use]
    pub fn mode(self) -> Mode {
        match self {
            Self::AuthPolicy | Self::ConfigValidator | Self::EventFilter | Self::WebPage => Mode::Fresh,
            Self::KvStore
            | Self::DiscoveryRegistry
            | Self::RouterPolicy
            | Self::ConfigStore
            | Self::ConfigSource
            | Self::SyncLock
            | Self::DbStore
            | Self::EventBroker => Mode::Reused,
        }
    }

    /// Limits when the operator sets none.
    #[must_use]
    pub fn limits(self) -> Limits {
        match self {
            Self::KvStore
            | Self::DiscoveryRegistry
            | Self::ConfigStore
            | Self::ConfigSource
            | Self::SyncLock
            | Self::DbStore
            | Self::EventBroker => Limits::provider(),
            Self::AuthPolicy | Self::RouterPolicy => Limits::decision(),
            // Two documents of 1 MiB, which take many times that much once they are read.
            Self::ConfigValidator => Limits { memory_kib: 64 << 10, deadline_ms: 1000, ..Limits::decision() },
            // Data of 1 MiB, read and written.
            Self::EventFilter => {
                Limits { memory_kib: 32 << 10, deadline_ms: 500, transfer_kib: 4 << 10, ..Limits::decision() }
            }
            // Time for what a page asks of the host, which may have to compile a component.
            Self::WebPage => Limits {
                memory_kib: 32 << 10,
                deadline_ms: 30_000,
                concurrency: 32,
                queue: 128,
                transfer_kib: 4 << 10,
                ..Limits::decision()
            },
        }
    }

    /// All names, for messages.
    fn names() -> String {
        let names: Vec<_> = Self::ALL.iter().map(|kind| format!("`{kind}`")).collect();
        names.join(", ")
    }

    /// Kind of slot whose interface is `interface`, whatever its version.
    #[must_use]
    pub fn of_interface(interface: &str) -> Option<Self> {
        let name = |interface: &str| interface.split('@').next().map(str::to_owned);
        Self::ALL.into_iter().find(|kind| name(kind.interface()) == name(interface))
    }
}

impl fmt::Display for SlotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SlotKind {
    type Err = UnknownSlot;

    fn from_str(text: &str) -> Result<Self, UnknownSlot> {
        let kind = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        kind.ok_or_else(|| UnknownSlot(text.chars().take(140).collect()))
    }
}
