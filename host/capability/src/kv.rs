//! `platform:kv`: what providers export and what users of the capability import.

use std::fmt;

use async_trait::async_trait;
use platform_runtime::{Functions, function::Row};

pub use crate::bindings::platform::kv::{
    store::{Action, Change, Condition, Content, Expiry, Usage, Write},
    takeover::Fence,
    types::{Conflict, Entry, Error},
};
use crate::{
    bindings::platform::kv::{store, types},
    context::Call,
    functions::{LIFECYCLE, functions},
    guest::Guest,
    plugin::{Configure, Load, Save, SelfTest},
};

/// The interface that a provider exports.
pub const INTERFACE: &str = "platform:kv/store@0.1.0";

/// The interface that a provider exports when it can take over what another one holds.
pub const TAKEOVER: &str = "platform:kv/takeover@0.1.0";

functions! { "platform:kv/store@0.1.0" from LIFECYCLE;
    /// Reads a key.
    Get = "get" (&'a str) -> (Result<Option<Entry>, Error>,);
    /// Reads several keys.
    GetMany = "get-many" (&'a [&'a str]) -> (Result<Vec<Option<Entry>>, Error>,);
    /// Writes a key.
    Put = "put" (&'a str, &'a [u8], Condition, Expiry) -> (Result<u64, Error>,);
    /// Removes a key.
    Delete = "delete" (&'a str, Condition) -> (Result<Option<u64>, Error>,);
    /// Writes several keys.
    Commit = "commit" (&'a [Write]) -> (Result<u64, Error>,);
    /// Adds to a number.
    Increment = "increment" (&'a str, i64) -> (Result<i64, Error>,);
    /// What the namespace holds.
    Used = "used" () -> (Result<Usage, Error>,);
    /// Lists keys and values.
    Scan = "scan" (&'a str, Option<&'a str>, u32) -> (Result<Vec<(String, Entry)>, Error>,);
    /// Waits for changes.
    Changes = "changes" (&'a str, u64, u32, u32) -> (Result<Vec<Change>, Error>,);
    /// The last revision.
    Revision = "revision" () -> (Result<u64, Error>,);
}

mod takeover_functions {
    //! Functions of `takeover`.
    use super::{Change, Error, Fence, LIFECYCLE, functions};
    functions! { "platform:kv/takeover@0.1.0" from LIFECYCLE + 10;
        /// Lists fences.
        Fences = "fences" (Option<&'a str>, u32) -> (Result<Vec<Fence>, Error>,);
        /// Takes over what another store holds.
        Restore = "restore" (&'a [Change], &'a [Fence], u64) -> (Result<(), Error>,);
    }
}

pub use takeover_functions::{Fences, Restore};

/// What the host calls in a provider.
pub const FUNCTIONS: Functions<Guest> = &[
    Row::required::<Configure>(),
    Row::required::<SelfTest>(),
    Row::optional::<Save>(),
    Row::optional::<Load>(),
    Row::required::<Get>(),
    Row::required::<GetMany>(),
    Row::required::<Put>(),
    Row::required::<Delete>(),
    Row::required::<Commit>(),
    Row::required::<Increment>(),
    Row::required::<Used>(),
    Row::required::<Scan>(),
    Row::required::<Changes>(),
    Row::required::<Revision>(),
    Row::optional::<Fences>(),
    Row::optional::<Restore>(),
];

/// The kv capability for guests that import it: answers under the grants and the context of the importer.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// See `platform:kv/store`.
    async fn get(&self, call: &Call, key: &str) -> Result<Option<Entry>, Error>;
    /// See `platform:kv/store`.
    async fn get_many(&self, call: &Call, keys: &[&str]) -> Result<Vec<Option<Entry>>, Error>;
    /// See `platform:kv/store`.
    async fn put(&self, call: &Call, key: &str, value: &[u8], when: Condition, expiry: Expiry) -> Result<u64, Error>;
    /// See `platform:kv/store`.
    async fn delete(&self, call: &Call, key: &str, when: Condition) -> Result<Option<u64>, Error>;
    /// See `platform:kv/store`.
    async fn commit(&self, call: &Call, writes: &[Write]) -> Result<u64, Error>;
    /// See `platform:kv/store`.
    async fn increment(&self, call: &Call, key: &str, by: i64) -> Result<i64, Error>;
    /// See `platform:kv/store`.
    async fn used(&self, call: &Call) -> Result<Usage, Error>;
    /// See `platform:kv/store`.
    async fn scan(
        &self, call: &Call, prefix: &str, after: Option<&str>, limit: u32,
    ) -> Result<Vec<(String, Entry)>, Error>;
    /// See `platform:kv/store`.
    async fn changes(
        &self, call: &Call, prefix: &str, after: u64, limit: u32, wait_ms: u32,
    ) -> Result<Vec<Change>, Error>;
    /// See `platform:kv/store`.
    async fn revision(&self, call: &Call) -> Result<u64, Error>;
}

impl types::Host for Guest {}

impl Guest {
    fn kv(&self) -> Result<&dyn Backend, Error> {
        let backend = self.parts.kv.as_deref();
        backend.ok_or_else(|| Error::Unavailable("the plugin has no `kv` grant".to_owned()))
    }
}

impl store::Host for Guest {
    async fn get(&mut self, key: String) -> Result<Option<Entry>, Error> {
        self.kv()?.get(&self.nested(), &key).await
    }

    async fn get_many(&mut self, keys: Vec<String>) -> Result<Vec<Option<Entry>>, Error> {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.kv()?.get_many(&self.nested(), &keys).await
    }

    async fn put(&mut self, key: String, value: Vec<u8>, when: Condition, expiry: Expiry) -> Result<u64, Error> {
        self.kv()?.put(&self.nested(), &key, &value, when, expiry).await
    }

    async fn delete(&mut self, key: String, when: Condition) -> Result<Option<u64>, Error> {
        self.kv()?.delete(&self.nested(), &key, when).await
    }

    async fn commit(&mut self, writes: Vec<Write>) -> Result<u64, Error> {
        self.kv()?.commit(&self.nested(), &writes).await
    }

    async fn increment(&mut self, key: String, by: i64) -> Result<i64, Error> {
        self.kv()?.increment(&self.nested(), &key, by).await
    }

    async fn used(&mut self) -> Result<Usage, Error> {
        self.kv()?.used(&self.nested()).await
    }

    async fn scan(&mut self, prefix: String, after: Option<String>, limit: u32) -> Result<Vec<(String, Entry)>, Error> {
        self.kv()?.scan(&self.nested(), &prefix, after.as_deref(), limit).await
    }

    async fn changes(&mut self, prefix: String, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Change>, Error> {
        self.kv()?.changes(&self.nested(), &prefix, after, limit, wait_ms).await
    }

    async fn revision(&mut self) -> Result<u64, Error> {
        self.kv()?.revision(&self.nested()).await
    }
}
