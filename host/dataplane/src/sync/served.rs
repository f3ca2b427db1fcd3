//! Locks as plugins take them.
//!
//! Owns the way from a plugin's import to the capability. Must not know how lines are kept. Invariant: a plugin whose call is over waits for
//! nothing.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use platform_base::clock;
use platform_capability::{
    Call,
    sync::{self, Error, Lease, Lock, Place, Want},
};

use super::{Held, Keep, Sync, Taken};
use crate::provider::Capability;

impl Sync {
    /// The capability for plugins that import it.
    pub(crate) fn backend(&self) -> Arc<dyn sync::Backend> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl sync::Backend for Sync {
    async fn acquire(
        &self, call: &Call, name: &str, want: &Want, ttl_ms: u64, wait_ms: u32,
    ) -> Result<(Place, Lease), Error> {
        Self::nested(self.provider.check_writes(call))?;
        let until = (clock::now() + Duration::from_millis(u64::from(wait_ms))).min(call.deadline);
        let Held { place, lease } = match Self::nested(self.acquire(call, name, want, &Keep::Own(ttl_ms), until).await)?
        {
            Taken::Held(held) => held,
            Taken::Queued(queued) => Self::nested(queued.held().await)?,
        };
        Ok((place, lease))
    }

    async fn keep_alive(&self, call: &Call, lease: &str) -> Result<Lease, Error> {
        Self::nested(self.provider.check_writes(call))?;
        Self::nested(self.keep_alive(call, lease).await)
    }

    async fn release(&self, call: &Call, name: &str, token: u64) -> Result<(), Error> {
        Self::nested(self.release(call, name, token).await)
    }

    async fn get(&self, call: &Call, name: &str) -> Result<Option<Lock>, Error> {
        Self::nested(self.get(call, name).await)
    }
}
