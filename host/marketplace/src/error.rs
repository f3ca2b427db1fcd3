//! [`Error`]: why a request to the registry was not done, by the codes of the protocol (OCI distribution 1.1, "Error Codes").
//!
//! Must not know who asked. Invariant: what a client did wrong is told apart from what went wrong here, and nothing of where files lie is told.

use http::StatusCode;
use platform_runtime::Digest;

use crate::name::InvalidName;

/// Result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name, tag, digest or reference that is none.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// There is no such repository.
    #[error("there is no repository `{0}`")]
    NoRepository(String),
    /// There is no such blob.
    #[error("there is no blob `{0}` in this repository; push it, or mount it from another")]
    NoBlob(Digest),
    /// There is no such manifest.
    #[error("there is no manifest `{0}` in this repository")]
    NoManifest(String),
    /// There is no such upload.
    #[error("there is no upload `{0}`: it was finished, given up or began before the last start; begin anew")]
    NoUpload(String),
    /// The upload can't go on like this.
    #[error("{0}")]
    Upload(String),
    /// A chunk does not follow those that are there.
    #[error("the next byte of this upload is {offset}, and the chunk begins elsewhere")]
    Order {
        /// Bytes that are there.
        offset: u64,
    },
    /// Bytes are not those of the digest.
    #[error("the digest is `{expected}`, but what was sent has `{got}`")]
    Digest {
        /// What they should have.
        expected: String,
        /// What they have.
        got: Digest,
    },
    /// A size is not what was said.
    #[error("{0}")]
    Size(String),
    /// It is larger than allowed.
    #[error("it is larger than {max} bytes, the limit for a {what} here")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// The manifest is none, or says what is not so.
    #[error("{0}")]
    Manifest(String),
    /// It is no component that a daemon would take.
    #[error("the component is not taken: {0}")]
    Rejected(platform_control::inspect::Rejection),
    /// What is looked for can't be.
    #[error("{0}")]
    Query(String),
    /// Nothing is listed under a name.
    #[error("nothing is listed as `{0}`")]
    NotListed(String),
    /// The manifest names a blob or a manifest that is not here.
    #[error("the manifest names `{0}`, which is not in this repository; push it first")]
    Missing(Digest),
    /// Who asks has no token, or none that is good.
    #[error("{0}")]
    Unauthorized(String),
    /// Who asks may not, or nobody may.
    #[error("{0}")]
    Denied(String),
    /// There is no such operation.
    #[error("{0}")]
    Unsupported(String),
    /// The range lies outside.
    #[error("the range lies outside of the {size} bytes that there are")]
    Range {
        /// Bytes that there are.
        size: u64,
    },
    /// There is too much at once.
    #[error("{0}")]
    Busy(String),
    /// The bytes did not come, or not in time.
    #[error("{0}")]
    Body(String),
    /// Storage or disk can't answer now.
    #[error("the registry can't answer now: {0}")]
    Unavailable(String),
}

impl Error {
    /// The code of the protocol.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name(InvalidName::Repository(_)) => "NAME_INVALID",
            Self::Name(InvalidName::Digest(_)) | Self::Digest { .. } => "DIGEST_INVALID",
            Self::Name(InvalidName::Tag(_) | InvalidName::Number(_)) | Self::Manifest(_) | Self::Rejected(_) => {
                "MANIFEST_INVALID"
            }
            Self::NoRepository(_) | Self::NotListed(_) => "NAME_UNKNOWN",
            Self::NoBlob(_) => "BLOB_UNKNOWN",
            Self::NoManifest(_) => "MANIFEST_UNKNOWN",
            Self::NoUpload(_) => "BLOB_UPLOAD_UNKNOWN",
            Self::Upload(_) | Self::Order { .. } | Self::Body(_) => "BLOB_UPLOAD_INVALID",
            Self::Size(_) | Self::TooLarge { .. } | Self::Range { .. } => "SIZE_INVALID",
            Self::Missing(_) => "MANIFEST_BLOB_UNKNOWN",
            Self::Query(_) => "QUERY_INVALID",
            Self::Unauthorized(_) => "UNAUTHORIZED",
            Self::Denied(_) => "DENIED",
            Self::Unsupported(_) => "UNSUPPORTED",
            Self::Busy(_) => "TOOMANYREQUESTS",
            Self::Unavailable(_) => "UNAVAILABLE",
        }
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Name(_)
            | Self::Upload(_)
            | Self::Digest { .. }
            | Self::Size(_)
            | Self::Manifest(_)
            | Self::Rejected(_)
            | Self::Query(_) => StatusCode::BAD_REQUEST,
            Self::NoRepository(_)
            | Self::NotListed(_)
            | Self::NoBlob(_)
            | Self::NoManifest(_)
            | Self::NoUpload(_)
            | Self::Missing(_) => StatusCode::NOT_FOUND,
            Self::Order { .. } | Self::Range { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::Unsupported(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Body(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// A failure of a file, whose place is in the log only.
    pub(crate) fn disk(path: &std::path::Path, error: &std::io::Error) -> Self {
        tracing::error!(path = %path.display(), %error, "a file of the marketplace can't be used");
        Self::Unavailable(format!("a file: {}", error.kind()))
    }
}

impl From<platform_storage::Error> for Error {
    fn from(error: platform_storage::Error) -> Self {
        match error {
            platform_storage::Error::TooLarge(why) | platform_storage::Error::Invalid(why) => Self::Manifest(why),
            other => Self::Unavailable(other.to_string()),
        }
    }
}
