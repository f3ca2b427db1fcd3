//! The settings of the front doors.
//!
//! Owns their shape and defaults; must not read files or the environment, which the daemon does. Invariant: the defaults
//! serve, and every limit stands here, so that an operator sees all of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{admission::DeadlineConfig, check::CheckConfig, identity::IdentityConfig, resp::RespConfig};

/// Settings of the front doors.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen, `HOST:PORT`; port 0 takes a free one.
    pub address: String,
    /// Whether `/metrics` needs no token from other machines either.
    pub metrics_open: bool,
    /// Which tokens are good.
    pub identity: IdentityConfig,
    /// How long calls may take.
    pub deadline: DeadlineConfig,
    /// How gateways ask for decisions.
    pub check: CheckConfig,
    /// The port for clients of Redis.
    pub resp: RespConfig,
    /// How much callers may send and hold.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:8080".to_owned(),
            metrics_open: false,
            identity: IdentityConfig::default(),
            deadline: DeadlineConfig::default(),
            check: CheckConfig::default(),
            resp: RespConfig::default(),
            limits: Limits::default(),
        }
    }
}

/// How much callers may send and hold.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at the same time; more wait to be accepted.
    pub connections_max: usize,
    /// Calls at the same time on one HTTP/2 connection.
    pub streams_per_connection_max: u32,
    /// Bytes of a request's headers.
    pub header_bytes_max: u32,
    /// Bytes of a request's message or body.
    pub request_bytes: usize,
    /// Bytes of a component to install.
    pub component_bytes: usize,
    /// Time for a request's headers to arrive over HTTP/1.1, in milliseconds, from the end of the answer before. Longer than
    /// what gateways keep idle connections for (nginx: 60 s), so that it is they who close them.
    pub header_timeout_ms: u64,
    /// Time for an HTTP request's body to arrive, in milliseconds.
    pub body_timeout_ms: u64,
    /// Watches at the same time.
    pub watches_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            streams_per_connection_max: 1_000,
            header_bytes_max: 64 << 10,
            // A value of 8 MiB in base64, and room for the rest.
            request_bytes: 12 << 20,
            component_bytes: 64 << 20,
            header_timeout_ms: 75_000,
            body_timeout_ms: 60_000,
            watches_max: 10_000,
        }
    }
}

impl Limits {
    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        let config: Config = serde_json::from_str("{}").unwrap();
        assert_eq!(serde_json::to_value(config).unwrap(), serde_json::to_value(Config::default()).unwrap());
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = serde_json::from_str::<Config>(r#"{"limits":{"conections_max":1}}"#).unwrap_err();
        assert!(error.to_string().contains("conections_max"), "{error}");
    }
}
