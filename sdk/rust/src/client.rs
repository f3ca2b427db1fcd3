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
