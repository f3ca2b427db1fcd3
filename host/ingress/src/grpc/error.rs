//! What failed calls are to callers.
//!
//! Owns the gRPC code and reason of every error of the data plane; must not know messages. Invariant: INTERNAL is said of
//! plugins and the host only, never of what a caller sent.

use platform_capability::{db, discovery, kv, sync};
use platform_dataplane::{CallError, ConfigError, EventError, RouteError};
use platform_runtime as runtime;
use platform_webhook::WebhookError;
use tonic::{Code, Status};

use crate::fault::Fault;

/// An error of a capability.
pub(crate) trait CapabilityError {
    /// The fault that callers see.
    fn fault(self) -> Fault;
}

/// The status of a failed call.
pub(crate) fn status<E: CapabilityError>(error: CallError<E>) -> Status {
    fault(error).into()
}

/// The status of what was not done for a webhook.
pub(crate) fn webhook_status(error: WebhookError) -> Status {
    let message = error.to_string();
    let fault = match error {
        WebhookError::NotFound { .. } => Fault::new(Code::NotFound, "NOT_FOUND", message),
        WebhookError::Exists { .. } => Fault::new(Code::AlreadyExists, "ALREADY_EXISTS", message),
        WebhookError::Target(_) => Fault::invalid("INVALID_TARGET", message),
        WebhookError::Invalid(_) => Fault::invalid("INVALID_ARGUMENT", message),
        WebhookError::TooMany(_) => Fault::new(Code::ResourceExhausted, "TOO_MANY_WEBHOOKS", message),
        WebhookError::Key(_) => Fault::new(Code::FailedPrecondition, "SECRET_KEY_UNAVAILABLE", message),
        WebhookError::Event(error) => return status(error),
        WebhookError::Contended => Fault::new(Code::Unavailable, "CONTENDED", message),
        WebhookError::Unavailable(_) => Fault::new(Code::Unavailable, "UNAVAILABLE", message),
        _ => Fault::new(Code::Internal, "WEBHOOK_DAMAGED", message),
    };
    fault.into()
}

fn fault<E: CapabilityError>(error: CallError<E>) -> Fault {
    match error {
        CallError::Capability(error) => error.fault(),
        CallError::Fault { slot, plugin, fault } => {
            let (code, reason) = classify(&fault);
            let message = format!("`{plugin}` in `{slot}`: {fault}");
            Fault::new(code, reason, message).with("slot", slot.to_string()).with("plugin", plugin.to_string())
        }
        CallError::NotBound(slot) => {
            let message =
                format!("nothing is bound to `{slot}`; bind a plugin with `platform plugin bind {slot} NAME`");
            Fault::new(Code::Unavailable, "NOT_BOUND", message).with("slot", slot.to_string())
        }
    }
}

fn classify(fault: &runtime::Fault) -> (Code, &'static str) {
    match fault.kind() {
        "deadline" | "waited" | "expired" => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        "busy" => (Code::Unavailable, "PLUGIN_BUSY"),
        "resting" => (Code::Unavailable, "PLUGIN_RESTING"),
        "moved" => (Code::Unavailable, "PLUGIN_MOVED"),
        "limit" | "stack" => (Code::Internal, "PLUGIN_LIMIT"),
        "trap" => (Code::Internal, "PLUGIN_TRAPPED"),
        _ => (Code::Internal, "PLUGIN_FAILED"),
    }
}

fn conflict(met: kv::Conflict) -> Fault {
    let kv::Conflict { key, revision } = met;
    let message = match revision {
        0 => format!("the condition does not hold: there is no key `{}`", key.escape_debug()),
        revision => format!("the condition does not hold: `{}` is at revision {revision}", key.escape_debug()),
    };
    Fault::new(Code::Aborted, "CONFLICT", message).with("key", key).with("revision", revision.to_string())
}

fn stale(seen: u64) -> Fault {
    let message = format!("a later holder of the lock, with token {seen}, has written already: the lock is lost");
    Fault::new(Code::Aborted, "STALE_TOKEN", message).with("token", seen.to_string())
}

fn compacted(oldest: u64) -> Fault {
    let message =
        format!("changes before revision {oldest} are no longer kept: read the state, then watch from its revision");
    Fault::new(Code::OutOfRange, "COMPACTED", message).with("oldest", oldest.to_string())
}

