//! `platform.db.v1.Db`.

use std::{fmt::Write as _, sync::Arc};

use platform_base::clock;
use platform_capability::db::{self, Action, Change, Condition, Content, Write};
use platform_dataplane::Place;
use platform_proto::db::v1::{self as proto, db_server::Db, watch_event};
use tonic::{Code, Request, Response, Status};

use super::{Shared, admitted, error::status, page::Page, stream::Answers};
use crate::fault::Fault;

mod value;

/// Records in tables.
#[derive(Debug, Clone)]
pub(crate) struct DbService(pub(crate) Shared);

#[tonic::async_trait]
impl Db for DbService {
    async fn declare_table(
        &self, request: Request<proto::DeclareTableRequest>,
    ) -> Result<Response<proto::Table>, Status> {
        let call = &admitted(&request)?.call;
        let proto::DeclareTableRequest { database, table, indexes } = request.get_ref();
        let indexes = indexes.iter().map(value::index).collect::<Result<Vec<_>, _>>()?;
        let table = self.0.plane.db().declare(call, Place { database, table }, &indexes).await.map_err(status)?;
        Ok(Response::new(value::table(table)))
    }

    async fn list_databases(
        &self, request: Request<proto::ListDatabasesRequest>,
    ) -> Result<Response<proto::ListDatabasesResponse>, Status> {
        let call = &admitted(&request)?.call;
        let list = request.get_ref();
        let page = Page::parse(list.limit, &list.page_token)?;
        let databases = self.0.plane.db().databases(call, page.after.as_deref(), page.limit).await.map_err(status)?;
        let next_page_token = page.next(databases.len(), databases.last().map(String::as_str));
        Ok(Response::new(proto::ListDatabasesResponse { databases, next_page_token }))
    }

    async fn list_tables(
        &self, request: Request<proto::ListTablesRequest>,
    ) -> Result<Response<proto::ListTablesResponse>, Status> {
        let call = &admitted(&request)?.call;
        let list = request.get_ref();
        let page = Page::parse(list.limit, &list.page_token)?;
        let db = self.0.plane.db();
        let tables = db.tables(call, &list.database, page.after.as_deref(), page.limit).await.map_err(status)?;
        let next_page_token = page.next(tables.len(), tables.last().map(|table| table.name.as_str()));
        let tables = tables.into_iter().map(value::table).collect();
        Ok(Response::new(proto::ListTablesResponse { tables, next_page_token }))
    }

