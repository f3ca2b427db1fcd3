//! `platform.plugin.v1.Plugins`.

mod decisions;
mod logs;
mod message;
mod plan;

use std::sync::Arc;

use futures::StreamExt;
use platform_capability::Name;
use platform_control::{
    Bind, Control, Error, GrantChange, Install, Kind, LimitChanges, LinkRequest, PageRequest, Reference, Towards,
    parse_mode,
};
use platform_proto::plugin::v1::{self as proto, plugins_server::Plugins};
use platform_runtime::InvalidDigest;
use platform_signing::Evidence;
use tonic::{Code, Request, Response, Status};

use super::{Shared, admitted, page::Page, stream::Answers};
use crate::fault::Fault;

/// Control of components and slots.
#[derive(Debug, Clone)]
pub(crate) struct PluginsService {
    pub(crate) control: Arc<Control>,
    pub(crate) shared: Shared,
}

#[tonic::async_trait]
impl Plugins for PluginsService {
    async fn install(
        &self, request: Request<proto::InstallRequest>,
    ) -> Result<Response<proto::InstallResponse>, Status> {
        let by = caller(&request)?;
        let proto::InstallRequest { component, name, version, dry_run, signatures, accept_grants } =
            request.into_inner();
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        let signatures = signatures.iter().map(|text| Evidence::parse(text).map_err(|error| status(error.into())));
        let signatures = signatures.collect::<Result<_, _>>()?;
        let install = Install { name: text(name), version: text(version), signatures, accept_grants, dry_run, by };
        let installed = self.control.install(component, install).await.map_err(status)?;
        let bound = Vec::new();
        let plugin = Some(message::plugin(&installed.plugin, bound));
        let answer = proto::InstallResponse {
            plugin,
            warnings: installed.warnings,
            existed: installed.existed,
            ..installed.upgrade.map(message::upgrade).unwrap_or_default()
        };
        Ok(Response::new(answer))
    }

    async fn list(&self, request: Request<proto::ListRequest>) -> Result<Response<proto::ListResponse>, Status> {
        let proto::ListRequest { limit, page_token } = admit(request)?;
        let page = self.control.plugins(&page(limit, page_token)?).map_err(status)?;
        let plugins = page.items.iter().map(message::view).collect();
        Ok(Response::new(proto::ListResponse { plugins, next_page_token: page.next }))
    }

    async fn inspect(&self, request: Request<proto::InspectRequest>) -> Result<Response<proto::Plugin>, Status> {
        let plugin = admit(request)?.plugin;
        let view = self.control.plugin(&reference(&plugin)?).map_err(status)?;
        let mut answer = message::view(&view);
        // A slot that is emptied meanwhile has nothing to tell.
        let slots = view.bound.iter().filter_map(|slot| self.control.slot(slot).ok()?.status);
        answer.serving = slots.flat_map(|slot| message::serving(&view.plugin, &slot)).collect();
        Ok(Response::new(answer))
    }

    async fn grant(&self, request: Request<proto::GrantRequest>) -> Result<Response<proto::Plugin>, Status> {
        let by = caller(&request)?;
        let proto::GrantRequest { plugin, grants, revoke, requested } = request.into_inner();
        let parse = |texts: Vec<String>| {
            let grants = texts.iter().map(|text| text.parse().map_err(|error| status(Error::Grant(error))));
            grants.collect::<Result<Vec<_>, _>>()
        };
        let change = GrantChange { exactly: None, requested, give: parse(grants)?, take: parse(revoke)?, by };
        let view = self.control.grant(reference(&plugin)?, change).await.map_err(status)?;
        Ok(Response::new(message::view(&view)))
    }

    async fn revoke(&self, request: Request<proto::RevokeRequest>) -> Result<Response<proto::Revocation>, Status> {
        let by = caller(&request)?;
        let proto::RevokeRequest { plugin, reason } = request.into_inner();
        let revocation = self.control.revoke(reference(&plugin)?, reason, by).await.map_err(status)?;
        Ok(Response::new(message::revocation(&revocation)))
    }

    async fn withdraw(&self, request: Request<proto::WithdrawRequest>) -> Result<Response<proto::Revocation>, Status> {
        let by = caller(&request)?;
        let digest = request.into_inner().digest;
        let digest =
            digest.parse().map_err(|error: InvalidDigest| Fault::invalid("DIGEST_INVALID", error.to_string()))?;
        let revocation = self.control.withdraw(digest, by).await.map_err(status)?;
        Ok(Response::new(message::revocation(&revocation)))
    }

    async fn list_revocations(
        &self, request: Request<proto::ListRevocationsRequest>,
    ) -> Result<Response<proto::ListRevocationsResponse>, Status> {
        admitted(&request)?;
        let revocations = self.control.revocations().iter().map(|one| message::revocation(one)).collect();
        Ok(Response::new(proto::ListRevocationsResponse { revocations }))
    }

