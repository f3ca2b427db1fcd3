//! Values of configurations as plugins read them.
//!
//! Invariant: a plugin never sees a secret, whoever's call it serves.

use std::sync::Arc;

use async_trait::async_trait;
use platform_capability::{
    Call,
    config::{self, Error},
};

use super::{Config, ConfigError, Read};
use crate::error::CallError;

impl Config {
    /// The capability for plugins that import it.
    pub(crate) fn backend(&self) -> Arc<dyn config::Backend> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl config::Backend for Config {
    async fn get(&self, call: &Call, id: &str, path: &str) -> Result<Option<String>, Error> {
        match self.get(call, &Read { path, ..Read::new(id) }).await {
            Ok(reading) => Ok(Some(reading.json())),
            Err(CallError::Capability(ConfigError::NotFound(_))) => Ok(None),
            Err(CallError::Capability(ConfigError::Invalid(why))) => Err(Error::Invalid(why)),
            Err(CallError::Capability(ConfigError::TooLarge(why))) => Err(Error::TooLarge(why)),
            Err(CallError::Capability(ConfigError::Unavailable(why))) => Err(Error::Unavailable(why)),
            Err(CallError::Capability(other)) => Err(Error::Other(other.to_string())),
            Err(other) => Err(Error::Unavailable(other.to_string())),
        }
    }
}
