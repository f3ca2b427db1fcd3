//! What an operator lets a plugin import or reach, and what an import needs.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::contract::SlotKind;

/// One permission. Written `storage`, `kv`, `discovery`, `config`, `db`, `event`, `sync`,
/// `marketplace`, `wasi`, `network:HOST:PORT`, `files:DIRECTORY` or `env:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Grant {
    /// Tables and journals of its slot (`platform:storage`).
    Storage,
    /// The key-value capability (`platform:kv/store`).
    Kv,
    /// The discovery capability (`platform:discovery/registry`).
    Discovery,
    /// Values of configurations (`platform:config/values`).
    Config,
    /// Records of databases (`platform:db/records`).
    Db,
    /// Publishing to topics and taking from them (`platform:event/topics`).
    Event,
    /// Locks (`platform:sync/locks`).
    Sync,
    /// The marketplace with the rights of whoever asks for a page (`platform:marketplace/*`).
    Marketplace,
    /// Clocks, random numbers and standard streams (WASI 0.2): by itself an empty environment, no files, no sockets.
    Wasi,
    /// TCP connections and HTTP requests to one host and port, by WASI.
    Network {
        /// Host name or IP address.
        host: String,
        /// Port.
        port: u16,
    },
    /// Reading what is below one directory of the host, an absolute path, by WASI files; seen under the same path.
    Files(String),
    /// Reading a variable of the daemon's environment, or all that begin with what stands before a `*`.
    Env(String),
}

/// Grants of one plugin.
pub type Grants = BTreeSet<Grant>;

/// The text is no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no grant; there are `storage`, `kv`, `discovery`, `config`, `db`, `event`, `sync`, `marketplace`, `wasi`, `network:HOST:PORT`, `files:DIRECTORY` and `env:NAME`"
)]
pub struct InvalidGrant(String);

impl FromStr for Grant {
    type Err = InvalidGrant;

    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        let invalid = || InvalidGrant(text.chars().take(300).collect());
        match text {
            "storage" => Ok(Self::Storage),
            "kv" => Ok(Self::Kv),
            "discovery" => Ok(Self::Discovery),
            "config" => Ok(Self::Config),
            "db" => Ok(Self::Db),
            "event" => Ok(Self::Event),
            "sync" => Ok(Self::Sync),
            "marketplace" => Ok(Self::Marketplace),
            "wasi" => Ok(Self::Wasi),
            _ if let Some(directory) = text.strip_prefix("files:") => {
                let is_plain = !directory.split('/').any(|part| part == "..") && !directory.contains('\0');
                if !directory.starts_with('/') || !is_plain || directory.len() > 4096 {
                    return Err(invalid());
                }
                Ok(Self::Files(directory.to_owned()))
            }
            _ if let Some(name) = text.strip_prefix("env:") => {
                let stem = name.strip_suffix('*').unwrap_or(name);
                let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
                if stem.is_empty() || stem.len() > 255 || !stem.chars().all(allowed) {
                    return Err(invalid());
                }
                Ok(Self::Env(name.to_owned()))
            }
            _ => {
                let (host, port) =
                    text.strip_prefix("network:").and_then(|rest| rest.rsplit_once(':')).ok_or_else(invalid)?;
                let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
                let host_allowed = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
                if host.is_empty() || host.len() > 255 || !host.chars().all(host_allowed) {
                    return Err(invalid());
                }
                Ok(Self::Network { host: host.to_ascii_lowercase(), port })
            }
        }
    }
}

impl TryFrom<String> for Grant {
    type Error = InvalidGrant;

    fn try_from(text: String) -> Result<Self, InvalidGrant> {
        text.parse()
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> Self {
        grant.to_string()
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage => f.write_str("storage"),
            Self::Kv => f.write_str("kv"),
            Self::Discovery => f.write_str("discovery"),
            Self::Config => f.write_str("config"),
            Self::Db => f.write_str("db"),
            Self::Event => f.write_str("event"),
            Self::Sync => f.write_str("sync"),
            Self::Marketplace => f.write_str("marketplace"),
            Self::Wasi => f.write_str("wasi"),
            Self::Network { host, port } => write!(f, "network:{host}:{port}"),
            Self::Files(directory) => write!(f, "files:{directory}"),
            Self::Env(name) => write!(f, "env:{name}"),
        }
    }
}

