//! Why control did not do what was asked.
//!
//! Invariant: every error leaves plugins, bindings and grants as they were, unless its text says otherwise.

use std::{path::PathBuf, time::Duration};

use platform_capability::{InvalidGrant, InvalidName, LinkError, SlotKind};
use platform_dataplane::{
    BindError, CarryError, InvalidFailureMode, InvalidPlan, InvalidSlotName, PrepareError, SlotName,
};
use platform_document::SchemaError;
use platform_runtime::Digest;
use platform_signing::{InvalidEvidence, Untrusted};

use crate::{inspect::Rejection, record::InvalidReference, settings};

/// Result of a control call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is; front doors turn it into their codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request can't be right, whatever the state.
    InvalidArgument,
    /// What it names is not there.
    NotFound,
    /// What it would make is there.
    AlreadyExists,
    /// The state does not allow it.
    FailedPrecondition,
    /// Something else changed at the same time; trying again may work.
    Aborted,
    /// The host is busy or can't reach its storage; trying again may work.
    Unavailable,
    /// Stored data is damaged.
    DataLoss,
    /// The host is at fault.
    Internal,
}

/// Why control did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is nothing that can be installed.
    #[error("the component is refused: {0}")]
    Rejected(#[from] Rejection),
    /// It is not signed as its name asks for.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// What should be a signature is none.
    #[error("a signature that came with the component can't be used: {0}")]
    Signature(#[from] InvalidEvidence),
    /// More signatures than are kept.
    #[error(
        "{given} signatures came with the component; at most {max} are taken, leave out those of keys that nobody asks for"
    )]
    TooManySignatures {
        /// How many came.
        given: usize,
        /// The most.
        max: usize,
    },
    /// The component is revoked.
    #[error("`{plugin}` is revoked: {reason}; use another version, or `platform plugin revoke {digest} --withdraw`")]
    Revoked {
        /// The plugin.
        plugin: String,
        /// Its digest.
        digest: Digest,
        /// Why.
        reason: String,
    },
    /// A revocation without a reason.
    #[error("a revocation needs a reason; whoever can't use the component will read it")]
    NoReason,
    /// The component is not revoked.
    #[error("`{0}` is not revoked; `platform plugin revocations` shows what is")]
    NotRevoked(Digest),
    /// The file is too large to be looked at.
    #[error("`{}` is larger than {} MiB; a component of that size can't be installed", path.display(), max >> 20)]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes.
        max: usize,
    },
    /// A file can't be read or written.
    #[error("`{}` can't be {action}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried: `read`, `written`.
        action: &'static str,
        /// Why not.
        error: std::io::Error,
    },
    /// A stored component is not what was installed.
    #[error("`{}` is damaged: it should be {expected} and is {found}; install the component again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A stored record can't be read.
    #[error("the stored record `{key}` can't be read: {why}")]
    Record {
        /// Its key.
        key: String,
        /// Why not.
        why: String,
    },
    /// A name that is not allowed.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A reference to a plugin that is not allowed.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// A version that is not allowed.
    #[error("`{0}` is no version; write three numbers such as `0.1.0`, by semver.org")]
    Version(String),
    /// Neither manifest nor caller says what the component is called.
    #[error("the component has no manifest that says its {0}; give it with `--{0}`")]
    Unnamed(&'static str),
    /// A slot name that is not allowed.
    #[error(transparent)]
    SlotName(#[from] InvalidSlotName),
    /// A grant that is not allowed.
    #[error(transparent)]
    Grant(#[from] InvalidGrant),
    /// A failure mode that is not allowed.
    #[error(transparent)]
    FailureMode(#[from] InvalidFailureMode),
    /// A mode that is not allowed.
    #[error("`{0}` is no instance mode; there are `fresh`, `reused` and `single`")]
    Mode(String),
    /// Nothing was given to bind.
    #[error("nothing to bind to `{0}`; name a plugin")]
    EmptyChain(SlotName),
    /// More plugins than a chain may have.
    #[error("a chain has at most {max} plugins; {given} were given")]
    LongChain {
        /// How many were given.
        given: usize,
        /// The most.
        max: usize,
    },
    /// The plugin is for another kind of slot.
    #[error("`{plugin}` is for `{kind}` and can't be bound to `{slot}`")]
    WrongSlot {
        /// The plugin.
        plugin: String,
        /// Where it belongs.
        kind: SlotKind,
        /// Where it was to go.
        slot: SlotName,
    },
    /// Settings that the manifest's schema does not allow.
    #[error("settings of `{plugin}`: {error}")]
    Settings {
        /// The plugin.
        plugin: String,
        /// What is wrong with them.
        error: settings::Error,
    },
    /// There is no such plugin.
    #[error("`{0}` is not installed; `platform plugin list` shows what is")]
    UnknownPlugin(String),
    /// The version is taken by other bytes.
    #[error("`{plugin}` is installed as {installed}, and versions don't change; give {given} a version of its own")]
    VersionTaken {
        /// Name and version.
        plugin: String,
        /// What is installed.
        installed: Digest,
        /// What was given.
        given: Digest,
    },
    /// The plugin serves, or would serve after a rollback.
    #[error("`{plugin}` is in use: {uses}; bind other plugins there or unbind it first")]
    InUse {
        /// The plugin.
        plugin: String,
        /// Which generation of which slot uses it.
        uses: String,
    },
    /// Slots would depend on each other in a circle.
    #[error("it would call itself: {0}; take a grant away or bind another plugin")]
    Cycle(String),
    /// The slot is at another generation than the caller thinks.
    #[error("`{slot}` is at generation {current}, not {wanted}; look at it again, then repeat")]
    OtherGeneration {
        /// The slot.
        slot: SlotName,
        /// The generation that serves, 0 when none does.
        current: u64,
        /// The generation that the caller named.
        wanted: u64,
    },
    /// There is no record of that generation.
    #[error("`{slot}` has no generation {wanted} to return to; `platform plugin history {slot}` shows what there is")]
    UnknownGeneration {
        /// The slot.
        slot: SlotName,
        /// What was asked for.
        wanted: String,
    },
    /// Nothing is bound.
    #[error("nothing is bound to `{0}`")]
    NotBound(SlotName),
    /// A rollout can't go by that plan.
    #[error(transparent)]
    Plan(#[from] InvalidPlan),
    /// The slot holds what can't be tried beside another.
    #[error(
        "`{0}` can't have a rollout: what its plugins are asked depends on what they were asked before, and a candidate would \
         miss what went past it; rollouts are for `auth.policy`, `router.policy`, `event.filter`, `config.validator`, and for \
         reads of `kv.store`, `db.store` and `discovery.registry`"
    )]
    RolloutKind(SlotName),
    /// A provider that is to be tried keeps its state within itself.
    #[error(
        "`{plugin}` can't be tried beside what serves `{slot}`: it keeps all it has in one instance, and another would have \
         none of it; bind it without `--canary` and `--shadow`, and its state moves along"
    )]
    RolloutState {
        /// The slot.
        slot: SlotName,
        /// Name and version of the plugin.
        plugin: String,
    },
    /// A candidate is being tried.
    #[error(
        "generation {generation} is being rolled out to `{slot}`; `platform plugin promote {slot}` or `platform plugin abort \
         {slot}` first"
    )]
    RolloutRunning {
        /// The slot.
        slot: SlotName,
        /// The candidate.
        generation: u64,
    },
    /// The candidate was tried and failed.
    #[error(
        "the rollout to `{slot}` stopped by itself: {why}; to have the candidate serve all the same, bind it at once"
    )]
    RolloutStopped {
        /// The slot.
        slot: SlotName,
        /// Why it stopped.
        why: String,
    },
    /// No candidate is being tried.
    #[error("nothing is being rolled out to `{0}`; `platform plugin bind {0} NAME --canary PERCENT` begins")]
    NoRollout(SlotName),
    /// The plugin could not be made ready to serve.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The new generation was ready, but the flip failed.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// What the slot keeps could not be carried.
    #[error(transparent)]
    Carry(#[from] CarryError),
    /// What a slot keeps can't be carried while other daemons write.
    #[error(
        "nothing can be carried while other daemons share the storage: they would go on writing to what serves now; stop the \
         others, carry, then start them again"
    )]
    CarryShared,
    /// A component that another daemon installed is not here and can't be had.
    #[error("the bytes of `{0}` are neither here nor in the object store; install it again")]
    NotShared(String),
    /// Grants changed, but a slot still serves with those from before.
    #[error(
        "grants of `{plugin}` are changed, but some slots still serve with the old ones: {problems}; bind them again"
    )]
    PartlyGranted {
        /// The plugin.
        plugin: String,
        /// Which slots, and why.
        problems: String,
    },
    /// Somebody else changed the same thing at the same time.
    #[error("{0} was changed at the same time; look at it again, then repeat")]
    Changed(String),
    /// Storage failed.
    #[error(transparent)]
    Storage(platform_storage::Error),
    /// An entry of the configuration file that contradicts itself or another.
    #[error("{0}")]
    Declared(String),
    /// A page token that was not handed out.
    #[error("`{0}` is no page token; use the one of the page before")]
    PageToken(String),
    /// Calls of an old generation still run.
    #[error("calls of older generations of `{slot}` still ran after {} ms", waited.as_millis())]
    Draining {
        /// The slot.
        slot: SlotName,
        /// How long was waited.
        waited: Duration,
    },
    /// The daemon stops.
    #[error("the daemon is stopping")]
    Stopping,
    /// A fault of the host.
    #[error("the host failed: {0}")]
    Internal(String),
}

