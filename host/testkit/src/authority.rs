//! An authority that signs certificates for the servers of a test, with `openssl`.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// An authority that nobody trusts unless told to.
#[derive(Debug)]
pub struct Authority {
    folder: tempfile::TempDir,
    signed: AtomicU32,
}

/// A certificate and its key, in files.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

impl Authority {
    /// Makes an authority.
    ///
    /// # Panics
    /// `openssl` is missing; `cargo xtask setup --servers` installs it.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let authority = Self { folder, signed: AtomicU32::new(0) };
        authority.make("authority", "CA:TRUE", "keyUsage = critical, keyCertSign", &[]);
        authority
    }

    /// The authority's own certificate, PEM.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// A certificate for names such as `IP:127.0.0.1` or `DNS:cache.internal`, separated by commas.
    ///
    /// # Panics
    /// `openssl` does not make it.
    #[must_use]
    pub fn sign(&self, names: &str) -> Certificate {
        let server = format!("server-{}", self.signed.fetch_add(1, Ordering::Relaxed));
        let (own, key) = (self.file(), self.folder.path().join("authority.key"));
        let by = [OsStr::new("-CA"), own.as_os_str(), OsStr::new("-CAkey"), key.as_os_str()];
        self.make(&server, "CA:FALSE", &format!("subjectAltName = {names}"), &by)
    }

    fn make(&self, name: &str, kind: &str, extension: &str, by: &[&OsStr]) -> Certificate {
        let file = |ending: &str| self.folder.path().join(name).with_extension(ending);
        let (settings, certificate, key) = (file("cnf"), file("pem"), file("key"));
        let text = format!(
            "[req]\ndistinguished_name = name\n[name]\n[extensions]\nbasicConstraints = critical, {kind}\n{extension}\n"
        );
        std::fs::write(&settings, text).unwrap_or_else(|error| panic!("{error}"));
        let path = |path: &Path| path.as_os_str().to_owned();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-extensions", "extensions", "-subj", &format!("/CN={name}"), "-config"])
            .args([path(&settings), "-keyout".into(), path(&key), "-out".into(), path(&certificate)])
            .args(by)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap_or_else(|error| panic!("`openssl`: {error}; `cargo xtask setup --servers` installs it"));
        assert!(made.success(), "`openssl` ended with {made}");
        Certificate { certificate, key }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