impl CapabilityError for kv::Error {
    fn fault(self) -> Fault {
        match self {
            Self::Conflict(met) => conflict(met),
            Self::Stale(seen) => stale(seen),
            Self::Compacted(oldest) => compacted(oldest),
            Self::TooLarge(what) => Fault::invalid("TOO_LARGE", what),
            Self::Invalid(what) => Fault::invalid("INVALID_ARGUMENT", what),
            Self::Quota(what) => Fault::new(Code::ResourceExhausted, "QUOTA_EXCEEDED", what),
            Self::Unavailable(what) => Fault::new(Code::Unavailable, "UNAVAILABLE", what),
            Self::Other(what) => Fault::new(Code::Internal, "PROVIDER_FAILED", what),
        }
    }
}

impl CapabilityError for db::Error {
    fn fault(self) -> Fault {
        match self {
            Self::Conflict(db::Conflict { table, id, revision }) => {
                let shown = id.escape_debug();
                let message = match revision {
                    0 => format!("the condition does not hold: there is no record `{shown}` in `{table}`"),
                    revision => {
                        format!("the condition does not hold: `{shown}` of `{table}` is at revision {revision}")
                    }
                };
                let fault = Fault::new(Code::Aborted, "CONFLICT", message).with("table", table).with("id", id);
                fault.with("revision", revision.to_string())
            }
            Self::Duplicate(db::Duplicate { table, field, id }) => {
                let message = format!("another record of `{table}` has this `{field}` already, and it is unique");
                let fault = Fault::new(Code::AlreadyExists, "DUPLICATE_VALUE", message).with("table", table);
                fault.with("field", field).with("id", id)
            }
            Self::Unindexed(what) => Fault::new(Code::FailedPrecondition, "INDEX_NEEDED", what),
            Self::Stale(seen) => stale(seen),
            Self::Compacted(oldest) => compacted(oldest),
            Self::TooLarge(what) => Fault::invalid("TOO_LARGE", what),
            Self::Invalid(what) => Fault::invalid("INVALID_ARGUMENT", what),
            Self::Unavailable(what) => Fault::new(Code::Unavailable, "UNAVAILABLE", what),
            Self::Other(what) => Fault::new(Code::Internal, "PROVIDER_FAILED", what),
        }
    }
}

impl CapabilityError for discovery::Error {
    fn fault(self) -> Fault {
        match self {
            Self::NotFound(what) => Fault::new(Code::NotFound, "NOT_REGISTERED", what),
            Self::Compacted(oldest) => compacted(oldest),
            Self::TooLarge(what) => Fault::invalid("TOO_LARGE", what),
            Self::Invalid(what) => Fault::invalid("INVALID_ARGUMENT", what),
            Self::Unavailable(what) => Fault::new(Code::Unavailable, "UNAVAILABLE", what),
            Self::Other(what) => Fault::new(Code::Internal, "PROVIDER_FAILED", what),
        }
    }
}

impl CapabilityError for sync::Error {
    fn fault(self) -> Fault {
        match self {
            Self::NotFound(what) => Fault::new(Code::NotFound, "NOT_HELD", what),
            Self::Held(who) => Fault::new(Code::Aborted, "HELD", who),
            Self::Denied(why) => Fault::new(Code::PermissionDenied, "NOT_HOLDER", why),
            Self::Crowded(what) => Fault::new(Code::ResourceExhausted, "LINE_FULL", what),
            Self::Compacted(oldest) => compacted(oldest),
            Self::TooLarge(what) => Fault::invalid("TOO_LARGE", what),
            Self::Invalid(what) => Fault::invalid("INVALID_ARGUMENT", what),
            Self::Unavailable(what) => Fault::new(Code::Unavailable, "UNAVAILABLE", what),
            Self::Other(what) => Fault::new(Code::Internal, "PROVIDER_FAILED", what),
        }
    }
}

