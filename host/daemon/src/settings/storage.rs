//! `[storage]`: where state is kept, and how much of it.
//!
//! Owns the shape of the section and of `--storage`; must not know how any engine works. Invariant: what is secret in the
//! address of a server is never printed.

use std::{path::PathBuf, time::Duration};

use platform_storage::NatsOptions;
use serde::{Deserialize, Serialize, Serializer};

/// The durable state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Storage {
    /// Where state is kept.
    pub(crate) engine: StorageEngine,
    /// Changes kept per table for watches to resume from, at least.
    pub(crate) changes_kept: u64,
    /// Bytes of changes kept per table; older ones are dropped beyond it, whatever their number.
    pub(crate) changes_bytes: u64,
    /// Bytes of writes that may wait to be made durable.
    pub(crate) queue_bytes: usize,
    /// Bytes of the block cache.
    pub(crate) cache_bytes: u64,
    /// Bytes that each keyspace gathers in memory before it writes a table file.
    pub(crate) memtable_bytes: u64,
    /// The NATS that daemons share, for the engine `nats`.
    pub(crate) nats: Nats,
}

/// Where state is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StorageEngine {
    /// In the data directory, fsynced before a write is acknowledged.
    #[default]
    Embedded,
    /// In memory: gone when the daemon ends. For tests.
    Memory,
    /// On NATS with JetStream, which several daemons may share.
    Nats,
}

/// The NATS that daemons share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Nats {
    /// Its servers, `nats://HOST:PORT` or `tls://HOST:PORT` each.
    #[serde(serialize_with = "without_secrets")]
    pub(crate) servers: Vec<String>,
    /// Start of the names of its streams and subjects.
    pub(crate) prefix: String,
    /// Copies of the log when it is made first; 3 in a cluster and 1 on a server by itself when not given.
    pub(crate) replicas: Option<usize>,
    /// File with credentials, as `nsc` writes it.
    pub(crate) credentials_file: Option<PathBuf>,
    /// Certificates of who may sign those of the servers; the system's when not given.
    pub(crate) tls_ca_file: Option<PathBuf>,
    /// Own certificate.
    pub(crate) tls_certificate_file: Option<PathBuf>,
    /// Its key.
    pub(crate) tls_key_file: Option<PathBuf>,
    /// Longest wait of a call for servers that elect a leader or are being restarted, in milliseconds.
    pub(crate) patience_ms: u64,
    /// Bytes of the log that make a snapshot due, if the state is not larger.
    pub(crate) snapshot_bytes: u64,
}

impl Default for Nats {
    fn default() -> Self {
        let options = NatsOptions::new([""; 0]);
        Self {
            servers: options.servers,
            prefix: options.prefix,
            replicas: options.replicas,
            credentials_file: None,
            tls_ca_file: None,
            tls_certificate_file: None,
            tls_key_file: None,
            patience_ms: u64::try_from(options.patience.as_millis()).unwrap_or(u64::MAX),
            snapshot_bytes: options.snapshot_bytes,
        }
    }
}

impl Nats {
    /// Paths of the section.
    pub(super) fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.credentials_file, &mut self.tls_ca_file, &mut self.tls_certificate_file, &mut self.tls_key_file]
            .into_iter()
            .flatten()
    }

    /// The settings as storage takes them.
    pub(crate) fn options(&self) -> NatsOptions {
        let certificate = self.tls_certificate_file.clone().zip(self.tls_key_file.clone());
        NatsOptions {
            prefix: self.prefix.clone(),
            replicas: self.replicas,
            credentials: self.credentials_file.clone(),
            tls_ca: self.tls_ca_file.clone(),
            tls_certificate: certificate,
            patience: Duration::from_millis(self.patience_ms),
            snapshot_bytes: self.snapshot_bytes,
            ..NatsOptions::new(self.servers.iter().cloned())
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        let options = platform_storage::Options::default();
        Self {
            engine: StorageEngine::Embedded,
            changes_kept: options.changes_kept,
            changes_bytes: options.changes_bytes,
            queue_bytes: options.queue_bytes,
            cache_bytes: options.cache_bytes,
            memtable_bytes: options.memtable_bytes,
            nats: Nats::default(),
        }
    }
}

impl Storage {
    /// The settings as storage takes them.
    pub(crate) fn options(&self) -> platform_storage::Options {
        platform_storage::Options {
            changes_kept: self.changes_kept,
            changes_bytes: self.changes_bytes,
            queue_bytes: self.queue_bytes,
            cache_bytes: self.cache_bytes,
            memtable_bytes: self.memtable_bytes,
            ..platform_storage::Options::default()
        }
    }

    /// Takes `embedded`, `memory` or `nats://HOST:PORT[,HOST:PORT...]` instead of what the file says.
    pub(crate) fn choose(&mut self, text: &str) -> Result<(), String> {
        let scheme = ["nats://", "tls://"].into_iter().find(|scheme| text.starts_with(scheme));
        self.engine = match (text, scheme) {
            ("embedded", _) => StorageEngine::Embedded,
            ("memory", _) => StorageEngine::Memory,
            (_, Some(scheme)) => {
                let full = |server: &str| {
                    if server.contains("://") { server.to_owned() } else { format!("{scheme}{server}") }
                };
                self.nats.servers = text.split(',').map(str::trim).map(full).collect();
                StorageEngine::Nats
            }
            _ => {
                let text: String = text.chars().take(64).flat_map(char::escape_default).collect();
                return Err(format!(
                    "`{text}` is no storage; write `embedded`, `memory` or `nats://HOST:PORT[,HOST:PORT...]`"
                ));
            }
        };
        Ok(())
    }
}

fn without_secrets<S: Serializer>(servers: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(servers.iter().map(|server| {
        let (scheme, rest) = server.split_once("://").unwrap_or(("nats", server));
        match rest.rsplit_once('@') {
            Some((_secret, host)) => format!("{scheme}://…@{host}"),
            None => format!("{scheme}://{rest}"),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_chooses() {
        let mut storage = Storage::default();
        storage.choose("nats://a:4222,b:4223, tls://c").unwrap();
        assert_eq!(
            (storage.engine, storage.nats.servers.join(" ").as_str()),
            (StorageEngine::Nats, "nats://a:4222 nats://b:4223 tls://c")
        );
        storage.choose("memory").unwrap();
        assert_eq!(storage.engine, StorageEngine::Memory);
        storage.choose("embedded").unwrap();
        assert_eq!(storage.engine, StorageEngine::Embedded);
        for wrong in ["", "disk", "http://a:1", "NATS://a"] {
            assert!(storage.choose(wrong).unwrap_err().contains("nats://HOST:PORT"), "{wrong}");
        }
    }
}