    async fn drop_table(
        &self, request: Request<proto::DropTableRequest>,
    ) -> Result<Response<proto::DropTableResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::DropTableRequest { database, table } = request.get_ref();
        self.0.plane.db().drop_table(call, Place { database, table }).await.map_err(status)?;
        Ok(Response::new(proto::DropTableResponse {}))
    }

    async fn drop_database(
        &self, request: Request<proto::DropDatabaseRequest>,
    ) -> Result<Response<proto::DropDatabaseResponse>, Status> {
        let call = &admitted(&request)?.call;
        self.0.plane.db().drop_database(call, &request.get_ref().database).await.map_err(status)?;
        Ok(Response::new(proto::DropDatabaseResponse {}))
    }

    async fn create(&self, request: Request<proto::CreateRequest>) -> Result<Response<proto::Record>, Status> {
        let call = Arc::clone(&admitted(&request)?.call);
        let proto::CreateRequest { database, table, id, metadata, data } = request.into_inner();
        let id = if id.is_empty() { new_id() } else { id };
        let content = Content { metadata: value::fields(metadata)?, data: data.into() };
        let write = Write { table, id, condition: Condition::Absent, action: Action::Put(content) };
        let made = self.0.plane.db().commit(&call, &database, std::slice::from_ref(&write)).await;
        match made {
            Err(platform_dataplane::CallError::Capability(db::Error::Conflict(met))) => {
                let message = format!("there is a record `{}` in `{}` already", met.id.escape_debug(), met.table);
                let fault = Fault::new(Code::AlreadyExists, "RECORD_EXISTS", message);
                Err(fault.with("revision", met.revision.to_string()).into())
            }
            made => written(write, made.map_err(status)?),
        }
    }

    async fn put(&self, request: Request<proto::PutRequest>) -> Result<Response<proto::Record>, Status> {
        let call = Arc::clone(&admitted(&request)?.call);
        let proto::PutRequest { database, table, id, metadata, data, condition } = request.into_inner();
        let condition = match condition {
            Some(proto::put_request::Condition::IfAbsent(true)) => Condition::Absent,
            Some(proto::put_request::Condition::IfPresent(true)) => Condition::Present,
            Some(proto::put_request::Condition::IfRevision(revision)) => Condition::At(revision),
            Some(_) | None => Condition::Always,
        };
        let content = Content { metadata: value::fields(metadata)?, data: data.into() };
        let write = Write { table, id, condition, action: Action::Put(content) };
        let made = self.0.plane.db().commit(&call, &database, std::slice::from_ref(&write)).await;
        match made {
            Err(platform_dataplane::CallError::Capability(db::Error::Conflict(met)))
                if condition == Condition::Present && met.revision == 0 =>
            {
                Err(missing(&write.table, &write.id))
            }
            made => written(write, made.map_err(status)?),
        }
    }

    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<proto::Record>, Status> {
        let call = &admitted(&request)?.call;
        let proto::GetRequest { database, table, id } = request.get_ref();
        let found = self.0.plane.db().get(call, Place { database, table }, &[id]).await.map_err(status)?;
        let found = found.into_iter().next().flatten().ok_or_else(|| missing(table, id))?;
        Ok(Response::new(value::record(found)))
    }

    async fn delete(&self, request: Request<proto::DeleteRequest>) -> Result<Response<proto::DeleteResponse>, Status> {
        let call = Arc::clone(&admitted(&request)?.call);
        let proto::DeleteRequest { database, table, id, condition } = request.into_inner();
        let condition = match condition {
            Some(proto::delete_request::Condition::IfPresent(true)) => Condition::Present,
            Some(proto::delete_request::Condition::IfRevision(revision)) => Condition::At(revision),
            Some(_) | None => Condition::Always,
        };
        let write = Write { table, id, condition, action: Action::Delete };
        self.0.plane.db().commit(&call, &database, &[write]).await.map_err(status)?;
        Ok(Response::new(proto::DeleteResponse {}))
    }

    async fn batch_get(
        &self, request: Request<proto::BatchGetRequest>,
    ) -> Result<Response<proto::BatchGetResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::BatchGetRequest { database, table, ids } = request.get_ref();
        let names: Vec<&str> = ids.iter().map(String::as_str).collect();
        let found = self.0.plane.db().get(call, Place { database, table }, &names).await.map_err(status)?;
        let mut answer = proto::BatchGetResponse::default();
        for (id, found) in ids.iter().zip(found) {
            match found {
                Some(found) => answer.records.push(value::record(found)),
                None => answer.missing.push(id.clone()),
            }
        }
        Ok(Response::new(answer))
    }

    async fn find(&self, request: Request<proto::FindRequest>) -> Result<Response<proto::FindResponse>, Status> {
        let admitted = admitted(&request)?;
        let call = Arc::clone(&admitted.call);
        let proto::FindRequest { database, table, page_token, limit, .. } = request.get_ref();
        let page = Page::parse(*limit, page_token)?;
        let mark = value::mark(&call.namespace, request.get_ref());
        // A token that another query gave would lead to a place that means something else.
        let after = page.after.map(|after| after.strip_prefix(&mark).map(str::to_owned).ok_or_else(value::foreign));
        let query = value::query(request.get_ref(), page.limit, after.transpose()?)?;
        let found = self.0.plane.db().find(&call, Place { database, table }, &query).await.map_err(status)?;
        let next = found.next.map(|next| super::page::token(&format!("{mark}{next}")));
        Ok(Response::new(proto::FindResponse {
            records: found.records.into_iter().map(value::record).collect(),
            next_page_token: next.unwrap_or_default(),
            scanned: found.scanned,
            index: found.used.unwrap_or_default(),
        }))
    }

    async fn transact(
        &self, request: Request<proto::TransactRequest>,
    ) -> Result<Response<proto::TransactResponse>, Status> {
        let call = Arc::clone(&admitted(&request)?.call);
        let proto::TransactRequest { database, writes } = request.into_inner();
        let writes = writes.into_iter().map(write).collect::<Result<Vec<_>, Status>>()?;
        let stamps = self.0.plane.db().commit(&call, &database, &writes).await.map_err(status)?;
        let outcome = |(write, stamp): (Write, Option<db::Stamp>)| proto::transact_response::Outcome {
            id: write.id,
            revision: stamp.map(|stamp| stamp.revision),
        };
        let outcomes = writes.into_iter().zip(stamps).map(outcome).collect();
        Ok(Response::new(proto::TransactResponse { outcomes }))
    }

    type WatchStream = Answers<proto::WatchEvent>;

    async fn watch(&self, request: Request<proto::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let admitted = admitted(&request)?;
        let watch = request.get_ref();
        let db = self.0.plane.db();
        let after = match watch.after_revision {
            Some(after) => after,
            None => db.revision(&admitted.call, &watch.database).await.map_err(status)?,
        };
        let table = Some(watch.table.as_str()).filter(|table| !table.is_empty());
        let events = db.watch(&admitted.call, &watch.database, table, after).map_err(status)?;
        Ok(Response::new(self.0.watched(admitted, after, events, changed, progress)?))
    }
}

