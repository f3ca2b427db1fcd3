//! `wasi:http/incoming-handler`: what a component for the slot `web.page` exports, the request that it is given and the answer that comes back.
//!
//! Owns the request's and the answer's way through WASI's resources. Must not know who asks, nor what of the answer is passed on. Invariant: an answer is
//! whole and within its bound, or there is none.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use platform_runtime::{Fault, Functions, function::Row};
use tokio::sync::oneshot;
use wasmtime::component::Resource;
use wasmtime_wasi_http::{
    Error, WasiHttpView,
    p2::{
        bindings::http::types::{ErrorCode, Scheme},
        body::HyperOutgoingBody,
        types::{HostIncomingRequest, HostResponseOutparam},
    },
};

use crate::{
    functions::{LIFECYCLE, functions},
    guest::Guest,
    plugin::{Configure, SelfTest},
};

/// The interface that a page exports. Any 0.2 will do: they are compatible.
pub const INTERFACE: &str = "wasi:http/incoming-handler@0.2.0";

functions! { "wasi:http/incoming-handler@0.2.0" from LIFECYCLE;
    /// Answers a request.
    Handle = "handle" (Resource<HostIncomingRequest>, Resource<HostResponseOutparam>) -> ();
}

/// What the host calls in a page.
pub const FUNCTIONS: Functions<Guest> =
    &[Row::required::<Configure>(), Row::required::<SelfTest>(), Row::required::<Handle>()];

/// What [`Handle`] is called with.
pub type Params = (Resource<HostIncomingRequest>, Resource<HostResponseOutparam>);

/// The answer that a page was asked for, until it has come.
#[derive(Debug)]
pub struct Awaited {
    coming: oneshot::Receiver<Result<Response<HyperOutgoingBody>, ErrorCode>>,
    bytes_max: usize,
}

/// Gives a request to a guest, and where its answer will be; of the answer's body at most `bytes_max` bytes.
///
/// # Errors
/// The guest has no room for it.
pub fn offer(guest: &mut Guest, request: &Request<Bytes>, bytes_max: usize) -> Result<(Params, Awaited), Fault> {
    let (tell, coming) = oneshot::channel();
    let request = request.clone().map(|body| Full::new(body).map_err(|never| -> Error { match never {} }));
    let no_room = |error: wasmtime::Error| Fault::Instantiate(format!("{error:#}"));
    let mut view = guest.http();
    let request = view.new_incoming_request(Scheme::Http, request).map_err(no_room)?;
    let answer = view.new_response_outparam(tell).map_err(no_room)?;
    Ok(((request, answer), Awaited { coming, bytes_max }))
}

impl Awaited {
    /// The answer, once it has come whole. To be asked for while the guest runs, which waits for its body to be taken.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn whole(self) -> Result<Response<Bytes>, Fault> {
        let trap = |message: String| Fault::Trap { message, backtrace: Vec::new() };
        let given = self.coming.await.map_err(|_dropped| trap("it returned without an answer".to_owned()))?;
        let (head, body) = given.map_err(|code| trap(format!("its answer is an error: {code}")))?.into_parts();
        let collected = Limited::new(body, self.bytes_max).collect().await;
        let body = collected.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Fault::Limit { what: "answer", limit: format!("{} KiB", self.bytes_max >> 10) },
            None => trap(format!("its answer broke off: {error}")),
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}
