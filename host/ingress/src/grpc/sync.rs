//! `platform.sync.v1.Sync`.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream};
use platform_base::clock;
use platform_capability::{
    Call, CallContext,
    sync::{self, Error, Mode, Want},
};
use platform_dataplane::{CallError, Fate, Held, Keep, Queued, Taken};
use platform_proto::sync::v1::{
    self as proto, acquire_event, acquire_request, hold_event, place, sync_server::Sync, watch_event,
};
use tonic::{Code, Request, Response, Status};

use super::{Shared, admitted, error::status, page::Page, stream::Answers, timestamp};
use crate::fault::Fault;

/// How long a lease lasts that names no time, in milliseconds.
const TTL_MS: u64 = 15_000;
/// Longest wait: what is longer is cut to it.
const WAIT_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Locks, semaphores and elections.
#[derive(Debug, Clone)]
pub(crate) struct SyncService(pub(crate) Shared);

#[tonic::async_trait]
impl Sync for SyncService {
    type AcquireStream = Answers<proto::AcquireEvent>;

    async fn acquire(&self, request: Request<proto::AcquireRequest>) -> Result<Response<Self::AcquireStream>, Status> {
        let admitted = admitted(&request)?.clone();
        let proto::AcquireRequest { name, mode, wait_ms, hold, value } = request.into_inner();
        let mode = match mode {
            Some(acquire_request::Mode::Shared(true)) => Mode::Shared,
            Some(acquire_request::Mode::Permits(permits)) => permits_in(permits),
            Some(_) | None => Mode::Exclusive,
        };
        let keep = match hold {
            Some(acquire_request::Hold::Lease(lease)) => Keep::Lease(lease),
            Some(acquire_request::Hold::TtlMs(ttl_ms)) => Keep::Own(ttl_ms),
            None => Keep::Own(TTL_MS),
        };
        let wait = wait_ms.map_or(WAIT_MAX, |wait_ms| Duration::from_millis(wait_ms).min(WAIT_MAX));
        let until = clock::now() + wait;
        let want = Want { mode, value };
        let taken =
            self.0.plane.sync().acquire(&unfenced(&admitted.call), &name, &want, &keep, until).await.map_err(status)?;
        let events: Pin<Box<dyn Stream<Item = Result<proto::AcquireEvent, Status>> + Send>> = match taken {
            Taken::Held(held) => stream::iter([Ok(granted(held))]).boxed(),
            Taken::Queued(queued) => waited_for(queued).boxed(),
        };
        Ok(Response::new(self.0.bound(&admitted, events)?))
    }

    async fn release(
        &self, request: Request<proto::ReleaseRequest>,
    ) -> Result<Response<proto::ReleaseResponse>, Status> {
        let call = &unfenced(&admitted(&request)?.call);
        let proto::ReleaseRequest { name, token } = request.get_ref();
        self.0.plane.sync().release(call, name, *token).await.map_err(status)?;
        Ok(Response::new(proto::ReleaseResponse {}))
    }

    async fn proclaim(
        &self, request: Request<proto::ProclaimRequest>,
    ) -> Result<Response<proto::ProclaimResponse>, Status> {
        let call = &unfenced(&admitted(&request)?.call);
        let proto::ProclaimRequest { name, token, value } = request.get_ref();
        let revision = self.0.plane.sync().proclaim(call, name, *token, value.as_deref()).await.map_err(status)?;
        Ok(Response::new(proto::ProclaimResponse { revision }))
    }

    type HoldStream = Answers<proto::HoldEvent>;

    async fn hold(&self, request: Request<proto::HoldRequest>) -> Result<Response<Self::HoldStream>, Status> {
        let admitted = admitted(&request)?;
        let proto::HoldRequest { name, token } = request.get_ref();
        let fates = self.0.plane.sync().hold(&unfenced(&admitted.call), name, *token).await.map_err(status)?;
        let events = fates.map(|fate| {
            let event = match fate.map_err(status)? {
                Fate::Held(place) => hold_event::Event::Held(place_out(place)),
                Fate::Lost(revision) => hold_event::Event::Lost(hold_event::Lost { revision }),
            };
            Ok(proto::HoldEvent { event: Some(event) })
        });
        Ok(Response::new(self.0.bound(admitted, events)?))
    }

    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<proto::Lock>, Status> {
        let call = &unfenced(&admitted(&request)?.call);
        let name = &request.get_ref().name;
        let lock = self.0.plane.sync().get(call, name).await.map_err(status)?;
        let free = || {
            let message = format!("nobody holds `{}` or waits for it", name.escape_debug());
            Status::from(Fault::new(Code::NotFound, "NOT_HELD", message))
        };
        Ok(Response::new(lock_out(lock.ok_or_else(free)?)))
    }

