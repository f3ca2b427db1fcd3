//! `platform.kv.v1.Kv`.

use std::sync::Arc;

use platform_capability::kv::{self, Action, Change, Condition, Content, Expiry, Usage, Write};
use platform_proto::kv::v1::{self as proto, kv_server::Kv, watch_event};
use tonic::{Code, Request, Response, Status};

use super::{
    Shared, admitted,
    error::status,
    page::{Page, token},
    stream::Answers,
    timestamp,
};
use crate::fault::Fault;

/// Bytes of keys and values after which a page ends: what clients take by default is 4 MiB.
const PAGE_BYTES: usize = 3 << 20;

/// Values under keys.
#[derive(Debug, Clone)]
pub(crate) struct KvService(pub(crate) Shared);

#[tonic::async_trait]
impl Kv for KvService {
    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<proto::Entry>, Status> {
        let call = &admitted(&request)?.call;
        let key = &request.get_ref().key;
        let found = self.0.plane.kv().get(call, key).await.map_err(status)?;
        let found = found.ok_or_else(|| {
            let message = format!("there is no key `{}`", key.escape_debug());
            Status::from(Fault::new(Code::NotFound, "KEY_NOT_FOUND", message))
        })?;
        Ok(Response::new(entry(key.clone(), found)))
    }

    async fn batch_get(
        &self, request: Request<proto::BatchGetRequest>,
    ) -> Result<Response<proto::BatchGetResponse>, Status> {
        let call = &admitted(&request)?.call;
        let keys: Vec<&str> = request.get_ref().keys.iter().map(String::as_str).collect();
        let found = self.0.plane.kv().get_many(call, &keys).await.map_err(status)?;
        let mut answer = proto::BatchGetResponse::default();
        for (key, found) in keys.into_iter().zip(found) {
            match found {
                Some(found) => answer.entries.push(entry(key.to_owned(), found)),
                None => answer.missing.push(key.to_owned()),
            }
        }
        Ok(Response::new(answer))
    }

    async fn put(&self, request: Request<proto::PutRequest>) -> Result<Response<proto::PutResponse>, Status> {
        let call = &admitted(&request)?.call;
        let put = request.get_ref();
        let condition = match put.condition {
            Some(proto::put_request::Condition::IfAbsent(true)) => Condition::Absent,
            Some(proto::put_request::Condition::IfPresent(true)) => Condition::Present,
            Some(proto::put_request::Condition::IfRevision(revision)) => Condition::At(revision),
            Some(_) | None => Condition::Always,
        };
        let expiry = match put.expiry {
            Some(proto::put_request::Expiry::TtlMs(ttl_ms)) => Expiry::AfterMs(ttl_ms),
            Some(proto::put_request::Expiry::KeepTtl(true)) => Expiry::Keep,
            Some(_) | None => Expiry::Never,
        };
        let revision = self.0.plane.kv().put(call, &put.key, &put.value, condition, expiry).await.map_err(status)?;
        Ok(Response::new(proto::PutResponse { revision }))
    }

    async fn delete(&self, request: Request<proto::DeleteRequest>) -> Result<Response<proto::DeleteResponse>, Status> {
        let call = &admitted(&request)?.call;
        let delete = request.get_ref();
        let condition = match delete.condition {
            Some(proto::delete_request::Condition::IfPresent(true)) => Condition::Present,
            Some(proto::delete_request::Condition::IfRevision(revision)) => Condition::At(revision),
            Some(_) | None => Condition::Always,
        };
        let revision = self.0.plane.kv().delete(call, &delete.key, condition).await.map_err(status)?;
        Ok(Response::new(proto::DeleteResponse { revision }))
    }

    async fn commit(&self, request: Request<proto::CommitRequest>) -> Result<Response<proto::CommitResponse>, Status> {
        let call = Arc::clone(&admitted(&request)?.call);
        let writes: Vec<Write> = request.into_inner().writes.into_iter().map(write).collect();
        let revision = self.0.plane.kv().commit(&call, &writes).await.map_err(status)?;
        Ok(Response::new(proto::CommitResponse { revision }))
    }

