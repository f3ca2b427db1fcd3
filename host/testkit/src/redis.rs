//! A real Redis server on a free port of this machine, stopped when it is dropped.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{Certificate, until};

/// Until a command must be answered.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running `redis-server`, whose data stays in a folder of its own.
#[derive(Debug)]
pub struct Redis {
    address: SocketAddr,
    secure: Option<(SocketAddr, Certificate)>,
    folder: tempfile::TempDir,
    process: Child,
}

impl Redis {
    /// Starts a server that keeps what it acknowledged (`appendfsync always`).
    ///
    /// # Panics
    /// It can't be started; `cargo xtask setup --servers` installs it.
    #[must_use]
    pub async fn start() -> Self {
        Self::make(None).await
    }

    /// The same with a second port that speaks TLS.
    ///
    /// # Panics
    /// It can't be started; `cargo xtask setup --servers` installs it.
    #[must_use]
    pub async fn start_secure(certificate: Certificate) -> Self {
        Self::make(Some((free(), certificate))).await
    }

    async fn make(secure: Option<(SocketAddr, Certificate)>) -> Self {
        let address = free();
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let process = spawn(address, secure.as_ref(), folder.path());
        let server = Self { address, secure, folder, process };
        server.wait().await;
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it speaks TLS.
    ///
    /// # Panics
    /// It does not.
    #[must_use]
    pub fn secure_address(&self) -> SocketAddr {
        self.secure.as_ref().map_or_else(|| panic!("the server has no certificate"), |(address, _)| *address)
    }

    /// Starts it again with another certificate.
    ///
    /// # Panics
    /// It can't be started.
    pub async fn restart_with(&mut self, certificate: Certificate) {
        self.secure = Some((self.secure_address(), certificate));
        self.restart().await;
    }

    /// Kills the server at once.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again with its data, where it was.
    ///
    /// # Panics
    /// It can't be started.
    pub async fn restart(&mut self) {
        self.kill();
        self.process = spawn(self.address, self.secure.as_ref(), self.folder.path());
        self.wait().await;
    }

    /// What it answers to one command, as it comes over the wire.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn ask(&self, command: &str) -> String {
        self.try_ask(command).unwrap_or_else(|error| panic!("`{command}`: {error}"))
    }

    /// How many members a sorted set of the server at an address has; none while it does not answer.
    #[must_use]
    pub fn keys(address: SocketAddr, set: &str) -> u64 {
        let answer = ask_at(address, &format!("ZCARD {set}")).unwrap_or_default();
        answer.trim().trim_start_matches(':').parse().unwrap_or(0)
    }

    fn try_ask(&self, command: &str) -> std::io::Result<String> {
        ask_at(self.address, command)
    }

    async fn wait(&self) {
        let answers = async || self.try_ask("PING").is_ok_and(|answer| answer.starts_with("+PONG"));
        until("`redis-server` to answer", answers).await;
    }
}

fn ask_at(address: SocketAddr, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "{command}\r\nQUIT\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.trim_end_matches("+OK\r\n").to_owned())
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free() -> SocketAddr {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
    free.unwrap_or_else(|error| panic!("no free port: {error}"))
}

fn spawn(address: SocketAddr, secure: Option<&(SocketAddr, Certificate)>, folder: &std::path::Path) -> Child {
    let mut command = Command::new("redis-server");
    command
        .args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--dir"])
        .arg(folder);
    if let Some((address, Certificate { certificate, key })) = secure {
        command.args(["--tls-auth-clients", "no", "--tls-port", &address.port().to_string()]);
        command.arg("--tls-cert-file").arg(certificate).arg("--tls-key-file").arg(key);
    }
    command
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("`redis-server`: {error}; `cargo xtask setup --servers` installs it"))
}
