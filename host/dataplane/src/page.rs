//! Pages: a request of a browser on its way through the slot `web.page`.
//!
//! Must not know who may ask for what, nor what of an answer is passed on. Invariants: an answer counts when it came whole and the plugin returned; a request
//! that may change something is not tried again once a plugin has entered it.

use std::{convert::Infallible, pin::pin, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response};
use platform_base::clock;
use platform_capability::{Call, SlotKind, marketplace, web};
use platform_runtime::Fault;

use crate::{binding::Entry, error::CallError, plane::Plane};

/// The marketplace for the time of one request, where there is one.
pub type Market = Option<Arc<dyn marketplace::Backend>>;

impl Plane {
    /// Asks the page of a name: what is bound to `web.page/NAME`, else to `web.page`.
    ///
    /// # Errors
    /// Nothing is bound, or the plugin gave no answer where the slot's failure mode knew no other way.
    pub async fn page(
        &self, name: &str, call: &Call, request: &Request<Bytes>, market: &Market,
    ) -> Result<Response<Bytes>, CallError<Infallible>> {
        let slot = self.find(SlotKind::WebPage, name);
        let reads = request.method() == Method::GET;
        let mut route = slot.route()?;
        loop {
            let answer = match route.entry() {
                Some(entry) => entry.show(call, request, market).await,
                None => return Err(CallError::NotBound(slot.name().clone())),
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(fault) if !reads && fault.was_entered() => {
                    let plugin = route.entry().map_or_else(|| Arc::from(""), |entry| Arc::clone(&entry.label));
                    return Err(CallError::Fault { slot: slot.name().clone(), plugin, fault });
                }
                Err(fault) => route.after(fault)?,
            }
        }
    }
}

impl Entry {
    async fn show(&self, call: &Call, request: &Request<Bytes>, market: &Market) -> Result<Response<Bytes>, Fault> {
        let started = clock::now();
        let answer = self.shown(call, request, market).await;
        self.count(call, started, answer.as_ref().err());
        answer
    }

    async fn shown(&self, call: &Call, request: &Request<Bytes>, market: &Market) -> Result<Response<Bytes>, Fault> {
        let mut lease = self.pool.take(clock::now(), call.deadline).await?;
        let until = lease.until();
        let guest = lease.guest();
        guest.serve(call, until);
        guest.marketplace.clone_from(market);
        let (params, awaited) = web::offer(guest, request, (self.plugin.limits.transfer_kib as usize) << 10)?;
        let mut whole = pin!(awaited.whole());
        // The guest waits for its answer to be taken, so both go on together; one that was refused ends the other.
        let taken = {
            let mut run = pin!(lease.call::<web::Handle>(params));
            tokio::select! {
                biased;
                result = &mut run => result.map(|()| None)?,
                taken = &mut whole => {
                    let taken = taken?;
                    run.await?;
                    Some(taken)
                }
            }
        };
        // What a guest left open ends with its instance.
        lease.end();
        match taken {
            Some(taken) => Ok(taken),
            None => match tokio::time::timeout_at(until.into(), whole).await {
                Ok(answer) => answer,
                Err(_) => Err(Fault::Deadline(self.plugin.limits.deadline())),
            },
        }
    }
}