impl From<platform_storage::Error> for Error {
    fn from(error: platform_storage::Error) -> Self {
        match error {
            platform_storage::Error::Conflict(_) => Self::Changed("the stored state".to_owned()),
            error => Self::Storage(error),
        }
    }
}

impl Error {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Rejected(_) | Self::FileTooLarge { .. } | Self::Name(_) | Self::Reference(_) | Self::Version(_) => {
                Kind::InvalidArgument
            }
            Self::Signature(_) | Self::TooManySignatures { .. } | Self::NoReason => Kind::InvalidArgument,
            Self::Untrusted(_) | Self::Revoked { .. } => Kind::FailedPrecondition,
            Self::NotRevoked(_) => Kind::NotFound,
            Self::Unnamed(_) | Self::SlotName(_) | Self::Grant(_) | Self::FailureMode(_) | Self::Mode(_) => {
                Kind::InvalidArgument
            }
            Self::EmptyChain(_)
            | Self::LongChain { .. }
            | Self::WrongSlot { .. }
            | Self::PageToken(_)
            | Self::Declared(_) => Kind::InvalidArgument,
            Self::Plan(_) | Self::RolloutKind(_) | Self::RolloutState { .. } => Kind::InvalidArgument,
            Self::RolloutRunning { .. } | Self::RolloutStopped { .. } => Kind::FailedPrecondition,
            Self::Settings { error: settings::Error::Schema(SchemaError::Busy), .. } => Kind::Unavailable,
            Self::Settings { .. } => Kind::InvalidArgument,
            Self::UnknownPlugin(_) | Self::UnknownGeneration { .. } | Self::NotBound(_) | Self::NoRollout(_) => {
                Kind::NotFound
            }
            Self::VersionTaken { .. } => Kind::AlreadyExists,
            Self::CarryShared | Self::NotShared(_) => Kind::FailedPrecondition,
            Self::InUse { .. } | Self::Cycle(_) | Self::OtherGeneration { .. } | Self::PartlyGranted { .. } => {
                Kind::FailedPrecondition
            }
            Self::Prepare(error) => prepare(error).0,
            Self::Bind(error) => bind(error).0,
            Self::Carry(CarryError::Kind(_) | CarryError::Elsewhere { .. }) => Kind::InvalidArgument,
            Self::Carry(_) => Kind::Unavailable,
            Self::Changed(_) => Kind::Aborted,
            Self::Storage(error) => storage(error).0,
            Self::Draining { .. } | Self::Stopping => Kind::Unavailable,
            Self::Damaged { .. } | Self::Record { .. } => Kind::DataLoss,
            Self::File { error, .. } if error.kind() == std::io::ErrorKind::NotFound => Kind::NotFound,
            Self::File { .. } | Self::Internal(_) => Kind::Internal,
        }
    }

    /// A stable name for programs, in upper case.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.reason(),
            Self::Untrusted(_) => "SIGNATURE_MISSING",
            Self::Signature(_) | Self::TooManySignatures { .. } => "SIGNATURE_INVALID",
            Self::Revoked { .. } => "COMPONENT_REVOKED",
            Self::NoReason => "REASON_MISSING",
            Self::NotRevoked(_) => "REVOCATION_NOT_FOUND",
            Self::FileTooLarge { .. } => "COMPONENT_TOO_LARGE",
            Self::File { .. } => "FILE_UNREADABLE",
            Self::Damaged { .. } => "COMPONENT_DAMAGED",
            Self::Record { .. } => "RECORD_DAMAGED",
            Self::Name(_) => "NAME_INVALID",
            Self::Reference(_) => "REFERENCE_INVALID",
            Self::Version(_) => "VERSION_INVALID",
            Self::Unnamed(_) => "NAME_MISSING",
            Self::SlotName(_) => "SLOT_INVALID",
            Self::Grant(_) => "GRANT_INVALID",
            Self::FailureMode(_) => "FAILURE_MODE_INVALID",
            Self::Mode(_) => "MODE_INVALID",
            Self::EmptyChain(_) | Self::LongChain { .. } => "CHAIN_INVALID",
            Self::WrongSlot { .. } => "WRONG_SLOT",
            Self::Settings { .. } => "SETTINGS_INVALID",
            Self::UnknownPlugin(_) => "PLUGIN_NOT_FOUND",
            Self::VersionTaken { .. } => "VERSION_EXISTS",
            Self::InUse { .. } => "PLUGIN_IN_USE",
            Self::Cycle(_) => "SLOT_CYCLE",
            Self::OtherGeneration { .. } => "GENERATION_MISMATCH",
            Self::UnknownGeneration { .. } => "GENERATION_NOT_FOUND",
            Self::NotBound(_) => "SLOT_NOT_BOUND",
            Self::Plan(_) => "ROLLOUT_INVALID",
            Self::RolloutKind(_) | Self::RolloutState { .. } => "ROLLOUT_UNSUPPORTED",
            Self::RolloutRunning { .. } => "ROLLOUT_RUNNING",
            Self::RolloutStopped { .. } => "ROLLOUT_STOPPED",
            Self::NoRollout(_) => "ROLLOUT_NOT_FOUND",
            Self::Prepare(error) => prepare(error).1,
            Self::Bind(error) => bind(error).1,
            Self::Carry(CarryError::Kind(_) | CarryError::Elsewhere { .. }) => "CARRY_INVALID",
            Self::Carry(_) => "CARRY_FAILED",
            Self::CarryShared => "CARRY_SHARED",
            Self::NotShared(_) => "COMPONENT_MISSING",
            Self::PartlyGranted { .. } => "PARTLY_GRANTED",
            Self::Changed(_) => "CHANGED_CONCURRENTLY",
            Self::Storage(error) => storage(error).1,
            Self::Declared(_) => "CONFIG_INVALID",
            Self::PageToken(_) => "PAGE_TOKEN_INVALID",
            Self::Draining { .. } => "STILL_DRAINING",
            Self::Stopping => "STOPPING",
            Self::Internal(_) => "INTERNAL",
        }
    }
}

