//! `platform.config.v1.Config`.

use platform_capability::{Call, config::Version};
use platform_dataplane::{Action, Audit, Edit, Edited, Read, Search, Seen};
use platform_proto::config::v1::{self as proto, config_server::Config, watch_event};
use tonic::{Code, Request, Response, Status};

use super::{
    Shared, admitted,
    error::status,
    milliseconds,
    page::{Page, number, token},
    stream::Answers,
    timestamp,
};
use crate::{fault::Fault, identity::ADMIN_ROLE};

/// Role that sees secret values, as does that of administrators.
const SECRETS_ROLE: &str = "config-secrets";

/// Documents with versions.
#[derive(Debug, Clone)]
pub(crate) struct ConfigService(pub(crate) Shared);

impl ConfigService {
    /// Makes the change `edit` that `request` asks for.
    async fn edit<T>(&self, request: &Request<T>, edit: Edit<'_>) -> Result<Response<proto::EditResponse>, Status> {
        let call = &admitted(request)?.call;
        let Edited { version, changed } = self.0.plane.configurations().edit(call, &edit).await.map_err(status)?;
        Ok(Response::new(proto::EditResponse { version: version.map(version_out), changed }))
    }
}

#[tonic::async_trait]
impl Config for ConfigService {
    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<proto::Reading>, Status> {
        let call = &admitted(&request)?.call;
        let proto::GetRequest { id, path, version, reveal, instance } = request.get_ref();
        let read = Read { path, number: *version, instance, ..Read::new(id) };
        let configurations = self.0.plane.configurations();
        let reading = if *reveal {
            may_reveal(call)?;
            tracing::info!(by = call.subject(), namespace = %call.namespace, id, path, "secrets are revealed");
            configurations.reveal(call, &read).await
        } else {
            configurations.get(call, &read).await
        };
        let reading = reading.map_err(status)?;
        let value = reading.json();
        let candidate = reading.staged;
        Ok(Response::new(proto::Reading { version: Some(version_out(reading.version)), value, candidate }))
    }

    async fn set(&self, request: Request<proto::SetRequest>) -> Result<Response<proto::EditResponse>, Status> {
        let proto::SetRequest { id, path, value, comment, if_version, secret } = request.get_ref();
        let edit = Edit { path, value, secret: *secret, ..Edit::new(id, Action::Set) };
        self.edit(&request, Edit { comment, if_version: *if_version, ..edit }).await
    }

    async fn merge(&self, request: Request<proto::MergeRequest>) -> Result<Response<proto::EditResponse>, Status> {
        let proto::MergeRequest { id, path, value, comment, if_version } = request.get_ref();
        self.edit(&request, Edit { path, value, comment, if_version: *if_version, ..Edit::new(id, Action::Merge) })
            .await
    }

    async fn delete(&self, request: Request<proto::DeleteRequest>) -> Result<Response<proto::EditResponse>, Status> {
        let proto::DeleteRequest { id, path, comment, if_version } = request.get_ref();
        self.edit(&request, Edit { path, comment, if_version: *if_version, ..Edit::new(id, Action::Delete) }).await
    }

    async fn rollback(
        &self, request: Request<proto::RollbackRequest>,
    ) -> Result<Response<proto::EditResponse>, Status> {
        let proto::RollbackRequest { id, version, comment, if_version } = request.get_ref();
        let edit = Edit { restores: *version, comment, if_version: *if_version, ..Edit::new(id, Action::Rollback) };
        self.edit(&request, edit).await
    }

    async fn stage(&self, request: Request<proto::StageRequest>) -> Result<Response<proto::EditResponse>, Status> {
        let proto::StageRequest { id, path, value, percent, comment, if_version } = request.get_ref();
        let edit = Edit { path, value, percent: *percent, ..Edit::new(id, Action::Stage) };
        self.edit(&request, Edit { comment, if_version: *if_version, ..edit }).await
    }

    async fn promote(&self, request: Request<proto::DecideRequest>) -> Result<Response<proto::EditResponse>, Status> {
        let proto::DecideRequest { id, comment, if_version } = request.get_ref();
        self.edit(&request, Edit { comment, if_version: *if_version, ..Edit::new(id, Action::Promote) }).await
    }

    async fn abort(&self, request: Request<proto::DecideRequest>) -> Result<Response<proto::EditResponse>, Status> {
        let proto::DecideRequest { id, comment, if_version } = request.get_ref();
        self.edit(&request, Edit { comment, if_version: *if_version, ..Edit::new(id, Action::Abort) }).await
    }

    async fn reseal(&self, request: Request<proto::ResealRequest>) -> Result<Response<proto::EditResponse>, Status> {
        let proto::ResealRequest { id, comment, if_version } = request.get_ref();
        self.edit(&request, Edit { comment, if_version: *if_version, ..Edit::new(id, Action::Reseal) }).await
    }

    async fn set_schema(
        &self, request: Request<proto::SetSchemaRequest>,
    ) -> Result<Response<proto::EditResponse>, Status> {
        let proto::SetSchemaRequest { id, schema, comment, if_version } = request.get_ref();
        let edit = Edit { value: schema, comment, if_version: *if_version, ..Edit::new(id, Action::Schema) };
        self.edit(&request, edit).await
    }

    async fn get_schema(&self, request: Request<proto::GetSchemaRequest>) -> Result<Response<proto::Schema>, Status> {
        let call = &admitted(&request)?.call;
        let proto::GetSchemaRequest { id, version } = request.get_ref();
        let (version, schema) = self.0.plane.configurations().schema(call, id, *version).await.map_err(status)?;
        Ok(Response::new(proto::Schema { version: Some(version_out(version)), schema }))
    }

