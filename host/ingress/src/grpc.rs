//! The platform's methods as gRPC services, one file for each. HTTP/JSON runs the same code.
//!
//! Owns the way from messages to the typed calls of the data plane and back; must not know slots or instances. Invariant:
//! a service finds its caller's [`Admitted`] with the request, put there by the front door, or does not run.

mod auth;
mod discovery;
mod error;
mod kv;
mod page;
mod router;
mod server;
mod stream;

use std::sync::Arc;

use platform_dataplane::Plane;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

pub(crate) use auth::AuthService;
pub(crate) use discovery::DiscoveryService;
pub(crate) use kv::KvService;
pub(crate) use router::RouterService;
pub use server::About;
pub(crate) use server::ServerService;

use crate::admission::Admitted;

/// What the services of the capabilities share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) plane: Arc<Plane>,
    /// Ends streams when the daemon drains.
    pub(crate) draining: CancellationToken,
    /// Streams that may still be opened.
    pub(crate) watches: Arc<Semaphore>,
}

/// The admission of a request.
fn admitted<T>(request: &Request<T>) -> Result<&Admitted, Status> {
    request.extensions().get().ok_or_else(|| Status::internal("the request came in past the door"))
}