    async fn increment(
        &self, request: Request<proto::IncrementRequest>,
    ) -> Result<Response<proto::IncrementResponse>, Status> {
        let call = &admitted(&request)?.call;
        let increment = request.get_ref();
        let by = increment.by.unwrap_or(1);
        let value = self.0.plane.kv().increment(call, &increment.key, by).await.map_err(status)?;
        Ok(Response::new(proto::IncrementResponse { value }))
    }

    async fn get_usage(&self, request: Request<proto::GetUsageRequest>) -> Result<Response<proto::Usage>, Status> {
        let Usage { keys, bytes, keys_quota, bytes_quota } =
            self.0.plane.kv().used(&admitted(&request)?.call).await.map_err(status)?;
        Ok(Response::new(proto::Usage { keys, bytes, keys_quota, bytes_quota }))
    }

    async fn list(&self, request: Request<proto::ListRequest>) -> Result<Response<proto::ListResponse>, Status> {
        let call = &admitted(&request)?.call;
        let list = request.get_ref();
        let page = Page::parse(list.limit, &list.page_token)?;
        let found =
            self.0.plane.kv().scan(call, &list.prefix, page.after.as_deref(), page.limit).await.map_err(status)?;
        let mut next_page_token = page.next(found.len(), found.last().map(|(key, _)| key.as_str()));
        let (mut entries, mut bytes) = (Vec::with_capacity(found.len()), 0);
        for (key, value) in found {
            bytes += key.len() + value.value.len();
            if bytes > PAGE_BYTES && !entries.is_empty() {
                next_page_token = entries.last().map(|last: &proto::Entry| token(&last.key)).unwrap_or_default();
                break;
            }
            entries.push(entry(key, value));
        }
        Ok(Response::new(proto::ListResponse { entries, next_page_token }))
    }

    type WatchStream = Answers<proto::WatchEvent>;

    async fn watch(&self, request: Request<proto::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let admitted = admitted(&request)?;
        let watch = request.get_ref();
        let kv = self.0.plane.kv();
        let after = match watch.after_revision {
            Some(after) => after,
            None => kv.revision(&admitted.call).await.map_err(status)?,
        };
        let events = kv.watch(&admitted.call, &watch.prefix, after).map_err(status)?;
        Ok(Response::new(self.0.watched(admitted, after, events, changed, progress)?))
    }
}

fn write(write: proto::Write) -> Write {
    let condition = match write.condition {
        Some(proto::write::Condition::IfAbsent(true)) => Condition::Absent,
        Some(proto::write::Condition::IfPresent(true)) => Condition::Present,
        Some(proto::write::Condition::IfRevision(revision)) => Condition::At(revision),
        Some(_) | None => Condition::Always,
    };
    let action = match write.action {
        Some(proto::write::Action::Put(put)) => {
            let expiry = match put.expiry {
                Some(proto::write::put::Expiry::TtlMs(ttl_ms)) => Expiry::AfterMs(ttl_ms),
                Some(proto::write::put::Expiry::KeepTtl(true)) => Expiry::Keep,
                Some(_) | None => Expiry::Never,
            };
            Action::Put(Content { value: put.value.into(), expiry })
        }
        Some(proto::write::Action::Delete(true)) => Action::Delete,
        Some(_) | None => Action::Check,
    };
    Write { key: write.key, condition, action }
}

fn entry(key: String, entry: kv::Entry) -> proto::Entry {
    let expire_time = entry.expires_ms.map(timestamp);
    proto::Entry { key, value: entry.value.into(), revision: entry.revision, expire_time }
}

fn changed(change: Change) -> proto::WatchEvent {
    let Change { key, entry: now, revision } = change;
    proto::WatchEvent {
        event: Some(match now {
            Some(now) => watch_event::Event::Put(entry(key, now)),
            None => watch_event::Event::Delete(watch_event::Deleted { key, revision }),
        }),
    }
}

fn progress(revision: u64) -> proto::WatchEvent {
    proto::WatchEvent { event: Some(watch_event::Event::Progress(watch_event::Progress { revision })) }
}