    async fn uninstall(
        &self, request: Request<proto::UninstallRequest>,
    ) -> Result<Response<proto::UninstallResponse>, Status> {
        let by = caller(&request)?;
        let reference = reference(&request.into_inner().plugin)?;
        let digests = self.control.uninstall(reference, by).await.map_err(status)?;
        let digests = digests.iter().map(ToString::to_string).collect();
        Ok(Response::new(proto::UninstallResponse { digests }))
    }

    async fn bind(&self, request: Request<proto::BindRequest>) -> Result<Response<proto::Slot>, Status> {
        let by = caller(&request)?;
        let proto::BindRequest { slot, chain, failure_mode, dry_run, if_generation, comment, carry, rollout } =
            request.into_inner();
        let failure_mode = if failure_mode.is_empty() { "closed" } else { &failure_mode };
        let failure = failure_mode.parse().map_err(|error| status(Error::FailureMode(error)))?;
        let chain = chain.into_iter().map(link).collect::<Result<_, _>>()?;
        let carry = carry.iter().map(|name| name.parse::<Name>()).collect::<Result<Vec<_>, _>>();
        let carry = carry.map_err(|error| Fault::invalid("INVALID_ARGUMENT", format!("`carry`: {error}")))?;
        let rollout = rollout.map(plan::read).transpose()?;
        let bind = Bind { chain, failure, dry_run, carry, rollout, if_generation, comment, by };
        let view = self.control.bind(slot_name(&slot)?, bind).await.map_err(status)?;
        Ok(Response::new(message::slot(view)))
    }

    async fn unbind(&self, request: Request<proto::UnbindRequest>) -> Result<Response<proto::UnbindResponse>, Status> {
        let by = caller(&request)?;
        let slot = slot_name(&request.into_inner().slot)?;
        let generation = self.control.unbind(slot.clone(), by).await.map_err(status)?;
        let daemons = self.control.towards(&slot, Towards::Gone(generation));
        Ok(Response::new(proto::UnbindResponse { generation, daemons: daemons.iter().map(message::daemon).collect() }))
    }

    async fn rollback(&self, request: Request<proto::RollbackRequest>) -> Result<Response<proto::Slot>, Status> {
        let by = caller(&request)?;
        let proto::RollbackRequest { slot, generation } = request.into_inner();
        let view = self.control.rollback(slot_name(&slot)?, generation, by).await.map_err(status)?;
        Ok(Response::new(message::slot(view)))
    }

    async fn promote(&self, request: Request<proto::PromoteRequest>) -> Result<Response<proto::Slot>, Status> {
        let by = caller(&request)?;
        let slot = slot_name(&request.into_inner().slot)?;
        Ok(Response::new(message::slot(self.control.promote(slot, by).await.map_err(status)?)))
    }

    async fn abort(&self, request: Request<proto::AbortRequest>) -> Result<Response<proto::Slot>, Status> {
        let by = caller(&request)?;
        let slot = slot_name(&request.into_inner().slot)?;
        Ok(Response::new(message::slot(self.control.abort(slot, by).await.map_err(status)?)))
    }

    async fn get_rollout(
        &self, request: Request<proto::GetRolloutRequest>,
    ) -> Result<Response<proto::Rollout>, Status> {
        let slot = slot_name(&admit(request)?.slot)?;
        let rollout = self.control.slot(&slot).map_err(status)?.rollout;
        let rollout = rollout.ok_or_else(|| status(Error::NoRollout(slot.clone())))?;
        let divergences = message::divergences(&rollout);
        Ok(Response::new(proto::Rollout { divergences, ..message::rollout(&slot, &rollout) }))
    }

    async fn drain(&self, request: Request<proto::DrainRequest>) -> Result<Response<proto::Slot>, Status> {
        let patience = admitted(&request)?.call.remaining();
        let view = self.control.drain(&slot_name(&request.into_inner().slot)?, patience).await.map_err(status)?;
        Ok(Response::new(message::slot(view)))
    }

    async fn list_slots(
        &self, request: Request<proto::ListSlotsRequest>,
    ) -> Result<Response<proto::ListSlotsResponse>, Status> {
        let proto::ListSlotsRequest { limit, page_token } = admit(request)?;
        let page = self.control.slots(&page(limit, page_token)?);
        let slots = page.items.into_iter().map(message::slot).collect();
        Ok(Response::new(proto::ListSlotsResponse { slots, next_page_token: page.next }))
    }

    async fn get_slot(&self, request: Request<proto::GetSlotRequest>) -> Result<Response<proto::Slot>, Status> {
        let slot = slot_name(&admit(request)?.slot)?;
        Ok(Response::new(message::slot(self.control.slot(&slot).map_err(status)?)))
    }

    type ProgressStream = Answers<proto::ProgressEvent>;