impl CapabilityError for ConfigError {
    fn fault(self) -> Fault {
        let message = self.to_string();
        match self {
            Self::NotFound(_) => Fault::new(Code::NotFound, "CONFIG_NOT_FOUND", message),
            Self::Conflict(version) => {
                Fault::new(Code::Aborted, "CONFLICT", message).with("version", version.to_string())
            }
            Self::Stale(seen) => stale(seen),
            Self::Contended(_) => Fault::new(Code::Unavailable, "CONTENDED", message),
            Self::Compacted(oldest) => {
                Fault::new(Code::OutOfRange, "COMPACTED", message).with("oldest", oldest.to_string())
            }
            Self::TooLarge(_) => Fault::invalid("TOO_LARGE", message),
            Self::Invalid(_) => Fault::invalid("INVALID_ARGUMENT", message),
            Self::Mismatch(_) => Fault::new(Code::FailedPrecondition, "SCHEMA_MISMATCH", message),
            Self::Staged(_) => Fault::new(Code::FailedPrecondition, "CANDIDATE_PENDING", message),
            Self::NotStaged(_) => Fault::new(Code::FailedPrecondition, "NO_CANDIDATE", message),
            Self::Key(_) => Fault::new(Code::FailedPrecondition, "SECRET_KEY_UNAVAILABLE", message),
            Self::Refused { by, at, .. } => {
                let fault =
                    Fault::new(Code::FailedPrecondition, "CHANGE_REFUSED", message).with("validator", by.as_ref());
                match at {
                    Some(at) => fault.with("at", at),
                    None => fault,
                }
            }
            Self::Unjudged { by, .. } => {
                Fault::new(Code::Unavailable, "VALIDATOR_FAILED", message).with("validator", by.as_ref())
            }
            Self::Unavailable(_) => Fault::new(Code::Unavailable, "UNAVAILABLE", message),
            Self::Other(_) => Fault::new(Code::Internal, "PROVIDER_FAILED", message),
        }
    }
}

impl CapabilityError for EventError {
    fn fault(self) -> Fault {
        let message = self.to_string();
        match self {
            Self::NotFound(_) => Fault::new(Code::NotFound, "NOT_FOUND", message),
            Self::Exists(_) => Fault::new(Code::AlreadyExists, "ALREADY_EXISTS", message),
            Self::Compacted(oldest) => {
                Fault::new(Code::OutOfRange, "COMPACTED", message).with("oldest", oldest.to_string())
            }
            Self::TooLarge(_) => Fault::invalid("TOO_LARGE", message),
            Self::Invalid(_) => Fault::invalid("INVALID_ARGUMENT", message),
            Self::Unfiltered { by, .. } => {
                Fault::new(Code::Unavailable, "FILTER_FAILED", message).with("filter", by.as_ref())
            }
            Self::Unavailable(_) => Fault::new(Code::Unavailable, "UNAVAILABLE", message),
            Self::Other(_) => Fault::new(Code::Internal, "PROVIDER_FAILED", message),
        }
    }
}

impl CapabilityError for RouteError {
    fn fault(self) -> Fault {
        let message = self.to_string();
        match self {
            Self::Invalid(_) => Fault::invalid("INVALID_ARGUMENT", message),
            Self::NoNodes { .. } => Fault::new(Code::Unavailable, "NO_NODES", message),
            Self::NonePicked { .. } => Fault::new(Code::Unavailable, "NONE_PICKED", message),
            Self::Weights { .. } => Fault::new(Code::Internal, "WEIGHTS_INVALID", message),
            Self::Registry(_) => Fault::new(Code::Unavailable, "REGISTRY_UNAVAILABLE", message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_tell_the_revision_to_programs() {
        let met = kv::Conflict { key: "a".to_owned(), revision: 7 };
        let fault = Fault::from(status(CallError::Capability(kv::Error::Conflict(met))));
        assert_eq!((fault.reason(), fault.http_status().as_u16()), ("CONFLICT", 409));
        assert_eq!(serde_json::to_value(fault.problem()).unwrap()["metadata"]["revision"], "7");
    }

    #[test]
    fn what_a_caller_sent_is_never_internal() {
        for error in [kv::Error::Invalid(String::new()), kv::Error::TooLarge(String::new()), kv::Error::Compacted(1)] {
            assert!(!matches!(status(CallError::Capability(error)).code(), Code::Internal | Code::Unknown));
        }
    }
}
