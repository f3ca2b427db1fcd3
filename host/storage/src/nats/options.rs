//! Where NATS is, how to log in, and how patient to be; and why that did not work.
//!
//! Owns the defaults and what a usable setting is; must not know what is stored. Invariant: passwords and tokens are in no
//! message and no debug form.

use std::{fmt, path::PathBuf, time::Duration};

use async_nats::{ConnectOptions, ServerAddr};

/// Where NATS is and how to use it.
#[derive(Clone)]
pub struct NatsOptions {
    /// Servers as `nats://HOST:PORT` or `tls://HOST:PORT`, with `USER:PASSWORD@` or `TOKEN@` before the host where they
    /// ask for that. One that answers tells of the others of its cluster.
    pub servers: Vec<String>,
    /// Start of the names of streams and subjects, so that several platforms can use one NATS.
    pub prefix: String,
    /// Copies of the log when it is made first; none: 3 in a cluster, 1 on a server by itself.
    pub replicas: Option<usize>,
    /// A file with credentials, as `nsc` writes it.
    pub credentials: Option<PathBuf>,
    /// Certificates of who may sign the servers' ones, in PEM; none: those of the system.
    pub tls_ca: Option<PathBuf>,
    /// Own certificate and its key, in PEM.
    pub tls_certificate: Option<(PathBuf, PathBuf)>,
    /// How long a call waits while servers elect a leader or are being restarted, before it is unavailable.
    pub patience: Duration,
    /// The same at start.
    pub start_patience: Duration,
    /// Bytes of the log behind a snapshot that make the next one due, if the state is not larger.
    pub snapshot_bytes: u64,
}

impl NatsOptions {
    /// The defaults for some servers.
    #[must_use]
    pub fn new(servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            prefix: "platform".to_owned(),
            replicas: None,
            credentials: None,
            tls_ca: None,
            tls_certificate: None,
            patience: Duration::from_secs(5),
            start_patience: Duration::from_secs(20),
            snapshot_bytes: 64 << 20,
        }
    }

    /// Refuses what can't work before anything is tried.
    pub(super) fn check(&self) -> Result<(), OpenError> {
        let refuse = |why: String| Err(OpenError::Unusable(why));
        if self.servers.is_empty() {
            return refuse("no server is given; give one as `nats://HOST:PORT`".to_owned());
        }
        for (place, server) in (1..).zip(&self.servers) {
            if let Err(error) = server.parse::<ServerAddr>() {
                return refuse(format!("server {place} of the list is no `nats://HOST:PORT`: {error}"));
            }
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if self.prefix.is_empty() || self.prefix.len() > 32 || !self.prefix.chars().all(fits) {
            let prefix = self.prefix.escape_debug();
            return refuse(format!("the prefix `{prefix}` is not 1 to 32 letters, digits, `-` and `_`"));
        }
        if let Some(replicas) = self.replicas.filter(|replicas| ![1, 3, 5].contains(replicas)) {
            return refuse(format!("{replicas} replicas can't be had; use 1, 3 or 5"));
        }
        Ok(())
    }

    /// The servers without what is secret about them.
    pub(super) fn shown(&self) -> String {
        let shown = self.servers.iter().map(|server| match server.parse::<ServerAddr>() {
            Ok(address) => format!("`{}:{}`", address.host(), address.port()),
            Err(_) => "`?`".to_owned(),
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    pub(super) async fn connector(&self, patience: Duration) -> Result<ConnectOptions, OpenError> {
        let mut options = ConnectOptions::new()
            .name("platform")
            .connection_timeout(patience)
            .ping_interval(Duration::from_secs(2))
            .reconnect_delay_callback(|attempt| Duration::from_millis(50 << attempt.min(4)))
            .event_callback(|event| async move { tracing::debug!(%event, "connection to NATS") });
        // The client leaves what stands before the host to us.
        if let Some(address) =
            self.servers.iter().flat_map(|server| server.parse::<ServerAddr>()).find(ServerAddr::has_user_pass)
        {
            let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
            let user = decoded(address.username().unwrap_or_default());
            options = match address.password() {
                Some(password) => options.user_and_password(user, decoded(password)),
                None => options.token(user),
            };
        }
        if let Some(file) = &self.credentials {
            options = options.credentials_file(file).await.map_err(|error| {
                OpenError::Unusable(format!("the credentials in `{}` can't be read: {error}", file.display()))
            })?;
        }
        if let Some(file) = &self.tls_ca {
            options = options.add_root_certificates(file.clone());
        }
        if let Some((certificate, key)) = &self.tls_certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        Ok(options)
    }
}

impl fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsOptions")
            .field("servers", &self.shown())
            .field("prefix", &self.prefix)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

/// Why storage on NATS could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No server could be reached.
    #[error(
        "NATS can't be reached at {servers}: {why}; start it with JetStream (`nats-server -js`), or correct the address"
    )]
    Unreachable {
        /// The servers.
        servers: String,
        /// What the last attempt said.
        why: String,
    },
    /// It can't be used as it is.
    #[error("storage on NATS can't be used: {0}")]
    Unusable(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_not_shown() {
        let options = NatsOptions::new(["nats://user:geheim@nats.example:4222", "tls://token@other:1"]);
        assert!(options.check().is_ok());
        let shown = format!("{options:?}");
        assert!(
            shown.contains("nats.example:4222") && !shown.contains("geheim") && !shown.contains("token"),
            "{shown}"
        );
    }

    #[test]
    fn what_can_not_work_is_refused() {
        let refused = |options: NatsOptions| options.check().unwrap_err().to_string();
        assert!(refused(NatsOptions::new([""; 0])).contains("no server"));
        assert!(refused(NatsOptions::new(["nats://a:1", "nats://b:port"])).contains("server 2"));
        let prefix = |prefix: &str| NatsOptions { prefix: prefix.to_owned(), ..NatsOptions::new(["a"]) };
        for bad in ["", "a.b", "a*", "a b", ">", &"x".repeat(33)] {
            assert!(refused(prefix(bad)).contains("prefix"), "{bad}");
        }
        assert!(refused(NatsOptions { replicas: Some(2), ..NatsOptions::new(["a"]) }).contains("2 replicas"));
    }
}