/// The record that a write of its own made.
fn written(write: Write, stamps: Vec<Option<db::Stamp>>) -> Result<Response<proto::Record>, Status> {
    let nothing = || Fault::new(Code::Internal, "PROVIDER_FAILED", "the store did not say what it wrote");
    let stamp = stamps.into_iter().next().flatten().ok_or_else(nothing)?;
    let Action::Put(Content { mut metadata, data }) = write.action else { return Err(nothing().into()) };
    metadata.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Response::new(value::record(db::Record { stamp, metadata, data })))
}

fn missing(table: &str, id: &str) -> Status {
    let message = format!("there is no record `{}` in `{table}`", id.escape_debug());
    Fault::new(Code::NotFound, "RECORD_NOT_FOUND", message).into()
}

fn write(write: proto::Write) -> Result<Write, Status> {
    let proto::Write { table, id, condition, action } = write;
    let condition = match condition {
        Some(proto::write::Condition::IfAbsent(true)) => Condition::Absent,
        Some(proto::write::Condition::IfPresent(true)) => Condition::Present,
        Some(proto::write::Condition::IfRevision(revision)) => Condition::At(revision),
        Some(_) | None => Condition::Always,
    };
    let (id, action) = match action {
        Some(proto::write::Action::Put(put)) => {
            let content = Content { metadata: value::fields(put.metadata)?, data: put.data.into() };
            (if id.is_empty() { new_id() } else { id }, Action::Put(content))
        }
        Some(proto::write::Action::Delete(true)) => (id, Action::Delete),
        Some(_) | None => (id, Action::Check),
    };
    Ok(Write { table, id, condition, action })
}

/// An id that nobody has: a UUID of version 7 (RFC 9562), whose order is that of time.
fn new_id() -> String {
    let ms = u128::from(clock::unix_ns() / 1_000_000) << 80;
    let random = rand::random::<u128>() & ((1 << 80) - 1);
    let bits = (ms | random) & !(0xf << 76) & !(0x3 << 62) | (0x7 << 76) | (0x2 << 62);
    let mut id = String::with_capacity(36);
    for (place, digit) in format!("{bits:032x}").chars().enumerate() {
        if matches!(place, 8 | 12 | 16 | 20) {
            id.push('-');
        }
        let _ = write!(id, "{digit}");
    }
    id
}

fn changed(change: Change) -> proto::WatchEvent {
    let Change { table, id, revision, now, .. } = change;
    let event = match now {
        Some(now) => watch_event::Event::Put(watch_event::Changed { table, record: Some(value::record(now)) }),
        None => watch_event::Event::Delete(watch_event::Deleted { table, id, revision }),
    };
    proto::WatchEvent { event: Some(event) }
}

fn progress(revision: u64) -> proto::WatchEvent {
    proto::WatchEvent { event: Some(watch_event::Event::Progress(watch_event::Progress { revision })) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_made_in_the_order_of_time() {
        let id = new_id();
        assert_eq!((id.len(), id.as_bytes()[14], id.matches('-').count()), (36, b'7', 4));
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
        assert_ne!(id, new_id());
    }
}
