//! `platform:marketplace` for pages that were granted it: what the host looks up and installs for whoever asks for the page.
//!
//! Owns the way from a guest's import to the [`Backend`] of the request. Must not know what is published, nor who may do what. Invariant: the backend is
//! that of one request and carries its caller's rights; a component by itself, in `configure` or a self-test, has none.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

pub use crate::bindings::platform::marketplace::{
    index::{Found, Query},
    installer::{Installed, Plan},
    types::{Error, Grant, Listing, Version},
};
use crate::{
    bindings::platform::marketplace::{index, installer, types},
    contract::SlotKind,
    guest::Guest,
};

/// The marketplace as the caller of one request may use it.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// See `platform:marketplace/index`.
    async fn search(&self, query: Query) -> Result<Found, Error>;
    /// See `platform:marketplace/index`.
    async fn show(&self, name: &str) -> Result<(Option<Listing>, Vec<Version>), Error>;
    /// See `platform:marketplace/installer`.
    async fn review(&self, name: &str, version: &str) -> Result<Plan, Error>;
    /// See `platform:marketplace/installer`.
    async fn install(&self, name: &str, version: &str, digest: &str, accepted: Vec<String>)
    -> Result<Installed, Error>;
}

impl Guest {
    fn marketplace(&self) -> Result<Arc<dyn Backend>, Error> {
        let off = || Error::Unavailable("this daemon has no marketplace, or nobody asked for a page".to_owned());
        self.marketplace.clone().ok_or_else(off)
    }
}

impl index::Host for Guest {
    async fn search(&mut self, query: Query) -> Result<Found, Error> {
        self.marketplace()?.search(query).await
    }

    async fn show(&mut self, name: String) -> Result<(Option<Listing>, Vec<Version>), Error> {
        self.marketplace()?.show(&name).await
    }

    fn slots(&mut self) -> Vec<String> {
        SlotKind::ALL.map(|kind| kind.to_string()).into()
    }
}

impl installer::Host for Guest {
    async fn review(&mut self, name: String, version: String) -> Result<Plan, Error> {
        self.marketplace()?.review(&name, &version).await
    }

    async fn install(
        &mut self, name: String, version: String, digest: String, accepted: Vec<String>,
    ) -> Result<Installed, Error> {
        self.marketplace()?.install(&name, &version, &digest, accepted).await
    }
}

impl types::Host for Guest {}
