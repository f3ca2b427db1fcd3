//! Builds the linker of a plugin: what every plugin has, what its slot brings, what it was granted. Nothing else.

use platform_runtime::{Engine, Seat};
use wasmtime::component::{Component, HasSelf, Linker};

use crate::{
    bindings::platform,
    contract::SlotKind,
    grant::{Grant, Grants, Need, need},
    guest::Guest,
};

/// A linker for one plugin.
pub struct Linked {
    /// The linker.
    pub linker: Linker<Seat<Guest>>,
    /// Whether something in it can wait.
    pub asynchronous: bool,
}

impl std::fmt::Debug for Linked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Linked").field("asynchronous", &self.asynchronous).finish_non_exhaustive()
    }
}

/// Why a component can't be linked for a slot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// An import that needs a grant which the plugin does not have.
    #[error(
        "it imports `{import}`, which needs the grant `{grant}`; grant it, or use a version of the plugin without it"
    )]
    NotGranted {
        /// The interface.
        import: String,
        /// The grant, as it is written.
        grant: String,
    },
    /// An import that only plugins of another slot have.
    #[error("it imports `{import}`, which is only there for `{kind}`")]
    OtherSlot {
        /// The interface.
        import: String,
        /// The kind of slot that has it.
        kind: SlotKind,
    },
    /// An import that the host does not offer to anyone.
    #[error("it imports `{0}`, which this platform does not offer")]
    Unknown(String),
    /// The host's own tables contradict each other.
    #[error("the host could not build the linker: {0:#}")]
    Host(#[from] wasmtime::Error),
}

/// The linker for `component` in a slot of `kind` under `grants`.
///
/// # Errors
/// See [`LinkError`].
pub fn link(engine: &Engine, component: &Component, kind: SlotKind, grants: &Grants) -> Result<Linked, LinkError> {
    let imports: Vec<String> =
        component.component_type().imports(engine.wasmtime()).map(|(name, _)| name.to_owned()).collect();
    for import in &imports {
        let missing =
            |grant: &dyn std::fmt::Display| LinkError::NotGranted { import: import.clone(), grant: grant.to_string() };
        match need(import) {
            Need::Nothing => {}
            Need::Grant(grant) if grants.contains(&grant) => {}
            Need::Grant(grant) => return Err(missing(&grant)),
            Need::Network | Need::Http if grants.iter().any(|grant| matches!(grant, Grant::Network { .. })) => {}
            Need::Http if kind == SlotKind::WebPage => {}
            Need::Network | Need::Http => return Err(missing(&"network:HOST:PORT")),
            Need::Slot(needed) if needed == kind => {}
            Need::Slot(kind) => return Err(LinkError::OtherSlot { import: import.clone(), kind }),
            Need::Unknown => return Err(LinkError::Unknown(import.clone())),
        }
    }

    let imported = |prefix: &str| imports.iter().any(|import| import.starts_with(prefix));
    let mut linker = Linker::new(engine.wasmtime());
    add_free(&mut linker)?;
    match kind {
        SlotKind::AuthPolicy => platform::auth::types::add_to_linker::<_, HasSelf<Guest>>(&mut linker, guest)?,
        SlotKind::RouterPolicy => platform::router::load::add_to_linker::<_, HasSelf<Guest>>(&mut linker, guest)?,
        SlotKind::ConfigValidator => {
            platform::config::proposals::add_to_linker::<_, HasSelf<Guest>>(&mut linker, guest)?;
        }
        SlotKind::EventFilter => platform::event::candidates::add_to_linker::<_, HasSelf<Guest>>(&mut linker, guest)?,
        SlotKind::KvStore
        | SlotKind::DiscoveryRegistry
        | SlotKind::ConfigStore
        | SlotKind::ConfigSource
        | SlotKind::SyncLock
        | SlotKind::DbStore
        | SlotKind::EventBroker
        | SlotKind::WebPage => {}
    }
    let mut asynchronous = add_granted(&mut linker, &imported)?;
    if imported("wasi:") {
        asynchronous = true;
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    }
    if imported("wasi:tls/") {
        let mut draft = wasmtime_wasi_tls::p2::LinkOptions::default();
        draft.tls(true);
        wasmtime_wasi_tls::p2::add_to_linker(&mut linker, &draft)?;
    }
    Ok(Linked { linker, asynchronous })
}

/// Adds what was granted and is imported; whether something of it can wait.
fn add_granted(linker: &mut Linker<Seat<Guest>>, imported: &impl Fn(&str) -> bool) -> wasmtime::Result<bool> {
    let mut asynchronous = false;
    if imported("platform:storage/") {
        asynchronous = true;
        platform::storage::table::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
        platform::storage::journal::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    }
    if imported("platform:kv/store") {
        asynchronous = true;
        platform::kv::store::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    }
    if imported("platform:discovery/registry") {
        asynchronous = true;
        platform::discovery::registry::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    }
    if imported("platform:config/values") {
        asynchronous = true;
        platform::config::values::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    }
    if imported("platform:db/records") {
        asynchronous = true;
        platform::db::records::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    }
    if imported("platform:event/topics") {
        asynchronous = true;
        platform::event::topics::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    }
    if imported("platform:sync/locks") {
        asynchronous = true;
        platform::sync::locks::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    }
    if imported("platform:marketplace/") {
        asynchronous = true;
        platform::marketplace::index::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
        platform::marketplace::installer::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    }
    Ok(asynchronous)
}

fn add_free(linker: &mut Linker<Seat<Guest>>) -> wasmtime::Result<()> {
    platform::plugin::context::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    platform::plugin::log::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    // Interfaces of types alone have nothing to link but their name.
    platform::storage::types::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    platform::kv::types::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    platform::discovery::types::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    platform::router::types::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    platform::config::types::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    platform::sync::types::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    platform::db::types::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    platform::event::types::add_to_linker::<_, HasSelf<Guest>>(linker, guest)?;
    platform::marketplace::types::add_to_linker::<_, HasSelf<Guest>>(linker, guest)
}

fn guest(seat: &mut Seat<Guest>) -> &mut Guest {
    &mut seat.guest
}
