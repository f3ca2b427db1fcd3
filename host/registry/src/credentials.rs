//! [`Credentials`]: who asks a registry.
//!
//! Owns where they are found, and that they are not shown; must not know what they open. Of the Docker configuration file only `auths` is
//! read: programs that it names as keepers of credentials are not run. Invariant: a password is in no message and no `Debug`.

use std::{fmt, fs, io::Read, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use serde::Deserialize;
use zeroize::Zeroizing;

/// Largest configuration file that is read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A name and a password.
#[derive(Clone)]
pub struct Credentials {
    username: String,
    password: Zeroizing<String>,
}

/// Credentials can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCredentials {
    /// The file can't be read.
    #[error("can't read `{file}`: {why}; mend it, or name another folder with `DOCKER_CONFIG`")]
    File {
        /// Its name.
        file: String,
        /// What is wrong, without its content.
        why: String,
    },
    /// They are none.
    #[error("a user's name and password have no `:` in the name and no control characters; give others")]
    Characters,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    auths: std::collections::BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

impl Credentials {
    /// A name and a password.
    ///
    /// # Errors
    /// They can't be sent.
    pub fn new(username: &str, password: &str) -> Result<Self, InvalidCredentials> {
        let bad = |text: &str| text.chars().any(char::is_control);
        if username.is_empty() || username.contains(':') || bad(username) || bad(password) {
            return Err(InvalidCredentials::Characters);
        }
        Ok(Self { username: username.to_owned(), password: Zeroizing::new(password.to_owned()) })
    }

    /// What the configuration file of Docker has for a registry; nothing when there is no file or no entry.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn of_docker(file: &Path, registry: &str) -> Result<Option<Self>, InvalidCredentials> {
        let failed = |why: String| InvalidCredentials::File { file: file.display().to_string(), why };
        let source = match fs::File::open(file) {
            Ok(source) => source,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.kind().to_string())),
        };
        let mut text = Zeroizing::new(String::new());
        source.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| failed(error.kind().to_string()))?;
        // The error of serde may quote what stands there.
        let configuration: Configuration = serde_json::from_str(&text)
            .map_err(|error| failed(format!("line {} is not what it should be", error.line())))?;
        let entry = configuration.auths.into_iter().find(|(key, _)| host_of(key) == registry);
        let Some((_, entry)) = entry else { return Ok(None) };
        if entry.auth.is_empty() {
            let known = !entry.username.is_empty();
            return known.then(|| Self::new(&entry.username, &entry.password)).transpose();
        }
        let wrong = || failed(format!("`auth` of `{registry}` is not NAME:PASSWORD in base64"));
        let plain = Zeroizing::new(STANDARD.decode(&entry.auth).ok().ok_or_else(wrong)?);
        let plain = std::str::from_utf8(&plain).ok().ok_or_else(wrong)?;
        let (username, password) = plain.split_once(':').ok_or_else(wrong)?;
        Self::new(username, password.trim_end_matches('\0')).map(Some)
    }

    /// The header that shows them.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let pair = Zeroizing::new(format!("{}:{}", self.username, *self.password));
        let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair.as_bytes()))).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The host of a key, which may be written as a URL.
fn host_of(key: &str) -> String {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    key.split('/').next().unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, registry: &str) -> Result<Option<Credentials>, InvalidCredentials> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Credentials::of_docker(file.path(), registry)
    }

    #[test]
    fn entries_are_found_however_the_registry_is_written() {
        let auth = STANDARD.encode("alice:s3:cret");
        for key in ["ghcr.io", "https://ghcr.io", "https://GHCR.io/v2/", "ghcr.io/v1"] {
            let text = serde_json::json!({"auths": {key: {"auth": auth}}, "credsStore": "desktop"}).to_string();
            let credentials = found(&text, "ghcr.io").unwrap().unwrap();
            assert_eq!((credentials.username.as_str(), credentials.password.as_str()), ("alice", "s3:cret"));
            assert!(found(&text, "ghcr.io:443").unwrap().is_none());
        }
        assert!(found("{}", "ghcr.io").unwrap().is_none());
        assert!(Credentials::of_docker(Path::new("/nonexistent/config.json"), "ghcr.io").unwrap().is_none());
    }

    #[test]
    fn secrets_are_in_no_words() {
        let text = r#"{"auths": {"ghcr.io": {"auth": "c2VjcmV0LXdvcmQ="}}}"#;
        let error = found(text, "ghcr.io").unwrap_err().to_string();
        assert!(error.contains("NAME:PASSWORD") && !error.contains("c2Vj"), "{error}");
        let error = found(r#"{"auths": {"ghcr.io": "hunter2"}}"#, "ghcr.io").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        let credentials = Credentials::new("alice", "hunter2").unwrap();
        assert!(!format!("{credentials:?} {:?}", credentials.header()).contains("hunter2"));
        assert!(Credentials::new("a\nb", "x").is_err() && Credentials::new("a:b", "x").is_err());
    }
}