    async fn list(&self, request: Request<proto::ListRequest>) -> Result<Response<proto::ListResponse>, Status> {
        let call = &unfenced(&admitted(&request)?.call);
        let proto::ListRequest { prefix, limit, page_token } = request.get_ref();
        let page = Page::parse(*limit, page_token)?;
        let found = self.0.plane.sync().search(call, prefix, page.after.as_deref(), page.limit).await;
        let found = found.map_err(status)?;
        let next_page_token = page.next(found.len(), found.last().map(|last| last.name.as_str()));
        let locks = found.into_iter().map(lock_out).collect();
        Ok(Response::new(proto::ListResponse { locks, next_page_token }))
    }

    type WatchStream = Answers<proto::WatchEvent>;

    async fn watch(&self, request: Request<proto::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let admitted = admitted(&request)?;
        let watch = request.get_ref();
        let sync = self.0.plane.sync();
        let after = match watch.after_revision {
            Some(after) => after,
            None => sync.revision(&unfenced(&admitted.call)).await.map_err(status)?,
        };
        let events = sync.watch(&unfenced(&admitted.call), &watch.prefix, after).map_err(status)?;
        Ok(Response::new(self.0.watched(admitted, after, events, changed, progress)?))
    }

    async fn grant_lease(&self, request: Request<proto::GrantLeaseRequest>) -> Result<Response<proto::Lease>, Status> {
        let call = &unfenced(&admitted(&request)?.call);
        let ttl_ms = request.get_ref().ttl_ms;
        let ttl_ms = if ttl_ms == 0 { TTL_MS } else { ttl_ms };
        Ok(Response::new(lease_out(self.0.plane.sync().grant(call, ttl_ms).await.map_err(status)?)))
    }

    async fn keep_alive(&self, request: Request<proto::KeepAliveRequest>) -> Result<Response<proto::Lease>, Status> {
        let call = &unfenced(&admitted(&request)?.call);
        let lease = self.0.plane.sync().keep_alive(call, &request.get_ref().lease).await.map_err(status)?;
        Ok(Response::new(lease_out(lease)))
    }

    async fn revoke_lease(
        &self, request: Request<proto::RevokeLeaseRequest>,
    ) -> Result<Response<proto::RevokeLeaseResponse>, Status> {
        let call = &unfenced(&admitted(&request)?.call);
        self.0.plane.sync().revoke(call, &request.get_ref().lease).await.map_err(status)?;
        Ok(Response::new(proto::RevokeLeaseResponse {}))
    }
}

/// A call whose own writes are not fenced: whoever lost a lock may still give it up, or take it again.
fn unfenced(call: &Call) -> Call {
    match call.fence {
        None => Arc::clone(call),
        Some(_) => Arc::new(CallContext { fence: None, ..call.as_ref().clone() }),
    }
}

/// Says that the place is waited for, then what came of it.
fn waited_for(queued: Queued) -> impl Stream<Item = Result<proto::AcquireEvent, Status>> + Send {
    let waiting = acquire_event::Event::Waiting(place_out(queued.place().clone()));
    let waiting = Ok(proto::AcquireEvent { event: Some(waiting) });
    let held = async move {
        let held: Result<Held, CallError<Error>> = queued.held().await;
        held.map(granted).map_err(status)
    };
    stream::iter([waiting]).chain(stream::once(held))
}

fn granted(held: Held) -> proto::AcquireEvent {
    let grant = acquire_event::Grant { place: Some(place_out(held.place)), lease: Some(lease_out(held.lease)) };
    proto::AcquireEvent { event: Some(acquire_event::Event::Granted(grant)) }
}

fn permits_in(permits: proto::Permits) -> Mode {
    Mode::Permits(sync::Permits { count: permits.count.max(1), limit: permits.limit })
}

fn place_out(place: sync::Place) -> proto::Place {
    let mode = match place.mode {
        Mode::Exclusive => place::Mode::Exclusive(true),
        Mode::Shared => place::Mode::Shared(true),
        Mode::Permits(sync::Permits { count, limit }) => place::Mode::Permits(proto::Permits { count, limit }),
    };
    proto::Place {
        token: place.token,
        holder: place.holder,
        lease: place.lease,
        mode: Some(mode),
        value: place.value,
        since: Some(timestamp(place.since_ms)),
    }
}

fn lease_out(lease: sync::Lease) -> proto::Lease {
    let sync::Lease { id, holder, ttl_ms, expires_ms } = lease;
    proto::Lease { id, holder, ttl_ms, expire_time: Some(timestamp(expires_ms)) }
}

fn lock_out(lock: sync::Lock) -> proto::Lock {
    let sync::Lock { name, revision, held, waiting } = lock;
    proto::Lock { name, revision, held: held.into_iter().map(place_out).collect(), waiting }
}

fn changed(lock: sync::Lock) -> proto::WatchEvent {
    proto::WatchEvent { event: Some(watch_event::Event::Changed(lock_out(lock))) }
}

fn progress(revision: u64) -> proto::WatchEvent {
    proto::WatchEvent { event: Some(watch_event::Event::Progress(watch_event::Progress { revision })) }
}
