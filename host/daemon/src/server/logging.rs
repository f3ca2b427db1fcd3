//! The log: events of all crates, on standard error.
//!
//! Owns the format and the filter; must not know what is logged. Invariant: a filter that can't be read is an error, not
//! silence.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt};

use super::failure::StartError;
use crate::settings::{Log, LogFormat};

/// Starts the log for the rest of the process.
pub(crate) fn start(log: &Log) -> Result<(), StartError> {
    let filter = filter(&log.filter)?;
    let builder = fmt().with_env_filter(filter).with_writer(io::stderr);
    let colorless = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal() && !colorless).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    started.map_err(|error| StartError::Other(format!("can't start the log: {error}")))
}

fn filter(text: &str) -> Result<EnvFilter, StartError> {
    EnvFilter::try_new(text).map_err(|error| {
        StartError::Usage(format!("`{text}` is no log filter: {error}; write `info`, or `warn,platform_control=debug`"))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn filters_are_checked() {
        assert!(super::filter("info,platform_control=debug").is_ok());
        assert!(super::filter("platform=loud").unwrap_err().to_string().contains("`platform=loud`"));
    }
}