    async fn progress(
        &self, request: Request<proto::ProgressRequest>,
    ) -> Result<Response<Self::ProgressStream>, Status> {
        let admitted = admitted(&request)?.clone();
        let proto::ProgressRequest { slot, generation, gone } = request.into_inner();
        let wanted = match (generation, gone) {
            (Some(_), Some(_)) => {
                let why = "give `generation` or `gone`, not both";
                return Err(Fault::invalid("INVALID_ARGUMENT", why.to_owned()).into());
            }
            (Some(generation), None) => Some(Towards::Generation(generation)),
            (None, gone) => gone.map(Towards::Gone),
        };
        let progress = self.control.progress(slot_name(&slot)?, wanted).await.map_err(status)?;
        let events =
            progress.map(|daemons| Ok(proto::ProgressEvent { daemons: daemons.iter().map(message::daemon).collect() }));
        Ok(Response::new(self.shared.bound(&admitted, events)?))
    }

    async fn history(
        &self, request: Request<proto::HistoryRequest>,
    ) -> Result<Response<proto::HistoryResponse>, Status> {
        let proto::HistoryRequest { slot, limit, page_token } = admit(request)?;
        let page = self.control.history(&slot_name(&slot)?, &page(limit, page_token)?).await.map_err(status)?;
        let bindings = page.items.iter().map(message::binding).collect();
        Ok(Response::new(proto::HistoryResponse { bindings, next_page_token: page.next }))
    }

    async fn decisions(
        &self, request: Request<proto::DecisionsRequest>,
    ) -> Result<Response<proto::DecisionsResponse>, Status> {
        let request = admit(request)?;
        let slot = slot_name(&request.slot)?;
        Ok(Response::new(decisions::page(&self.shared.plane, slot, &request).await?))
    }

    type LogsStream = Answers<proto::LogLine>;

    async fn logs(&self, request: Request<proto::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let admitted = admitted(&request)?.clone();
        let proto::LogsRequest { plugin, after, limit, level, follow } = request.into_inner();
        let asked = reference(&plugin)?;
        let found = self.control.plugin(&asked).map_err(status)?.plugin;
        let label = (!matches!(asked, Reference::Name(_))).then(|| format!("{}@{}", found.name, found.version));
        let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0);
        let tail = self.shared.plane.logs().tail(found.name.as_str());
        let lines = logs::lines(tail, logs::Wanted { label, after, limit, level }, follow);
        Ok(Response::new(self.shared.bound(&admitted, lines)?))
    }

    async fn audit(&self, request: Request<proto::AuditRequest>) -> Result<Response<proto::AuditResponse>, Status> {
        let proto::AuditRequest { limit, page_token, subject } = admit(request)?;
        let page = self.control.audit(&subject, &page(limit, page_token)?).await.map_err(status)?;
        let records = page.items.into_iter().map(message::audit).collect();
        Ok(Response::new(proto::AuditResponse { records, next_page_token: page.next }))
    }
}

/// The message of an admitted request.
fn admit<T>(request: Request<T>) -> Result<T, Status> {
    admitted(&request)?;
    Ok(request.into_inner())
}

/// Subject of the one who asks, for the audit trail.
fn caller<T>(request: &Request<T>) -> Result<String, Status> {
    let caller = admitted(request)?.call.caller.as_ref();
    Ok(caller.map(|caller| caller.subject.clone()).unwrap_or_default())
}

fn page(limit: u32, token: String) -> Result<PageRequest, Status> {
    Page::parse(limit, "")?;
    Ok(PageRequest { limit, token })
}

fn reference(text: &str) -> Result<Reference, Status> {
    text.parse().map_err(|error| status(Error::Reference(error)))
}

fn slot_name(text: &str) -> Result<platform_dataplane::SlotName, Status> {
    text.parse().map_err(|error| status(Error::SlotName(error)))
}

fn link(link: proto::Link) -> Result<LinkRequest, Status> {
    let limits = link.limits.unwrap_or_default();
    let small = |name: &str, number: Option<u64>| {
        let message =
            |number| Status::from(Fault::invalid("LIMIT_INVALID", format!("`{name}` of {number} is too large")));
        number.map(|number| u32::try_from(number).map_err(|_too_large| message(number))).transpose()
    };
    Ok(LinkRequest {
        plugin: reference(&link.plugin)?,
        settings: link.settings.map(message::json_object).unwrap_or_default(),
        mode: parse_mode(&link.mode).map_err(status)?,
        limits: LimitChanges {
            memory_kib: small("memory_bytes", limits.memory_bytes.map(|bytes| bytes.div_ceil(1024)))?,
            deadline_ms: small("deadline_ms", limits.deadline_ms)?,
            concurrency: limits.concurrency,
            queue: limits.queue,
            calls_per_instance: small("calls_per_instance", limits.calls_per_instance)?,
            ..LimitChanges::default()
        },
    })
}

/// What a refused change is to callers.
#[expect(clippy::needless_pass_by_value, reason = "it maps errors, which are given by value")]
fn status(error: Error) -> Status {
    let code = match error.kind() {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::Aborted => Code::Aborted,
        Kind::Unavailable => Code::Unavailable,
        Kind::DataLoss => Code::DataLoss,
        Kind::Internal => Code::Internal,
    };
    Fault::new(code, error.reason(), error.to_string()).into()
}
