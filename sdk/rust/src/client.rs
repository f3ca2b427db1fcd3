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

/// Records of the databases of the call's namespace; grant `db`.
pub mod db {
    use crate::{bindings::client::platform::db::records, db::Result};
    pub use crate::{
        bindings::client::platform::db::records::{commit, declare, find},
        db::{
            Action, Condition, Conflict, Content, Duplicate, Error, Field, Filter, Found, Index, Kind, Query, Record,
            Stamp, Test, Value, Write, field,
        },
    };

    /// The record of an id, none when there is none.
    ///
    /// # Errors
    /// See [`Error`]; so for all functions.
    pub fn get(database: &str, table: &str, id: &str) -> Result<Option<Record>> {
        Ok(get_many(database, table, &[id.to_owned()])?.pop().flatten())
    }

    /// The records of 1 to 1000 ids in the order asked, none where there is none.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when they are more than 16 MiB.
    pub fn get_many(database: &str, table: &str, ids: &[String]) -> Result<Vec<Option<Record>>> {
        records::get(database, table, ids)
    }

    /// Makes or replaces a record; its stamp.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the condition does not hold, [`Error::Duplicate`] when a unique value is taken.
    pub fn put(database: &str, table: &str, id: &str, content: Content, condition: Condition) -> Result<Option<Stamp>> {
        written(database, table, id, condition, Action::Put(content))
    }

    /// Removes a record; removing a missing one is fine unless the condition says otherwise.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the condition does not hold.
    pub fn delete(database: &str, table: &str, id: &str, condition: Condition) -> Result<()> {
        written(database, table, id, condition, Action::Delete).map(drop)
    }

    fn written(database: &str, table: &str, id: &str, condition: Condition, action: Action) -> Result<Option<Stamp>> {
        let write = Write { table: table.to_owned(), id: id.to_owned(), condition, action };
        Ok(records::commit(database, &[write])?.pop().flatten())
    }
}

/// Topics of the call's namespace; grant `event`.
pub mod event {
    use serde::Serialize;

    pub use crate::{
        bindings::client::platform::event::topics::{NewEvent, Outcome, Receipt, publish, read, receive, settle},
        event::{Delivery, Draft, Error, Event, Published, Verdict},
    };

    /// A new event of a type with data as JSON, which begins a chain of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the data can't be written as JSON.
    pub fn json<T: Serialize + ?Sized>(kind: &str, data: &T) -> Result<NewEvent, Error> {
        let data = serde_json::to_vec(data).map_err(|error| Error::Invalid(format!("the data: {error}")))?;
        Ok(NewEvent {
            id: String::new(),
            type_: kind.to_owned(),
            origin: String::new(),
            root: String::new(),
            parent: String::new(),
            content_type: "application/json".to_owned(),
            metadata: Vec::new(),
            data,
        })
    }

    /// Which delivery a verdict is on.
    #[must_use]
    pub const fn receipt(delivery: &Delivery) -> Receipt {
        Receipt { sequence: delivery.event.sequence, attempt: delivery.attempt }
    }
}

/// Locks of the call's namespace, taken for its caller; grant `sync`.
pub mod sync {
    use std::time::Duration;

    use crate::bindings::client::platform::sync::locks;
    pub use crate::{
        bindings::client::platform::sync::locks::{get, keep_alive, release},
        sync::{Error, Lease, Lock, Mode, Permits, Place, Want},
    };

    /// Takes a place that is held, with a lease of its own that lasts for `ttl`; waits for it for so long, and at most as long as the
    /// call has time. The place's token is greater than that of whoever held it before.
    ///
    /// # Errors
    /// [`Error::Held`] when it did not come free; see [`Error`] for the others.
    pub fn acquire(name: &str, want: &Want, ttl: Duration, wait: Duration) -> Result<(Place, Lease), Error> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        locks::acquire(name, want, ttl_ms, u32::try_from(wait.as_millis()).unwrap_or(u32::MAX))
    }

    /// What somebody wants who is to hold a lock alone.
    #[must_use]
    pub const fn alone() -> Want {
        Want { mode: Mode::Exclusive, value: None }
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