fn prepare(error: &PrepareError) -> (Kind, &'static str) {
    match error {
        PrepareError::Count { .. } => (Kind::InvalidArgument, "CHAIN_INVALID"),
        PrepareError::Failure { .. } => (Kind::InvalidArgument, "FAILURE_MODE_INVALID"),
        PrepareError::Limit { .. } => (Kind::InvalidArgument, "LIMIT_INVALID"),
        PrepareError::Settings { .. } => (Kind::InvalidArgument, "SETTINGS_REFUSED"),
        PrepareError::Compile { .. } => (Kind::FailedPrecondition, "COMPONENT_INVALID"),
        PrepareError::Link { why: LinkError::NotGranted { .. }, .. } => (Kind::FailedPrecondition, "GRANT_MISSING"),
        PrepareError::Link { .. } => (Kind::FailedPrecondition, "IMPORT_UNKNOWN"),
        PrepareError::Type { .. } => (Kind::FailedPrecondition, "WIT_MISMATCH"),
        PrepareError::SelfTest { .. } => (Kind::FailedPrecondition, "SELF_TEST_FAILED"),
        PrepareError::Fault { .. } => (Kind::FailedPrecondition, "PLUGIN_FAULT"),
        _ => (Kind::Internal, "INTERNAL"),
    }
}

fn bind(error: &BindError) -> (Kind, &'static str) {
    match error {
        BindError::Handover { .. } => (Kind::FailedPrecondition, "HANDOVER_FAILED"),
        BindError::NotKept { .. } => (Kind::NotFound, "GENERATION_NOT_FOUND"),
        BindError::NotBound(_) => (Kind::NotFound, "SLOT_NOT_BOUND"),
        BindError::Generation { .. } | BindError::Rollout { .. } => (Kind::Aborted, "CHANGED_CONCURRENTLY"),
        _ => (Kind::Internal, "INTERNAL"),
    }
}

fn storage(error: &platform_storage::Error) -> (Kind, &'static str) {
    match error {
        platform_storage::Error::TooLarge(_) => (Kind::InvalidArgument, "TOO_LARGE"),
        platform_storage::Error::Corrupt(_) => (Kind::DataLoss, "STORAGE_DAMAGED"),
        platform_storage::Error::Unavailable(_) => (Kind::Unavailable, "STORAGE_UNAVAILABLE"),
        _ => (Kind::Internal, "STORAGE_FAILED"),
    }
}