    async fn list(&self, request: Request<proto::ListRequest>) -> Result<Response<proto::ListResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::ListRequest { prefix, author, deleted, limit, page_token } = request.get_ref();
        let page = Page::parse(*limit, page_token)?;
        let search = Search { prefix, author, deleted: *deleted, after: page.after.as_deref(), limit: page.limit };
        let (found, after) = self.0.plane.configurations().search(call, &search).await.map_err(status)?;
        Ok(Response::new(proto::ListResponse {
            configurations: found.into_iter().map(version_out).collect(),
            next_page_token: after.as_deref().map(token).unwrap_or_default(),
        }))
    }

    async fn history(
        &self, request: Request<proto::HistoryRequest>,
    ) -> Result<Response<proto::HistoryResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::HistoryRequest { id, from, to, reverse, limit, page_token } = request.get_ref();
        let page = Page::parse(*limit, page_token)?;
        let after = page.after.as_deref().map(number).transpose()?;
        let to = if *to == 0 { u64::MAX } else { *to };
        let range = match (after, reverse) {
            (None, _) => (*from, to),
            (Some(after), false) => (after.saturating_add(1), to),
            (Some(after), true) => (*from, after.saturating_sub(1)),
        };
        let configurations = self.0.plane.configurations();
        let (found, more) = configurations.history(call, id, range, page.limit, *reverse).await.map_err(status)?;
        let last = found.last().filter(|_| more).map(|version| token(&version.number.to_string()));
        Ok(Response::new(proto::HistoryResponse {
            versions: found.into_iter().map(version_out).collect(),
            next_page_token: last.unwrap_or_default(),
        }))
    }

    async fn audit(&self, request: Request<proto::AuditRequest>) -> Result<Response<proto::AuditResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::AuditRequest { from, to, reverse, limit, page_token } = request.get_ref();
        let page = Page::parse(*limit, page_token)?;
        let audit = Audit {
            from_ms: from.as_ref().map_or(0, milliseconds),
            to_ms: to.as_ref().map_or(u64::MAX, milliseconds),
            after: page.after.as_deref(),
            limit: page.limit,
            reverse: *reverse,
        };
        let (found, more) = self.0.plane.configurations().audit(call, &audit).await.map_err(status)?;
        let last = found.last().filter(|_| more).map(|(position, _)| token(position));
        Ok(Response::new(proto::AuditResponse {
            versions: found.into_iter().map(|(_, version)| version_out(version)).collect(),
            next_page_token: last.unwrap_or_default(),
        }))
    }

    async fn diff(&self, request: Request<proto::DiffRequest>) -> Result<Response<proto::DiffResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::DiffRequest { id, from, to } = request.get_ref();
        let difference = self.0.plane.configurations().difference(call, id, *from, *to).await.map_err(status)?;
        let patch = difference.json();
        Ok(Response::new(proto::DiffResponse { from: difference.from, to: difference.to, patch }))
    }

    type WatchStream = Answers<proto::WatchEvent>;

    async fn watch(&self, request: Request<proto::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let admitted = admitted(&request)?;
        let proto::WatchRequest { id, path, after_revision, instance } = request.get_ref();
        let configurations = self.0.plane.configurations();
        let after = match after_revision {
            Some(after) => *after,
            None => configurations.revision(&admitted.call).await.map_err(status)?,
        };
        let selector = if id.is_empty() { "*" } else { id };
        let events =
            configurations.watch(&admitted.call, selector, path.as_deref(), instance, after).map_err(status)?;
        Ok(Response::new(self.0.watched(admitted, after, events, changed, progress)?))
    }
}

/// Whether the caller may see secret values.
fn may_reveal(call: &Call) -> Result<(), Status> {
    let may = |role: &str| call.caller.as_ref().is_some_and(|caller| caller.roles.contains(role));
    if may(SECRETS_ROLE) || may(ADMIN_ROLE) {
        return Ok(());
    }
    let message = format!("`{}` lacks the role `{SECRETS_ROLE}`, which sees secret values", call.subject());
    Err(Fault::new(Code::PermissionDenied, "REVEAL_DENIED", message).into())
}

fn version_out(version: Version) -> proto::Version {
    let Version { id, number, revision, change, has_document, has_schema, staged } = version;
    let action = match change.action {
        Action::Set => proto::Action::Set,
        Action::Merge => proto::Action::Merge,
        Action::Delete => proto::Action::Delete,
        Action::Rollback => proto::Action::Rollback,
        Action::Schema => proto::Action::Schema,
        Action::Reseal => proto::Action::Reseal,
        Action::Stage => proto::Action::Stage,
        Action::Promote => proto::Action::Promote,
        Action::Abort => proto::Action::Abort,
    };
    proto::Version {
        id,
        number,
        revision,
        action: action.into(),
        path: change.path,
        author: change.author.unwrap_or_default(),
        comment: change.comment,
        time: Some(timestamp(change.time_ms)),
        touched: change.touched,
        difference: change.difference.unwrap_or_default(),
        restores: change.restores,
        checksum: change.checksum,
        deleted: !has_document,
        has_schema,
        staged_percent: staged,
    }
}

fn changed(seen: Seen) -> proto::WatchEvent {
    let value = seen.json();
    let changed = watch_event::Changed { version: Some(version_out(seen.version)), value };
    proto::WatchEvent { event: Some(watch_event::Event::Changed(changed)) }
}

fn progress(revision: u64) -> proto::WatchEvent {
    proto::WatchEvent { event: Some(watch_event::Event::Progress(watch_event::Progress { revision })) }
}
