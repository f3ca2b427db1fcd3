//! Other capabilities as a plugin uses them: calls go through the slot that is bound, under the plugin's grants and the
//! deadline of the call being served. They need the grant named below and are not to be had in `configure`.
//!
//! In native builds there is no slot to call and they panic; logic worth a unit test takes what it read as an argument.

/// The key-value store of the call's namespace; grant `kv`.
pub mod kv {
    pub use crate::{
        bindings::client::platform::kv::store::{
            Action, Change, Condition, Content, Expiry, Usage, Write, changes, commit, delete, get, get_many,
            increment, put, revision, scan, used,
        },
        kv::{Conflict, Entry, Error},
    };
}

/// The registry of the call's namespace; grant `discovery`.
pub mod discovery {
    pub use crate::{
        bindings::client::platform::discovery::registry::{
            Change, Summary, changes, deregister, get, heartbeat, list, register, revision,
        },
        discovery::{Endpoint, Error, Node, Registration},
    };
}

/// Values of the configurations of the call's namespace; grant `config`.
pub mod config {
    use serde::de::DeserializeOwned;

    use crate::bindings::client::platform::config::values;
    pub use crate::config::Error;

    /// The value at a JSON Pointer of a configuration as it is now, none when there is nothing. A mark stands in place of a
    /// secret.
    ///
    /// # Errors
    /// [`Error::Other`] when the value is no `T`; see [`Error`] for the others.
    pub fn get<T: DeserializeOwned>(id: &str, path: &str) -> Result<Option<T>, Error> {
        let Some(text) = values::get(id, path)? else { return Ok(None) };
        let read = serde_json::from_str(&text);
        read.map(Some).map_err(|error| Error::Other(format!("`{id}` at `{path}`: {error}")))
    }
}

/// The marketplace, as whoever asks for a page may use it; grant `marketplace`.
#[cfg(feature = "web")]
pub mod marketplace {
    pub use crate::bindings::marketplace::platform::marketplace::{
        index::{Found, Query, search, show, slots},
        installer::{Installed, Plan, install, review},
        types::{Error, Grant, Listing, Version},
    };
}
