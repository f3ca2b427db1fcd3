//! [`Settings`]: everything that can be configured, from one TOML file.
//!
//! Owns the shape of the file and the rules between its sections; each section's type and defaults belong to the crate
//! that it configures. Invariant: an unknown key is an error, and every setting has a value that `config show` prints.

mod mistake;
mod storage;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use platform_capability::TrustConfig;
use platform_control::{
    Advisories,
    file::{DeclaredBinding, DeclaredPlugin},
};
use platform_dataplane::{DecisionsConfig, PlaneConfig, SecretsConfig};
use platform_runtime::EngineConfig;
use platform_signing::TrustRule;
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    mistake::Mistake,
    storage::{Storage, StorageEngine},
};
use crate::words;

/// Largest configuration file that is read.
const MOST_BYTES: u64 = 4 << 20;

/// The configuration file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// The shipped components; beside the binary when not given.
    pub(crate) plugins_dir: Option<PathBuf>,
    /// The front doors.
    pub(crate) server: platform_ingress::Config,
    /// What is written to the log.
    pub(crate) log: Log,
    /// The durable state.
    pub(crate) storage: Storage,
    /// How slots change.
    pub(crate) bindings: PlaneConfig,
    /// Configurations of services.
    pub(crate) config: Configurations,
    /// Decisions that are kept, for trying other policies on them.
    pub(crate) decisions: DecisionsConfig,
    /// Events that are posted to URLs.
    pub(crate) webhooks: platform_webhook::Config,
    /// A registry of the daemon's own, and what is to be found in it.
    pub(crate) marketplace: platform_marketplace::Config,
    /// What all components share.
    pub(crate) engine: EngineConfig,
    /// Whom connections to servers trust, those of plugins too.
    pub(crate) tls: TrustConfig,
    /// How the daemon ends.
    pub(crate) shutdown: Shutdown,
    /// What follows from advisories against components.
    pub(crate) advisories: Advisories,
    /// Whose signatures components need.
    pub(crate) trust: Vec<TrustRule>,
    /// Components to be installed.
    pub(crate) plugin: Vec<DeclaredPlugin>,
    /// Slots to be bound.
    pub(crate) binding: Vec<DeclaredBinding>,
}

/// What is written to the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// `text` for people, `json` for collectors.
    pub(crate) format: LogFormat,
    /// Which events, as `LEVEL` or `TARGET=LEVEL`, separated by commas.
    pub(crate) filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object to a line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

/// Configurations of services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Configurations {
    /// The keys of secret values.
    pub(crate) secrets: SecretsConfig,
}

/// How the daemon ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Shutdown {
    /// Longest wait for calls in flight, in milliseconds, before the daemon ends all the same.
    pub(crate) drain_ms_max: u64,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { drain_ms_max: 30_000 }
    }
}

impl Settings {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// What is wrong, with its place.
    pub(crate) fn read(file: &Path) -> Result<Self, Mistake> {
        let unreadable = |error: &io::Error| Mistake::new(file, format!("can't be read: {}", words::of(error)));
        let size = fs::metadata(file).map_err(|error| unreadable(&error))?.len();
        if size > MOST_BYTES {
            return Err(Mistake::new(file, format!("is {size} bytes, more than the {MOST_BYTES} that are allowed")));
        }
        let text = fs::read_to_string(file).map_err(|error| unreadable(&error))?;
        Self::parse(file, &text)
    }

    fn parse(file: &Path, text: &str) -> Result<Self, Mistake> {
        let mut settings: Self = toml::from_str(text).map_err(|error| Mistake::parsed(file, text, &error))?;
        settings.resolve(file.parent().unwrap_or(Path::new("")));
        Ok(settings)
    }

    /// Makes paths relative to the file's folder, not to wherever the daemon was started.
    fn resolve(&mut self, folder: &Path) {
        let identity = &mut self.server.identity;
        let tokens = identity.tokens.iter_mut().filter_map(|token| token.token_file.as_mut());
        let keys = identity.jwt.iter_mut().flat_map(|issuer| &mut issuer.keys).filter_map(|key| key.pem_file.as_mut());
        let secrets = self.config.secrets.keys.iter_mut().filter_map(|key| key.file.as_mut());
        let nats = self.storage.nats.files();
        let resp = &mut self.server.resp;
        let port = [&mut resp.tls_certificate_file, &mut resp.tls_key_file].into_iter().flatten();
        let tls = self.tls.ca_files.iter_mut().chain(port);
        let trust = self.trust.iter_mut().flat_map(|rule| &mut rule.keys);
        let own = tls.chain(trust).chain(self.plugins_dir.as_mut());
        for path in tokens.chain(keys).chain(secrets).chain(nats).chain(own) {
            *path = folder.join(&*path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(Path::new("/etc/platform/platform.toml"), text).map_err(|mistake| mistake.to_string())
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let settings = serde_json::to_value(parse("").unwrap()).unwrap();
        assert_eq!(settings, serde_json::to_value(Settings::default()).unwrap());
        assert_eq!(settings["storage"]["engine"], "embedded");
    }

    #[test]
    fn every_section_refuses_what_it_does_not_know() {
        for section in [
            "server",
            "server.limits",
            "server.deadline",
            "server.check",
            "server.identity",
            "log",
            "storage",
            "storage.nats",
            "bindings",
            "config",
            "config.secrets",
            "decisions",
            "webhooks",
            "marketplace",
            "marketplace.limits",
            "engine",
            "tls",
            "shutdown",
            "advisories",
        ] {
            let error = parse(&format!("[{section}]\nnonsense = 1\n")).unwrap_err();
            assert!(
                error.starts_with("`/etc/platform/platform.toml` line 2 column 1: unknown key `nonsense`"),
                "{section}: {error}"
            );
        }
        for table in
            ["trust", "plugin", "binding", "server.identity.tokens", "server.identity.jwt", "config.secrets.keys"]
        {
            let error = parse(&format!("[[{table}]]\nnonsense = 1\n")).unwrap_err();
            assert!(error.contains("unknown key `nonsense`"), "{table}: {error}");
        }
        assert!(parse("[sever]\n").unwrap_err().ends_with("did you mean `server`?"));
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let text = "plugins_dir = 'plugins'\n[[server.identity.tokens]]\nsubject = 'a'\ntoken_file = 'a.token'\n[tls]\nca_files = ['ca.pem']\n";
        let settings = parse(text).unwrap();
        assert_eq!(settings.tls.ca_files, [Path::new("/etc/platform/ca.pem")]);
        assert_eq!(settings.plugins_dir.unwrap(), Path::new("/etc/platform/plugins"));
        assert_eq!(
            settings.server.identity.tokens[0].token_file.as_deref().unwrap(),
            Path::new("/etc/platform/a.token")
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = "[[server.identity.tokens]]\nsubject = 'a'\ntoken = 'correct horse battery'\n";
        let shown = serde_json::to_string(&parse(text).unwrap()).unwrap();
        assert!(!shown.contains("horse"), "{shown}");
        let text = "[storage]\nengine = 'nats'\nnats.servers = ['nats://user:horse@one:4222', 'horse@two']\n";
        let shown = serde_json::to_string(&parse(text).unwrap()).unwrap();
        assert!(!shown.contains("horse") && shown.contains("nats://…@one:4222"), "{shown}");
    }
}
