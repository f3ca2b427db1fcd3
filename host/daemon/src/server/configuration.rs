//! [`Configuration`]: what the command line, the environment and the file say together.
//!
//! Owns who wins: an option over its variable over the file over the default. Must not start anything. Invariant: a daemon
//! that gets one has seen every mistake that can be seen without starting.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{Arguments, failure::StartError};
use crate::{cli::Global, place, settings::Settings};

/// Everything that the daemon is started with.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    /// Where state is kept.
    pub(crate) data_dir: PathBuf,
    /// The configuration file, whether or not it is there.
    pub(crate) file: PathBuf,
    /// The state of the file when it was read; none when it was not there.
    pub(crate) stamp: Option<Stamp>,
    /// The shipped components; none when there are none.
    pub(crate) plugins_dir: Option<PathBuf>,
    /// The settings, with what the command line says.
    pub(crate) settings: Settings,
    /// What the command line says, to be said again over a changed file.
    arguments: Arguments,
}

/// Tells one state of a file from another without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
}

impl Stamp {
    /// The state that the file is in now; none when it is not there.
    pub(crate) fn of(file: &Path) -> Option<Self> {
        let metadata = fs::metadata(file).ok()?;
        Some(Self { modified: metadata.modified().ok(), size: metadata.len() })
    }
}

impl Configuration {
    /// Reads the file and puts the command line over it.
    pub(crate) fn gather(global: &Global, arguments: &Arguments) -> Result<Self, StartError> {
        let nowhere =
            || StartError::Usage("don't know where to keep state; name a directory with `--data-dir`".to_owned());
        let data_dir = given(global.data_dir.as_deref()).or_else(place::default_data_dir).ok_or_else(nowhere)?;
        let named = given(arguments.config.as_deref());
        let file = named.clone().unwrap_or_else(|| data_dir.join(place::CONFIG));
        // Taken before the file is read, so that a change in between is seen later.
        let stamp = Stamp::of(&file);
        let settings = Settings::default();
        let mut configuration =
            Self { data_dir, file, stamp, plugins_dir: None, settings, arguments: arguments.clone() };
        configuration.settings = configuration.read(named.is_some())?;
        configuration.plugins_dir = configuration.find_plugins()?;
        Ok(configuration)
    }

    /// The settings as the file says them now.
    pub(crate) fn reread(&self) -> Result<Settings, StartError> {
        self.read(false)
    }

    /// Longest wait for calls in flight at the end.
    pub(crate) fn drain_time(&self) -> Duration {
        Duration::from_millis(self.settings.shutdown.drain_ms_max)
    }

    fn read(&self, must_exist: bool) -> Result<Settings, StartError> {
        let mut settings =
            if must_exist || self.file.exists() { Settings::read(&self.file)? } else { Settings::default() };
        if let Some(address) = &self.arguments.server_address {
            settings.server.address.clone_from(address);
        }
        if let Some(address) = &self.arguments.resp_address {
            settings.server.resp.address = Some(address.clone()).filter(|address| !address.is_empty());
        }
        let resp = &mut settings.server.resp;
        for (file, named) in [
            (&mut resp.tls_certificate_file, &self.arguments.resp_tls_certificate_file),
            (&mut resp.tls_key_file, &self.arguments.resp_tls_key_file),
        ] {
            *file = given(named.as_deref()).or_else(|| file.take());
        }
        if let Some(storage) = self.arguments.storage.as_deref().filter(|storage| !storage.is_empty()) {
            settings.storage.choose(storage).map_err(StartError::Usage)?;
        }
        let authorities = self.arguments.tls_ca_file.iter().filter(|file| !file.as_os_str().is_empty());
        if authorities.clone().next().is_some() {
            settings.tls.ca_files = authorities.cloned().collect();
        }
        if let Some(filter) = &self.arguments.log {
            settings.log.filter.clone_from(filter);
        }
        if let Some(format) = self.arguments.log_format {
            settings.log.format = format;
        }
        check_address(&settings.server.address)?;
        settings.server.resp.address.as_deref().map_or(Ok(()), check_address)?;
        Ok(settings)
    }

    fn find_plugins(&self) -> Result<Option<PathBuf>, StartError> {
        let named = given(self.arguments.plugins_dir.as_deref()).or_else(|| self.settings.plugins_dir.clone());
        match named {
            Some(folder) if folder.is_dir() => Ok(Some(folder)),
            Some(folder) => {
                let message = format!(
                    "there is no directory `{}`; name the shipped components with `--plugins-dir`",
                    folder.display()
                );
                Err(StartError::Usage(message))
            }
            None => Ok(place::default_plugins_dir()),
        }
    }
}

/// A path that says something.
fn given(path: Option<&Path>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned)
}

/// Refuses what can be no address on any machine; whether this one has it shows when it is listened on.
fn check_address(address: &str) -> Result<(), StartError> {
    let parts = address.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    match parts {
        Some((host, _)) if !host.contains(['/', '@', ' ']) && (host.starts_with('[') || !host.contains(':')) => Ok(()),
        _ => Err(StartError::Usage(format!("`{address}` is no address; write `HOST:PORT`, an IPv6 host in brackets"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_file() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(
            root.path().join("platform.toml"),
            "[server]\naddress = \"127.0.0.1:1\"\n[log]\nfilter = \"warn\"\n",
        )
        .unwrap();
        let global = Global { data_dir: Some(root.path().to_owned()), ..Global::default() };
        let from_file = Configuration::gather(&global, &Arguments::default()).unwrap();
        assert_eq!(
            (from_file.settings.server.address.as_str(), from_file.settings.log.filter.as_str()),
            ("127.0.0.1:1", "warn")
        );
        let arguments = Arguments { server_address: Some("[::1]:2".into()), ..Arguments::default() };
        let from_line = Configuration::gather(&global, &arguments).unwrap();
        assert_eq!(
            (from_line.settings.server.address.as_str(), from_line.settings.log.filter.as_str()),
            ("[::1]:2", "warn")
        );
        assert_eq!(from_line.reread().unwrap().server.address, "[::1]:2");
    }

    #[test]
    fn a_named_file_has_to_be_there() {
        let root = tempfile::tempdir().unwrap();
        let global = Global { data_dir: Some(root.path().to_owned()), ..Global::default() };
        let arguments = Arguments { config: Some(root.path().join("missing.toml")), ..Arguments::default() };
        assert!(Configuration::gather(&global, &arguments).unwrap_err().to_string().contains("missing.toml"));
        assert!(Configuration::gather(&global, &Arguments::default()).is_ok());
    }

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["127.0.0.1:0", "[::1]:80", "localhost:8080", "0.0.0.0:1"] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for wrong in ["", "localhost", ":80", "::1:80", "a:b", "a:70000", "http://a:1", "a/b:1"] {
            assert!(check_address(wrong).is_err(), "{wrong}");
        }
    }
}
