//! Webhooks: the events of a subscription, posted to a URL as CloudEvents until they are acknowledged there.
//!
//! Owns targets, signatures, attempts and when they are made again. Must not know our wire formats, nor who asked. Where an
//! event stands is the broker's to know: a delivery is acknowledged after the target took it, so an event that was not taken
//! comes again, after a crash too. Invariant: no connection is made to an address that is not public, unless the operator
//! allows its network.
//!
//! In reading order: a [`Webhook`] is kept in a table (`record`, `table`), [`Webhooks`] makes what runs follow from what is
//! kept, a `worker` takes deliveries and settles them, an `attempt` posts one (`cloudevents`, `sign`), `connect` opens the
//! connection (`target`, `network`), and `progress` is what is told of all this. Where several daemons share a storage, a
//! `lease` says which one has the worker.

mod error;

mod config;
mod network;
mod target;

mod record;
mod table;

mod webhooks;

mod lease;
mod progress;
mod worker;

mod attempt;
pub mod cloudevents;
mod connect;
mod sign;

pub use config::Config;
pub use error::WebhookError;
pub use network::{InvalidNetwork, Network};
pub use progress::Progress;
pub use record::{Mode, State, Webhook};
pub use target::InvalidTarget;
pub use webhooks::{Created, NewWebhook, Parts, Status, Webhooks};
