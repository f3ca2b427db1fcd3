//! [`Fault`]: what can go wrong between here and a registry.
//!
//! Owns the words and the way out; must not know exit codes. Invariant: what a registry says is shown short and without
//! control characters, and no secret is ever part of a message.

use platform_runtime::Digest;

/// Why something in a registry could not be had or put there.
#[derive(Debug, thiserror::Error)]
#[error("`{reference}`: {fault}")]
pub struct Error {
    /// What was asked for.
    pub reference: String,
    /// What went wrong.
    pub fault: Fault,
}

/// What a fault means for whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// There is no such thing.
    NotFound,
    /// Trying again may help.
    Unavailable,
    /// The registry wants to know who asks, or does not let them.
    Unauthorized,
    /// What the registry did is not accepted.
    Refused,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// No connection.
    #[error("can't reach `{host}`: {why}; check the name and the network")]
    Unreachable {
        /// Where to.
        host: String,
        /// What the system says.
        why: String,
    },
    /// No answer, or one that stopped.
    #[error("`{host}` took the request and then said nothing for {silence_s} s; try again later")]
    Silent {
        /// Who.
        host: String,
        /// For how long.
        silence_s: u64,
    },
    /// No encryption that can be trusted.
    #[error(
        "no encrypted connection to `{host}`: {why}; if its certificate is from an authority of your own, name that with `--ca-file`"
    )]
    Tls {
        /// Who.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// A registry would have to be spoken to in the clear.
    #[error(
        "`{host}` is not on this machine, and plain HTTP to it is not allowed; give it TLS, or allow it with `--insecure`"
    )]
    Plain {
        /// Who.
        host: String,
    },
    /// The file of certificates can't be used.
    #[error("the certificates in `{file}` can't be used: {why}; give PEM")]
    Certificates {
        /// Its name.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// The registry sends us where we don't go.
    #[error(
        "the registry leads to `{to}`, {why}; it is not followed, use a registry that serves the bytes itself or over TLS from a host as public as its own"
    )]
    Astray {
        /// Where it leads.
        to: String,
        /// Why not.
        why: &'static str,
    },
    /// Redirects without an end.
    #[error("the registry leads from one place to the next without end; it is broken, ask who runs it")]
    Loop,
    /// The credentials are missing or not good.
    #[error("{}", unauthorized(.known, .said))]
    Unauthorized {
        /// Whether there were any.
        known: bool,
        /// What the registry says.
        said: String,
    },
    /// There is nothing of that name.
    #[error("the registry has no such {what}; check the name, or list what there is with a client of registries")]
    NotFound {
        /// What.
        what: &'static str,
    },
    /// No version fits.
    #[error("no tag is a version in `{range}`; there are {}", versions(.found))]
    NoVersion {
        /// What was asked for.
        range: String,
        /// The highest versions that there are.
        found: Vec<String>,
    },
    /// The bytes are others.
    #[error(
        "the {what} that came is `{got}` and not `{expected}`; it was changed on its way or in the registry, do not use it"
    )]
    WrongDigest {
        /// What.
        what: &'static str,
        /// What was asked for.
        expected: Digest,
        /// What came.
        got: Digest,
    },
    /// The length is another.
    #[error("the {what} that came has {got} bytes and not {expected}; it was cut off or changed, try again")]
    WrongSize {
        /// What.
        what: &'static str,
        /// What the manifest says.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// It is more than is taken.
    #[error("its {what} is larger than the {bytes_max} bytes that are taken; it was not read further")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The most.
        bytes_max: u64,
    },
    /// It is an index.
    #[error("it is an index of several artifacts; name one of them by its digest")]
    Index,
    /// It has more or less than one layer.
    #[error(
        "it has {layers} layers, and a component is exactly one; push it with `platform plugin push` or `wkg oci push`"
    )]
    Layers {
        /// How many.
        layers: usize,
    },
    /// It is something else.
    #[error(
        "it is no component: its {part} is `{media_type}` and not `{expected}`; push it with `platform plugin push` or `wkg oci push`"
    )]
    NotWasm {
        /// What tells.
        part: &'static str,
        /// What it says.
        media_type: String,
        /// What it should.
        expected: &'static str,
    },
    /// An answer can't be read.
    #[error("the registry's {what} can't be read: {why}; is there a registry at this address?")]
    Malformed {
        /// What.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Any other answer.
    #[error("the registry answered {status} to {what}: {said}")]
    Answer {
        /// The status of HTTP.
        status: u16,
        /// What it was asked.
        what: &'static str,
        /// What it says.
        said: String,
    },
    /// A version would become something else.
    #[error(
        "`{tag}` is a version and holds another component, `{digest}`; push a new version, or replace it with `--replace`"
    )]
    Taken {
        /// The tag.
        tag: String,
        /// The component that it holds.
        digest: Digest,
    },
    /// Nothing can be pushed there.
    #[error("only a tag can be pushed to; write `HOST/NAME:TAG`")]
    NoTag,
    /// The tag has moved since it was locked.
    #[error(
        "the tag `{tag}` led to `{locked}` when it was locked and leads to `{now}` now; look at what changed, then install without `--locked`"
    )]
    Moved {
        /// The tag.
        tag: String,
        /// Where it led.
        locked: Digest,
        /// Where it leads.
        now: Digest,
    },
}

fn unauthorized(known: &bool, said: &str) -> String {
    let who =
        if *known { "the registry does not let these credentials do this" } else { "the registry wants credentials" };
    format!("{who}: {said}; give `--username` and `--password-file`, or sign in with `docker login`")
}

fn versions(found: &[String]) -> String {
    if found.is_empty() { "no versions at all".to_owned() } else { found.join(", ") }
}

impl Fault {
    /// A stable name for programs, in upper case.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "REGISTRY_UNREACHABLE",
            Self::Silent { .. } => "REGISTRY_SILENT",
            Self::Tls { .. } | Self::Certificates { .. } => "REGISTRY_TLS",
            Self::Plain { .. } => "PLAIN_HTTP",
            Self::Astray { .. } | Self::Loop => "REGISTRY_REDIRECT",
            Self::Unauthorized { .. } => "REGISTRY_UNAUTHORIZED",
            Self::NotFound { .. } => "ARTIFACT_NOT_FOUND",
            Self::NoVersion { .. } => "VERSION_NOT_FOUND",
            Self::WrongDigest { .. } | Self::WrongSize { .. } => "DIGEST_MISMATCH",
            Self::TooLarge { .. } => "ARTIFACT_TOO_LARGE",
            Self::Index | Self::Layers { .. } | Self::NotWasm { .. } => "NOT_A_COMPONENT",
            Self::Malformed { .. } | Self::Answer { .. } => "REGISTRY_ANSWER",
            Self::Taken { .. } => "VERSION_TAKEN",
            Self::NoTag => "INVALID_ARGUMENT",
            Self::Moved { .. } => "TAG_MOVED",
        }
    }

    /// What it means.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } | Self::NoVersion { .. } => Kind::NotFound,
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Answer { status: 429 | 500..=599, .. } => {
                Kind::Unavailable
            }
            Self::Unauthorized { .. } => Kind::Unauthorized,
            _ => Kind::Refused,
        }
    }
}

/// What somebody else said, fit to be shown.
pub(crate) fn shown(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    if text.trim().is_empty() { "it says nothing more".to_owned() } else { text }
}