/// What an import of a component needs before it can be linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Nothing: every plugin has it.
    Nothing,
    /// A grant.
    Grant(Grant),
    /// To be bound to a slot of this kind.
    Slot(SlotKind),
    /// At least one `network:` grant.
    Network,
    /// To be bound as a web page, or a grant as [`Self::Network`].
    Http,
    /// The host has no such interface.
    Unknown,
}

/// What importing `interface`, such as `platform:kv/store@0.1.0`, needs. The version is not looked at.
#[must_use]
pub fn need(interface: &str) -> Need {
    let name = interface.split('@').next().unwrap_or_default();
    match name {
        "platform:plugin/context" | "platform:plugin/log" | "platform:plugin/lifecycle" => Need::Nothing,
        "platform:storage/types" | "platform:storage/table" | "platform:storage/journal" => Need::Grant(Grant::Storage),
        "platform:kv/types"
        | "platform:discovery/types"
        | "platform:router/types"
        | "platform:config/types"
        | "platform:sync/types"
        | "platform:db/types"
        | "platform:event/types"
        | "platform:marketplace/types" => Need::Nothing,
        "platform:kv/store" => Need::Grant(Grant::Kv),
        "platform:discovery/registry" => Need::Grant(Grant::Discovery),
        "platform:config/values" => Need::Grant(Grant::Config),
        "platform:db/records" => Need::Grant(Grant::Db),
        "platform:event/topics" => Need::Grant(Grant::Event),
        "platform:sync/locks" => Need::Grant(Grant::Sync),
        "platform:marketplace/index" | "platform:marketplace/installer" => Need::Grant(Grant::Marketplace),
        "platform:auth/types" => Need::Slot(SlotKind::AuthPolicy),
        "platform:router/load" => Need::Slot(SlotKind::RouterPolicy),
        "platform:config/proposals" => Need::Slot(SlotKind::ConfigValidator),
        "platform:event/candidates" => Need::Slot(SlotKind::EventFilter),
        "wasi:http/types" => Need::Http,
        _ if ["wasi:sockets/", "wasi:http/", "wasi:tls/"].iter().any(|package| name.starts_with(package)) => {
            Need::Network
        }
        _ if ["wasi:cli/", "wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:filesystem/"]
            .iter()
            .any(|package| name.starts_with(package)) =>
        {
            Need::Grant(Grant::Wasi)
        }
        _ => Need::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_round_trip() {
        for text in [
            "storage",
            "kv",
            "discovery",
            "config",
            "db",
            "event",
            "sync",
            "marketplace",
            "wasi",
            "network:redis.internal:6379",
            "network:[::1]:80",
            "files:/etc/shop",
            "env:SHOP_*",
            "env:HOME",
        ] {
            assert_eq!(text.parse::<Grant>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "Storage",
            "network",
            "network:",
            "network::80",
            "network:h:0",
            "network:h:70000",
            "network:*:80",
            "files",
            "files:",
            "files:etc",
            "files:/etc/../root",
            "env:",
            "env:*",
            "env:A-B",
            "env:A*B",
        ] {
            assert!(bad.parse::<Grant>().is_err(), "{bad}");
        }
    }

    #[test]
    fn needs_ignore_versions_and_refuse_the_unknown() {
        assert_eq!(need("platform:kv/store@0.9.0"), Need::Grant(Grant::Kv));
        assert_eq!(need("platform:db/records@0.1.0"), Need::Grant(Grant::Db));
        assert_eq!(need("platform:event/topics@0.1.0"), Need::Grant(Grant::Event));
        assert_eq!(need("platform:sync/locks@0.1.0"), Need::Grant(Grant::Sync));
        assert_eq!(need("platform:db/store@0.1.0"), Need::Unknown, "what providers are is for the host to call");
        assert_eq!(need("wasi:sockets/tcp@0.2.6"), Need::Network);
        assert_eq!(need("wasi:http/outgoing-handler@0.2.0"), Need::Network);
        assert_eq!(need("wasi:http/types@0.2.0"), Need::Http);
        assert_eq!(need("platform:marketplace/installer@0.1.0"), Need::Grant(Grant::Marketplace));
        assert_eq!(need("wasi:tls/types@0.2.0-draft"), Need::Network);
        assert_eq!(need("evil:thing/x"), Need::Unknown);
    }
}
