//! Webhooks in messages, and back.

use platform_proto::event::v1::{self as proto, WebhookMode, WebhookState};
use platform_webhook::{Created, Mode, NewWebhook, Progress, State, Status, Webhook};

use crate::grpc::timestamp;

/// What is asked for.
pub(super) fn new_in(request: proto::CreateWebhookRequest) -> NewWebhook {
    let mode = match request.mode() {
        WebhookMode::Structured => Mode::Structured,
        WebhookMode::Unspecified | WebhookMode::Binary => Mode::Binary,
    };
    NewWebhook {
        url: request.url,
        mode,
        secret: Some(request.secret).filter(|secret| !secret.is_empty()),
        unsigned: request.unsigned,
        timeout_ms: request.timeout_ms,
        concurrency: request.concurrency,
        retry_ms_min: request.retry_ms_min,
        retry_ms_max: request.retry_ms_max,
    }
}

pub(super) fn created_out(created: Created) -> proto::CreateWebhookResponse {
    let Created { status, secret } = created;
    proto::CreateWebhookResponse { webhook: Some(webhook_out(status)), secret: secret.unwrap_or_default() }
}

pub(super) fn webhook_out(status: Status) -> proto::Webhook {
    let Status { topic, subscription, webhook, progress, .. } = status;
    let signed = webhook.is_signed();
    let Webhook { url, mode, timeout_ms, concurrency, retry_ms_min, retry_ms_max, state, created_ms, .. } = webhook;
    let mode = match mode {
        Mode::Binary => WebhookMode::Binary,
        Mode::Structured => WebhookMode::Structured,
    };
    let state = match state {
        State::Active => WebhookState::Active,
        State::Paused => WebhookState::Paused,
        State::Gone => WebhookState::Gone,
    };
    let Progress {
        delivered,
        failed,
        rejected,
        failures_in_row,
        in_flight,
        last_status,
        last_attempt_ms,
        problem,
        next_attempt_ms,
    } = progress;
    proto::Webhook {
        topic,
        name: subscription,
        url,
        mode: mode.into(),
        signed,
        timeout_ms,
        concurrency,
        retry_ms_min,
        retry_ms_max,
        state: state.into(),
        create_time: Some(timestamp(created_ms)),
        delivered,
        failed,
        rejected,
        failures_in_row,
        in_flight,
        last_status: last_status.map(u32::from).unwrap_or_default(),
        last_attempt_time: last_attempt_ms.map(timestamp),
        problem,
        next_attempt_time: next_attempt_ms.map(timestamp),
    }
}
