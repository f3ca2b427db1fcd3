//! The host's own durable primitives: tables with revisions and journals, behind one trait.
//!
//! Owns what durable means; knows nothing of Wasm, slots or callers. Invariant: a write that was acknowledged is read
//! by every later call, also after kill -9.
//!
//! The life of a write, in the order of the modules: names and sizes are checked at the door (`check`), the request
//! waits in a bounded queue (`queue`), the committer thread takes all that wait (`committer`), checks conditions and
//! works out what changes (`stage`), hands the changes to the backend as one batch with one fsync (`embedded`) or as one
//! entry of a log that daemons share (`nats`), shows the new revisions (`registry`) and only then acknowledges. A read looks at one consistent view (`read`).
//!
//! ```
//! use platform_storage::{Condition, Memory, Options, Scope, Storage, Write};
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let storage = Memory::new(Options::default());
//! let scope = Scope::new("kv.store", "default");
//! let put = Write::Put { key: "a".into(), value: "1".into(), condition: Condition::Absent, ttl: None };
//! assert_eq!(storage.commit(&scope, "entries", vec![put]).await?, 1);
//! assert_eq!(storage.get(&scope, "entries", "a").await?.unwrap().value, "1");
//! # Ok::<(), platform_storage::Error>(())
//! # }).unwrap();
//! ```

mod types;

mod options;

mod check;
mod queue;

mod committer;

mod stage;

mod backend;
mod codec;
mod registry;

mod read;

mod store;

mod embedded;
mod memory;
mod nats;

mod migrate;

pub mod conformance;

pub use embedded::{Embedded, OpenError};
pub use memory::Memory;
pub use migrate::{MigrateError, Migrated, migrate};
pub use nats::{Nats, NatsOptions, OpenError as NatsError};
pub use options::{Clock, Options};
pub use store::{Figures, Store};
pub use types::{
    Change, Condition, Conflict, Entry, Error, Item, MAX_COMMIT_BYTES, MAX_COMMIT_WRITES, MAX_KEY_BYTES, MAX_LIMIT,
    MAX_NAME_BYTES, MAX_VALUE_BYTES, Object, Objects, Result, Scope, Storage, Usage, Write,
};
