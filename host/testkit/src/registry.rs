//! A real registry, that of the distribution project, on a free port of this machine, stopped when it is dropped.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{Certificate, until};

/// How a registry is protected.
#[derive(Debug, Clone, Default)]
pub struct Protection {
    /// Plain HTTP without it.
    pub tls: Option<Certificate>,
    /// File with users and their passwords, as `htpasswd -B` writes it; everybody may do everything without it.
    pub users: Option<PathBuf>,
}

/// A running `docker-registry`, whose data stays in a folder of its own.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    folder: tempfile::TempDir,
    process: Child,
}

impl Registry {
    /// Starts a registry that anybody may use.
    ///
    /// # Panics
    /// It can't be started; `cargo xtask setup --servers` installs it.
    #[must_use]
    pub async fn start() -> Self {
        Self::protected(&Protection::default()).await
    }

    /// Starts a registry with TLS or users.
    ///
    /// # Panics
    /// It can't be started; `cargo xtask setup --servers` installs it.
    #[must_use]
    pub async fn protected(protection: &Protection) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        let address = free.unwrap_or_else(|error| panic!("no free port: {error}"));
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let process = spawn(address, folder.path(), protection);
        let server = Self { address, folder, process };
        until("`docker-registry` to listen", async || TcpStream::connect(address).is_ok()).await;
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file in which it keeps the bytes with a digest, given as 64 hexadecimal digits.
    #[must_use]
    pub fn blob(&self, hex: &str) -> PathBuf {
        let blobs = self.folder.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(hex.get(..2).unwrap_or_default()).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(address: SocketAddr, folder: &Path, protection: &Protection) -> Child {
    let shown = |path: &Path| serde_json::Value::from(path.display().to_string());
    let mut http = serde_json::json!({"addr": address.to_string()});
    if let (Some(Certificate { certificate, key }), Some(http)) = (&protection.tls, http.as_object_mut()) {
        http.insert("tls".to_owned(), serde_json::json!({"certificate": shown(certificate), "key": shown(key)}));
    }
    let mut configuration = serde_json::json!({
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": shown(&folder.join("data"))}},
        "http": http,
    });
    if let (Some(users), Some(configuration)) = (&protection.users, configuration.as_object_mut()) {
        let auth = serde_json::json!({"htpasswd": {"realm": "test", "path": shown(users)}});
        configuration.insert("auth".to_owned(), auth);
    }
    // YAML, of which JSON is a part.
    let file = folder.join("registry.yml");
    fs::write(&file, configuration.to_string()).unwrap_or_else(|error| panic!("{error}"));
    Command::new("docker-registry")
        .arg("serve")
        .arg(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("`docker-registry`: {error}; `cargo xtask setup --servers` installs it"))
}
